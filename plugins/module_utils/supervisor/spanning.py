# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisors of an instance that spans hosts: one a host, one life together.

What they conclude from each other is in `group.py`, how they reach each other in `wire.py`. A fault
ends the engines of all members and each supervisor with status 1; systemd starts each once, the
followers wait for their leader, and it begins when all of them wait.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from . import classify, health
from .group import (
    END,
    FAILED,
    RUNNING,
    START,
    STOPPING,
    WAITING,
    Following,
    Group,
    Leading,
    Orders,
    Report,
    read_group,
)
from .group_state import GROUP_STATE, PROVED_GENERATION
from .process import LOOK_AT_START, LOOK_WHEN_BUSY, TICK, Supervisor, say
from .pulse import Pulse
from .sample import Sampler
from .wire import Follower, Leader, interface_of

if TYPE_CHECKING:
    import argparse
    import subprocess
    from collections.abc import Mapping

MEMBERS_OWN = ("member_gone", "member_stopped")
"""Causes that are no failed start: nothing is wrong with the configuration."""
GROUP_ENDED = "group_ended"
"""Cause of a follower's end that is another member's."""


def read_text(path: str) -> str:
    """A small file's text; empty where there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError:
        return ""


class _Spanning(Supervisor):
    """What all members have in common."""

    def __init__(
        self, group: Group, options: argparse.Namespace, environ: Mapping[str, str]
    ) -> None:
        super().__init__(options, environ)
        self.group = group
        self.alone = False
        self._written: dict[str, object] | None = None

    def variables(self) -> dict[str, str]:
        """Which of the host's interfaces and addresses the engines use for each other."""
        found = interface_of(
            self.group.me.address, read_text("/proc/net/route"), read_text("/proc/net/if_inet6")
        )
        variables = {"VLLM_HOST_IP": self.group.me.address}
        if found is None:
            say(f"no interface of this host is in the network of {self.group.me.address}", 4)
        else:
            variables.update(GLOO_SOCKET_IFNAME=found, NCCL_SOCKET_IFNAME=found)
        # A user may know better, such as of several interfaces for NCCL.
        return {name: value for name, value in variables.items() if name not in self.environ}

    def mend(self, verdict: classify.Verdict) -> classify.Verdict | None:
        """Mend it, and leave the next start to the group."""
        super().mend(verdict)
        return None

    def pause(self, status: str) -> bool:
        """Wait a moment before the start, as long as it takes; whether to go on waiting."""
        self.notifier.status(status)
        self.notifier.send(f"EXTEND_TIMEOUT_USEC={int((self.options.start_timeout + 60) * 1e6)}")
        return not self.stopping.wait(TICK)

    def write_state(self, generation: str, phase: str, proved: bool, summary: str) -> None:
        """Leave how the group is for the play and for whoever looks at the host."""
        content: dict[str, object] = {
            "rank": self.group.rank,
            "members": [one.name for one in self.group.members],
            "generation": generation,
            "phase": phase,
            "proved": proved,
            "summary": summary,
        }
        if content != self._written:
            path = os.path.join(self.run_dir, GROUP_STATE)
            with open(f"{path}.new", "w", encoding="utf-8") as stream:
                json.dump(content, stream)
            os.chmod(f"{path}.new", 0o644)
            os.replace(f"{path}.new", path)
            self._written = content


