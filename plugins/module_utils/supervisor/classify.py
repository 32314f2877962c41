# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server is doing, and whether it hangs: a pure function over samples and its log."""

from __future__ import annotations

import importlib
import re
import signal
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from . import cards
from .lines import ENGINE, WORKER, parse

if TYPE_CHECKING:
    from .sample import Process, Sample


def causes() -> Any:
    """The module `causes`.

    By its name, and where a server has ended: whoever seldom asks need not be sent that table,
    which is larger than all else here.

    Raises:
        ModuleNotFoundError: It was not sent.
    """
    return importlib.import_module(".causes", __package__)


STARTING = "starting"
DOWNLOADING = "downloading"
LOADING = "loading"
COMPILING = "compiling"
CAPTURING = "capturing"
READY = "ready"
BUSY = "busy"
ASLEEP = "asleep"
"""On demand, without a server: the first request starts it. The supervisor's word (demand.py);
nothing is classified as this."""
HUNG_AT_START = "hung at start"
HUNG_WHILE_SERVING = "hung while serving"
CRASHED = "crashed"
ORPHANED = "orphaned"
STOPPING = "stopping"
STOPPED = "stopped"

STATES = (
    STARTING,
    DOWNLOADING,
    LOADING,
    COMPILING,
    CAPTURING,
    READY,
    BUSY,
    HUNG_AT_START,
    HUNG_WHILE_SERVING,
    CRASHED,
    ORPHANED,
    STOPPING,
    STOPPED,
)
SERVING = (READY, BUSY, ASLEEP)
ON_THE_WAY = (STARTING, DOWNLOADING, LOADING, COMPILING, CAPTURING)
BAD = (HUNG_AT_START, HUNG_WHILE_SERVING, CRASHED, ORPHANED)


@dataclass(frozen=True)
class Limits:
    """When standing still is hanging.

    Attributes:
        start_deadline: Seconds that a start may take; later it is told as late.
        start_stall: Seconds without any sign of work after which a start hangs.
        stall: Seconds without a token, with requests there and no sign of work (CPU and GPU idle),
            after which a server hangs.
        spin: Seconds of a start in which several workers keep the CPU or their cards busy and
            nothing else moves, after which they wait for each other; twice that from the first
            phase on of which the log tells.
        busy_stall: The same although CPU or GPU are busy; a prefill of many tokens in one step is
            work, and so is a kernel that never ends.
        idle_cores: CPU seconds a second below which a server does nothing.
        idle_gpu: GPU utilization in percent up to which a card does nothing.
    """

    start_deadline: float = 600.0
    start_stall: float = 120.0
    spin: float = 300.0
    stall: float = 30.0
    busy_stall: float = 300.0
    idle_cores: float = 0.05
    idle_gpu: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """What a server is doing.

    Attributes:
        state: One of `STATES`.
        summary: One sentence for a person.
        evidence: The figures it rests on, with units.
        remedy: What to do about it; `None` where there is nothing to do.
        percent: How far the loading of the weights is; `None` where that is not known.
        cause: What the log says, as a short name such as `no_compiler`; `None` without one.
    """

    state: str
    summary: str
    evidence: tuple[str, ...] = ()
    remedy: str | None = None
    percent: int | None = None
    cause: str | None = None


def classify(samples: Sequence[Sample], log: Sequence[str], limits: Limits) -> Verdict:
    """Say what a server is doing.

    Args:
        samples: Looks at it, oldest first; those of the last `busy_stall` seconds are enough.
        log: What it has written since its last start, oldest line first; the end of it is enough.
        limits: When standing still is hanging.

    Returns:
        The verdict. Never raises, also for samples in which nothing could be read.
    """
    if not samples:
        return Verdict(STOPPED, "nothing is known: no sample was taken")
    now = samples[-1]
    if _has_ended(now):
        verdict = _ended(samples, log)
    elif now.active_state == "deactivating":
        verdict = Verdict(STOPPING, "it is being stopped", _resources(now))
    elif _is_up(samples):
        verdict = _serving(samples, log, limits)
    else:
        verdict = _starting(samples, log, limits)
    return _with_strays(verdict, now)


# -- figures --------------------------------------------------------------------------------------


