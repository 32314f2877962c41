# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a server's log, as it is being written."""

from __future__ import annotations

import collections


class Tail:
    """The last lines of what a program writes.

    A progress bar draws itself anew behind a carriage return and ends its line when it is full
    (tqdm, with which vLLM shows the capture of CUDA graphs). Of its states only the newest is kept,
    and it is there before its line ends.

    Args:
        lines: How many lines are kept.
    """

    def __init__(self, lines: int) -> None:
        self.lines: collections.deque[str] = collections.deque(maxlen=lines)
        self._unfinished = b""
        self._redrawn = False

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
            self.lines.pop()
        self._redrawn = redrawn and bool(states)
        if states:
            self.lines.append(states[-1].decode("utf-8", "replace").rstrip())