class LeadingSupervisor(_Spanning):
    """The one that serves the API."""

    def __init__(
        self, group: Group, options: argparse.Namespace, environ: Mapping[str, str]
    ) -> None:
        super().__init__(group, options, environ)
        self.leading = Leading(group, f"{time.time_ns():x}")

    def is_proved(self) -> bool:
        """Whether what runs was verified."""
        told = read_text(os.path.join(self.run_dir, PROVED_GENERATION)).strip()
        return bool(told) and told == self.fingerprint

    def answer(self, report: Report) -> Orders:
        """Answer a follower."""
        return self.leading.hear(report, time.monotonic(), self.is_proved())

    def tell_group(self, summary: str = "") -> None:
        """Leave how the group is."""
        self.write_state(self.leading.generation, self.leading.phase, self.is_proved(), summary)

    def prepare(self) -> None:
        """Wait until every member is there."""
        super().prepare()
        listener: Leader | None = None
        said = ""
        while not self.stopping.is_set():
            try:
                listener = listener or Leader(self.group, self.answer)
                if self.leading.begin(time.monotonic()):
                    break
                waiting = self.leading.absent(time.monotonic())
            except OSError as problem:
                waiting = f"waiting for {self.group.me.address} port {self.group.port}: {problem}"
            if waiting.partition(",")[0] != said.partition(",")[0]:
                say(waiting, 5)
            said = waiting
            self.tell_group(waiting)
            if not self.pause(waiting):
                return
        names = ", ".join(one.name for one in self.group.members)
        say(f"all members are there: {names}; generation {self.leading.generation}", 5)
        self.tell_group()

    def standing_still(self, pulse: Pulse) -> classify.Verdict | None:
        """What keeps the group from computing at this moment, here or at a follower."""
        here = super().standing_still(pulse)
        held = self.leading.held() if here is None else None
        return here if held is None else classify.Verdict(classify.HUNG_WHILE_SERVING, held)

    def is_excused(self, verdict: classify.Verdict) -> bool:
        """Whether it waits for a follower that is at work, such as one whose disk is slower."""
        at_start = not self.ready and verdict.state == classify.HUNG_AT_START
        return at_start and self.leading.at_work()

    def outside(self, now: float) -> classify.Verdict | None:
        """Whether a member is lost."""
        self.tell_group()
        trouble = self.leading.trouble(now)
        if trouble is None:
            return None
        return classify.Verdict(
            classify.CRASHED,
            trouble.summary,
            remedy="none is needed while that host comes back by itself: the group starts when "
            "all of its members are there; else see the journal of that host",
            cause=trouble.cause,
        )

    def say_ready(self) -> None:
        """The group has computed a token."""
        super().say_ready()
        self.leading.serve()
        self.tell_group()

    def fail(self, verdict: classify.Verdict) -> int:
        """End the group's life."""
        known = self.leading.trouble(time.monotonic())
        if known is not None and verdict.cause != known.cause:
            # What a lost member does to this host's engine is no cause.
            verdict = replace(
                verdict,
                summary=known.summary,
                evidence=(f"here: {verdict.summary}", *verdict.evidence),
                cause=known.cause,
            )
        if verdict.cause == "member_stopped" and self.ready and self.server is not None:
            self.state.tell(health.DRAINING, verdict.summary)
            with contextlib.ExitStack() as held:
                self.drain(held)
                self.leading.end(verdict.summary)
                self.end_descendants()
        self.leading.end(verdict.summary)
        self.tell_group(verdict.summary)
        if verdict.cause in MEMBERS_OWN and not self.ready:
            self.tell(verdict)
            self.end_descendants()
            return 1
        return super().fail(verdict)

    def end_server(self, server: subprocess.Popen[bytes]) -> None:
        """End the engines of all members."""
        self.leading.end("it is being stopped")
        self.tell_group("it is being stopped")
        super().end_server(server)


