# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a server's log, as it is being written, and what must not be lost of what was before.

An engine's end is told once, and then by each request that waited for it, dozens of lines each. The
first that is told of an end is therefore kept with what stands around it, and what only repeats is
counted instead.
"""

from __future__ import annotations

import collections
import re

BEFORE, AFTER = 40, 360
"""Lines that are kept before and after the first that tells of an end."""
LONGEST = 4000
"""Bytes that are kept of a line: vLLM dumps its whole input in one when it fails."""
REPEATS = 3
"""How often a line that a server logs as an error is kept."""
_KNOWN = 512
_END = re.compile(
    r"EngineCore (?:failed to start|hit an exception|encountered a fatal error)"
    r"|WorkerProc (?:failed to start|hit an exception)|Error executing method"
    r"|Process (?:EngineCore|\w*Worker)\w*:|died unexpectedly|Engine background task failed"
    r"|terminate called after throwing|Fatal Python error|Segfault encountered"
    r"|Watchdog caught collective operation timeout"
)
# "(APIServer pid=7) ERROR 11-22 22:05:28 [serving_chat.py:1310] …", and uvicorn's access log.
_LOGGED_ERROR = re.compile(r"^(?:\x1b\[[\d;]*m)?\(?(?:API|Api)\S* [^)]*\)(?:\x1b\[[\d;]*m)? ERROR ")
_ACCESS = re.compile(r'INFO:\s+\S+ - "(?:GET|POST|HEAD) ')
WAITS = "No available shared memory broadcast block found"
"""What an engine says, once a minute, that waits for its workers."""
_STARTS = "core engine proc(s) to start"
_NO_DIGITS = dict.fromkeys(map(ord, "0123456789"))


class Tail:
    """The last lines of what a program writes, and the first of its end.

    A progress bar draws itself anew behind a carriage return and ends its line when it is full
    (tqdm, with which vLLM shows the capture of CUDA graphs). Of its states only the newest is kept,
    and it is there before its line ends.

    Args:
        lines: How many of the last lines are kept.

    Attributes:
        said: How many lines, and states of progress bars, have told of something new: no repeats,
            and no server that only says that it waits.
    """

    def __init__(self, lines: int) -> None:
        self.said = 0
        self._last: collections.deque[str] = collections.deque(maxlen=lines)
        self._count = 0
        self._end: list[str] = []
        self._end_at = 0
        self._seen: dict[str, int] = {}
        self._before = ""
        self._unfinished = b""
        self._redrawn = False

    @property
    def lines(self) -> list[str]:
        """What is kept, oldest first; that something was left out is told in a line of its own."""
        last = list(self._last)
        if not self._end:
            return last
        first = self._count - len(last)
        overlap = self._end_at + len(self._end) - first
        between = [] if overlap >= 0 else [f"({-overlap} lines were left out)"]
        return [*self._end, *between, *last[max(0, overlap) :]]

    def feed(self, data: bytes) -> bytes:
        """Take what was written.

        Returns:
            The part of it, and of what came before, that is whole lines.
        """
        data = self._unfinished + data
        whole, newline, self._unfinished = data.rpartition(b"\n")
        for line in whole.split(b"\n") if newline else ():
            self._see(line, redrawn=False)
        # The last state is cut off while it is being written; the one before it is whole.
        drawn = self._unfinished.rpartition(b"\r")[0]
        if drawn:
            self._see(drawn, redrawn=True)
        return whole + newline

    def rest(self) -> bytes:
        """What was written after the last line's end."""
        return self._unfinished

    def _see(self, line: bytes, redrawn: bool) -> None:
        states = [state for state in line.split(b"\r") if state.strip()]
        if self._redrawn:
            self._last.pop()
            self._count -= 1
        self._redrawn = redrawn and bool(states)
        if not states:
            return
        text = states[-1][:LONGEST].decode("utf-8", "replace").rstrip()
        if not redrawn and self._repeats(text):
            return
        if self._is_new(text):
            self.said += 1
        self._last.append(text)
        self._count += 1
        if not redrawn:
            self._keep(text)

    def _is_new(self, text: str) -> bool:
        """Whether a line tells of something: no waiting, and not the line before once more."""
        before, self._before = self._before, text.translate(_NO_DIGITS)
        waits = WAITS in text or _STARTS in text
        return not waits and ("%" in text or before != self._before)

    def _repeats(self, text: str) -> bool:
        """Whether a line says what enough lines before it have said."""
        if " ERROR " in text:
            can_repeat = _LOGGED_ERROR.match(text) is not None
        else:
            can_repeat = ("HTTP/1" in text and _ACCESS.search(text) is not None) or WAITS in text
        if not can_repeat:
            return False
        key = text.translate(_NO_DIGITS)
        if len(self._seen) >= _KNOWN:
            self._seen.clear()
        self._seen[key] = self._seen.get(key, 0) + 1
        return self._seen[key] > REPEATS

    def _keep(self, text: str) -> None:
        """Keep the first that is told of an end, and what stands around it."""
        if not self._end:
            if _END.search(text):
                self._end = list(self._last)[-BEFORE - 1 :]
                self._end_at = self._count - len(self._end)
        elif len(self._end) < BEFORE + AFTER and self._end_at + len(self._end) == self._count - 1:
            self._end.append(text)