def size(count: float) -> str:
    """Bytes in binary units, as memory is sold: `14.3 GiB`."""
    for unit, one in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(count) >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count:.0f} B"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _resources(now: Sample) -> tuple[str, ...]:
    """Memory, card and age, whatever the state."""
    parts = []
    if now.age is not None:
        parts.append(f"started {now.age:.0f} s ago")
    if now.restarts:
        parts.append(f"systemd has restarted it {_plural(now.restarts, 'time')}")
    if now.memory_bytes is not None:
        limit = "" if now.memory_max_bytes is None else f" of {size(now.memory_max_bytes)}"
        parts.append(f"memory {size(now.memory_bytes)}{limit}")
    if now.gpu_bytes is not None:
        busy = "" if now.gpu_utilization is None else f", utilization {now.gpu_utilization:.0f} %"
        parts.append(f"GPU memory {size(now.gpu_bytes)}{busy}")
    return tuple(parts)


def _engine_seconds(sample: Sample, pids: Collection[int]) -> float:
    return sum(p.cpu_seconds for p in sample.processes or () if p.pid in pids)


def _cores(first: Sample, last: Sample, engine_only: bool) -> float | None:
    """CPU seconds a second between two samples; `None` where that cannot be told.

    Args:
        first: The earlier sample.
        last: The later one.
        engine_only: Leave out the API server, which has work also while the engine hangs.
    """
    span = last.at - first.at
    if not span > 0:
        return None
    if engine_only:
        pids = {p.pid for p in first.processes or () if p.computes}
        pids &= {p.pid for p in last.processes or ()}
        if pids:
            return (_engine_seconds(last, pids) - _engine_seconds(first, pids)) / span
    if first.cpu_seconds is None or last.cpu_seconds is None:
        return None
    return (last.cpu_seconds - first.cpu_seconds) / span


def _stopped(now: Sample) -> Process | None:
    """A process that somebody has stopped, or that a debugger holds."""
    stopped = [process for process in now.processes or () if process.is_stopped]
    stopped.sort(key=lambda process: not process.computes)
    return stopped[0] if stopped else None


def _stopped_evidence(process: Process) -> str:
    why = "a debugger holds it" if process.state == "t" else "stopped by a signal"
    return f"{process.name} (pid {process.pid}) is in state {process.state}: {why}"


def _continue(process: Process) -> str:
    return f"kill -CONT {process.pid}, or restart the unit"


def held_up(process: Process, *evidence: str) -> Verdict:
    """The verdict over a server one of whose processes is stopped.

    Args:
        process: That one.
        evidence: What else is seen.
    """
    return Verdict(
        HUNG_WHILE_SERVING,
        f"{process.name} is stopped and computes nothing",
        (_stopped_evidence(process), *evidence),
        _continue(process),
    )


COMPUTES_NOTHING = "it takes requests and computes nothing"
ENGINE_GONE = "the engine's process is gone"
NOT_LISTENING = "it runs, but does not listen on its port any more"


# -- ended ----------------------------------------------------------------------------------------


def _has_ended(now: Sample) -> bool:
    if now.active_state in ("failed", "inactive") or now.sub_state == "auto-restart":
        return True
    return now.active_state is None and now.exit_status is not None


def _how_it_ended(now: Sample) -> str:
    if now.exit_status is None:
        return f"systemd's result: {now.result}" if now.result else "it is not running"
    signals = causes().SIGNALS
    number = causes().signal_of(now.exit_status)
    named = f" ({signals[number].name})" if number in signals else ""
    if now.exit_status < 0:
        return f"ended by signal {number}{named}"
    told = f": signal {number}{named}" if number in signals else ""
    return f"exit status {now.exit_status}{told}"


def _was_out_of_memory(samples: Sequence[Sample]) -> bool:
    now = samples[-1]
    if now.result == "oom-kill" or any("ut of memory: Killed process" in w for w in now.kernel):
        return True
    before = samples[0].oom_kills
    if now.oom_kills is None:
        return False
    killed = causes().signal_of(now.exit_status) == signal.SIGKILL
    return now.oom_kills > (before or 0) or (now.oom_kills > 0 and killed)


def _out_of_memory(now: Sample, evidence: list[str]) -> Verdict:
    limit = now.memory_max_bytes
    evidence.append("the kernel killed it for memory" + (f", limit {size(limit)}" if limit else ""))
    # Of a limit the kernel says "Memory cgroup out of memory" (mm/oom_kill.c, __oom_kill_process).
    by_host = any("Out of memory: Killed process" in line for line in now.kernel)
    cause = "host_memory" if by_host or limit is None else "memory_limit"
    summary, remedy = BY_FIGURES[cause]
    return Verdict(CRASHED, summary, tuple(evidence), remedy, cause=cause)