class FollowingSupervisor(_Spanning):
    """One that computes a stage, and serves no API."""

    def __init__(
        self, group: Group, options: argparse.Namespace, environ: Mapping[str, str]
    ) -> None:
        super().__init__(group, options, environ)
        self.sampler = Sampler(None, exclude=(os.getpid(),), gpu=bool(options.device))
        self.following = Following(group, time.monotonic())
        self.phase, self.summary, self.at_work = WAITING, "", False
        self.reports: Follower | None = None

    def report(self) -> Report:
        """What the leader is told."""
        phase = STOPPING if self.stopping.is_set() and self.phase != FAILED else self.phase
        return Report(
            self.group.rank,
            self.group.fingerprint,
            phase,
            self.following.generation,
            self.summary[:1000],
            self.at_work,
        )

    def tell_group(self) -> None:
        """Leave how the group is."""
        orders = self.following.orders
        if orders is not None and orders.generation == self.following.generation:
            self.write_state(orders.generation, orders.phase, orders.proved, orders.summary)
        else:
            self.write_state(self.following.generation, self.phase, False, self.summary)

    def port_problem(self) -> str | None:
        """It listens on none."""
        return None

    def prepare(self) -> None:
        """Wait until the leader begins."""
        super().prepare()
        self.reports = Follower(self.following, self.report, time.monotonic)
        said = ""
        while not self.stopping.is_set():
            order, why = self.following.decide(time.monotonic())
            self.summary = why
            self.tell_group()
            if why != said:
                say(why, 5)
                said = why
            if order == START:
                self.phase, self.summary = RUNNING, ""
                return
            if not self.pause(why):
                return

    def watch(self, server: subprocess.Popen[bytes]) -> classify.Verdict:
        """Watch until the engine ends, or the group does, or somebody stops the unit.

        Whether the engines compute is the leader's to see, who asks them.
        """
        pulse = Pulse(self.limits, server.pid, self.alone)
        verdict, next_look = classify.Verdict(classify.STARTING, "starting"), 0.0
        held_since: float | None = None
        while not self.tick():
            now = time.monotonic()
            ended = server.poll() is not None
            if ended and self.reader is not None:
                self.reader.join(2.0)  # its last words
            if self.ready and not ended:
                still = self.standing_still(pulse)
                self.summary = "" if still is None else still.summary
            if ended or now >= next_look:
                verdict = self.look()
                lost = None if ended else self.lost_card()
                if lost is not None:
                    return lost
                next_look = now + (LOOK_WHEN_BUSY if self.ready else LOOK_AT_START)
                self.at_work = not self.ready and verdict.state in classify.ON_THE_WAY
                stopped = [p for p in self.samples[-1].processes or () if p.is_stopped]
                if not stopped:
                    held_since = None
                elif held_since is None:
                    held_since = now
                held = now - held_since if held_since is not None else 0.0
                if stopped and held >= self.limits.stall:
                    return replace(
                        classify.held_up(stopped[0], f"for {held:.0f} s"),
                        state=classify.HUNG_WHILE_SERVING if self.ready else classify.HUNG_AT_START,
                    )
            if ended and self.reports is not None:
                self.reports.once()  # it may have fallen with another member's
            order, why = self.following.decide(time.monotonic())
            self.tell_group()
            if order == END:
                return classify.Verdict(classify.STOPPED, why, cause=GROUP_ENDED)
            if ended:
                return verdict
            if self.following.is_served and not self.ready:
                self.say_ready()
            doing = f"serves with {self.group.leader.name}" if self.ready else verdict.state
            self.notifier.status(f"rank {self.group.rank}: {doing}")
            self.notifier.send("WATCHDOG=1")
        return verdict

    def say_ready(self) -> None:
        """The group has computed a token."""
        self.ready, self.at_work = True, False
        self.failures.forget()
        seconds = time.monotonic() - self.began
        say(f"ready: the leader's first token came {seconds:.1f} s after the start")
        self.notifier.send("READY=1")

    def fail(self, verdict: classify.Verdict) -> int:
        """End this member's engine, and tell the leader where it is its own that has failed."""
        if verdict.cause == GROUP_ENDED:
            say(f"the group starts anew: {verdict.summary}", 5)
            self.keep(verdict, None)
            self.end_descendants()
            return 1
        self.phase = FAILED
        self.summary = f"{verdict.state}: {verdict.summary}"
        if self.reports is not None:
            self.reports.once()
        return super().fail(verdict)

    def drain(self, _held: contextlib.ExitStack) -> None:
        """Let the leader answer what is under way: it has heard that this member is to stop."""
        end = time.monotonic() + self.options.drain + 10
        self.notifier.status("stopping: the leader finishes what is under way")
        while time.monotonic() < end:
            if self.reports is not None:
                self.reports.once()
            if self.following.refused or self.following.decide(time.monotonic())[0] == END:
                return
            time.sleep(0.25)


def supervisor_of(options: argparse.Namespace, environ: Mapping[str, str]) -> Supervisor:
    """The supervisor of a member of a group."""
    group = read_group(options.group)
    kind = FollowingSupervisor if group.rank else LeadingSupervisor
    return kind(group, options, environ)
