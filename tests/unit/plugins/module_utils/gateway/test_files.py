# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway's files: checked, put in place, and taken back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.common import files as common
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.gateway.files import (
    PENDING,
    Unit,
    apply,
    check,
    wanted_files,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def me(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files belong to whoever runs the tests."""
    import grp

    monkeypatch.setattr(common, "OWNER", os.getuid())
    monkeypatch.setattr(common, "GROUP", grp.getgrgid(os.getgid()).gr_name)


class Host:
    """systemd, HAProxy and its socket; `pid` is another one after each start that works."""

    def __init__(
        self, active: bool = True, works: tuple[bool, ...] = (True,), takes: bool = True
    ) -> None:
        self.active = active
        self.works = list(works)
        self.takes = takes
        self.process = 1
        self.ran: list[str] = []
        self.staged: dict[str, str] = {}

    def pid(self) -> str:
        return str(self.process)

    def run(self, argv: list[str]) -> tuple[int, str, str]:
        if argv[0] == "haproxy":
            folder = argv[argv.index("-C") + 1]
            for name in os.listdir(folder):
                with open(os.path.join(folder, name), encoding="utf-8") as stream:
                    self.staged[name] = stream.read()
            return (0, "", "") if self.takes else (1, "", "[ALERT] nonsense in line 3")
        if "is-active" in argv:
            return (0 if self.active else 3, "", "")
        self.ran.append(argv[1])
        if self.works.pop(0):
            self.process += 1
            self.active = True
        return (0, "", "")


def unit(host: Host) -> Unit:
    gateway: Any = host
    return Unit("g.service", host.run, gateway, seconds=0.3)


def test_what_is_wanted_and_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "old.map").write_text("x")
    (tmp_path / PENDING).write_text("")
    files = wanted_files(str(tmp_path), {"haproxy.cfg": "a\n"}, {"keys.map": "b\n"})
    found = {os.path.basename(file.path): (file.text, file.mode, file.is_secret) for file in files}
    assert found == {
        "haproxy.cfg": ("a\n", 0o644, False),
        "keys.map": ("b\n", 0o600, True),
        "old.map": (None, 0o644, False),
    }


def test_haproxy_reads_all_of_it_elsewhere_first(tmp_path: Path) -> None:
    host = Host()
    files = wanted_files(str(tmp_path / "etc"), {"haproxy.cfg": "a\n"}, {"keys.map": "b\n"})
    check(files, "haproxy", host.run)
    assert host.staged == {"haproxy.cfg": "a\n", "keys.map": "b\n"}
    assert not (tmp_path / "etc").exists()


def test_what_it_does_not_take_is_told_in_its_words(tmp_path: Path) -> None:
    files = wanted_files(str(tmp_path), {"haproxy.cfg": "a\n"}, {})
    with pytest.raises(Failed, match=r"nothing was changed: \[ALERT\] nonsense in line 3"):
        check(files, "haproxy", Host(takes=False).run)


@pytest.mark.parametrize(("active", "verb"), [(True, "reload"), (False, "restart")])
def test_it_goes_on_with_the_files(tmp_path: Path, active: bool, verb: str) -> None:
    host = Host(active=active)
    (tmp_path / "old.map").write_text("x")
    files = wanted_files(str(tmp_path), {"haproxy.cfg": "a\n"}, {"keys.map": "b\n"})
    apply(files, str(tmp_path), unit(host))
    assert host.ran == [verb]
    assert sorted(os.listdir(tmp_path)) == ["haproxy.cfg", "keys.map"]
    assert (tmp_path / "keys.map").stat().st_mode & 0o777 == 0o600
    again = wanted_files(str(tmp_path), {"haproxy.cfg": "a\n"}, {"keys.map": "b\n"})
    assert all(file.is_right() for file in again)


@pytest.mark.parametrize(
    ("works", "words", "left"),
    [
        ((False, True), "It runs with the former configuration again", []),
        ((False, False), "nor with the former configuration", [PENDING]),
    ],
)
def test_where_no_process_takes_over_the_former_files_are_there_again(
    tmp_path: Path, works: tuple[bool, ...], words: str, left: list[str]
) -> None:
    host = Host(works=works)
    (tmp_path / "haproxy.cfg").write_text("former\n")
    (tmp_path / "old.map").write_text("x\n")
    files = wanted_files(str(tmp_path), {"haproxy.cfg": "a\n", "new.map": "n\n"}, {})
    with pytest.raises(Failed, match=words):
        apply(files, str(tmp_path), unit(host))
    assert sorted(os.listdir(tmp_path)) == sorted(["haproxy.cfg", "old.map", *left])
    assert (tmp_path / "haproxy.cfg").read_text() == "former\n"


def test_a_run_that_was_cut_off_before_the_reload_is_made_up_for(tmp_path: Path) -> None:
    host = Host()

    def cut_off(_argv: list[str]) -> tuple[int, str, str]:
        raise KeyboardInterrupt

    files = wanted_files(str(tmp_path), {"haproxy.cfg": "a\n"}, {})
    gateway: Any = host
    with pytest.raises(KeyboardInterrupt):
        apply(files, str(tmp_path), Unit("g.service", cut_off, gateway))
    assert (tmp_path / PENDING).exists()
