# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What serves after a change, and what is kept of it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import FileError
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    EndpointError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import Record
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.measured import read_rows
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.trials import read_trials
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.failures import TaskFailed
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.whole import measured_path

from .conftest import UNIT

if TYPE_CHECKING:
    from .conftest import Host


def test_what_is_proved_is_kept_and_started_at_boot(host: Host) -> None:
    one = host.deployment()
    changed = host.changes.change(one)
    assert (changed.seconds, changed.backend, changed.tried) == (40.0, "", [])
    assert host.changes.record("m") == Record(one)
    assert host.paths.is_enabled("m")
    assert host.endpoint_state() == "verified"
    assert host.systemd.done == [
        "daemon-reload",
        "reset-failed vllm@m.service",
        "restart --no-block vllm@m.service",
        "enable --quiet vllm@m.service",
    ]
    assert os.stat(host.paths.proved("m")).st_mode & 0o777 == 0o600
    assert os.stat(host.paths.config("m")).st_mode & 0o777 == 0o640


def test_a_second_one_remembers_the_first(host: Host) -> None:
    one, two = host.deployment(), host.deployment(2048)
    host.changes.change(one)
    host.changes.change(two)
    assert host.changes.record("m") == Record(two, one)
    assert host.on_disk() == 2048


@pytest.mark.parametrize("way", ["ends", "hangs", "untrue"])
def test_what_is_not_proved_is_replaced_by_what_was(host: Host, way: str) -> None:
    one, two = host.deployment(), host.deployment(2048)
    host.changes.change(one)
    if way == "ends":
        host.systemd.ends[two.fingerprint] = "no_compiler"
    else:
        {"hangs": host.systemd.hangs, "untrue": host.prover.untrue}[way].add(two.fingerprint)
    with pytest.raises(TaskFailed) as raised:
        host.changes.change(two)
    first, *_, last = str(raised.value).splitlines()
    assert last == "The former configuration of m is serving again (vLLM 0.14.1)."
    assert first.startswith(
        {
            "ends": "vllm@m.service: crashed: it has no_compiler",
            # The patience of 600 s, and the supervisor's time.
            "hangs": "vllm@m.service computed no token within 660 s",
            "untrue": "it is Berlin",
        }[way]
    )
    assert (raised.value.evidence is not None) == (way == "untrue")
    assert (host.systemd.server, host.on_disk()) == (one.fingerprint, 1024)
    assert host.changes.record("m") == Record(one)
    assert host.endpoint_state() == "verified"


def test_what_the_engine_measured_before_it_failed_is_kept_for_the_next_plan(host: Host) -> None:
    """0.14.1, vllm/v1/core/kv_cache_utils.py, _check_enough_kv_cache_memory: too long a context."""
    expected = {"key": "k", "for": {"model": "/srv/m"}, "predicted": {"budget_bytes": 20 << 30}}
    one = host.deployment(expected=expected)
    host.systemd.ends[one.fingerprint] = "kv_cache_too_small"
    host.systemd.log = (
        "(EngineCore_DP0 pid=9) INFO 11-23 01:22:43 [gpu_worker.py:358] Available KV cache memory: "
        "2.00 GiB\n(EngineCore_DP0 pid=9) ERROR 11-23 01:22:43 [core.py:935] ValueError: To serve "
        "at least one request with the models's max seq len (32768), (4.0 GiB KV cache is needed"
    )
    with pytest.raises(TaskFailed):
        host.changes.change(one)
    (row,) = read_rows(Path(measured_path(host.paths.state_dir)).read_text())
    assert (row["key"], row["is"], row["beside_bytes"]) == (
        "k",
        {"kv_cache_bytes": 2 << 30},
        18 << 30,
    )


def test_without_an_expectation_nothing_is_kept(host: Host) -> None:
    one = host.deployment()
    host.systemd.ends[one.fingerprint] = None
    host.systemd.log = "INFO [gpu_worker.py:358] Available KV cache memory: 2.00 GiB"
    with pytest.raises(TaskFailed):
        host.changes.change(one)
    assert not Path(measured_path(host.paths.state_dir)).exists()


