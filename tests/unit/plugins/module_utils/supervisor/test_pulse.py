# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `/health` says within seconds: by tables, and over processes that the kernel schedules."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import sample
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.classify import (
    COMPUTES_NOTHING,
    CRASHED,
    ENGINE_GONE,
    HUNG_WHILE_SERVING,
    Limits,
    Verdict,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.probe import Counters
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.pulse import (
    PERIOD,
    SILENCE,
    Pulse,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.sample import (
    Glance,
    Process,
    Sampler,
    Scheduled,
    Scrutiny,
    parse_scheduled,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVER, ENGINE, WORKER, OTHER = 10, 11, 12, 13
STEPS = int((SILENCE + 2) / PERIOD)


@dataclass
class Thread:
    """What a thread does, in shares of the time."""

    ran: float = 0.0
    waited: float = 0.0
    state: str = "S"


@dataclass
class World:
    """A server whose threads do the same all the time."""

    main: Thread = field(default_factory=Thread)
    """The engine's main thread."""
    worker: Thread = field(default_factory=Thread)
    """A worker's main thread."""
    poller: Thread = field(default_factory=lambda: Thread(0.02, 0.1))
    """Another thread of the worker's."""
    api: Thread = field(default_factory=lambda: Thread(0.1, 0.1))
    """The API server's main thread."""
    other: Thread | None = None
    """Main thread of a process that is none of vLLM's, such as a compiler."""
    gpu: float | None = 0.0
    running: int = 2
    waiting: int = 0
    tokens: float = 0.0
    """Tokens a second."""
    answers: bool = True
    """Whether `/metrics` does."""
    counts: bool = True
    """Whether the kernel counts what threads wait."""
    new_threads: bool = False
    engines: tuple[int, ...] = (ENGINE, WORKER)
    unanswered: float = 0.0
    alone: bool = True
    now: float = 100.0
    scrutinies: int = 0

    def threads(self) -> dict[tuple[int, int], Scheduled]:
        every = {(SERVER, SERVER): self.api, (WORKER, WORKER + 100): self.poller}
        every.update({(pid, pid): self.main for pid in self.engines if pid == ENGINE})
        every.update({(pid, pid): self.worker for pid in self.engines if pid == WORKER})
        if self.new_threads:
            every[ENGINE, int(self.now * 10)] = Thread(0.01)
        told = {}
        for one, thread in every.items():
            told[one] = Scheduled(thread.state, thread.ran * self.now, thread.waited * self.now)
        return told

    def glance(self) -> Glance:
        threads = self.threads()
        names = {SERVER: "vllm", ENGINE: "VLLM::EngineCore", WORKER: "VLLM::Worker_TP0"}
        processes = [Process(SERVER, "vllm", self.api.state, self.api.ran * self.now)]
        for pid in self.engines:
            cpu = sum(thread.ran for (owner, _tid), thread in threads.items() if owner == pid)
            processes.append(Process(pid, names[pid], threads[pid, pid].state, cpu))
        if self.other is not None:
            processes.append(Process(OTHER, "cc1plus", "R", self.other.ran * self.now))
        mains = {pid: threads[pid, pid] for pid in self.engines} if self.counts else {}
        return Glance(self.now, tuple(processes), mains)

    def scrutinize(self, pids: list[int]) -> Scrutiny:
        assert SERVER in pids
        self.scrutinies += 1
        work = (("tokens", self.tokens * self.now),)
        told = Counters(self.running, self.waiting, work, 0) if self.answers else None
        return Scrutiny(self.now, told, self.threads(), self.gpu)

    def feel(self, pulse: Pulse) -> Verdict | None:
        self.now += PERIOD
        return pulse.see(self.glance(), self.scrutinize, self.unanswered)

    def last(self) -> Verdict | None:
        """What is seen after some time, that is longer than a silence."""
        pulse = Pulse(Limits(), SERVER, self.alone)
        for _step in range(STEPS):
            verdict = self.feel(pulse)
        return verdict


@pytest.mark.parametrize(
    "world",
    [
        pytest.param(World(), id="a deadlock"),
        pytest.param(World(running=0, waiting=1), id="a request that waits"),
        pytest.param(World(running=0, unanswered=1.5), id="a token that was asked for"),
        pytest.param(World(main=Thread(0.001, 0.002)), id="a main thread that polls"),
        pytest.param(World(poller=Thread(0.02, 0.7)), id="pollers on a loaded machine"),
        pytest.param(World(api=Thread(0.3, 0.4)), id="many ask the API server"),
    ],
)
def test_an_engine_that_does_not_even_wish_to_work_is_told(world: World) -> None:
    verdict = world.last()
    assert verdict is not None
    assert (verdict.state, verdict.summary) == (HUNG_WHILE_SERVING, COMPUTES_NOTHING)


@pytest.mark.parametrize(
    "world",
    [
        pytest.param(World(running=0), id="idle"),
        pytest.param(World(main=Thread(0.9)), id="the engine's main thread computes"),
        pytest.param(World(worker=Thread(0.9)), id="a worker computes"),
        pytest.param(World(main=Thread(0.02)), id="it sleeps 1 ms at a time"),
        pytest.param(World(worker=Thread(0.0001, 0.99)), id="a worker gets no CPU"),
        pytest.param(World(worker=Thread(state="R")), id="a worker gets none at all"),
        pytest.param(World(worker=Thread(state="D")), id="a worker waits for a disk"),
        pytest.param(World(poller=Thread(0.3)), id="another thread computes"),
        pytest.param(World(poller=Thread(0.001, 0.98)), id="another gets no CPU"),
        pytest.param(World(poller=Thread(state="R")), id="another gets none at all"),
        pytest.param(World(poller=Thread(state="D")), id="another waits for a disk"),
        pytest.param(World(new_threads=True), id="threads come"),
        pytest.param(World(other=Thread(0.9)), id="a compiler"),
        pytest.param(World(gpu=100.0), id="a long prefill on a card"),
        pytest.param(World(gpu=None), id="a card that does not tell, such as a part of one"),
        pytest.param(World(tokens=1.0), id="counters move"),
        pytest.param(World(answers=False), id="the API server does not answer"),
        pytest.param(World(api=Thread(0.95)), id="the API server reads a long prompt"),
        pytest.param(World(api=Thread(state="R")), id="the API server gets no CPU"),
        pytest.param(World(counts=False), id="a kernel that does not count"),
        pytest.param(World(alone=False), id="other hosts compute too"),
        pytest.param(World(running=0, unanswered=0.5), id="a token is late"),
    ],
)
def test_a_server_that_works_or_may_is_well(world: World) -> None:
    assert world.last() is None


def test_silence_is_told_only_after_its_time_and_over_with_the_first_work() -> None:
    world, pulse = World(), Pulse(Limits(), SERVER)
    told = [world.feel(pulse) is not None for _step in range(STEPS)]
    # A glance to compare with, then the first of the closer looks, then the time.
    quiet = 1 + int(SILENCE / PERIOD)
    assert told == [False] * quiet + [True] * (STEPS - quiet)
    world.main = Thread(0.9)
    assert world.feel(pulse) is None


def test_a_pause_that_is_no_silence_is_not_added_to_the_next() -> None:
    world, pulse = World(), Pulse(Limits(), SERVER)
    for step in range(3 * STEPS):
        world.main = Thread(0.9 if step % 4 == 0 else 0.0)
        assert world.feel(pulse) is None


def test_an_idle_server_is_asked_once() -> None:
    world = World(running=0)
    world.last()
    assert world.scrutinies == 1


def test_a_server_that_works_is_not_asked() -> None:
    world = World(worker=Thread(0.9))
    world.last()
    assert world.scrutinies == 0


def seen(*looks: tuple[str, float] | None) -> list[str | None]:
    """The summaries over glances at a worker: its state and what its main thread has run."""
    pulse, found = Pulse(Limits(), SERVER), []
    for step, look in enumerate(looks):
        processes = [Process(SERVER, "vllm"), Process(OTHER, "gdb", "T")]
        mains = {}
        if look is not None:
            processes.append(Process(WORKER, "VLLM::Worker", look[0]))
            mains[WORKER] = Scheduled(look[0], look[1], 0.0)
        glance = Glance(step * PERIOD, tuple(processes), mains)
        busy = Scrutiny(step * PERIOD, Counters(1, 0, (("tokens", step),), 0), {}, 0.0)
        verdict = pulse.see(glance, lambda _pids, busy=busy: busy)  # type: ignore[misc]
        found.append(None if verdict is None else f"{verdict.state}: {verdict.summary}")
    return found


STOPPED = f"{HUNG_WHILE_SERVING}: VLLM::Worker is stopped and computes nothing"


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        pytest.param([("S", 1), ("T", 1), ("T", 1)], [None, None, STOPPED], id="stopped"),
        pytest.param([("t", 1), ("t", 1), ("S", 1)], [None, STOPPED, None], id="held, and let go"),
        pytest.param([("T", 1), ("S", 1), ("T", 1)], [None] * 3, id="not twice in a row"),
        pytest.param([("t", 1), ("t", 2), ("t", 3)], [None] * 3, id="traced while it runs"),
        pytest.param(
            [("R", 1), None, None],
            [None, None, f"{CRASHED}: {ENGINE_GONE}"],
            id="gone",
        ),
        pytest.param([("R", 1), None, ("R", 1)], [None] * 3, id="not seen once"),
        pytest.param([None, None, None], [None] * 3, id="never there"),
    ],
)
def test_a_process_that_is_stopped_or_gone(
    looks: list[tuple[str, float] | None], expected: list[str | None]
) -> None:
    assert seen(*looks) == expected


def test_where_no_processes_are_seen_nothing_is_said() -> None:
    pulse, world = Pulse(Limits(), SERVER), World()
    for _step in range(STEPS):
        world.now += PERIOD
        blind = replace(world.glance(), processes=None)
        assert pulse.see(blind, world.scrutinize, 9.0) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2500000000 1000000000 7\n", Scheduled("S", 2.5, 1.0)),
        ("0 0 0\n", None),  # a kernel without CONFIG_SCHED_INFO
        ("", None),
        (None, None),
        ("x y z", None),
    ],
)
def test_what_the_kernel_tells_of_a_thread(text: str | None, expected: Scheduled | None) -> None:
    assert parse_scheduled("S", text) == expected