BY_FIGURES = {
    "host_memory": (
        "the kernel killed it, because memory was used up",
        (
            "Give the host more memory or swap (WSL2: memory= in .wslconfig), end other programs, "
            "or serve a smaller model (on CPU: lower cpu_kvcache_space). Raising MemoryMax helps "
            "only where limits: {memory_max} or vllm_service_memory_max sets one."
        ),
    ),
    "memory_limit": (
        "it was killed for using more memory than it may",
        (
            "Raise MemoryMax of the unit (limits: {memory_max: …} of the instance, or "
            "vllm_service_memory_max), where the host has more; or lower what it needs: a smaller "
            "model, on CPU cpu_kvcache_space."
        ),
    ),
    "workers_wait": (
        "its workers wait for each other: they have been busy for minutes, and nothing else moves",
        (
            'Set environment: {NCCL_P2P_DISABLE: "1"} on the instance; if it is not that, '
            "extra_args: {disable_custom_all_reduce: true}. environment: {NCCL_DEBUG: INFO} shows "
            "where they wait. A longer vllm_service_start_timeout does not help."
        ),
    ),
    "completion_failed": (
        "it answers a completion with an error",
        "The log says why; restart the unit.",
    ),
    cards.OVERHEATED: cards.CAUSES[cards.OVERHEATED],
    cards.RESET: cards.CAUSES[cards.RESET],
    "unknown": (
        "it ended by itself, for a reason that is not known here",
        "Read the end of its log: journalctl -u the unit.",
    ),
}
"""Causes that no line of the log tells, or none that is known: summary and remedy."""
RESULTS = {
    "watchdog": (
        "watchdog",
        "systemd ended it, because it made no progress within the watchdog's time",
        "The log before that says what it was doing; systemd starts it again.",
    ),
    "timeout": (
        "timeout",
        "systemd ended it, because it was not ready, or had not stopped, in time",
        "If the log shows that it was still at work, raise vllm_service_start_timeout.",
    ),
    "start-limit-hit": (
        "start_limit",
        "systemd has given up, after too many starts in a row",
        "Correct what the log says, then run site.yml, or systemctl reset-failed and start.",
    ),
    "resources": (
        "resources",
        "systemd could not start it",
        "Its journal says which directory, file or limit that the unit names is missing.",
    ),
}
"""What systemd's `Result` tells: cause, summary and remedy."""


def _ended(samples: Sequence[Sample], log: Sequence[str]) -> Verdict:
    now = samples[-1]
    left = [p for p in now.processes or () if p.computes] if now.active_state is None else []
    if left and (now.exit_status or 0) < 0:
        return Verdict(
            ORPHANED,
            f"the API server was killed ({_how_it_ended(now)}) and has left "
            f"{'one process' if len(left) == 1 else f'{len(left)} processes'} behind",
            tuple(_holder(process) for process in left),
            "End them: systemctl kill --signal=KILL the unit, then start it.",
            cause="killed",
        )
    if (
        now.active_state == "inactive"
        and now.sub_state != "auto-restart"
        and now.result in (None, "", "success")
    ):
        return Verdict(STOPPED, "it is stopped", remedy="systemctl start the unit, to serve.")
    evidence = [_how_it_ended(now)]
    if now.restarts:
        evidence.append(f"systemd has restarted it {_plural(now.restarts, 'time')}")
    evidence += [f"kernel: {word}" for word in now.kernel]
    if _was_out_of_memory(samples):
        return _out_of_memory(now, evidence)
    found = causes().find_cause(log)
    known = RESULTS.get(now.result or "")
    number = causes().signal_of(now.exit_status)
    if found is not None and _is_outranked(found, now, known is not None, number):
        found = None
    trouble = cards.trouble_in_kernel(now.kernel)
    by_log = None if found is None else found.cause.name
    if trouble is not None and cards.explains(trouble, by_log, ours=False):
        summary, remedy = cards.CAUSES[trouble.cause]
        if found is not None:
            evidence.append(f"log: {found.line[:300]}")
        return Verdict(CRASHED, summary, tuple(evidence), remedy, cause=trouble.cause)
    if found is not None:
        evidence.append(f"log: {found.line[:300]}")
        if found.raised:
            evidence.append(f"raised as: {found.raised[:200]}")
        return Verdict(
            CRASHED,
            found.cause.summary,
            tuple(evidence),
            found.remedy,
            cause=found.cause.name,
        )
    if known is not None:
        name, summary, remedy = known
        return Verdict(CRASHED, summary, tuple(evidence), remedy, cause=name)
    if number in causes().SIGNALS:
        signal = causes().SIGNALS[number]
        return Verdict(
            CRASHED,
            f"it {signal.summary}: signal {number}",
            tuple(evidence),
            signal.remedy,
            cause=signal.cause,
        )
    if number is not None:
        return Verdict(
            CRASHED,
            f"it was killed by signal {number}",
            tuple(evidence),
            "journalctl -k and systemctl status tell who did it.",
            cause="killed",
        )
    summary, remedy = BY_FIGURES["unknown"]
    return Verdict(CRASHED, summary, tuple(evidence), remedy, cause="unknown")


