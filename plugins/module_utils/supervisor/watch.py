# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a server makes progress: its counters under requests, an answer of its own without."""

from __future__ import annotations

import threading
import time
from typing import Callable

from .probe import Address, ProbeFailed, compute_once
from .sample import Completion, Sample


class Questions:
    """The cheapest requests of its kind, one at a time, so that the one who asks never waits.

    Args:
        address: The server.
        timeout: Seconds after which an answer is not waited for any more.
        ask: Has something computed; by the server by default.
    """

    def __init__(
        self,
        address: Address,
        timeout: float,
        ask: Callable[[Address, float], None] = compute_once,
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._ask = ask
        self._began = 0.0
        self._answer: Completion | None = None
        self._thread: threading.Thread | None = None
        self.answered_at: float | None = None

    def ask(self) -> None:
        """Ask, unless an answer is still waited for."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True, name="question")
        self._thread.start()

    def _run(self) -> None:
        outcome, detail = "answered", ""
        try:
            self._ask(self._address, self._timeout)
            self.answered_at = time.monotonic()
        except ProbeFailed as problem:
            detail = str(problem)
            outcome = "timeout" if "did not answer within" in detail else "failed"
            outcome = "denied" if "answered 401" in detail else outcome
        self._answer = Completion(outcome, time.monotonic() - self._began, detail)

    def wait(self) -> bool:
        """Wait until no answer is waited for; whether that is so."""
        if self._thread is not None:
            self._thread.join(self._timeout)
        return self._thread is None or not self._thread.is_alive()

    @property
    def newest(self) -> Completion | None:
        """What became of the newest question; `None` before the first."""
        if self._thread is not None and self._thread.is_alive():
            return Completion("waiting", time.monotonic() - self._began)
        return self._answer


class Progress:
    """When a server was last seen to compute.

    Attributes:
        at: That time, on the monotonic clock.
    """

    def __init__(self, now: float) -> None:
        self.at = now
        self._before: Sample | None = None

    def see(self, sample: Sample, answered_at: float | None) -> None:
        """Take in one look.

        Args:
            sample: The look.
            answered_at: When a token was computed for the last time on the supervisor's request.
        """
        before, self._before = self._before, sample
        if answered_at is not None:
            self.at = max(self.at, answered_at)
        # Without requests the counters show only the token that was asked for here.
        if not is_idle(sample) and before is not None and before.work not in ((), sample.work):
            self.at = sample.at


def is_idle(sample: Sample) -> bool:
    """Whether the server says that no request is there."""
    return sample.running == 0 and sample.waiting == 0
