# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor of a model on demand: it is there all the time, its server when it is asked for.

The unit is active, and READY, also without a server; so nobody needs the right to start and stop
units, and what looks at units takes a model that is asleep for one that is there. The broker
(broker.py), of the same user, says over a Unix socket `wake`, `sleep` and `rest`, and is told each
phase. A server that ends by itself is a failure as of any other instance: the supervisor ends with
it, and systemd starts it anew, asleep.

With `--sleep-level` a server that is put out sleeps (sleeping.py), and its developer endpoints are
opened for that, behind guard.py. Whatever goes wrong with sleep ends in what there is without it:
the server is stopped, and started for the next request. Before a request is let in after a sleep,
the server must compute what it computed before; else the level below is used from then on, until
the unit's end. Nobody asks a sleeping server for a token, so none is taken for one that hangs.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Callable

from . import classify, guard, health
from .control import ASLEEP_SUMMARY, CONTROL, SLEEPING_SUMMARY, Control
from .phases import ASLEEP, READY, SLEEPING, STARTING, STOPPING
from .probe import ProbeFailed
from .process import GPU_MEMORY_TIMEOUT, LOOK_WHEN_BUSY, TICK, Supervisor, say
from .processes import adopt_orphans, kill_descendants
from .pulse import PERIOD
from .sleeping import SLEEP_TIMEOUT, WAKE_TIMEOUTS, answer_of, is_same, put_to_sleep, wake_up
from .watch import Questions

if TYPE_CHECKING:
    import argparse
    import subprocess
    from collections.abc import Mapping

    from .sleeping import Value

PUT_OUT = "put out"
"""State of a server that is ended because another model, or nobody, needs its place."""
_PUT_OUT = classify.Verdict(PUT_OUT, "it is put out")
SECRET = "secret"  # noqa: S105 - a file's name
"""The secret's name in the unit's runtime directory."""


class CannotSleep(Exception):
    """A server does not sleep or does not wake as it should; the message says how."""


def free_memory(path: str = "/proc/meminfo") -> int | None:
    """Bytes of the host's memory that are available (proc(5)); `None` where it does not say."""
    try:
        with open(path, encoding="ascii") as stream:
            found = [line.split() for line in stream if line.startswith("MemAvailable:")]
        return int(found[0][1]) * 1024
    except (OSError, ValueError, LookupError):
        return None