def _is_outranked(found: Any, now: Sample, is_known: bool, number: int | None) -> bool:
    """Whether how it ended says more than what the log tells.

    An engine's or a worker's traceback is an end of its own. What the API server said counts less
    than the signal, or systemd's word, by which it was ended.
    """
    if found.who in (ENGINE, WORKER) and found.cause.name not in causes().VAGUE:
        return False
    if found.cause.name in causes().VAGUE:
        return is_known or number is not None
    return now.result in ("watchdog", "timeout") or number in (9, 15)


# -- serving --------------------------------------------------------------------------------------


def _is_up(samples: Sequence[Sample]) -> bool:
    """Whether the server has been reached, so that its start is over."""
    now = samples[-1]
    if now.is_notify and now.active_state is not None:
        return now.active_state in ("active", "reloading")
    return any(
        sample.health == 200
        or sample.running is not None
        or (sample.completion is not None and sample.completion.outcome == "answered")
        for sample in samples
    )


def _has_computed(before: Sample, after: Sample) -> bool:
    """Whether the engine did something between two samples, by its own counters."""
    counted = dict(before.work)
    if any(name in counted and value != counted[name] for name, value in after.work):
        return True
    asked = after.completion
    return asked is not None and asked.outcome == "answered" and asked != before.completion


def _last_computed(samples: Sequence[Sample]) -> int:
    """Index of the sample at which the engine was last seen to compute; 0 for none."""
    for index in range(len(samples) - 1, 0, -1):
        if _has_computed(samples[index - 1], samples[index]):
            return index
    return 0


def _first_reached(samples: Sequence[Sample]) -> int:
    """Index of the first sample in which the server was reached; 0 for none."""
    for index, sample in enumerate(samples):
        if sample.health == 200 or sample.running is not None:
            return index
    return 0


def _load(now: Sample) -> str:
    return f"{now.running or 0} running, {now.waiting or 0} waiting"


