# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change of a host's part of a group is kept when the leader's answers were verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import (
    Deployment,
    Record,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.failures import TaskFailed

if TYPE_CHECKING:
    from .conftest import Host


def member(host: Host, rank: int, length: int = 1024) -> Deployment:
    """The deployment of a member of two hosts."""
    members = [{"name": "a", "address": "192.0.2.7"}, {"name": "b", "address": "192.0.2.8"}]
    group = {"rank": rank, "port": 29500, "fingerprint": f"f{length}", "members": members}
    return host.deployment(length, group=group)


def tells(host: Host, *states: dict[str, Any]) -> None:
    """Have the supervisor say one of these after the other, a minute each."""
    path = Path(host.paths.group_state("m"))
    path.parent.mkdir(parents=True, exist_ok=True)
    began, sleep = host.time.passed, host.time.sleep

    def write(seconds: float) -> None:
        sleep(seconds)
        index = min(int((host.time.passed - began) / 60), len(states) - 1)
        path.write_text(json.dumps(states[index]))

    host.starter.clock = host.starter.clock._replace(sleep=write)
    path.write_text(json.dumps(states[0]))


ONE: dict[str, Any] = {"generation": "g1", "phase": "serving", "proved": False}


def test_a_follower_is_kept_when_its_leader_has_verified(host: Host) -> None:
    tells(host, ONE, ONE, {**ONE, "proved": True})
    changed = host.changes.change(member(host, 1))
    assert changed.seconds == 40.0, "nobody asks it for a token"
    assert host.time.passed >= 120
    assert host.changes.record("m") == Record(member(host, 1))
    assert host.prover.proved == []
    assert host.paths.is_enabled("m")


def test_a_follower_goes_back_with_its_leader(host: Host) -> None:
    one = member(host, 1)
    tells(host, {**ONE, "proved": True})
    host.changes.change(one)
    tells(host, ONE, ONE, {"generation": "g2", "phase": "gathering", "summary": "it was wrong"})
    with pytest.raises(TaskFailed, match="before its leader a had verified it: it was wrong"):
        host.changes.change(member(host, 1, 2048))
    assert host.systemd.server == one.fingerprint
    assert host.changes.record("m") == Record(one)


def test_a_leader_tells_what_was_verified(host: Host) -> None:
    one = member(host, 0)
    Path(host.paths.group_proof("m")).parent.mkdir(parents=True)
    host.changes.change(one)
    assert Path(host.paths.group_proof("m")).read_text().strip() == one.fingerprint
    Path(host.paths.group_proof("m")).unlink()  # a reboot
    host.prover.brief = {"passed": True}
    host.changes.confirm(one, is_proved=True)
    assert Path(host.paths.group_proof("m")).read_text().strip() == one.fingerprint


def test_an_instance_of_one_host_tells_nobody(host: Host) -> None:
    host.changes.change(host.deployment())
    assert not Path(host.paths.group_proof("m")).exists()


def test_the_place_in_the_group_makes_another_deployment(host: Host) -> None:
    alone, leads, follows = host.deployment(), member(host, 0), member(host, 1)
    assert len({alone.fingerprint, leads.fingerprint, follows.fingerprint}) == 3
    assert [one.answers for one in (alone, leads, follows)] == [True, True, False]
