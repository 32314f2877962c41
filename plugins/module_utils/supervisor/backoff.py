# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long to wait before another start, and when to give up.

systemd has RestartSteps= only from 254 on, and Debian 12 has 252.
"""

from __future__ import annotations

import json
import os

FIRST, LONGEST = 10.0, 300.0
"""Seconds before the second start, and at most; doubled from one start to the next."""


def delay(failures: int) -> float:
    """Seconds to wait after so many starts in a row that have failed."""
    return min(FIRST * 2 ** (failures - 1), LONGEST) if failures else 0.0


class Failures:
    """The failed starts in a row, kept over systemd's restarts in the unit's runtime directory.

    They count for one configuration: another one begins anew, and so does everything after a server
    was ready, after a stop by somebody, and after the last word.

    Args:
        directory: The unit's runtime directory.
        fingerprint: The configuration's.
    """

    def __init__(self, directory: str, fingerprint: str) -> None:
        self._path = os.path.join(directory, "failed-starts.json")
        self._fingerprint = fingerprint
        self.summaries: list[str] = []
        try:
            with open(self._path, encoding="utf-8") as stream:
                kept = json.load(stream)
            if kept["fingerprint"] == fingerprint:
                self.summaries = [str(summary) for summary in kept["summaries"]]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # none yet, or not readable: begin anew

    def add(self, summary: str) -> None:
        """Remember one more failed start."""
        self.summaries.append(summary)
        temporary = f"{self._path}.new"
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump({"fingerprint": self._fingerprint, "summaries": self.summaries}, stream)
        os.replace(temporary, self._path)

    def forget(self) -> None:
        """Begin anew."""
        self.summaries = []
        if os.path.exists(self._path):
            os.unlink(self._path)
