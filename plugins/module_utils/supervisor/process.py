# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor: starts a vLLM server, says when it is ready, watches over it, and stops it well.

systemd sees `Type=notify`: READY=1 after a real token, STATUS= all the time, WATCHDOG=1 while the
server is not found to hang. Whatever ends by itself, also with status 0 (vllm issue 48966), is a
failure, is told with its cause, and leaves no process behind.

The files of this folder are part of the collection and are installed on the host, where the
release's own Python runs them; hence relative imports and nothing but the standard library.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Callable

from . import backoff, cards, classify, health
from .caches import remove_compile_caches
from .causes import PURGES
from .draining import MARKER, MIDDLEWARE
from .log import Tail
from .notify import Notifier
from .port import Refusal, is_free
from .probe import (
    ProbeFailed,
    address_of,
    ask,
    connect,
    is_served,
    read_config,
    read_counters,
)
from .processes import adopt_orphans, kill_descendants
from .pulse import PERIOD, Pulse
from .sample import Sample, Sampler
from .watch import Progress, Questions, is_idle

if TYPE_CHECKING:
    import argparse

GAVE_UP = 69
"""Exit status, sysexits.h's EX_UNAVAILABLE: RestartPreventExitStatus= of the unit."""
TICK = 1.0
LOOK_AT_START, LOOK_WHEN_BUSY = 2.0, 5.0
"""Seconds between two looks; without requests it is a third of what a hang may last."""
STOP_GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL; 0.14.1 needs over a minute with a request under way."""
GPU_MEMORY_TIMEOUT = 15.0
"""Seconds that the driver may take to free what an engine held that has ended."""
LOG_LINES = 400
FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""Where the server finds this package."""


def say(text: str, level: int = 6) -> None:
    """Write lines to the journal with a syslog level: 3 error, 4 warning, 5 notice, 6 info."""
    for line in text.splitlines():
        sys.stdout.write(f"<{level}>supervisor: {line}\n")
    sys.stdout.flush()