def _serving(samples: Sequence[Sample], log: Sequence[str], limits: Limits) -> Verdict:
    now = samples[-1]
    had_engine = any(p.computes for sample in samples for p in sample.processes or ())
    has_engine = now.processes is None or any(p.computes for p in now.processes)
    says_so = now.health in (500, 503)
    if says_so or (had_engine and not has_engine):
        found = causes().find_cause(log)
        evidence = [] if says_so else [ENGINE_GONE]
        if now.health:
            evidence.append(f"/health answers {now.health}")
        if found is not None:
            evidence.append(f"log: {found.line[:300]}")
        return Verdict(
            CRASHED,
            "the engine has died" + (f": {found.cause.summary}" if found else ""),
            tuple(evidence),
            found.remedy if found else "The server ends by itself and is started again.",
            cause=found.cause.name if found else "engine_died",
        )
    last = _last_computed(samples)
    # While it started it could not compute: a long start is no silence.
    since = samples[last or _first_reached(samples)]
    still = now.at - since.at
    asked = now.completion
    unanswered = asked is not None and asked.outcome in ("waiting", "timeout")
    computed = last == len(samples) - 1 and last > 0
    if len(samples) == 1 and asked is not None and asked.outcome == "answered":
        computed = True
    if asked is not None and asked.outcome == "failed" and not computed and now.health != 0:
        return Verdict(
            CRASHED,
            BY_FIGURES["completion_failed"][0],
            (asked.detail[:300] or "the answer had no text", *_resources(now)),
            BY_FIGURES["completion_failed"][1],
            cause="completion_failed",
        )
    if unanswered and asked is not None and last == 0:
        # The looks do not reach back as far as the question does.
        still = max(still, asked.seconds)
    stopped = None if computed else _stopped(now)
    silent = now.running is None and now.health in (0, None)
    silent = silent and (now.health == 0 or any(s.running is not None for s in samples))
    requests = (now.running or 0) + (now.waiting or 0)
    if computed or not (requests or unanswered or silent or stopped):
        return _ready(samples, requests)
    cores = _cores(since, now, engine_only=True)
    evidence = [f"no token for {still:.0f} s", _load(now) if now.running is not None else ""]
    if now.health is not None:
        evidence.append(f"/health answers {now.health}" if now.health else "/health is silent")
    if now.listening is False:
        evidence.append("nobody listens on its port")
    if unanswered and asked is not None:
        evidence.append(f"a completion of one token is unanswered after {asked.seconds:.0f} s")
    if cores is not None:
        evidence.append(f"CPU of the engine {cores:.2f} cores")
    evidence = [part for part in evidence if part]
    if stopped is not None:
        return held_up(stopped, *evidence, *_resources(now))
    idle = (
        cores is not None
        and cores < limits.idle_cores
        and (now.gpu_utilization is None or now.gpu_utilization <= limits.idle_gpu)
    )
    if (idle and still >= limits.stall) or still >= limits.busy_stall:
        summary = COMPUTES_NOTHING if idle else "it works, but no token has come of it for too long"
        return Verdict(
            HUNG_WHILE_SERVING,
            NOT_LISTENING if now.listening is False else summary,
            (*evidence, *_resources(now)),
            (
                'Restart the unit. If it comes back: environment: {NCCL_P2P_DISABLE: "1"} and '
                "extra_args: {disable_custom_all_reduce: true} on the instance, then another "
                "attention_backend; Xid in journalctl -k tells of a card."
                if len(_workers(now)) > 1
                else "Restart the unit. If it comes back: another attention_backend, and Xid in "
                "journalctl -k."
            ),
        )
    return Verdict(
        BUSY,
        f"{_load(now)}; the last token was computed {still:.0f} s ago",
        (*evidence, *_resources(now)),
    )


def _ready(samples: Sequence[Sample], requests: int) -> Verdict:
    first, now = samples[0], samples[-1]
    evidence = []
    if now.completion is not None and now.completion.outcome == "answered":
        evidence.append(f"computed a token in {now.completion.seconds:.2f} s")
    if now.generation_tokens is not None and first.generation_tokens is not None:
        span = now.at - first.at
        tokens = now.generation_tokens - first.generation_tokens
        if span > 0 and tokens > 0:
            evidence.append(f"{tokens / span:.1f} tokens/s over {span:.0f} s")
    if now.kv_cache_usage is not None:
        evidence.append(f"KV cache {100 * now.kv_cache_usage:.0f} % full")
    evidence += _resources(now)
    if requests:
        return Verdict(BUSY, f"it computes: {_load(now)}", tuple(evidence))
    return Verdict(READY, "it answers and has nothing to do", tuple(evidence))


# -- starting -------------------------------------------------------------------------------------

_PERCENT = re.compile(r"\b(\d{1,3}) ?% Completed|:\s+(\d{1,3})%\|")
# Which phase begins with a line; the last one counts. vLLM 0.14.1 and 0.26.0:
# vllm/model_executor/model_loader, vllm/compilation, vllm/v1/worker.
_PHASES = (
    (STARTING, re.compile(r"init engine \(profile|Starting vLLM API server")),
    (
        DOWNLOADING,
        re.compile(r"Fetching \d+ files|Downloading (?:shards|weights|\(incomplete)|^\S+: +\d+%\|"),
    ),
    (
        LOADING,
        re.compile(
            r"Starting to load model|Loading \w+ checkpoint shards|Time spent downloading weights"
            r"|Loading weights took|Model loading took|Multi-thread loading"
            r"|Loading safetensors using"
        ),
    ),
    (
        COMPILING,
        re.compile(
            r"for vLLM's torch\.compile|Dynamo bytecode transform|Compiling a graph|Start compiling"
            r"|Cache the graph of|torch\.compile takes|Directly load the compiled"
            r"|Compiling model again|Warming up model for the compilation"
        ),
    ),
    (CAPTURING, re.compile(r"Capturing CUDA graphs?|Capturing cudagraphs")),
)