def test_another_expectation_alone_is_no_change(host: Host) -> None:
    one = host.deployment(expected={"key": "k", "for": {}, "predicted": {"budget_bytes": 1}})
    two = host.deployment(expected={"key": "k", "for": {}, "predicted": {"budget_bytes": 2}})
    assert (one, one.fingerprint) == (two, two.fingerprint)


def test_a_first_one_that_is_not_proved_is_stopped(host: Host) -> None:
    one = host.deployment()
    host.prover.untrue.add(one.fingerprint)
    with pytest.raises(TaskFailed, match="is stopped; nothing of it was proved before"):
        host.changes.change(one)
    assert host.systemd.state == "inactive"
    assert host.changes.record("m") is None
    assert not host.paths.is_enabled("m")


def test_what_was_proved_before_is_left_to_systemd(host: Host) -> None:
    one = host.deployment()
    host.changes.change(one)
    host.systemd.ends[one.fingerprint] = None
    with pytest.raises(TaskFailed) as raised:
        host.changes.change(one)
    said = str(raised.value)
    assert said.startswith("vllm@m.service ended by itself after 40 s (systemd's result: exit-code")
    assert "the last words" in said
    assert said.endswith("This configuration was proved before; systemd goes on trying.")
    assert "stop vllm@m.service" not in host.systemd.done
    assert host.endpoint_state() == "failed"


def test_when_the_former_one_fails_too_both_are_told(host: Host) -> None:
    one, two = host.deployment(), host.deployment(2048)
    host.changes.change(one)
    host.systemd.ends |= {one.fingerprint: "disk_full", two.fingerprint: "port_in_use"}
    with pytest.raises(TaskFailed) as raised:
        host.changes.change(two)
    first, second = str(raised.value).split(
        "\nGoing back to the former configuration failed as well: "
    )
    assert "it has port_in_use" in first
    assert "it has disk_full" in second
    assert host.endpoint_state() == "failed"


@pytest.mark.parametrize(
    ("causes", "tried"),
    [
        # The next backend may do without what the first one lacks.
        (["import_failed", "no_nvcc"], ["A", "B"]),
        ([None, "engine_failed"], ["A", "B"]),
        (["port_in_use", None], ["A"]),
        (["gpu_out_of_memory", "bad_model_path"], ["A", "B"]),
    ],
)
def test_a_trial_goes_on_as_long_as_another_backend_can_help(
    host: Host, causes: list[str | None], tried: list[str]
) -> None:
    backends = {"A": host.deployment(1), "B": host.deployment(2)}
    ends = (one.fingerprint for one in backends.values())
    host.systemd.ends = dict(zip(ends, causes, strict=True))
    with pytest.raises(TaskFailed) as raised:
        host.changes.change(backends["A"], backends)
    rows = [line for line in str(raised.value).splitlines() if line[:3] in ("A: ", "B: ")]
    assert [line[0] for line in rows] == tried


def test_the_backend_that_works_is_kept(host: Host) -> None:
    backends = {"A": host.deployment(1), "B": host.deployment(2), "C": host.deployment(3)}
    host.systemd.ends[backends["A"].fingerprint] = "no_nvcc"
    changed = host.changes.change(backends["A"], backends)
    assert changed.backend == "B"
    assert [one["outcome"] for one in changed.tried] == [
        "vllm@m.service: crashed: it has no_nvcc",
        "answered after 40 s",
    ]
    assert host.changes.record("m") == Record(backends["B"])
    host.changes.keep_trial("0.14.1 cpu /srv/m", changed)
    kept = read_trials(Path(host.paths.trials).read_text())
    assert kept == {"0.14.1 cpu /srv/m": {"backend": "B", "tried": changed.tried}}


def test_a_rollback_goes_back_and_forward_again(host: Host) -> None:
    one, two = host.deployment(), host.deployment(2048)
    for now in (one, two, one):
        host.changes.change(now)
    assert host.changes.record("m") == Record(one, two)