class OnDemand(Supervisor):
    """One unit's run, over any number of its server's.

    Args:
        options: The command line, see `main.arguments`.
        environ: The unit's environment.

    Attributes:
        level: At which its server sleeps; 0 where it is stopped instead.
        figures: Sleeps and wakes that went well, the seconds that they took together, and how
            often a server was stopped because one did not. The broker hears them.
    """

    def __init__(self, options: argparse.Namespace, environ: Mapping[str, str]) -> None:
        super().__init__(options, environ)
        self.control = Control(os.path.join(self.run_dir, CONTROL))
        self.level: int = options.sleep_level
        self.secret = ""
        self.before: list[Value] | None = None
        self.figures: dict[str, float] = {}
        if self.level:
            names = ("sleeps", "sleep_seconds", "wakes", "wake_seconds", "fall_backs")
            self.figures = {**dict.fromkeys(names, 0), "level": self.level}
        self.control.figures = self.figures

    def variables(self) -> dict[str, str]:
        """Variables of a server that can sleep; nothing else opens its developer endpoints."""
        if not self.options.sleep_level:
            return {}
        path = os.path.abspath(os.path.join(self.run_dir, SECRET))
        self.secret, self.before = guard.new_secret(path), None
        return {"VLLM_SERVER_DEV_MODE": "1", guard.SECRET_FILE: path}

    def guards(self) -> tuple[str, ...]:
        """What keeps everybody else from these endpoints."""
        return (guard.MIDDLEWARE,) if self.options.sleep_level else ()

    def tick(self) -> bool:
        """Wait a moment, or for an order; whether somebody stops the unit."""
        self.control.turned.wait(PERIOD)
        self.control.turned.clear()
        return self.stopping.is_set()

    def outside(self, _now: float) -> classify.Verdict | None:
        """End the server when the broker says so."""
        return None if self.control.awake.is_set() else _PUT_OUT

    def say_ready(self) -> None:
        """The server has computed a token."""
        super().say_ready()
        self.control.tell(READY)

    def fall_asleep(self) -> None:
        """Be there without a server."""
        self.ready = False
        self.state.tell(classify.ASLEEP, ASLEEP_SUMMARY)
        self.notifier.status(ASLEEP_SUMMARY)
        self.control.tell(ASLEEP)

    def put_out(self) -> None:
        """End a server that has no requests, and give back what it held, before it is said."""
        self.control.tell(STOPPING)
        self.state.tell(PUT_OUT, "it is put out")
        began = time.monotonic()
        if self.server is not None:
            self.end_server(self.server)
        kill_descendants(os.getpid())
        self.server = None
        self.wait(
            GPU_MEMORY_TIMEOUT,
            lambda: not self.sampler.holders(self.on_gpu),
            "waiting for the GPU memory of the former engine",
        )
        say(f"put out within {time.monotonic() - began:.1f} s")

    # -- sleep ------------------------------------------------------------------------------------

    def may_sleep(self) -> bool:
        """Whether a server that is put out is to sleep."""
        wanted = self.control.sleeps and not self.stopping.is_set()
        return wanted and self.ready and self.level > 0

    def within(
        self, server: subprocess.Popen[bytes], seconds: float, do: Callable[[], None], what: str
    ) -> None:
        """Do something with the server that takes its time, as long as there is a server.

        Args:
            server: The server.
            seconds: How long it may take.
            do: Does it.
            what: Names it.

        Raises:
            CannotSleep: It went wrong, took too long, or somebody stops the unit.
        """
        problems: list[str] = []

        def done() -> None:
            try:
                do()
            except ProbeFailed as problem:
                problems.append(str(problem))

        thread = threading.Thread(target=done, daemon=True, name="sleep")
        began = time.monotonic()
        thread.start()
        while thread.is_alive():
            thread.join(TICK)
            self.notifier.send("WATCHDOG=1")
            if thread.is_alive() and time.monotonic() - began > seconds:
                raise CannotSleep(f"{what} took more than {seconds:.0f} s")
            if self.stopping.is_set():
                raise CannotSleep("it is being stopped")
            if server.poll() is not None:
                raise CannotSleep("the server has ended")
        if problems:
            raise CannotSleep(problems[0])

    def check_memory(self) -> None:
        """Check that the host has the memory for a copy of the weights, which it keeps.

        Raises:
            CannotSleep: It has not.
        """
        free = free_memory()
        if self.level == 1 and free is not None and free < self.options.sleep_memory:
            needed = classify.size(self.options.sleep_memory)
            raise CannotSleep(
                f"{classify.size(free)} of the host's memory are available and a copy of the "
                f"weights needs up to {needed}"
            )

    def fall_asleep_with(self, server: subprocess.Popen[bytes]) -> None:
        """Have a server sleep that has no requests.

        Raises:
            CannotSleep: It does not.
        """
        if not self.questions.wait():
            raise CannotSleep("it does not answer")
        if self.before is None:
            self.check_memory()
            answers: list[list[Value]] = []
            self.within(
                server, SLEEP_TIMEOUT, lambda: answers.append(answer_of(self.address)), "a token"
            )
            self.before = answers[0]
        self.within(
            server,
            SLEEP_TIMEOUT,
            lambda: put_to_sleep(self.address, self.secret, self.level),
            "falling asleep",
        )

    def wake_with(self, server: subprocess.Popen[bytes]) -> None:
        """Wake a server, and have it prove that it is the same.

        Raises:
            CannotSleep: It does not wake, or is not; it then sleeps no deeper than a level below.
        """
        answers: list[list[Value]] = []

        def wake() -> None:
            wake_up(self.address, self.secret, self.level)
            answers.append(answer_of(self.address))

        self.within(server, WAKE_TIMEOUTS[self.level], wake, "waking")
        if not is_same(self.before or [], answers[0]):
            level, self.level = self.level, self.level - 1
            self.figures["level"] = self.level
            instead = (
                f"it sleeps at level {self.level}" if self.level else "it is stopped and started"
            )
            raise CannotSleep(
                f"after sleep at level {level} it computes something else than before: "
                f"{answers[0][:8]} instead of {(self.before or [])[:8]}; until this unit is "
                f"started again {instead}"
            )

    def fall_back(self, problem: CannotSleep) -> classify.Verdict:
        """Have a server stopped with which sleep has not gone well."""
        if not self.stopping.is_set():
            self.figures["fall_backs"] += 1
            say(f"stopped instead of asleep: {problem}", 4)
        # What is started next, and when, is the broker's to decide.
        self.control.sleeps = False
        self.control.awake.clear()
        return _PUT_OUT

    def count(self, what: str, began: float) -> float:
        """Count a sleep or a wake that went well; the seconds that it took."""
        seconds = time.monotonic() - began
        self.figures[f"{what}s"] += 1
        self.figures[f"{what}_seconds"] += seconds
        return seconds

    def sleep(self, server: subprocess.Popen[bytes]) -> classify.Verdict:
        """Let a server sleep until it is asked for; returns the verdict that it then ends with."""
        began = time.monotonic()
        self.control.tell(STOPPING)
        self.state.tell(PUT_OUT, "it falls asleep")
        try:
            self.fall_asleep_with(server)
        except CannotSleep as problem:
            return self.fall_back(problem)
        say(f"asleep at level {self.level} within {self.count('sleep', began):.1f} s")
        self.state.tell(classify.ASLEEP, SLEEPING_SUMMARY)
        self.notifier.status(SLEEPING_SUMMARY)
        self.control.tell(SLEEPING)
        next_look = 0.0
        while not self.control.awake.is_set():
            lost = None
            if time.monotonic() >= next_look:
                lost, next_look = self.lost_card(), time.monotonic() + LOOK_WHEN_BUSY
            if lost is not None or not self.control.sleeps or self.stopping.is_set():
                return lost or _PUT_OUT
            if server.poll() is not None:
                return self.fall_back(CannotSleep("the server ended while it slept"))
            self.notifier.send("WATCHDOG=1")
            self.tick()
        began = time.monotonic()
        self.control.tell(STARTING)
        self.state.tell(classify.STARTING, "it wakes up")
        try:
            self.wake_with(server)
        except CannotSleep as problem:
            return self.fall_back(problem)
        say(f"awake again within {self.count('wake', began):.1f} s, with the same answer")
        self.state.tell(health.SERVING, "it serves")
        self.notifier.status("ready")
        # What was seen before the sleep says nothing of the server now.
        self.samples.clear()
        self.questions = Questions(self.address, timeout=self.watchdog)
        self.control.tell(READY)
        return self.watch(server)

    def once(self) -> int | None:
        """One life of a server; returns the exit status where the unit ends with it."""
        self.control.tell(STARTING)
        obstacle = self.before_start()
        if self.stopping.is_set():
            return self.stop()
        if obstacle is not None:
            return self.fail(obstacle)
        server = self.start()
        verdict = self.watch(server)
        while verdict is _PUT_OUT and self.may_sleep():
            verdict = self.sleep(server)
        if self.stopping.is_set():
            self.control.tell(STOPPING)
            return self.stop()
        if verdict.state == PUT_OUT:
            self.put_out()
            return None
        verdict = self.with_cards(verdict)
        mended = self.mend(verdict)
        if mended is not None and not self.ready:
            # The next life compiles anew.
            self.tell(mended)
            return None
        return self.fail(mended or verdict)

    def run(self) -> int:
        """Start and stop servers as the broker says, until somebody stops the unit."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopping.set())
        adopt_orphans()
        self.fall_asleep()
        self.notifier.send("READY=1")
        while not self.stopping.is_set():
            self.notifier.send("WATCHDOG=1")
            if self.control.awake.wait(TICK):
                status = self.once()
                if status is not None:
                    return status
                self.fall_asleep()
        return self.stop()