def phase_of(log: Sequence[str]) -> tuple[str, int | None]:
    """How far a start has come, by the log.

    Returns:
        The state and, where the log tells, the percentage of it.
    """
    for line in reversed(log):
        text = parse(line).text.strip()
        for state, pattern in reversed(_PHASES):
            if pattern.search(text):
                match = _PERCENT.search(text)
                percent = int(match.group(1) or match.group(2)) if match else None
                if "weights took" in text:
                    percent = 100
                return state, None if percent is None else min(percent, 100)
    return STARTING, None


def _has_worked(before: Sample, after: Sample, limits: Limits) -> bool:
    """Whether anything happened between two samples of a start."""
    cores = _cores(before, after, engine_only=False)
    if cores is not None and cores >= limits.idle_cores:
        return True
    if after.compilers or (after.gpu_utilization or 0) > limits.idle_gpu:
        return True
    for name in ("read_bytes", "written_bytes"):
        first, last = getattr(before, name), getattr(after, name)
        if first is not None and last is not None and last > first:
            return True
    for name, least in (("memory_bytes", 8 << 20), ("gpu_bytes", 1 << 20), ("said", 1)):
        first, last = getattr(before, name), getattr(after, name)
        if first is not None and last is not None and abs(last - first) >= least:
            return True
    return _has_computed(before, after)


_SUMMARIES = {
    STARTING: "it is starting",
    DOWNLOADING: "it downloads the model",
    LOADING: "it loads the weights",
    COMPILING: "it compiles",
    CAPTURING: "it captures CUDA graphs",
}


# What must have moved where something was done, although several workers were busy all the time.
_MOVES = (
    ("read_bytes", 4 << 20),
    ("written_bytes", 4 << 20),
    ("memory_bytes", 32 << 20),
    ("gpu_bytes", 16 << 20),
    ("said", 1),
)


def _workers(sample: Sample) -> list[Process]:
    return [p for p in sample.processes or () if p.name.startswith("VLLM::Worker")]


def _moved(before: Sample, now: Sample) -> bool:
    """Whether something else than the CPU has moved between two samples of a start."""
    return any(
        first is not None and last is not None and abs(last - first) >= least
        for name, least in _MOVES
        for first, last in [(getattr(before, name), getattr(now, name))]
    )


def _waited_for_since(samples: Sequence[Sample]) -> float | None:
    """Since when a process of several has been stopped, and nothing but the CPU has moved."""
    now, since = samples[-1], None
    if not _workers(now):
        return None
    for sample in reversed(samples):
        if _stopped(sample) is None or _moved(sample, now):
            break
        since = sample.at
    return since


def _spins_since(samples: Sequence[Sample]) -> float | None:
    """Since when several workers have been busy with nothing but waiting for each other.

    Collective operations of NCCL spin: on the CPU, on the cards, or on both. Loading reads, or
    takes memory; compiling runs compilers, or takes and gives back memory, and writes.

    Returns:
        The time; `None` for one worker, and where it cannot be told.
    """
    now = samples[-1]
    if len(_workers(now)) < 2 or now.memory_bytes is None or now.read_bytes is None:
        return None
    since = None
    for index in range(len(samples) - 2, -1, -1):
        before = samples[index]
        if before.compilers or {p.pid for p in _workers(before)} != {p.pid for p in _workers(now)}:
            break
        if _moved(before, now):
            break
        since = before.at
    return since if _workers_are_busy(samples, since) else None


def _workers_are_busy(samples: Sequence[Sample], since: float | None) -> bool:
    """Whether all that is done since then is done by the workers, or on their cards."""
    if since is None:
        return False
    now = samples[-1]
    window = [sample for sample in samples if sample.at >= since]
    if all((sample.gpu_utilization or 0) >= 95 for sample in window):
        return True
    begun = {p.pid: p.cpu_seconds for p in _workers(window[0])}
    span = now.at - since
    return span > 0 and all(
        p.cpu_seconds - begun[p.pid] >= 0.8 * span for p in _workers(now) if p.pid in begun
    )


