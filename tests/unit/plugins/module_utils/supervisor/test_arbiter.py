# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is awake, told event by event with a clock of the test's own."""

from __future__ import annotations

import heapq
import random
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.arbiter import (
    TOO_LATE,
    TOO_MANY,
    Arbiter,
    Limits,
    Model,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.phases import (
    ASLEEP,
    GIVEN_UP,
    GONE,
    READY,
    SLEEPING,
    STARTING,
    STOPPING,
)


def share(sizes: dict[str, int], room: int, waiting: int = 256, patience: float = 300.0) -> Arbiter:
    """A share whose models are all asleep."""
    models = {name: Model({"gpu": size}, 900.0, patience) for name, size in sizes.items()}
    arbiter = Arbiter(models, Limits({"gpu": room}, residence=10.0, linger=2.0, waiting=waiting))
    for name in sizes:
        arbiter.phase(0.0, name, ASLEEP)
    return arbiter


def awake(arbiter: Arbiter, now: float, *names: str) -> None:
    """Let models be ready since a time."""
    for name in names:
        arbiter.phase(now, name, READY)


def test_the_first_request_of_a_cold_model_starts_it_and_waits_for_it() -> None:
    arbiter = share({"a": 1, "b": 1}, room=1)
    ticket = arbiter.arrive(5.0, "a")
    decision = arbiter.decide(5.0)
    assert (decision.wake, decision.admit, decision.rest) == ("a", [], [])
    assert arbiter.phase_of("a") == STARTING
    assert arbiter.decide(6.0).wake is None  # it was told
    arbiter.phase(30.0, "a", READY)
    assert arbiter.decide(30.0).admit == [ticket]
    figures = arbiter.figures["a"]
    assert (figures.starts, figures.held, figures.held_seconds, figures.longest) == (1, 1, 25, 25)


def test_a_request_of_a_model_that_is_ready_goes_at_once_and_was_not_held() -> None:
    arbiter = share({"a": 1}, room=1)
    awake(arbiter, 0.0, "a")
    ticket = arbiter.arrive(1.0, "a")
    assert arbiter.decide(1.0).admit == [ticket]
    assert (arbiter.under_way("a"), arbiter.figures["a"].held) == (1, 0)


@pytest.mark.parametrize(
    ("sizes", "room", "ready", "wanted", "goes"),
    [
        # One after the other by how long they were not used.
        ({"a": 1, "b": 1, "c": 1}, 2, {"a": 10.0, "b": 20.0}, "c", ["a"]),
        ({"a": 1, "b": 1, "c": 1}, 2, {"a": 20.0, "b": 10.0}, "c", ["b"]),
        # Those that are needed, and none that is not in the way.
        ({"a": 1, "b": 1, "c": 2}, 2, {"a": 10.0, "b": 20.0}, "c", ["a", "b"]),
        ({"a": 1, "b": 3, "c": 3}, 4, {"a": 10.0, "b": 20.0}, "c", ["b"]),
        # There is room.
        ({"a": 1, "b": 1, "c": 1}, 3, {"a": 10.0, "b": 20.0}, "c", []),
    ],
)
def test_who_is_put_out(
    sizes: dict[str, int], room: int, ready: dict[str, float], wanted: str, goes: list[str]
) -> None:
    arbiter = share(sizes, room)
    for name, since in ready.items():
        awake(arbiter, since, name)
    arbiter.arrive(100.0, wanted)
    decision = arbiter.decide(100.0)
    assert sorted(decision.rest) == goes
    assert decision.wake == (None if goes else wanted)
    for name in goes:
        assert arbiter.phase_of(name) == STOPPING
        arbiter.phase(101.0, name, ASLEEP)
    assert goes == [] or arbiter.decide(101.0).wake == wanted


def test_a_model_that_is_not_of_the_share_s_size_never_starts_beside_another_one_starting() -> None:
    arbiter = share({"a": 1, "b": 1}, room=2)
    arbiter.arrive(0.0, "a")
    arbiter.arrive(0.0, "b")
    assert arbiter.decide(0.0).wake == "a"
    assert arbiter.decide(1.0).wake is None  # both would measure the card at once
    arbiter.phase(20.0, "a", READY)
    assert arbiter.decide(20.0).wake == "b"


def test_one_with_requests_under_way_is_not_cut_and_its_new_ones_are_gathered() -> None:
    arbiter = share({"a": 1, "b": 1}, room=1)
    awake(arbiter, 0.0, "a")
    arbiter.arrive(1.0, "a")
    arbiter.decide(1.0)
    other = arbiter.arrive(2.0, "b")
    early = arbiter.arrive(3.0, "a")
    decision = arbiter.decide(3.0)
    assert (decision.admit, decision.rest) == ([early], [])  # its residence is not over
    late = arbiter.arrive(11.0, "a")
    decision = arbiter.decide(11.0)
    assert (decision.admit, decision.rest) == ([], [])  # gathered for its next turn
    arbiter.finish(12.0, "a")
    assert arbiter.decide(12.0).rest == []
    arbiter.finish(13.0, "a")
    assert arbiter.decide(13.0).rest == ["a"]
    arbiter.phase(14.0, "a", ASLEEP)
    assert arbiter.decide(14.0).wake == "b"
    arbiter.phase(20.0, "b", READY)
    assert arbiter.decide(20.0).admit == [other]
    arbiter.finish(21.0, "b")
    assert arbiter.decide(21.0).rest == []  # b may have more to do
    assert arbiter.decide(23.0).rest == ["b"]  # it had not
    arbiter.phase(24.0, "b", ASLEEP)
    assert arbiter.decide(24.0).wake == "a"
    arbiter.phase(30.0, "a", READY)
    assert arbiter.decide(30.0).admit == [late]


def test_residence_is_as_long_as_the_start_took_and_at_most_a_quarter_of_the_patience() -> None:
    for start, patience, residence in ((40.0, 300.0, 40.0), (100.0, 200.0, 50.0), (1.0, 300.0, 10)):
        arbiter = share({"a": 1, "b": 1}, room=1, patience=patience)
        arbiter.arrive(0.0, "a")
        assert arbiter.decide(0.0).wake == "a"
        awake(arbiter, start, "a")
        assert arbiter.decide(start).admit
        arbiter.arrive(start, "b")
        more = arbiter.arrive(start + residence - 0.1, "a")
        assert arbiter.decide(start + residence - 0.1).admit == [more]
        arbiter.arrive(start + residence, "a")
        assert arbiter.decide(start + residence).admit == []


def test_who_waits_too_long_or_as_one_too_many_is_refused() -> None:
    arbiter = share({"a": 1}, room=1, waiting=2, patience=50.0)
    first = arbiter.arrive(0.0, "a")
    second = arbiter.arrive(10.0, "a")
    third = arbiter.arrive(10.0, "a")
    decision = arbiter.decide(10.0)
    assert decision.refuse == {third: TOO_MANY}
    assert decision.again == 50.0
    assert arbiter.decide(50.0).refuse == {first: TOO_LATE}
    arbiter.leave(second)
    assert arbiter.decide(60.0).refuse == {}
    assert arbiter.figures["a"].refused == 2


def test_requests_of_one_that_was_given_up_are_refused_at_once_with_the_reason() -> None:
    arbiter = share({"a": 1}, room=1)
    ticket = arbiter.arrive(0.0, "a")
    arbiter.phase(1.0, "a", GIVEN_UP, "out of memory")
    assert arbiter.decide(1.0).refuse == {ticket: "out of memory"}


def test_one_whose_supervisor_comes_back_is_started_for_those_who_wait() -> None:
    arbiter = share({"a": 1}, room=1)
    arbiter.arrive(0.0, "a")
    arbiter.decide(0.0)
    arbiter.phase(5.0, "a", GONE)  # killed in the middle of its start
    assert arbiter.decide(5.0).wake is None
    arbiter.phase(7.0, "a", ASLEEP)
    assert arbiter.decide(7.0).wake == "a"


def test_idle_ones_go_and_others_stay() -> None:
    arbiter = share({"a": 1, "b": 1}, room=2)
    awake(arbiter, 0.0, "a", "b")
    arbiter.arrive(800.0, "b")
    assert arbiter.decide(800.0).again == 900.0
    decision = arbiter.decide(900.0)
    assert (decision.rest, arbiter.phase_of("b")) == (["a"], READY)
    arbiter.finish(2000.0, "b")
    assert arbiter.decide(2000.0).again == 2900.0
    assert arbiter.decide(2900.0).rest == ["b"]


def test_one_that_is_kept_awake_is_started_by_itself_and_outlasts_all() -> None:
    arbiter = share({"a": 1, "b": 1}, room=1)
    awake(arbiter, 0.0, "a")
    arbiter.keep(100.0, ["b"])
    assert arbiter.decide(100.0).rest == ["a"]
    arbiter.phase(102.0, "a", ASLEEP)
    assert arbiter.decide(102.0).wake == "b"
    arbiter.phase(120.0, "b", READY)
    arbiter.arrive(121.0, "a")
    for now in (121.0, 200.0, 400.0):
        arbiter.keep(now, ["b"])
        assert arbiter.decide(now).rest == []
    arbiter.arrive(401.0, "a")
    arbiter.keep(402.0, [])
    assert arbiter.decide(402.0).rest == ["b"]


# Each is awake with 8 and sleeps with 2, but for `stops`, which cannot sleep, and `small`: 3 and 1.
def sleepers(room: int, **phases: str) -> Arbiter:
    """A share whose models are in some phases, used in this order."""
    models = {}
    for name in phases:
        size, asleep = (3, 1) if name == "small" else (8, 2)
        models[name] = Model({"gpu": size}, asleep=None if name == "stops" else {"gpu": asleep})
    arbiter = Arbiter(models, Limits({"gpu": room}, residence=10.0, linger=2.0))
    for number, (name, phase) in enumerate(phases.items()):
        arbiter.phase(float(number), name, READY)  # when it was used
        arbiter.phase(float(number), name, phase)
    return arbiter


@pytest.mark.parametrize(
    ("room", "phases", "sleep", "rest"),
    [
        # It is put to sleep, and what it holds then counts.
        (10, {"a": READY}, ["a"], []),
        (9, {"a": READY}, [], ["a"]),
        (10, {"stops": READY}, [], ["stops"]),
        # Those that sleep stay as long as there is room for what they hold.
        (12, {"a": SLEEPING, "b": READY}, ["b"], []),
        (11, {"a": SLEEPING, "b": READY}, ["b"], ["a"]),
        (11, {"a": READY, "b": SLEEPING}, ["a"], ["b"]),
        (12, {"a": SLEEPING, "b": SLEEPING, "c": READY}, ["c"], ["a"]),
        (10, {"a": SLEEPING, "b": SLEEPING, "c": READY}, ["c"], ["a", "b"]),
        (8, {"a": SLEEPING, "c": READY}, [], ["a", "c"]),
        # Whoever sleeps and is not in the way of a start is left alone.
        (10, {"a": SLEEPING}, [], []),
        (9, {"a": SLEEPING}, [], ["a"]),
        # The small one stays awake where the larger one's sleep is enough.
        (13, {"small": READY, "a": READY}, ["a"], []),
        (11, {"small": READY, "a": READY}, ["small", "a"], []),
    ],
)
def test_who_is_put_to_sleep_and_who_is_stopped(
    room: int, phases: dict[str, str], sleep: list[str], rest: list[str]
) -> None:
    arbiter = sleepers(room, **phases, wanted=ASLEEP)
    arbiter.arrive(100.0, "wanted")
    decision = arbiter.decide(100.0)
    assert (decision.sleep, decision.rest) == (sleep, rest)
    assert decision.wake == (None if sleep or rest else "wanted")
    for name in sleep:
        arbiter.phase(101.0, name, SLEEPING)
    for name in rest:
        arbiter.phase(101.0, name, ASLEEP)
    if sleep or rest:
        assert arbiter.decide(101.0).wake == "wanted"


def test_one_that_sleeps_is_woken_and_that_is_no_start() -> None:
    arbiter = sleepers(10, a=READY, b=SLEEPING)
    ticket = arbiter.arrive(100.0, "b")
    assert arbiter.decide(100.0).sleep == ["a"]
    assert arbiter.decide(100.1).wake is None  # not while the other one still falls asleep
    arbiter.phase(100.3, "a", SLEEPING)
    assert arbiter.decide(100.3).wake == "b"
    arbiter.phase(100.7, "b", READY)
    assert arbiter.decide(100.7).admit == [ticket]
    assert arbiter.figures["b"].starts == 0


def test_who_falls_asleep_does_not_go_twice_and_makes_room_for_as_much_as_it_gives() -> None:
    arbiter = sleepers(10, a=READY, b=ASLEEP)
    arbiter.arrive(100.0, "b")
    assert arbiter.decide(100.0).sleep == ["a"]
    decision = arbiter.decide(100.1)
    assert (decision.sleep, decision.rest, decision.wake) == ([], [], None)
    # It was stopped instead, as its supervisor says.
    arbiter.phase(101.0, "a", ASLEEP)
    assert arbiter.decide(101.0).wake == "b"


def test_a_sleeper_for_whom_somebody_waits_is_stopped_last() -> None:
    arbiter = sleepers(12, a=SLEEPING, b=SLEEPING, c=READY, d=ASLEEP)
    arbiter.arrive(99.0, "d")
    arbiter.arrive(99.5, "a")
    assert arbiter.decide(100.0).rest == ["b"]


def test_one_without_requests_is_put_to_sleep_in_the_end() -> None:
    arbiter = sleepers(10, a=READY, stops=SLEEPING)
    assert arbiter.decide(899.0).sleep == []
    assert arbiter.decide(901.0).sleep == ["a"]


class World:
    """Servers and clients with a clock: starts take 20 s, stops 2, wakes 1, answers 0.5."""

    def __init__(self, arbiter: Arbiter, think: float) -> None:
        self.arbiter = arbiter
        self.think = think
        self.events: list[tuple[float, int, str, Any]] = []
        self.number = 0
        self.owner: dict[int, str] = {}
        self.waits: list[float] = []
        self.since: dict[int, float] = {}
        self.refused = 0
        self.looks: set[float] = set()
        self.asleep: set[str] = set()

    def at(self, time: float, what: str, which: Any) -> None:
        self.number += 1
        heapq.heappush(self.events, (time, self.number, what, which))

    def run(self, until: float) -> None:
        while self.events and self.events[0][0] <= until:
            now, _number, what, which = heapq.heappop(self.events)
            if what == "ask":
                ticket = self.arbiter.arrive(now, which)
                self.owner[ticket], self.since[ticket] = which, now
            elif what == "done":
                self.arbiter.finish(now, which)
                self.at(now + self.think, "ask", which)
            elif what in (READY, ASLEEP, SLEEPING):
                self.arbiter.phase(now, which, what)
                (self.asleep.add if what == SLEEPING else self.asleep.discard)(which)
            decision = self.arbiter.decide(now)
            if decision.wake:
                took = 1.0 if decision.wake in self.asleep else 20.0
                self.at(now + took, READY, decision.wake)
            for name in decision.sleep:
                self.at(now + 0.3, SLEEPING, name)
            for name in decision.rest:
                self.at(now + 2.0, ASLEEP, name)
            for ticket in decision.admit:
                self.waits.append(now - self.since[ticket])
                self.at(now + 0.5, "done", self.owner[ticket])
            self.refused += len(decision.refuse)
            if decision.again is not None and decision.again not in self.looks:
                self.looks.add(decision.again)
                self.at(decision.again, "look", None)
            held = 0
            for name, one in self.arbiter._states.items():
                model = self.arbiter.models[name]
                # One that is stopped out of its sleep has no more than it had in it.
                if one.phase in (SLEEPING, STOPPING) and name in self.asleep:
                    held += (model.asleep or {})["gpu"]
                elif one.phase != ASLEEP:
                    held += model.size["gpu"]
            assert held <= self.arbiter.limits.room["gpu"], "more models on a card than fit it"


@pytest.mark.parametrize("clients", [2, 8])
def test_clients_that_never_cease_share_the_card_without_thrashing(clients: int) -> None:
    names = ["a", "b", "c"]
    arbiter = share(dict.fromkeys(names, 1), room=1)
    world, chance = World(arbiter, think=0.1), random.Random(clients)
    for number in range(clients * 3):
        world.at(chance.random(), "ask", names[number % 3])
    world.run(3600.0)
    starts = sum(figures.starts for figures in arbiter.figures.values())
    assert world.refused == 0
    # A turn is 2 s to stop, 20 to start, 20 of residence: 42 s, and no more than what ends it.
    assert 3600 / 44 <= starts <= 3600 / 42 + 1
    # All have their turn, and none waits for longer than for the two others and its own start.
    assert max(world.waits) <= 3 * 44
    assert len(world.waits) > 0.4 * 3600 / 0.6 * clients


@pytest.mark.parametrize(("room", "starts"), [(12, 3), (10, 6)])
def test_clients_that_never_cease_with_models_that_sleep(room: int, starts: int) -> None:
    arbiter = sleepers(room, a=ASLEEP, b=ASLEEP, c=ASLEEP)
    world, chance = World(arbiter, think=0.1), random.Random(room)
    for number in range(6):
        world.at(chance.random(), "ask", "abc"[number % 3])
    world.run(3600.0)
    assert world.refused == 0
    started = sum(figures.starts for figures in arbiter.figures.values())
    # Where all may sleep at once each is started once; where only two may, again and again.
    assert started == starts if starts == 3 else started > starts
    assert max(world.waits) <= 3 * 44


def test_one_client_that_alternates_pays_a_switch_each_time_and_the_lingering() -> None:
    arbiter = share({"a": 1, "b": 1}, room=1)
    now, order = 0.0, ["a", "b"] * 5
    for name in order:
        ticket = arbiter.arrive(now, name)
        admitted: list[int] = []
        while ticket not in admitted:
            decision = arbiter.decide(now)
            admitted += decision.admit
            if decision.wake:
                now += 20.0
                arbiter.phase(now, name, READY)
            elif decision.rest:
                now += 2.0
                arbiter.phase(now, decision.rest[0], ASLEEP)
            elif ticket not in admitted:
                assert decision.again is not None
                now = decision.again
        now += 0.5
        arbiter.finish(now, name)
    assert sum(figures.starts for figures in arbiter.figures.values()) == len(order)
    assert now <= 10 * (20 + 2 + 2 + 0.5)
