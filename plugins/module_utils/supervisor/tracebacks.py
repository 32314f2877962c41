# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tracebacks of a server's log ended a process. Pure.

A log has many tracebacks and one that matters. A request's error, a plugin that does not load and
what follows from an engine's end are told as loudly as the end itself, and the API server's last
words only say that the reason stands above.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .lines import ENGINE, FATAL_SOURCES, SERVER, WORKER, Line

_BEGIN = re.compile(r"Traceback \(most recent call last\):\s*$")
_FRAME = re.compile(r'^\s*File "[^"]*", line \d+')
_NEXT = re.compile(
    r"^(?:The above exception was the direct cause of the following exception:"
    r"|During handling of the above exception, another exception occurred:)"
)
EXCEPTION = re.compile(
    r"^(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Resources|Failure)\b:? ?.*"
    r"|^Exception: "
)
_ABORT = re.compile(
    r"^(?:terminate called after throwing|Fatal Python error: |\s*what\(\):  |\*\*\* SIG[A-Z]+)"
    r"|Segfault encountered"
)

# What tells that the traceback below it ends a process (vllm/v1/engine/core.py,
# vllm/v1/executor/multiproc_executor.py, vllm/v1/engine/async_llm.py, older releases'
# vllm/engine/multiprocessing/engine.py, vllm/worker/worker_base.py).
_FATAL = re.compile(
    r"EngineCore (?:failed to start|hit an exception|encountered a fatal error)"
    r"|WorkerProc (?:failed to start|hit an exception)"
    r"|Error executing method|Exception in worker|AsyncLLM output_handler failed"
    r"|Engine background task failed|Error in inspecting model architecture"
    r"|Exception in worker \w+ while processing|EngineCore got error"
)
# What tells that it does not, although nobody has logged it as a request's.
_HARMLESS = re.compile(
    r"Exception ignored in|Exception in thread|Exception in callback|--- Logging error ---"
    r"|was never retrieved|Exception in ASGI application|Invocation of \w+ method failed"
    r"|Failed to load plugin|Error in (?:preprocessing|chat completion|completion)"
    r"|Exception in Async"
)
_HEADER = re.compile(f"{_FATAL.pattern}|{_HARMLESS.pattern}")
WRAPPER = re.compile(
    r"EngineDeadError|Engine core initialization failed|Engine process failed to start"
    r"|WorkerProc initialization failed|EngineCore encountered an issue"
    r"|failed to be inspected|Background loop (?:has errored|is stopped)|Engine loop (?:is|has)"
    r"|Error raised in subprocess|^asyncio\.exceptions\.CancelledError"
    r"|^SystemExit|^KeyboardInterrupt"
    r"|^subprocess\.CalledProcessError: Command '\[[^\]]*vllm\.model_executor\.models\.registry"
    r"|Engine core proc(?:ess)? \S+ died unexpectedly"
)
"""Exceptions that only say that there was another one."""
PEER = re.compile(
    r"Connection (?:closed by|reset by) peer|remote process exited|ncclRemoteError"
    r"|failed to recv, got 0 bytes|Broken pipe|recvValue failed|sendBytes failed"
    r"|DistNetworkError: .*timed out|^EOFError\s*$"
)
"""What a worker says whose peer has gone: the peer's words are the reason."""


@dataclass
class Raised:
    """One exception of a traceback.

    Attributes:
        frames: Its lines `File "…", line …`, and the source lines below them.
        message: The lines of the exception itself.
    """

    frames: list[str] = field(default_factory=list)
    message: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The first line of the exception."""
        return self.message[0].strip() if self.message else ""

    @property
    def is_wrapper(self) -> bool:
        """Whether it only says that there was another one."""
        told = self.message[:3] if "ValidationError" in self.text else self.message[:1]
        return not told or any(WRAPPER.search(line.strip()) for line in told)


@dataclass
class Report:
    """A traceback, with those that it was raised from.

    Attributes:
        header: What the process said before it.
        line: The line it begins with.
        first: That line's number.
        last: The number of its last line.
        raised: The exceptions, the root first.
        numbers: The numbers of its own lines; those of other processes stand between them.
        whole: Whether its beginning is there.
    """

    header: str
    line: Line
    first: int
    last: int
    raised: list[Raised] = field(default_factory=list)
    whole: bool = True
    numbers: list[int] = field(default_factory=list)

    @property
    def who(self) -> str:
        """Who said it; by the frames, where no process is named."""
        if self.line.who:
            return self.line.who
        frames = "\n".join(frame for one in self.raised for frame in one.frames)
        if "in worker_main" in frames or "multiproc_worker" in frames:
            return WORKER
        if "in run_engine_core" in frames or "run_mp_engine" in frames:
            return ENGINE
        return SERVER

    @property
    def is_fatal(self) -> bool:
        """Whether it ended a process, as far as can be told from what stands before it."""
        if _HARMLESS.search(self.header) or _HARMLESS.search(self.line.text):
            return False
        if not self.line.level:
            return True
        if _FATAL.search(self.header) or _FATAL.search(self.line.text):
            return True
        return self.line.source in FATAL_SOURCES and self.who in (ENGINE, WORKER)

    @property
    def is_wrapper(self) -> bool:
        """Whether nothing in it is a reason."""
        return all(one.is_wrapper for one in self.raised)

    @property
    def is_of_a_peer(self) -> bool:
        """Whether it only tells that another process has gone."""
        told = [one for one in self.raised if not one.is_wrapper]
        return bool(told) and all(PEER.search("\n".join(one.message)) for one in told)

    @property
    def frames(self) -> str:
        """All frames of it."""
        return "\n".join(frame for one in self.raised for frame in one.frames)

    @property
    def reasons(self) -> list[Raised]:
        """Its exceptions that say something of their own, the root first."""
        return [one for one in self.raised if not one.is_wrapper]


_LONGEST_MESSAGE = 120


def _is_of_a_frame(current: Raised, text: str) -> bool:
    """Whether a line is a frame's, in a log that has lost the spaces its lines begin with."""
    if _FRAME.match(text):
        return True
    is_stripped = bool(current.frames) and not current.frames[0][:1].isspace()
    return is_stripped and not EXCEPTION.match(text)


