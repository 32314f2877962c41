# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a group: both halves by themselves, and together through every fault."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.group import (
    END,
    ENDING,
    FAILED,
    FRESH,
    GATHERING,
    LOST,
    RUNNING,
    SERVING,
    START,
    STAY,
    STOPPING,
    WAITING,
    Following,
    Group,
    Leading,
    Member,
    NotUnderstood,
    Orders,
    Report,
    read_group,
    read_orders,
    read_report,
    written,
)

MEMBERS = (Member("a", "192.0.2.7"), Member("b", "192.0.2.8"), Member("c", "192.0.2.9"))
GROUP = Group(0, 29500, "f1", MEMBERS[:2])
WAITS = Report(1, "f1", WAITING)
RUNS = Report(1, "f1", RUNNING, "g1")


def led(*reports: tuple[float, Report]) -> Leading:
    """A leader of a generation that runs, after these reports."""
    leading = Leading(GROUP, "g1")
    leading.hear(WAITS, 0.0)
    assert leading.begin(0.0)
    for at, report in reports:
        leading.hear(report, at)
    return leading


@pytest.mark.parametrize(
    ("report", "at", "now", "why"),
    [
        (None, 0.0, 0.0, "waiting for b (rank 1), which has not been heard of"),
        (WAITS, 0.0, 1.0, ""),
        (WAITS, 0.0, FRESH + 1, "waiting for b (rank 1), last heard of 6 s ago"),
        (replace(WAITS, fingerprint="f2"), 0.0, 1.0, "which has another configuration"),
        (replace(RUNS, generation="g0"), 0.0, 1.0, "which is still running"),
        (replace(WAITS, phase=FAILED, summary="no memory"), 0.0, 1.0, "still failed: no memory"),
    ],
)
def test_a_start_waits_for_every_member_and_says_for_whom(report, at, now, why):
    leading = Leading(GROUP, "g1")
    if report is not None:
        assert leading.hear(report, at).phase == GATHERING
    assert why in leading.absent(now)
    assert leading.begin(now) is (why == "")
    assert leading.phase == (GATHERING if why else RUNNING)


def test_a_start_names_all_who_are_missing():
    assert Leading(Group(0, 29500, "f1", MEMBERS), "g1").absent(0.0).count("(rank") == 2


@pytest.mark.parametrize(
    ("reports", "now", "cause", "words"),
    [
        ([(1.0, RUNS)], 2.0, None, ""),
        # It has not asked since the start.
        ([], LOST - 1, None, ""),
        ([(LOST, WAITS)], LOST + 1, "member_failed", "b (rank 1) does not start its engine"),
        ([(1.0, RUNS)], LOST + 1, None, ""),
        ([(1.0, RUNS)], LOST + 2, "member_gone", "b (rank 1) at 192.0.2.8 has not been heard of"),
        (
            [(1.0, RUNS), (2.0, replace(RUNS, phase=FAILED, summary="crashed"))],
            2.0,
            "member_failed",
            "b (rank 1): crashed",
        ),
        # Its supervisor was started anew before it could say why.
        ([(1.0, RUNS), (2.0, WAITS)], 2.0, "member_failed", "started anew by itself"),
        ([(1.0, RUNS), (2.0, replace(RUNS, phase=STOPPING))], 2.0, "member_stopped", "stopped"),
        ([(1.0, replace(WAITS, phase=STOPPING))], 1.0, "member_stopped", "b (rank 1)"),
    ],
)
def test_a_generation_ends_with_a_member_that_is_lost(reports, now, cause, words):
    for serves in (False, True):
        leading = led(*reports)
        if serves:
            leading.serve()
        trouble = leading.trouble(now)
        assert (trouble.cause if trouble else None) == cause
        assert words in (trouble.summary if trouble else "")


def test_nothing_is_lost_before_the_start_and_after_the_end():
    assert Leading(GROUP, "g1").trouble(1000.0) is None
    leading = led((1.0, RUNS))
    leading.end("b is gone")
    assert leading.trouble(1000.0) is None
    assert leading.hear(RUNS, 1000.0).summary == "b is gone"


