# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong on order."""

from __future__ import annotations

import fnmatch
import threading
import time
from dataclasses import dataclass, field
from typing import Any

KINDS = {
    "cut": "close the connection after `after` bytes of the answer's body",
    "stall": "send nothing more for `seconds` after `after` bytes of the body, then close",
    "status": "answer `status` with `headers` instead",
    "wrong_bytes": "send another byte at offset `at` of the file",
    "slow": "send at most `rate` bytes a second",
    "wrong_length": "announce `delta` bytes more (or fewer) than the file has, and send as many",
    "ignore_range": "answer a request for a range with the whole file",
    "move": "let `branch` be at `commit` right after this answer",
}
"""The faults, and their settings."""


@dataclass
class Fault:
    """An order.

    Attributes:
        kind: One of `KINDS`.
        route: Which requests: info, tree, head (`resolve`'s metadata), content (a file's bytes).
        path: Shell pattern of the file, for head and content.
        times: How many requests it hits; -1 for all of them.
        after: Bytes of the body that are still right.
        seconds: Length of a stall.
        status: HTTP status.
        headers: Headers beside it.
        at: Offset in the file.
        rate: Bytes a second.
        delta: Difference of the announced length.
        branch: Branch that moves.
        commit: Where it moves to.
    """

    kind: str
    route: str = "content"
    path: str = "*"
    times: int = 1
    after: int = 0
    seconds: float = 3600.0
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    at: int = 0
    rate: float = 0.0
    delta: int = 0
    branch: str = "main"
    commit: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no fault {self.kind!r}; there are {', '.join(KINDS)}")


class Faults:
    """The orders that are still open."""

    def __init__(self) -> None:
        self._orders: list[Fault] = []
        self._lock = threading.Lock()

    def order(self, kind: str, **settings: Any) -> None:
        """Order a fault; the settings are those of `Fault`."""
        with self._lock:
            self._orders.append(Fault(kind, **settings))

    @property
    def open(self) -> list[Fault]:
        """Those that have not hit as often as ordered."""
        with self._lock:
            return [fault for fault in self._orders if fault.times]

    def clear(self) -> None:
        """Take all orders back."""
        with self._lock:
            self._orders.clear()

    def take(self, route: str, path: str = "", ranged: bool = False) -> Fault | None:
        """The fault that hits a request, if one does; the first that was ordered wins."""
        with self._lock:
            for fault in self._orders:
                if fault.route != route or not fnmatch.fnmatch(path, fault.path) or not fault.times:
                    continue
                if fault.kind == "ignore_range" and not ranged:
                    continue
                fault.times -= 1
                return fault
        return None


class Pace:
    """Keeps several connections together to a rate.

    Args:
        rate: Bytes a second; 0 for as fast as can be.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._free_at = 0.0
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Wait until `count` bytes may be sent."""
        if not self.rate:
            return
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._free_at)
            self._free_at = begin + count / self.rate
        time.sleep(max(0.0, begin - now))