def _starting(samples: Sequence[Sample], log: Sequence[str], limits: Limits) -> Verdict:
    now = samples[-1]
    state, percent = phase_of(log)
    if now.compilers:
        state, percent = COMPILING, None
    last = 0
    for index in range(len(samples) - 1, 0, -1):
        if _has_worked(samples[index - 1], samples[index], limits):
            last = index
            break
    still = now.at - samples[last].at
    stopped = _stopped(now)
    evidence = []
    reference = samples[last] if last < len(samples) - 1 else samples[max(0, len(samples) - 2)]
    cores = _cores(reference, now, engine_only=False)
    span = now.at - reference.at
    if cores is not None:
        evidence.append(f"CPU {cores:.2f} cores over {span:.0f} s")
    if now.read_bytes is not None and reference.read_bytes is not None and span > 0:
        evidence.append(f"{size(now.read_bytes - reference.read_bytes)} read from disks")
    if now.compilers:
        evidence.append(f"compilers at work: {', '.join(sorted(set(now.compilers)))}")
    evidence += _resources(now)
    said = next((text for line in reversed(log) if (text := parse(line).text.strip())), None)
    if said is not None:
        evidence.append(f"it said last: {said[:200]}")
    where = _SUMMARIES[state] + (f", {percent} %" if percent is not None else "")
    if stopped is not None and (last == 0 or last < len(samples) - 1):
        return Verdict(
            HUNG_AT_START,
            f"{stopped.name} is stopped; {where.replace('it ', 'before that it ', 1)}",
            (_stopped_evidence(stopped), *evidence),
            _continue(stopped),
            percent,
        )
    held = _waited_for_since(samples)
    if stopped is not None and held is not None and now.at - held >= limits.stall:
        return Verdict(
            HUNG_AT_START,
            f"{stopped.name} is stopped, and the others wait for it",
            (_stopped_evidence(stopped), *evidence),
            _continue(stopped),
            percent,
        )
    spins = _spins_since(samples)
    patience = limits.spin if state == STARTING else 2 * limits.spin
    if spins is not None and not now.compilers and now.at - spins >= patience:
        return Verdict(
            HUNG_AT_START,
            f"its {len(_workers(now))} workers wait for each other: they have been busy for "
            f"{now.at - spins:.0f} s, and nothing else has moved",
            tuple(evidence),
            BY_FIGURES["workers_wait"][1],
            percent,
            cause="workers_wait",
        )
    can_tell = _cores(samples[last], now, engine_only=False) is not None
    if can_tell and still >= limits.start_stall:
        return Verdict(
            HUNG_AT_START,
            f"it has done nothing for {still:.0f} s; the last that was seen: {where}",
            tuple(evidence),
            "Restart the unit; with several cards, set environment: "
            '{NCCL_P2P_DISABLE: "1"}; with one, choose another attention_backend (TRITON_ATTN is '
            "the safe one). Look for Xid in journalctl -k. A model on a network file system: see "
            "whether it still answers.",
            percent,
        )
    if now.age is not None and now.age > limits.start_deadline:
        return Verdict(
            state,
            f"{where}; it is at work, but past its deadline of {limits.start_deadline:.0f} s",
            tuple(evidence),
            "Raise vllm_service_start_timeout.",
            percent,
        )
    return Verdict(state, where, tuple(evidence), None, percent)


# -- strays ---------------------------------------------------------------------------------------


def _holder(process: Process) -> str:
    held = "" if process.gpu_bytes is None else f", holds {size(process.gpu_bytes)} of GPU memory"
    unit = "" if process.unit is None else f", in {process.unit}"
    return f"{process.name} (pid {process.pid}){unit}{held}"


def _with_strays(verdict: Verdict, now: Sample) -> Verdict:
    """What is left over is the news where the unit is down; else it is told besides."""
    if not now.strays:
        return verdict
    told = tuple(_holder(process) for process in now.strays)
    pids = " ".join(str(process.pid) for process in now.strays)
    if verdict.state == STOPPED:
        return Verdict(
            ORPHANED,
            "the unit is down, and processes of it are still there",
            told,
            f"kill -KILL {pids}",
        )
    return replace(verdict, evidence=(*verdict.evidence, *(f"left over: {one}" for one in told)))