@pytest.mark.parametrize(
    ("report", "held"),
    [
        (RUNS, None),
        (Report(1, "f1", RUNNING, "g1", "a worker is stopped"), "b (rank 1): a worker is stopped"),
        (Report(1, "f1", RUNNING, "g0", "a worker is stopped"), None),
        (Report(1, "f1", FAILED, "g1", "a worker is stopped"), None),
    ],
)
def test_a_member_that_runs_and_does_not_compute_is_told(report, held):
    assert led((1.0, RUNS), (2.0, report)).held() == held


def test_a_member_is_told_to_start_once_a_generation():
    leading = led()
    assert leading.hear(WAITS, 1.0).start
    assert leading.hear(WAITS, 2.0).start, "the answer before may have been lost"
    assert not leading.hear(RUNS, 3.0).start
    assert not leading.hear(WAITS, 4.0).start, "its engine of this generation has ended"


def test_no_member_of_another_configuration_is_told_to_start():
    assert not led().hear(replace(WAITS, fingerprint="f2"), 1.0).start


ORDERS = Orders("g1", "f1", RUNNING)


@pytest.mark.parametrize(
    ("orders", "now", "order", "words"),
    [
        (None, 1.0, STAY, "waiting for the leader a: it has not answered"),
        (replace(ORDERS, phase=GATHERING, summary="waiting for c"), 1.0, STAY, "waiting for c"),
        (replace(ORDERS, start=True), 1.0, START, ""),
        (replace(ORDERS, start=True), FRESH + 1, STAY, "waiting for the leader a"),
        (replace(ORDERS, start=True, fingerprint="f2"), 1.0, STAY, "another configuration"),
        (ORDERS, 1.0, STAY, "running"),
    ],
)
def test_a_follower_begins_when_it_is_told_to(orders, now, order, words):
    following = Following(replace(GROUP, rank=1), 0.0)
    if orders is not None:
        following.hear(orders, 0.0)
    decided, why = following.decide(now)
    assert decided == order
    assert words in why
    assert following.generation == ("g1" if order == START else "")


@pytest.mark.parametrize(
    ("orders", "now", "order", "words"),
    [
        (ORDERS, 2.0, STAY, ""),
        (replace(ORDERS, phase=SERVING), 2.0, STAY, ""),
        (replace(ORDERS, phase=ENDING, summary="b is gone"), 2.0, END, "b is gone"),
        (replace(ORDERS, generation="g2", phase=GATHERING), 2.0, END, "started anew"),
        (ORDERS, LOST, STAY, ""),
        (ORDERS, LOST + 2, END, "has not answered for"),
    ],
)
def test_a_follower_ends_with_its_generation(orders, now, order, words):
    following = Following(replace(GROUP, rank=1), 0.0)
    following.hear(replace(ORDERS, start=True), 0.0)
    assert following.decide(0.0)[0] == START
    following.hear(orders, 1.0)
    decided, why = following.decide(now)
    assert decided == order
    assert words in why
    assert following.is_served is (orders.phase == SERVING and orders.generation == "g1")


class Host:
    """A host with a supervisor of each kind, systemd, and an engine, as far as both halves see."""

    def __init__(self, rank: int) -> None:
        self.rank, self.up, self.restarts, self.starts, self.engine = rank, True, 0, 0, False
        self.boot(0.0)

    def boot(self, now: float) -> None:
        """A supervisor begins."""
        self.engine, self.failed = False, ""
        self.at = now
        if self.rank:
            self.half: Leading | Following = Following(replace(GROUP, rank=1), now)
        else:
            self.half = Leading(GROUP, f"g{now:.0f}")

    def start(self) -> None:
        """An engine begins."""
        self.engine, self.starts = True, self.starts + 1

    def end(self, now: float) -> None:
        """The supervisor ends with status 1, and systemd starts it two seconds later."""
        self.restarts += 1
        self.boot(now + 2.0)