class _Reader:
    """Puts the lines of one stream together to reports."""

    def __init__(self) -> None:
        self.report: Report | None = None
        self.is_chained = False

    def take(self, number: int, line: Line, header: str, reports: list[Report]) -> None:
        text, report = line.text, self.report
        begins = _BEGIN.search(text) is not None
        starts_bare = bool(_FRAME.match(text) or EXCEPTION.match(text) or _ABORT.search(text))
        in_message = report is not None and bool(report.raised[-1].message)
        anew = in_message and (_FRAME.match(text) or _ABORT.search(text))
        if begins or (starts_bare and (report is None or anew)):
            if begins and report is not None and self.is_chained:
                report.raised.append(Raised())
            else:
                if report is not None and line.level and not _HEADER.search(header):
                    header = report.header  # of one record: what a subprocess has said
                report = Report(header, line, number, number, [Raised()], whole=begins)
                reports.append(report)
                self.report = report
            self.is_chained = False
            report.last = number
            if begins:
                report.numbers.append(number)
                return
        if report is None:
            return
        if _HARMLESS.search(text) or text.startswith("Process "):
            self.report, self.is_chained = None, False
            return
        goes_on = self.is_chained or _NEXT.match(text.strip()) or not text.strip()
        if report.raised[-1].message and not (line.level or goes_on or report.is_fatal):
            # What a process writes after an error of no account may be anything.
            self.report = None
            if _ABORT.search(text):
                self.take(number, line, header, reports)
            return
        report.last = number
        report.numbers.append(number)
        current = report.raised[-1]
        if _NEXT.match(text.strip()):
            self.is_chained = True
        elif self.is_chained:
            if text.strip():  # its beginning was left out
                report.raised.append(Raised())
                self.is_chained = False
                self._add(report.raised[-1], text)
        elif len(current.message) < _LONGEST_MESSAGE:
            self._add(current, text)
        else:
            self.report = None

    @staticmethod
    def _add(current: Raised, text: str) -> None:
        if current.message:
            if text.strip():
                current.message.append(text)
        elif text[:1].isspace() or not text or _is_of_a_frame(current, text):
            if text.strip() and not _ABORT.search(text):
                current.frames.append(text)
            elif text.strip():
                current.message.append(text)
        else:
            current.message.append(text)


def read(lines: Iterable[Line]) -> list[Report]:
    """The tracebacks in a log, and exceptions that stand alone, in the order they begin."""
    reports: list[Report] = []
    readers: dict[str, _Reader] = {}
    before: dict[str, str] = {}
    for number, line in enumerate(lines):
        if line.chatter:
            continue
        process = line.stream[: len(line.stream) - len(line.level) - len(line.source)]
        readers.setdefault(line.stream, _Reader()).take(
            number, line, before.get(process, ""), reports
        )
        if line.text.strip() and not line.text[:1].isspace():
            before[process] = line.text
    return [report for report in reports if any(one.message for one in report.raised)]


def fatal(reports: Sequence[Report]) -> list[Report]:
    """The tracebacks that may be the end of a server, the likeliest first.

    The first of a worker that does not only miss a peer, the engine's first, the last of the API
    server; then what says more of those that say nothing, and what is not whole.
    """
    ends = [report for report in reports if report.is_fatal and not report.is_wrapper]
    whole = [report for report in ends if report.whole]
    workers = [report for report in whole if report.who == WORKER]
    own = [report for report in workers if not report.is_of_a_peer]
    peers = [report for report in workers if report.is_of_a_peer]
    engine = [report for report in whole if report.who == ENGINE]
    server = [report for report in whole if report.who not in (WORKER, ENGINE)]
    parts = [report for report in ends if not report.whole]
    return [*own, *engine, *reversed(server), *peers, *parts]
