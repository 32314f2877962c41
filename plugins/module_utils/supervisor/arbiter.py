# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which models of a share are awake: a state machine that is told the time. Pure.

The broker (broker.py) tells it what happens, and carries out what :meth:`Arbiter.decide` says.

- A request of a model that is ready goes to it at once; others wait, the oldest first.
- One model is started at a time, for two that measure a card's free memory mislead each other.
- Where the one that is waited for does not fit beside those that are awake, the least recently used
  is put out: to sleep where it can (vLLM's sleep mode), else its server is stopped. What sleeps is
  stopped where what it still holds is in the way.
- One that is put out first gets its time of residence (`Limits.residence`, or as long as its start
  took, so that at most about half of the time goes into starts), unless it has had nothing to do
  for `Limits.linger`. From then on its own new requests wait too, so that those under way come to
  an end, and so requests of one model are gathered until it is its turn again.
- What is under way is never cut off.
- One that is kept awake, while a run of the site playbook starts and proves it, is started as if it
  were waited for since then, and not put out.
- Whoever has waited for `Model.patience` is refused, as is whoever comes when `Limits.waiting`
  wait already.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from .phases import ASLEEP, AWAKE, GIVEN_UP, GONE, READY, SLEEPING, STARTING, STOPPING

TOO_MANY = "too many requests are waiting"
TOO_LATE = "the model was not ready in time"


@dataclass(frozen=True)
class Model:
    """One model of a share.

    Attributes:
        size: What it takes of each resource while it is awake, such as a GPU's bytes by UUID.
        idle_after: Seconds without requests after which it is put out.
        patience: Seconds that a request waits for it at most.
        asleep: What it still takes of each resource while it sleeps; `None` where it cannot sleep,
            and is stopped.
    """

    size: Mapping[str, int]
    idle_after: float = 900.0
    patience: float = 300.0
    asleep: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Limits:
    """What holds for a whole share.

    Attributes:
        room: What there is of each resource; one that is not named here is not limited.
        residence: Seconds that a model stays awake at least while it has work.
        linger: Seconds without work after which it goes although its residence is not over.
        waiting: Requests that may wait at the same time.
    """

    room: Mapping[str, int]
    residence: float = 10.0
    linger: float = 2.0
    waiting: int = 256


@dataclass
class _Waiting:
    ticket: int
    since: float
    until: float


@dataclass
class _State:
    phase: str = GONE
    why: str = ""
    running: int = 0
    waiting: list[_Waiting] = field(default_factory=list)
    used: float = 0.0  # when it had something to do for the last time
    woken: float = 0.0  # when it was last told to start
    ready: float = 0.0  # when it became ready
    kept: float | None = None  # since when it is kept awake
    going: str = ASLEEP  # what it becomes, of one that is being put out


@dataclass
class Figures:
    """What a model's requests have met with since the broker's start.

    Attributes:
        starts: How often its server was started.
        held: Requests that had to wait and were then answered.
        held_seconds: Their waits together.
        longest: The longest of these.
        refused: Requests that were refused.
    """

    starts: int = 0
    held: int = 0
    held_seconds: float = 0.0
    longest: float = 0.0
    refused: int = 0


@dataclass
class Decision:
    """What is to be done now.

    Attributes:
        admit: Tickets that may go to their models.
        refuse: Tickets that are refused, with the reason.
        wake: The model to start, or to wake where it sleeps.
        sleep: The models to put to sleep.
        rest: The models whose servers are to be stopped.
        again: When to decide again though nothing has happened; `None` for never.
    """

    admit: list[int] = field(default_factory=list)
    refuse: dict[int, str] = field(default_factory=dict)
    wake: str | None = None
    sleep: list[str] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    again: float | None = None


class Arbiter:
    """Decides for one share.

    Args:
        models: Its models by name.
        limits: What holds for all of them.
    """

    def __init__(self, models: Mapping[str, Model], limits: Limits) -> None:
        self.models = dict(models)
        self.limits = limits
        self.figures = {name: Figures() for name in models}
        self._states = {name: _State() for name in models}
        self._tickets = itertools.count(1)
        self._full: dict[int, str] = {}
        self._closing: set[str] = set()

    # -- what happens -----------------------------------------------------------------------------

    def arrive(self, now: float, name: str) -> int:
        """A request of a model has come; returns its ticket."""
        ticket, state = next(self._tickets), self._states[name]
        if sum(len(one.waiting) for one in self._states.values()) >= self.limits.waiting:
            self._full[ticket] = name
        else:
            until = now + self.models[name].patience
            state.waiting.append(_Waiting(ticket, now, until))
        return ticket

    def leave(self, ticket: int) -> None:
        """One who waits has gone away."""
        self._full.pop(ticket, None)
        for state in self._states.values():
            state.waiting = [one for one in state.waiting if one.ticket != ticket]

    def finish(self, now: float, name: str) -> None:
        """A request that was admitted has come to its end, whichever."""
        state = self._states[name]
        state.running -= 1
        state.used = now

    def phase(self, now: float, name: str, phase: str, why: str = "") -> None:
        """A model's supervisor has told its phase.

        Args:
            now: The time.
            name: The model.
            phase: Such as `READY`.
            why: One sentence, where it cannot serve.
        """
        state = self._states[name]
        if phase == READY and state.phase != READY:
            state.ready = state.used = now
        state.phase, state.why = phase, why

    def keep(self, now: float, names: Collection[str]) -> None:
        """Keep these awake, and no others."""
        for name, state in self._states.items():
            if name not in names:
                state.kept = None
            elif state.kept is None:
                state.kept = now

    # -- what is asked ----------------------------------------------------------------------------

    def phase_of(self, name: str) -> str:
        """A model's phase."""
        return self._states[name].phase

    def why(self, name: str) -> str:
        """What its supervisor said of it last."""
        return self._states[name].why

    def under_way(self, name: str) -> int:
        """Requests that it is computing."""
        return self._states[name].running

    def waiting_for(self, name: str) -> int:
        """Requests that wait for it."""
        return len(self._states[name].waiting)

    def fits(self, phases: Mapping[str, str]) -> bool:
        """Whether models may be in these phases at the same time."""

        def held(name: str, phase: str) -> Mapping[str, int]:
            model = self.models[name]
            return model.size if phase in AWAKE else (phase == SLEEPING and model.asleep) or {}

        takes = [held(name, phase) for name, phase in phases.items()]
        return all(
            sum(one.get(resource, 0) for one in takes) <= room
            for resource, room in self.limits.room.items()
        )

    # -- what is to be done -----------------------------------------------------------------------

    def decide(self, now: float) -> Decision:
        """What is to be done now; what it names counts as done."""
        decision = Decision()
        self._refuse(now, decision)
        self._switch(now, decision)
        self._admit(now, decision)
        self._idle(now, decision)
        for state in self._states.values():
            for one in state.waiting:
                self._at(decision, one.until)
        return decision

    @staticmethod
    def _at(decision: Decision, time: float) -> None:
        decision.again = time if decision.again is None else min(decision.again, time)

    def _refuse(self, now: float, decision: Decision) -> None:
        for ticket, name in self._full.items():
            decision.refuse[ticket] = TOO_MANY
            self.figures[name].refused += 1
        self._full.clear()
        for name, state in self._states.items():
            lost = state.phase == GIVEN_UP
            late = [one for one in state.waiting if lost or one.until <= now]
            for one in late:
                decision.refuse[one.ticket] = state.why if lost and state.why else TOO_LATE
                self.figures[name].refused += 1
                state.waiting.remove(one)

    def _residence(self, name: str) -> float:
        """Seconds that a model stays at least, once it is ready and has work."""
        state = self._states[name]
        start = max(0.0, state.ready - state.woken)
        # A quarter of what others wait for it, or a slow start would keep them for good.
        return min(max(self.limits.residence, start), self.models[name].patience / 4)

    def _may_go(self, name: str) -> float:
        """From when on a model may be put out for another."""
        state = self._states[name]
        if state.kept is not None:
            return math.inf
        over = state.ready + self._residence(name)
        if state.running == 0 and (not state.waiting or name in self._closing):
            return min(over, state.used + self.limits.linger)
        return over

    def _next(self) -> str | None:
        """The model that has been waited for the longest and is not awake."""
        cold = []
        for name, state in self._states.items():
            since = [one.since for one in state.waiting[:1]]
            since += [] if state.kept is None else [state.kept]
            if since and state.phase in (ASLEEP, SLEEPING):
                cold.append((min(since), name))
        return min(cold)[1] if cold else None

    def _switch(self, now: float, decision: Decision) -> None:
        closed, self._closing = self._closing, set()
        wanted = self._next()
        busy = any(state.phase in (STARTING, STOPPING) for state in self._states.values())
        if wanted is None:
            return
        phases = {name: state.phase for name, state in self._states.items()} | {wanted: READY}
        if self.fits(phases):
            if not busy:
                state = self._states[wanted]
                self.figures[wanted].starts += state.phase == ASLEEP
                state.phase, state.woken = STARTING, now
                decision.wake = wanted
            return
        leaving = self._leaving(wanted, phases)
        self._closing = {name for name in leaving if name in closed}
        for name, becomes in leaving.items():
            when = now if phases[name] == SLEEPING else self._may_go(name)
            if when > now:
                self._closing.discard(name)
                if when < math.inf:
                    self._at(decision, when)
                continue
            self._closing.add(name)
            if self._states[name].running == 0:
                self._put_out(name, becomes, decision)

    def _leaving(self, wanted: str, phases: Mapping[str, str]) -> dict[str, str]:
        """Who is to be put out for another, and what each becomes; none where that does not help.

        Args:
            wanted: Who is to be awake.
            phases: Everybody's phase, with that one awake.
        """
        # Those that go anyway make room already.
        before = {
            name: self._states[name].going if phase == STOPPING else phase
            for name, phase in phases.items()
        }
        after = dict(before)
        # The least recently used first, and last whoever has work, or will.
        others = sorted((name for name in phases if name != wanted), key=self._is_needed)
        ready = [name for name in others if phases[name] == READY]
        sleeping = [name for name in others if phases[name] == SLEEPING]
        steps = [(name, self._rests_as(name)) for name in ready]
        steps += [(name, ASLEEP) for name in [*sleeping, *ready]]
        for name, becomes in steps:
            if self.fits(after):
                break
            after[name] = becomes
        if not self.fits(after):
            return {}  # something that is being started is in the way
        # One that turned out not to be in the way, such as the smaller of two, stays as it is.
        for name, _becomes in steps:
            for gentler in (before[name], self._rests_as(name)):
                if after[name] != before[name] and self.fits({**after, name: gentler}):
                    after[name] = gentler
        return {name: phase for name, phase in after.items() if phase != before[name]}

    def _is_needed(self, name: str) -> tuple[bool, float]:
        state = self._states[name]
        waited_for = state.phase == SLEEPING and bool(state.waiting)
        return state.running > 0 or waited_for, state.used

    def _rests_as(self, name: str) -> str:
        """The phase of a model that is put out."""
        return ASLEEP if self.models[name].asleep is None else SLEEPING

    def _put_out(self, name: str, becomes: str, decision: Decision) -> None:
        self._states[name].phase, self._states[name].going = STOPPING, becomes
        (decision.sleep if becomes == SLEEPING else decision.rest).append(name)

    def _admit(self, now: float, decision: Decision) -> None:
        for name, state in self._states.items():
            if state.phase != READY or name in self._closing:
                continue
            for one in state.waiting:
                decision.admit.append(one.ticket)
                waited = now - one.since
                if waited > 0:
                    figures = self.figures[name]
                    figures.held += 1
                    figures.held_seconds += waited
                    figures.longest = max(figures.longest, waited)
            state.running += len(state.waiting)
            state.used = now if state.waiting else state.used
            state.waiting.clear()

    def _idle(self, now: float, decision: Decision) -> None:
        for name, state in self._states.items():
            if state.phase != READY or state.running or state.waiting or state.kept is not None:
                continue
            when = state.used + self.models[name].idle_after
            if when <= now:
                self._put_out(name, self._rests_as(name), decision)
            else:
                self._at(decision, when)