class World:
    """Two hosts, and a second after the other."""

    def __init__(self) -> None:
        self.hosts = (Host(0), Host(1))
        self.now, self.cable = 0.0, True

    def run(self, seconds: int) -> None:
        """Let time pass."""
        for _second in range(seconds):
            self.now += 1.0
            self.second()

    def second(self) -> None:
        leader, follower = self.hosts
        leading, following, now = leader.half, follower.half, self.now
        up = [host for host in self.hosts if host.up and host.at <= now]
        if follower in up:
            phase = FAILED if follower.failed else RUNNING if follower.engine else WAITING
            report = Report(1, "f1", phase, following.generation, follower.failed)
            if leader in up and self.cable:
                following.hear(leading.hear(report, now), now)
            else:
                following.miss("refused")
            order = following.decide(now)[0]
            if order == START:
                follower.start()
            elif order == END or follower.failed:
                follower.end(now)
        if leader in up:
            if leading.begin(now):
                leader.start()
            elif leader.failed or leading.trouble(now):
                leading.end("lost")
                if follower in up and self.cable and follower.engine:
                    following.hear(
                        leading.hear(Report(1, "f1", RUNNING, following.generation), now), now
                    )
                leader.end(now)
            elif leader.engine and follower.engine:
                leading.serve()

    @property
    def serves(self) -> bool:
        return all(host.engine and host.up for host in self.hosts) and (
            self.hosts[0].half.phase == SERVING
            and self.hosts[0].half.generation == self.hosts[1].half.generation
        )


def harm_leader(world: World) -> None:
    world.hosts[0].failed = "killed"


def harm_follower(world: World) -> None:
    world.hosts[1].failed = "killed"


def harm_both(world: World) -> None:
    """The follower's engine falls with the leader's before it is told."""
    world.hosts[0].failed = world.hosts[1].failed = "killed"


def lose_supervisor(world: World) -> None:
    """The follower's supervisor itself is killed: it can say nothing."""
    world.hosts[1].end(world.now)


def reboot(rank: int):
    def harm(world: World) -> None:
        world.hosts[rank].boot(world.now + 20.0)
        world.hosts[rank].restarts = -1  # counts from the boot, as systemd does: begins at 0

    return harm


def pull_cable(world: World) -> None:
    world.cable = False
    world.run(60)
    assert not world.serves
    world.cable = True


@pytest.mark.parametrize(
    "harm",
    [harm_leader, harm_follower, harm_both, lose_supervisor, reboot(0), reboot(1), pull_cable],
)
def test_after_each_fault_it_serves_again_with_one_restart_a_host(harm):
    world = World()
    world.run(10)
    assert world.serves
    before = [host.restarts for host in world.hosts]
    begun = [host.starts for host in world.hosts]
    harm(world)
    world.run(1)
    assert not world.serves
    world.run(90)
    assert world.serves
    rebooted = [host.restarts < 0 for host in world.hosts]
    for host, count, was_rebooted in zip(world.hosts, before, rebooted, strict=True):
        assert host.restarts == (-1 if was_rebooted else count + 1)
    assert [host.starts for host in world.hosts] == [count + 1 for count in begun]


def test_messages_are_read_as_they_were_written():
    assert read_report(written(RUNS)) == RUNS
    assert read_orders(written(ORDERS)) == ORDERS


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"GET / HTTP/1.1\r\n",
        b"[]\n",
        b'{"protocol": 2}\n',
        b'{"protocol": 1}\n',
        written(replace(RUNS, phase="dancing")),
        json.dumps({**json.loads(written(RUNS)), "rank": "1"}).encode(),
        json.dumps({**json.loads(written(RUNS)), "more": 1}).encode(),
    ],
)
def test_what_is_no_report_is_not_understood(line):
    with pytest.raises(NotUnderstood):
        read_report(line)


def test_a_group_is_read_from_the_command_line():
    text = json.dumps(
        {
            "rank": 1,
            "port": 29500,
            "fingerprint": "f1",
            "members": [
                {"name": "a", "address": "192.0.2.7"},
                {"name": "b", "address": "192.0.2.8"},
            ],
        }
    )
    group = read_group(text)
    assert group == replace(GROUP, rank=1)
    assert (group.me.name, group.leader.name, list(group.followers)) == ("b", "a", [1])
