# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one life of an instance that spans hosts: who is there, who starts, who has to end. Pure.

The members' engines live and die together, for vLLM's own do not: with a follower's worker killed
the leader's `/health` says 200 and no request is ever answered (0.14.1, see docs/groups.md). Each
life of the group is a generation. The leader's supervisor makes one at its own start, begins when
every member waits with the same configuration, and ends when one of them is lost. A follower runs
its engine for one generation and never for another.

Followers report once a second and are answered with what the leader wants (`wire.py`). Here is
what both conclude from that; the time is always given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

PROTOCOL = 1
"""Raised when two versions of this file would misunderstand each other."""
LOST = 15.0
"""Seconds of silence after which a member is gone. A busy host answers late, but not that late."""
FRESH = 5.0
"""Seconds that a report may be old for a start to count on it."""

WAITING = "waiting"
RUNNING = "running"
FAILED = "failed"
STOPPING = "stopping"
PHASES = (WAITING, RUNNING, FAILED, STOPPING)
"""Of a follower: without an engine; with one; with one that has failed; about to be stopped."""

GATHERING = "gathering"
SERVING = "serving"
ENDING = "ending"
"""With `RUNNING` those of the leader: nobody has an engine yet; all compute; it is over."""


@dataclass(frozen=True)
class Member:
    """A host of the group.

    Attributes:
        name: Its name in the inventory.
        address: Its address in the group's network.
    """

    name: str
    address: str


@dataclass(frozen=True)
class Group:
    """A group as one of its members sees it.

    Attributes:
        rank: This member's place; 0 leads.
        port: The TCP port on which the leader's supervisor answers the others.
        fingerprint: What is the same on all members of one configuration.
        members: All of them, by rank.
    """

    rank: int
    port: int
    fingerprint: str
    members: tuple[Member, ...]

    @property
    def me(self) -> Member:
        """This member."""
        return self.members[self.rank]

    @property
    def leader(self) -> Member:
        """The one that serves the API."""
        return self.members[0]

    @property
    def followers(self) -> dict[int, Member]:
        """All but the leader, by rank."""
        return {rank: one for rank, one in enumerate(self.members) if rank}


def read_group(text: str) -> Group:
    """Read a group from the supervisor's command line.

    Args:
        text: JSON, as `deploy/deployment.py` writes it.
    """
    data = json.loads(text)
    members = tuple(Member(str(one["name"]), str(one["address"])) for one in data["members"])
    return Group(int(data["rank"]), int(data["port"]), str(data["fingerprint"]), members)


class NotUnderstood(Exception):
    """A line that no member of this version has written; the message says why."""


@dataclass(frozen=True)
class Report:
    """What a follower says of itself.

    Attributes:
        rank: Its own.
        fingerprint: Its configuration's.
        phase: One of `PHASES`.
        generation: The one that its engine runs for, or ran for last; empty for none.
        summary: One sentence: what it waits for, what has failed, or what keeps it from computing
            while it runs.
        at_work: Whether its engine was seen to do something while it starts.
    """

    rank: int
    fingerprint: str
    phase: str
    generation: str = ""
    summary: str = ""
    at_work: bool = False


@dataclass(frozen=True)
class Orders:
    """What the leader answers.

    Attributes:
        generation: The present one.
        fingerprint: The leader's configuration.
        phase: `GATHERING`, `RUNNING`, `SERVING` or `ENDING`.
        start: Whether the one who asked shall start an engine for this generation.
        proved: Whether the leader's answers were verified with this configuration.
        summary: One sentence of what the leader does.
    """

    generation: str
    fingerprint: str
    phase: str
    start: bool = False
    proved: bool = False
    summary: str = ""


def written(message: Report | Orders) -> bytes:
    """A message as one line."""
    return json.dumps({"protocol": PROTOCOL, **asdict(message)}).encode() + b"\n"