class Supervisor:
    """One run of one server.

    Args:
        options: The command line, see :func:`arguments`.
        environ: The unit's environment.
    """

    def __init__(self, options: argparse.Namespace, environ: Mapping[str, str]) -> None:
        self.options = options
        self.environ = environ
        self.run_dir = environ.get("RUNTIME_DIRECTORY", ".")
        with open(options.config, encoding="utf-8") as stream:
            self.config = read_config(stream.read())
        self.address = address_of(self.config, environ.get("VLLM_API_KEY"), options.kind)
        self.host = str(self.config.get("host") or "0.0.0.0")  # noqa: S104 - as the server listens
        self.notifier = Notifier()
        fingerprint = environ.get("COMPUTE_PLANE_FINGERPRINT", "")
        self.fingerprint = fingerprint
        self.failures = backoff.Failures(self.run_dir, fingerprint)
        self.lost = cards.Attempts(environ.get("STATE_DIRECTORY"))
        self.draining = os.path.join(self.run_dir, "draining")
        self.state = health.StateFile(os.path.join(self.run_dir, "state.json"))
        self.on_gpu: set[int] = set()
        self.watchdog = int(environ.get("WATCHDOG_USEC", "60000000")) / 1e6
        self.limits = classify.Limits(
            start_deadline=options.start_timeout,
            start_stall=options.start_stall,
            stall=self.watchdog / 2,
        )
        self.sampler = Sampler(self.address, exclude=(os.getpid(),), gpu=bool(options.device))
        visible = cards.named(environ.get("CUDA_VISIBLE_DEVICES"))
        self.cards = cards.Watch(visible) if options.device else None
        self.trouble: cards.Trouble | None = None
        self.questions = Questions(self.address, timeout=self.watchdog)
        self.samples: collections.deque[Sample] = collections.deque(maxlen=400)
        self.log = Tail(LOG_LINES)
        self.stopping = threading.Event()
        self.server: subprocess.Popen[bytes] | None = None
        self.reader: threading.Thread | None = None
        self.began = time.monotonic()
        self.ready = False
        self.alone = True
        self.amiss: classify.Verdict | None = None

    # -- before the start -------------------------------------------------------------------------

    def wait(self, seconds: float, until: Callable[[], bool], what: str) -> bool:
        """Wait for something, at most so long, or until somebody stops the unit."""
        end = time.monotonic() + seconds
        while not until() and not self.stopping.is_set():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self.notifier.status(f"{what}, up to {left:.0f} s more")
            # systemd's own deadline begins with the start of the server.
            deadline = self.options.start_timeout + 60
            self.notifier.send(f"EXTEND_TIMEOUT_USEC={int(deadline * 1e6)}", "WATCHDOG=1")
            self.stopping.wait(min(left, TICK))
        return True

    def back_off(self) -> None:
        """Wait, where starts before this one have failed."""
        failed = self.failures.summaries
        if failed:
            what = f"waiting before start {len(failed) + 1} of {self.options.starts}"
            say(f"{what}: {backoff.delay(len(failed)):.0f} s. The last one: {failed[-1]}", 5)
            self.wait(backoff.delay(len(failed)), lambda: False, what)

    def wait_for_devices(self) -> str | None:
        """Wait for the GPU's device nodes; returns what is wrong with them, if anything."""
        missing = [path for path in self.options.device if not os.path.exists(path)]
        if not missing:
            return None
        names = ", ".join(missing)
        say(f"waiting for {names}", 5)
        if self.wait(
            self.options.device_timeout,
            lambda: all(os.path.exists(path) for path in missing),
            f"waiting for {names}",
        ):
            # systemd has made the unit's list of devices without them.
            return f"{names} came late; starting anew with access to them"
        return f"{names} not there after {self.options.device_timeout:.0f} s: is the driver loaded?"

    def remember(self, sample: Sample) -> None:
        """Keep which processes hold GPU memory, for the start after this one."""
        holders = {process.pid for process in sample.processes or () if process.gpu_bytes}
        if not holders <= self.on_gpu:
            self.on_gpu |= holders
            with open(os.path.join(self.run_dir, "on-gpu.json"), "w", encoding="utf-8") as stream:
                json.dump(sorted(self.on_gpu), stream)

    def wait_for_gpu_memory(self) -> None:
        """Wait until the memory of the former engine is free: vLLM measures it at its start.

        The driver frees it after the process has ended, and takes its time (vllm issue 20305).
        """
        path = os.path.join(self.run_dir, "on-gpu.json")
        try:
            with open(path, encoding="utf-8") as stream:
                former = {int(pid) for pid in json.load(stream)}
            os.unlink(path)
        except (OSError, ValueError, TypeError):  # none, or not readable
            return
        self.on_gpu.clear()
        what = "waiting for the GPU memory of the former engine"
        if not self.wait(GPU_MEMORY_TIMEOUT, lambda: not self.sampler.holders(former), what):
            say(f"{what} took {GPU_MEMORY_TIMEOUT:.0f} s; starting all the same", 4)

    def port_problem(self) -> str | None:
        """What keeps the server from listening; `None` where nothing does."""
        if self.address.uds is not None:
            if is_served(self.address.uds):
                return f"another program listens on {self.address.uds}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address.uds)
            return None
        if is_free(self.host, self.address.port):
            return None
        return f"another program listens on {self.host}:{self.address.port}"

    def see_cards(self) -> cards.Trouble | None:
        """What is wrong with a card, if anything; what was wrong stays so until the next start."""
        if self.cards is not None and (self.trouble is None or not self.trouble.is_lost):
            self.trouble = cards.trouble(self.cards.read()) or self.trouble
        return self.trouble

    def lost_card(self) -> classify.Verdict | None:
        """The verdict where a card is lost: whatever the server is doing, nothing comes of it."""
        trouble = self.see_cards()
        return told_by_card(None, trouble) if trouble is not None and trouble.is_lost else None

    def with_cards(self, verdict: classify.Verdict) -> classify.Verdict:
        """A verdict over an end, with what the driver says of the cards."""
        trouble = None if self.stopping.is_set() else self.see_cards()
        if trouble is None or not cards.explains(trouble, verdict.cause, ours=True):
            self.trouble = None
            return verdict
        return told_by_card(verdict, trouble)

    def prepare(self) -> None:
        """Wait for what a start needs."""
        self.wait_for_gpu_memory()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server, and keep the end of its log on the way to the journal."""
        self.began = time.monotonic()
        self.samples.clear()
        self.log = Tail(LOG_LINES)
        self.questions = Questions(self.address, timeout=self.watchdog)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.draining)
        path = [self.environ.get("PYTHONPATH", ""), FOLDER]
        command = [self.options.vllm, "serve", "--config", self.options.config]
        command += ["--middleware", MIDDLEWARE]
        variables = {MARKER: os.path.abspath(self.draining), **self.variables()}
        # The last one is the first that is asked.
        if self.options.truthful_health:
            self.state.tell(classify.STARTING, "it has not computed a token yet")
            command += ["--middleware", health.MIDDLEWARE]
            variables[health.STATE] = self.state.path
        for middleware in self.guards():
            command += ["--middleware", middleware]
        self.server = server = subprocess.Popen(
            command,
            env={
                **self.environ,
                **variables,
                "PYTHONPATH": os.pathsep.join(filter(None, path)),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.reader = threading.Thread(
            target=self._read_log, args=(server.stdout,), daemon=True, name="log"
        )
        self.reader.start()
        return server

    def variables(self) -> dict[str, str]:
        """Variables of the server that are found at its start."""
        return {}

    def guards(self) -> tuple[str, ...]:
        """Middleware of the server that is asked before all other."""
        return ()

    def tick(self) -> bool:
        """Wait a moment; whether somebody stops the unit."""
        return self.stopping.wait(PERIOD)

    def _read_log(self, pipe: IO[bytes]) -> None:
        for data in iter(lambda: os.read(pipe.fileno(), 1 << 16), b""):
            self._write(self.log.feed(data))
        self._write(self.log.rest())

    def _write(self, lines: bytes) -> None:
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()

    # -- while it runs ----------------------------------------------------------------------------

    def look(self) -> classify.Verdict:
        """Take a sample, and say what it means together with those before."""
        sample = self.sampler.take(
            age=time.monotonic() - self.began,
            completion=self.questions.newest,
            exit_status=self.server.poll() if self.server is not None else None,
        )
        sample = replace(sample, said=self.log.said)
        self.samples.append(sample)
        self.remember(sample)
        return classify.classify(self.samples, self.log.lines, self.limits)

    def is_ready(self, sample: Sample) -> bool:
        """Ask for the first token as soon as somebody listens, and say when it has come."""
        if self.questions.answered_at is not None:
            return True
        if sample.listening:
            self.notifier.status("waiting for the first token")
            self.questions.ask()
        return False

    def has_news(self) -> bool:
        """Whether a server that starts listens or has answered, and no look has seen it yet."""
        if self.questions.answered_at is not None:
            return True
        return self.questions.newest is None and self.sampler.listening() is True

    def watch(self, server: subprocess.Popen[bytes]) -> classify.Verdict:
        """Watch until the server ends, hangs, or shall stop; returns the last verdict."""
        progress = Progress(time.monotonic())
        pulse, self.amiss = Pulse(self.limits, server.pid, self.alone), None
        verdict, next_look = classify.Verdict(classify.STARTING, "starting"), 0.0
        while not self.tick():
            ended = server.poll() is not None
            if ended and self.reader is not None:
                self.reader.join(2.0)  # its last words
            at_once = (not ended and self.feel(pulse)) if self.ready else self.has_news()
            now = time.monotonic()
            if ended or at_once or now >= next_look:
                verdict = self.look()
                lost = None if ended else self.lost_card()
                if lost is not None:
                    self.tell_health(lost)
                    return lost
                sample = self.samples[-1]
                progress.see(sample, self.questions.answered_at)
                # One look is not enough for a server that has served: a debugger stops it for a
                # moment, a client has it refuse something.
                self.tell_health(verdict)
                lasting = not self.ready or now - progress.at >= self.limits.stall
                bad = verdict.state in classify.BAD and lasting and not self.is_excused(verdict)
                if ended or bad:
                    return verdict
                if self.ready or verdict.state not in classify.SERVING:
                    self.notifier.status(status_line(verdict, sample))
                if not self.ready:
                    next_look = now + LOOK_AT_START
                    if self.is_ready(sample):
                        self.say_ready()
                elif is_idle(sample):
                    next_look = now + self.limits.stall / 3
                    self.questions.ask()
                else:
                    next_look = now + LOOK_WHEN_BUSY
            outside = self.outside(now)
            if outside is not None:
                return outside
            if not self.ready and now - self.began > self.options.start_timeout:
                return too_late(verdict, now - self.began)
            if self.ready and now - progress.at > self.limits.busy_stall:
                return no_progress(verdict, now - progress.at)
            self.notifier.send("WATCHDOG=1")
        return verdict

    def feel(self, pulse: Pulse) -> bool:
        """Have `/health` say at once what is amiss; whether it goes on after something was.

        Nothing is ended for it, and no look is taken at once: it would count from another time on.
        """
        before, self.amiss = self.amiss, self.standing_still(pulse)
        if self.amiss is None:
            if before is not None:
                say("it goes on", 5)
            return before is not None
        self.state.tell(self.amiss.state, self.amiss.summary)
        if before is None:
            self.notifier.status(f"{self.amiss.state}: {self.amiss.summary}")
            say(f"{self.amiss.state}: {self.amiss.summary}; /health says so while it lasts", 4)
            for line in self.amiss.evidence:
                say(f"  {line}", 4)
        return False

    def standing_still(self, pulse: Pulse) -> classify.Verdict | None:
        """What keeps the server from computing at this moment; `None` where nothing is seen."""
        asked = self.questions.newest
        waits = asked is not None and asked.outcome == "waiting"
        unanswered = asked.seconds if asked is not None and waits else 0.0
        return pulse.see(self.sampler.glance(), self.sampler.scrutinize, unanswered)

    def is_excused(self, _verdict: classify.Verdict) -> bool:
        """Whether something else than the server explains that it stands still."""
        return False

    def outside(self, _now: float) -> classify.Verdict | None:
        """What ends the server although nothing is wrong with it here; `None` for nothing."""
        return None

    def tell_health(self, verdict: classify.Verdict) -> None:
        """Have `/health` say what was seen, also where one look is not enough to end the server."""
        verdict = self.amiss or verdict
        if verdict.state in classify.BAD:
            self.state.tell(verdict.state, verdict.summary)
        elif self.ready:
            self.state.tell(health.SERVING, "it serves")
        else:
            self.state.tell(classify.STARTING, "it has not computed a token yet")

    def say_ready(self) -> None:
        """The server has computed a token."""
        self.ready = True
        self.state.tell(health.SERVING, "it serves")
        self.failures.forget()
        seconds = time.monotonic() - self.began
        say(f"ready: the first token came {seconds:.1f} s after the start")
        self.notifier.send("READY=1")
        self.notifier.status("ready")

    # -- the end ----------------------------------------------------------------------------------

    def tell(self, verdict: classify.Verdict) -> None:
        """Say what was found, to the journal, to systemd and to the play."""
        status = self.server.poll() if self.server is not None else None
        say(f"{verdict.state}: {verdict.summary}", 3)
        for line in verdict.evidence:
            say(f"  {line}", 3)
        if verdict.remedy:
            say(f"  remedy: {verdict.remedy}", 3)
        self.keep(verdict, status)
        self.state.tell(verdict.state, verdict.summary)
        self.notifier.status(f"{verdict.state}: {verdict.summary}")

    def end_descendants(self) -> None:
        """Kill what is left of a server."""
        killed = kill_descendants(os.getpid())
        if killed:
            names = ", ".join(f"{name} ({pid})" for pid, name in sorted(killed.items()))
            say(f"ended what was left: {names}", 5)

    def mend(self, verdict: classify.Verdict) -> classify.Verdict | None:
        """Remove the instance's compiled code where that is what keeps a server from running.

        Returns:
            The verdict with what was done; `None` where there was nothing to mend.
        """
        if verdict.cause not in PURGES:
            return None
        self.end_descendants()
        removed = remove_compile_caches(self.environ, self.run_dir)
        if removed is None:
            return None
        told = [f"removed: {path} ({classify.size(size)})" for path, size in removed.items()]
        return replace(
            verdict,
            evidence=(*verdict.evidence, *told),
            remedy="none is needed: its compiled code was removed, and is made anew by the start "
            "that follows, once",
        )

    def fail(self, verdict: classify.Verdict) -> int:
        """End what is left of a server, tell why, and say what systemd shall do."""
        self.tell(verdict)
        self.end_descendants()
        if self.trouble is not None:
            return self.fail_with_card(verdict)
        if self.ready:
            return 1
        self.failures.add(f"{verdict.state}: {verdict.summary}")
        if len(self.failures.summaries) < self.options.starts:
            return 1
        self.failures.forget()
        self.state.tell(health.GIVEN_UP, verdict.summary)
        unit = f"vllm@{self.options.name}.service"
        say(
            f"giving up after {self.options.starts} starts that failed one after the other, the "
            f"last one because: {verdict.summary}\n"
            f"remedy: {verdict.remedy or 'see the log above'}; then: systemctl start {unit}",
            2,
        )
        return GAVE_UP

    def fail_with_card(self, verdict: classify.Verdict) -> int:
        """Say what systemd shall do where a card cannot compute: starts alone do not mend it."""
        policy = self.options.gpu_lost
        tried = self.lost.take(policy)
        if tried and policy == cards.RESTART:
            say("the unit is started again, once: vllm_service_gpu_lost is restart", 4)
            return 1
        self.failures.forget()
        self.state.tell(health.GIVEN_UP, verdict.summary)
        if tried:
            say(f"root is asked for a {policy}, which vllm_service_gpu_lost allows", 4)
        why = ""
        if policy != cards.FAIL and not tried:
            why = f", within {cards.SPACING / 60:.0f} min of attempt {self.lost.count} with a card"
        say(
            f"not started again{why}: {verdict.summary}\nremedy: {verdict.remedy}",
            2,
        )
        return GAVE_UP

    def keep(self, verdict: classify.Verdict, status: int | None) -> None:
        """Leave the verdict for the play and for whoever looks at the host."""
        path = os.path.join(self.run_dir, "verdict.json")
        content = {
            "at": time.time(),
            "fingerprint": self.fingerprint,
            "state": verdict.state,
            "summary": verdict.summary,
            "evidence": list(verdict.evidence),
            "remedy": verdict.remedy,
            "cause": verdict.cause,
            "exit_status": status,
            "failed_starts": len(self.failures.summaries),
            "ends": ends(path, verdict.state),
        }
        with open(f"{path}.new", "w", encoding="utf-8") as stream:
            json.dump(content, stream)
        os.chmod(f"{path}.new", 0o644)
        os.replace(f"{path}.new", path)

    def drain(self, held: contextlib.ExitStack) -> None:
        """Refuse new requests, and give those under way a bounded time.

        Args:
            held: Keeps the port, until the server has ended: a connection that a socket holds
                when it is closed would be reset.
        """
        end = time.monotonic() + self.options.drain
        try:
            # Accepted by the server before everything new is refused.
            connection = held.enter_context(contextlib.closing(connect(self.address, 5.0)))
            connection.connect()
            refusal = None
            if self.address.uds is None:  # else the port is the broker's, who sends no more
                with contextlib.suppress(OSError):
                    # Where the server shares its port; else it refuses all that is new itself.
                    refusal = held.enter_context(Refusal(self.host, self.address.port))
            with open(self.draining, "w", encoding="utf-8"):
                pass  # that it is there says it all
            quiet, requests = 0, ""
            while quiet < 2 and time.monotonic() < end:
                answer = ask(connection, self.address, "/metrics")
                now = read_counters(answer.decode("utf-8", "replace"))
                quiet = quiet + 1 if now.idle else 0
                requests = f"{now.running + now.waiting} requests"
                left = end - time.monotonic()
                self.notifier.status(f"stopping: {requests} get up to {left:.0f} s more")
                time.sleep(0.25)
            told = "" if refusal is None else f", {refusal.refused} refused meanwhile"
            say(f"stopping: {requests} left{told}")
        except (OSError, ProbeFailed) as problem:
            say(f"stopping without waiting for requests: {problem}", 4)

    def end_server(self, server: subprocess.Popen[bytes]) -> None:
        """Ask a server to end, and wait a little."""
        self.notifier.status("stopping")
        server.terminate()
        grace = STOP_GRACE if self.ready else STOP_GRACE / 5
        try:
            server.wait(grace)
        except subprocess.TimeoutExpired:
            say(f"the server did not end within {grace:.0f} s of SIGTERM: killed", 5)

    def stop(self) -> int:
        """Stop a server that shall stop."""
        self.notifier.send("STOPPING=1")
        self.state.tell(health.DRAINING, "it is being stopped")
        self.failures.forget()
        if self.server is not None and self.server.poll() is None:
            with contextlib.ExitStack() as held:
                if self.ready and self.options.drain > 0:
                    self.drain(held)
                self.end_server(self.server)
        kill_descendants(os.getpid())
        return 0

    def before_start(self) -> classify.Verdict | None:
        """Wait for what a start needs; returns what keeps it from coming, if anything does."""
        self.back_off()
        problem = None if self.stopping.is_set() else self.wait_for_devices()
        problem = problem or self.port_problem()
        if problem is not None:
            cause = None if self.options.device and "not there" in problem else "port_in_use"
            return classify.Verdict(
                classify.CRASHED,
                problem,
                remedy="ss -ltnp shows which one" if cause else None,
                cause=cause,
            )
        lost = None if self.stopping.is_set() else self.lost_card()
        if lost is None:
            self.prepare()
        return lost

    def run(self) -> int:
        """Start, watch, stop; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopping.set())
        adopt_orphans()
        obstacle = self.before_start()
        if self.stopping.is_set():
            return self.stop()
        if obstacle is not None:
            return self.fail(obstacle)
        verdict = self.with_cards(self.watch(self.start()))
        mended = None if self.stopping.is_set() else self.mend(verdict)
        if mended is not None and not self.ready:
            # Here rather than by systemd, so that a play that waits for the server waits on.
            self.tell(mended)
            self.wait_for_gpu_memory()
            self.notifier.send(
                f"EXTEND_TIMEOUT_USEC={int((self.options.start_timeout + 60) * 1e6)}"
            )
            verdict, mended = self.with_cards(self.watch(self.start())), None
        return self.stop() if self.stopping.is_set() else self.fail(mended or verdict)