def test_a_server_that_runs_and_is_proved_is_only_asked(host: Host) -> None:
    one = host.deployment()
    host.changes.change(one)
    host.prover.brief = {"name": "m"}
    before = list(host.systemd.done)
    assert host.changes.confirm(one, is_proved=True) == (0.0, {"name": "m"})
    host.prover.brief = None
    assert host.changes.confirm(one, is_proved=True) == (0.0, None)
    assert host.systemd.done == before
    assert len(host.prover.proved) == 1


def test_a_server_that_is_still_starting_is_waited_for(host: Host) -> None:
    one = host.deployment()
    host.changes.install(one)
    host.systemd.systemctl("restart", "vllm@m.service")
    host.time.sleep(10)
    seconds, verified = host.changes.confirm(one, is_proved=False)
    assert (seconds, verified) == (30.0, None)
    # A run that was killed between the start and its proof is made good.
    assert host.prover.proved == [one.fingerprint]
    assert host.changes.record("m") == Record(one)
    assert host.paths.is_enabled("m")


def test_a_server_that_does_not_answer_any_more_is_told(host: Host) -> None:
    one = host.deployment()
    host.changes.change(one)
    host.systemd.hangs.add(one.fingerprint)
    host.systemd.systemctl("restart", "vllm@m.service")
    host.prover.brief = EndpointError("no answer")
    with pytest.raises(TaskFailed, match="computed no token within 660 s"):
        host.changes.confirm(one, is_proved=True)
    assert host.endpoint_state() == "failed"


def test_one_that_runs_and_is_not_true_goes_back_too(host: Host) -> None:
    one, two = host.deployment(), host.deployment(2048)
    host.changes.change(one)
    host.changes.install(two)
    host.systemd.systemctl("restart", "vllm@m.service")
    host.prover.untrue.add(two.fingerprint)
    with pytest.raises(TaskFailed, match="is serving again") as raised:
        host.changes.confirm(two, is_proved=False)
    assert raised.value.evidence is not None
    assert host.systemd.server == one.fingerprint


def test_what_is_removed_is_gone_but_for_what_is_others(host: Host) -> None:
    host.changes.change(host.deployment())
    folder = Path(host.paths.drop_in("m")).parent
    (folder / "yours.conf").write_text("[Service]\n")
    host.changes.remove("m")
    left = [
        path.name
        for root in (host.paths.etc_dir, host.paths.state_dir, str(folder))
        for path in Path(root).rglob("*")
        if path.is_file()
    ]
    assert left == ["yours.conf"]
    assert "disable --now vllm@m.service" in host.systemd.done


def test_a_group_that_is_missing_is_told_before_anything_is_started(host: Host) -> None:
    one = host.deployment()
    host.changes.change(one)
    before = list(host.systemd.done)
    other = host.deployment(2048)
    other = dataclasses.replace(other, user="no-such-group", unit="[Service]\nType=exec\n")
    with pytest.raises(FileError, match="the group no-such-group"):
        host.changes.change(other)
    assert [name for name in os.listdir(host.paths.etc_dir) if name.startswith(".")] == []
    assert (host.on_disk(), host.systemd.done) == (1024, before)
    assert Path(host.paths.template).read_text() == UNIT
    assert host.endpoint_state() == "verified"


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (None, None),
        ({"m": 'a$"b'}, None),
        ({"m": "another"}, "its API key has changed"),
        ({}, "its API key has changed"),
    ],
)
def test_a_server_with_another_key_is_started_anew(
    host: Host, keys: dict[str, str] | None, reason: str | None
) -> None:
    one = host.deployment()
    host.installed.api_keys = {"m": 'a$"b'}
    host.changes.change(one)
    assert host.systemd.key == 'a$"b'
    host.installed.api_keys = keys
    state = host.systemd.show([one.unit_name])[one.unit_name]
    assert host.starter.reason(one, state) == reason
