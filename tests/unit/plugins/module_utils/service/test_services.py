# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a task over the services ends, and what systemd is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import FileError
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.failures import TaskFailed
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.manager import Manager
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.services import (
    Services,
    run,
)

if TYPE_CHECKING:
    from .conftest import Host


class Ended(Exception):
    """What the fake module ends with."""


class Module:
    """As much of AnsibleModule as the services need, with the parameters that all have."""

    def __init__(self) -> None:
        folders = {"etc_dir": "/etc/vllm", "state_dir": "/s", "unit_dir": "/u"}
        self.params: dict[str, Any] = {**folders, "user": "vllm", "progress": None}

    def run_command(self, command: list[str], **_: Any) -> tuple[int, str, str]:
        raise AssertionError(command)

    def warn(self, message: str) -> None:
        raise AssertionError(message)

    def fail_json(self, **result: Any) -> None:
        raise Ended(result)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (TaskFailed("it is so"), "it is so"),
        (FileError("no group"), "no group; vllm_service_user names the user and group of the"),
    ],
)
def test_a_failure_ends_the_task_with_what_became_of_each(problem: Exception, message: str) -> None:
    def task(services: Services) -> None:
        services.results["m"] = {"name": "m"}
        raise problem

    with pytest.raises(Ended) as ended:
        run(Module(), task)  # type: ignore[arg-type]
    (result,) = ended.value.args
    assert result["msg"].startswith(message)
    assert result["instances"] == [{"name": "m"}]


def test_the_evidence_is_with_its_instance() -> None:
    def task(services: Services) -> None:
        services.results.update(m={"name": "m"}, n={"name": "n"})
        raise TaskFailed("untrue", {"name": "n", "url": "u"})

    with pytest.raises(Ended) as ended:
        run(Module(), task)  # type: ignore[arg-type]
    (result,) = ended.value.args
    assert result["instances"] == [
        {"name": "m"},
        {"name": "n", "evidence": {"name": "n", "url": "u"}},
    ]


class Programs:
    """Runs no program; answers by the first words of the command."""

    def __init__(self, **answers: tuple[int, str, str]) -> None:
        self.answers = answers
        self.commands: list[list[str]] = []
        self.units: dict[str, str] = {}

    def __call__(self, command: list[str], **options: Any) -> tuple[int, str, str]:
        self.commands.append(command)
        if command[0] == "systemd-analyze":
            staging = options["environ_update"]["SYSTEMD_UNIT_PATH"].rstrip(":")
            self.units = {
                str(path.relative_to(staging)): path.read_text()
                for path in Path(staging).rglob("*")
                if path.is_file()
            }
        return self.answers.get(command[0].replace("-", "_"), (0, "", ""))


def test_systemd_reads_new_units_before_they_are_installed(host: Host) -> None:
    programs = Programs()
    one = host.deployment()
    Manager(programs).verify([one])
    assert programs.units == {
        "vllm@m.service": one.unit,
        "vllm@m.service.d/10-compute-plane.conf": one.drop_in_text,
    }
    with pytest.raises(TaskFailed, match="systemd does not accept the unit: Unknown key"):
        Manager(Programs(systemd_analyze=(1, "", "Unknown key\n"))).verify([one])


def test_what_systemctl_refuses_is_told() -> None:
    refused = Programs(systemctl=(1, "", "Unit not found.\n"))
    with pytest.raises(TaskFailed, match="systemctl stop a failed: Unit not found"):
        Manager(refused).systemctl("stop", "a")
    assert Manager(refused).systemctl("stop", "a", check=False) == ""


def test_the_state_of_several_units_is_asked_at_once_and_of_none_not_at_all() -> None:
    shown = Programs(systemctl=(0, "Id=a\nMainPID=0\n\nId=b\nMainPID=7\n", ""))
    assert Manager(shown).show(["a", "b"])["b"] == {"Id": "b", "MainPID": "7"}
    assert Manager(shown).show([]) == {}
    assert len(shown.commands) == 1


def test_the_journal_is_the_last_lines() -> None:
    journal = Programs(journalctl=(0, "one\ntwo\nthree\n", ""))
    assert Manager(journal).journal(12.4, 2, "--unit", "a") == "two\nthree"
    assert journal.commands[0][-3:] == ["@12", "--unit", "a"]


def test_what_a_server_was_started_with_is_its_own_environment() -> None:
    assert Manager(Programs()).environ({"MainPID": "0"}) is None
    assert Manager(Programs()).running({"MainPID": str(2**22 + 1)}) is None