def told_by_card(verdict: classify.Verdict | None, trouble: cards.Trouble) -> classify.Verdict:
    """The verdict over a server whose card cannot compute.

    Args:
        verdict: What was found without the card; `None` where that is no matter.
        trouble: What is wrong with the card.
    """
    summary, remedy = cards.CAUSES[trouble.cause]
    before = () if verdict is None else (f"here: {verdict.summary}", *verdict.evidence)
    state = verdict.state if verdict and verdict.state in classify.BAD else classify.CRASHED
    return classify.Verdict(
        state, summary, (trouble.evidence, *before), remedy, cause=trouble.cause
    )


def status_line(verdict: classify.Verdict, sample: Sample) -> str:
    """What `systemctl status` shows: the state, how far it is, how much there is to do."""
    if verdict.state in classify.ON_THE_WAY:
        return verdict.state if verdict.percent is None else f"{verdict.state} {verdict.percent} %"
    if verdict.state in classify.SERVING and sample.running is not None:
        return f"{verdict.state}: {sample.running} running, {sample.waiting} waiting"
    return f"{verdict.state}: {verdict.summary}"


def too_late(verdict: classify.Verdict, seconds: float) -> classify.Verdict:
    """The verdict over a start that did something until its deadline."""
    return classify.Verdict(
        classify.HUNG_AT_START,
        f"no token within {seconds:.0f} s, the start's deadline; at the end: {verdict.summary}",
        verdict.evidence,
        verdict.remedy or "a longer vllm_service_start_timeout, if the log shows that it went on",
        cause=verdict.cause,
    )


def no_progress(verdict: classify.Verdict, seconds: float) -> classify.Verdict:
    """The verdict over a server that looks busy and computes nothing."""
    return classify.Verdict(
        classify.HUNG_WHILE_SERVING,
        f"no token for {seconds:.0f} s; it looked: {verdict.summary}",
        verdict.evidence,
        verdict.remedy,
        cause=verdict.cause,
    )


def ends(path: str, state: str) -> dict[str, int]:
    """How often a server was ended in each state since the host's start, this time included.

    Args:
        path: The file of the verdict before.
        state: The state of the verdict now.
    """
    counts: dict[str, int] = {}
    try:
        with open(path, encoding="utf-8") as stream:
            counts = {str(one): int(count) for one, count in json.load(stream)["ends"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass  # none yet, or of a supervisor that did not count
    return {**counts, state: counts.get(state, 0) + 1}
