# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ends a task, and what ends a start."""

from __future__ import annotations

from typing import Any


class TaskFailed(Exception):
    """The task cannot go on.

    Args:
        message: What was wrong, and what is the case now.
        evidence: What a proof found that failed, as `proof.evidence_of` makes it.
    """

    def __init__(self, message: str, evidence: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.evidence = evidence


class StartFailed(TaskFailed):
    """A server did not become ready, or not true.

    Args:
        message: What was seen.
        cause: The cause that the supervisor found, as in `causes.py`; `None` without one.
        evidence: As in :class:`TaskFailed`.
    """

    def __init__(
        self, message: str, cause: str | None = None, evidence: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, evidence)
        self.cause = cause
