# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a server that serves has just ceased to compute: what `/health` says within seconds.

`classify.py` decides when a server is ended, with patience, over looks that are seconds apart. Here
is what is sure at once, and may be over in the next moment: nothing is ended for it.

- A process of vLLM's is stopped, in two glances.
- All engine processes are gone, in two glances.
- Requests are there, and for `SILENCE` seconds no counter moved, no card was busy, and no thread
  ran or wished to run. The last is what tells a deadlock from a busy machine: the kernel counts for
  each thread how long it was runnable without a CPU (`schedstat`). A thread that waits for a disk,
  a page or a network file system (state D) is at work.

Such silence is no healthy engine's. Its main thread computes, or sleeps 1 ms at a time where
requests wait for something else (`_process_engine_step` in vllm 0.26.0's v1/engine/core.py), or
waits for its workers; and these for a CPU or a card. Where other hosts compute too it says nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

from .classify import COMPUTES_NOTHING, CRASHED, ENGINE_GONE, HUNG_WHILE_SERVING, Verdict, held_up

if TYPE_CHECKING:
    from .classify import Limits
    from .sample import Glance, Process, Scrutiny

PERIOD = 0.5
"""Seconds between two glances."""
SILENCE = 1.5
"""Seconds of silence, after a first half second of it, that are no pause of an engine at work. A
card tells its utilization over the last second or less (nvmlUtilization_t): a long kernel shows."""
UNANSWERED = 1.0
"""Seconds for which a token that the supervisor asks for is unanswered, to count as a request."""
RESTS = 0.005
"""Of the time, that the main thread of an engine ran or was runnable, at most, while it waits."""
WANTS = 0.8
"""The same of any other thread, which may poll (gloo's do, 100 times a second) or be asked:
one that works wants a CPU all the time."""
JIFFY = 0.01
"""Seconds in which the kernel tells the CPU time of a process, at the coarsest."""


def stopped(before: Glance, now: Glance) -> Process | None:
    """A process of vLLM's that is stopped in both glances, and has not run between them.

    A debugger that traces a process holds it for a moment again and again.
    """
    held = {process.pid for process in before.processes or () if process.is_stopped}
    for process in now.processes or ():
        ran = [glance.mains.get(process.pid) for glance in (before, now)]
        has_run = None not in ran and ran[0].ran != ran[1].ran  # type: ignore[union-attr]
        if process.pid in held and process.is_stopped and process.is_vllms and not has_run:
            return process
    return None


def rests(before: Glance, now: Glance, server: int, limits: Limits) -> bool:
    """Whether nothing of the engine's has worked between two glances, as far as they show it.

    Args:
        before: The earlier one.
        now: The later one.
        server: PID of the API server, which has work also while the engine has none.
        limits: What counts as work.
    """
    span = now.at - before.at
    cpu = {process.pid: process.cpu_seconds for process in before.processes or ()}
    if not span > 0 or cpu.keys() != {process.pid for process in now.processes or ()}:
        return False
    engines = [process for process in now.processes or () if process.computes]
    for process in engines:
        first, last = before.mains.get(process.pid), now.mains.get(process.pid)
        if first is None or last is None or first.state in "RD" or last.state in "RD":
            return False
        if last.ran + last.waited - first.ran - first.waited > RESTS * span:
            return False
    return bool(engines) and all(
        process.cpu_seconds - cpu[process.pid] <= limits.idle_cores * span + JIFFY
        for process in now.processes or ()
        if process.pid != server and (process.computes or not process.is_vllms)
    )


def is_silent(before: Scrutiny, now: Scrutiny, engines: frozenset[int], limits: Limits) -> bool:
    """Whether nothing has worked or wished to between two closer looks.

    Args:
        before: The earlier one.
        now: The later one.
        engines: PIDs of those that compute. A thread that they begin or end is work.
        limits: What counts as work.
    """
    for look in (before, now):
        if look.gpu_utilization is None or look.gpu_utilization > limits.idle_gpu:
            return False
    if before.counters is None or now.counters is None or before.counters.work != now.counters.work:
        return False
    span = now.at - before.at
    if {one for one in before.threads if one[0] in engines} != {
        one for one in now.threads if one[0] in engines
    }:
        return False
    for one, last in now.threads.items():
        first = before.threads.get(one, last)
        wanted = last.ran + last.waited - first.ran - first.waited
        starves = wanted == 0 and first.state == last.state == "R"
        if "D" in (first.state, last.state) or starves or wanted > WANTS * span:
            return False
    return True


class Pulse:
    """Sees glance after glance at one server.

    Args:
        limits: What counts as work.
        server: PID of the server's first process.
        alone: Whether all that computes is on this host.

    Attributes:
        verdict: What was seen last; `None` for nothing amiss.
    """

    def __init__(self, limits: Limits, server: int, alone: bool = True) -> None:
        self.verdict: Verdict | None = None
        self._limits = limits
        self._server = server
        self._alone = alone
        self._before: Glance | None = None
        self._had_engine = False
        self._idle = False
        self._silent: list[Scrutiny] = []

    def see(
        self, now: Glance, scrutinize: Callable[[list[int]], Scrutiny], unanswered: float = 0.0
    ) -> Verdict | None:
        """Take in a glance.

        Args:
            now: The glance.
            scrutinize: Takes a closer look at processes. Called only while nothing seems to work
                and requests may be there.
            unanswered: Seconds for which a token that was asked for has not come.

        Returns:
            `verdict`.
        """
        before, self._before = self._before, now
        self.verdict = self._seen(before, now, scrutinize, unanswered)
        return self.verdict

    def _seen(
        self,
        before: Glance | None,
        now: Glance,
        scrutinize: Callable[[list[int]], Scrutiny],
        unanswered: float,
    ) -> Verdict | None:
        if now.processes is None:
            return None
        engines = frozenset(process.pid for process in now.processes if process.computes)
        self._had_engine = self._had_engine or bool(engines)
        if before is None or before.processes is None:
            return None
        if self._had_engine and not engines and not any(p.computes for p in before.processes):
            return Verdict(CRASHED, ENGINE_GONE)
        process = stopped(before, now)
        if process is not None:
            return held_up(process)
        if not self._alone or not rests(before, now, self._server, self._limits):
            self._idle, self._silent = False, []
            return None
        asked = unanswered >= UNANSWERED
        if self._idle and not asked:
            return None
        look = scrutinize([one.pid for one in now.processes])
        # A server that does not answer is seen as that by whoever asks it.
        requests = 0 if look.counters is None else look.counters.running + look.counters.waiting
        self._idle = look.counters is not None and not requests
        if not requests and not (asked and self._idle):
            self._silent = []
        elif not self._silent or not is_silent(self._silent[-1], look, engines, self._limits):
            self._silent = [look]
        else:
            self._silent.append(look)
        if not self._silent or look.at - self._silent[0].at < SILENCE:
            return None
        there = f"{requests} requests are there" if requests else "a token was asked for"
        return Verdict(
            HUNG_WHILE_SERVING,
            COMPUTES_NOTHING,
            (f"{there}, and no thread ran or wished to for {look.at - self._silent[0].at:.1f} s",),
        )