def _fields(line: bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(line)
        protocol = data["protocol"]
    except (ValueError, LookupError, TypeError) as error:
        raise NotUnderstood("it is not a line of this collection's supervisor") from error
    if protocol != PROTOCOL:
        raise NotUnderstood(f"it speaks version {protocol!r}, and this one {PROTOCOL}")
    return {key: value for key, value in data.items() if key != "protocol"}


def read_report(line: bytes) -> Report:
    """Read what a follower says.

    Raises:
        NotUnderstood: It is something else.
    """
    try:
        report = Report(**_fields(line))
    except TypeError as error:
        raise NotUnderstood(str(error)) from error
    is_number = isinstance(report.rank, int) and not isinstance(report.rank, bool)
    if not is_number or report.phase not in PHASES:
        raise NotUnderstood("its rank or its phase is none")
    return report


def read_orders(line: bytes) -> Orders:
    """Read what the leader answers.

    Raises:
        NotUnderstood: It is something else.
    """
    try:
        return Orders(**_fields(line))
    except TypeError as error:
        raise NotUnderstood(str(error)) from error


@dataclass(frozen=True)
class Trouble:
    """Why a generation has to end.

    Attributes:
        cause: `member_gone`, `member_failed` or `member_stopped`.
        summary: One sentence that names the member.
    """

    cause: str
    summary: str


class Leading:
    """The leader's half of one generation.

    Args:
        group: The group.
        generation: Its name, which no other life of the group has.
    """

    def __init__(self, group: Group, generation: str) -> None:
        self.group = group
        self.generation = generation
        self.phase = GATHERING
        self._why = ""
        self._began = 0.0
        self._heard: dict[int, tuple[float, Report]] = {}
        self._joined: set[int] = set()

    def named(self, rank: int) -> str:
        """A member as people are told of it."""
        return f"{self.group.members[rank].name} (rank {rank})"

    def hear(self, report: Report, now: float, proved: bool = False) -> Orders:
        """Take in what a follower says, and answer it.

        Args:
            report: Its report; of a rank of the group other than 0.
            now: The monotonic time.
            proved: See :class:`Orders`.
        """
        self._heard[report.rank] = (now, report)
        if report.generation == self.generation and report.phase in (RUNNING, FAILED):
            self._joined.add(report.rank)
        active = self.phase in (RUNNING, SERVING)
        start = (
            active
            and report.phase == WAITING
            and report.rank not in self._joined
            and report.fingerprint == self.group.fingerprint
            and self.trouble(now) is None
        )
        summary = self.absent(now) if self.phase == GATHERING else self._why or self.phase
        return Orders(self.generation, self.group.fingerprint, self.phase, start, proved, summary)

    def absent(self, now: float) -> str:
        """Whom a start waits for and why; empty where all are there."""
        missing = []
        for rank in self.group.followers:
            at, report = self._heard.get(rank, (float("-inf"), None))
            if report is None:
                missing.append(f"{self.named(rank)}, which has not been heard of")
            elif now - at > FRESH:
                missing.append(f"{self.named(rank)}, last heard of {now - at:.0f} s ago")
            elif report.fingerprint != self.group.fingerprint:
                missing.append(
                    f"{self.named(rank)}, which has another configuration: run site.yml over all "
                    "hosts of the group"
                )
            elif report.phase != WAITING:
                why = f": {report.summary}" if report.summary else ""
                missing.append(f"{self.named(rank)}, which is still {report.phase}{why}")
        return "waiting for " + "; ".join(missing) if missing else ""

    def begin(self, now: float) -> bool:
        """Let the engines start where every member is there; says whether they do."""
        if self.phase == GATHERING and not self.absent(now):
            self.phase, self._began = RUNNING, now
            return True
        return False

    def serve(self) -> None:
        """The group has answered."""
        if self.phase == RUNNING:
            self.phase = SERVING

    def end(self, why: str) -> None:
        """It is over; the followers end theirs when they hear it, and say why."""
        self.phase, self._why = ENDING, why

    def at_work(self) -> bool:
        """Whether a follower was seen to do something, while the leader may wait for it."""
        return any(report.at_work for _at, report in list(self._heard.values()))

    def held(self) -> str | None:
        """Which follower says that it does not compute at this moment, and why."""
        for rank, (_at, report) in sorted(self._heard.items()):
            ours = report.generation == self.generation and report.phase == RUNNING
            if ours and report.summary:
                return f"{self.named(rank)}: {report.summary}"
        return None

    def trouble(self, now: float) -> Trouble | None:
        """Why this generation has to end; `None` where all is well or nothing has begun."""
        if self.phase not in (RUNNING, SERVING):
            return None
        for rank in self.group.followers:
            at, report = self._heard[rank]
            name = self.named(rank)
            if now - at > LOST:
                return Trouble(
                    "member_gone",
                    f"{name} at {self.group.members[rank].address} has not been heard of for "
                    f"{now - at:.0f} s",
                )
            if report.phase == STOPPING:
                return Trouble("member_stopped", f"{name} is being stopped")
            if report.phase == FAILED and report.generation == self.generation:
                return Trouble("member_failed", f"{name}: {report.summary}")
            if rank in self._joined and report.generation != self.generation:
                return Trouble("member_failed", f"{name} has been started anew by itself")
            if rank not in self._joined and now - self._began > LOST:
                return Trouble("member_failed", f"{name} does not start its engine")
        return None


START = "start"
STAY = "stay"
END = "end"


class Following:
    """A follower's half.

    Args:
        group: The group.
        now: The monotonic time.
    """

    def __init__(self, group: Group, now: float) -> None:
        self.group = group
        self.generation = ""
        self.orders: Orders | None = None
        self.refused = False
        """Whether nobody listens at the leader's any more: its supervisor has ended."""
        self._answered = now
        self._silence = ""

    def hear(self, orders: Orders, now: float) -> None:
        """Take in what the leader answers."""
        self.orders, self._answered, self._silence, self.refused = orders, now, "", False

    def miss(self, why: str, refused: bool = False) -> None:
        """The leader did not answer, or its host did that nobody listens."""
        self._silence, self.refused = why, refused

    def decide(self, now: float) -> tuple[str, str]:
        """What to do now.

        Returns:
            `START` an engine, of which `generation` is then the life; `STAY` as it is; or `END`
            the engine; and why.
        """
        orders = self.orders
        silent = now - self._answered
        leader = f"the leader {self.group.leader.name}"
        if not self.generation:
            if orders is None or silent > FRESH:
                return STAY, f"waiting for {leader}: {self._silence or 'it has not answered'}"
            if orders.fingerprint != self.group.fingerprint:
                return STAY, (
                    f"waiting for {leader}, which has another configuration: run site.yml over "
                    "all hosts of the group"
                )
            if orders.start:
                self.generation = orders.generation
                return START, f"{leader} begins"
            return STAY, f"waiting with {leader}: {orders.summary or orders.phase}"
        if silent > LOST:
            return END, f"{leader} has not answered for {silent:.0f} s: {self._silence}"
        if orders is None or orders.generation != self.generation:
            return END, f"{leader} has been started anew"
        if orders.phase == ENDING:
            return END, f"{leader} ends: {orders.summary}"
        return STAY, ""

    @property
    def is_served(self) -> bool:
        """Whether the group that this member's engine belongs to answers."""
        return (
            self.orders is not None
            and bool(self.generation)
            and self.orders.generation == self.generation
            and self.orders.phase == SERVING
        )