# -- what the kernel schedules --------------------------------------------------------------------

PROGRAM = """
import signal, sys, threading
lock = threading.Lock()
lock.acquire()
signal.signal(signal.SIGUSR1, lambda *_: lock.acquire())
print("there", flush=True)
count = 0
while True:
    count += 1
"""


class Engine:
    """A process that is called like vLLM's and computes until it is told not to."""

    def __init__(self, cgroup: Path) -> None:
        self.process = subprocess.Popen(
            ["VLLM::EngineCore", "-c", PROGRAM], executable=sys.executable, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()
        cgroup.write_text(f"{self.process.pid}\n")
        self.sampler = Sampler(None, "/a", gpu=False)
        self.running = 1

    def scrutinize(self, pids: list[int]) -> Scrutiny:
        """The kernel's word, with a server that says that a request is there."""
        look = self.sampler.scrutinize(pids)
        return replace(look, counters=Counters(self.running, 0, (("tokens", 1.0),), 1))

    def feel(self, pulse: Pulse, until: bool) -> list[Verdict]:
        """What is seen until something is, or until nothing is; at most for a while."""
        found: list[Verdict] = []
        for _step in range(40):
            time.sleep(PERIOD / 2)
            verdict = pulse.see(self.sampler.glance(), self.scrutinize)
            if verdict is not None:
                found.append(verdict)
            if bool(verdict) is until:
                break
        return found


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    (tmp_path / "a").mkdir()
    monkeypatch.setattr(sample, "CGROUPS", str(tmp_path))
    one = Engine(tmp_path / "a" / "cgroup.procs")
    yield one
    one.process.kill()
    one.process.communicate()


def test_a_real_process_that_is_stopped_and_goes_on(engine: Engine) -> None:
    pulse = Pulse(Limits(), 1)
    assert not engine.feel(pulse, until=False)
    engine.process.send_signal(signal.SIGSTOP)
    assert "is stopped" in engine.feel(pulse, until=True)[-1].summary
    engine.process.send_signal(signal.SIGCONT)
    engine.feel(pulse, until=False)
    assert pulse.verdict is None


def test_a_real_deadlock(engine: Engine) -> None:
    pulse = Pulse(Limits(), 1)
    assert not engine.feel(pulse, until=False)
    engine.process.send_signal(signal.SIGUSR1)
    assert engine.feel(pulse, until=True)[-1].summary == COMPUTES_NOTHING


def test_a_real_process_that_computes_among_many(engine: Engine) -> None:
    """It gets a small part of a CPU, and says of its one request nothing new."""
    crowd = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _each in range(8 * (os.cpu_count() or 1))
    ]
    with contextlib.ExitStack() as ended:
        for one in crowd:
            ended.callback(one.wait)
            ended.callback(one.kill)
        os.setpriority(os.PRIO_PROCESS, engine.process.pid, 19)
        pulse = Pulse(Limits(), 1)
        for _step in range(20):
            time.sleep(PERIOD / 2)
            assert pulse.see(engine.sampler.glance(), engine.scrutinize) is None
        assert engine.sampler.glance().mains  # else it is no news that nothing is told
