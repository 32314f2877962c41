# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a vLLM server ended, from a log file of it, whoever has started it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.causes import find_cause
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.classify import (
    BY_FIGURES,
    CAPTURING,
    STARTING,
    Limits,
    Verdict,
    classify,
    phase_of,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.lines import parse
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.log import (
    WAITS,
    Tail,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.sample import Sample

KEPT = 4000
"""Lines of one start that are kept, beside the first of its end."""
BEFORE, AFTER = 12, 24
_START = re.compile(r"vLLM API server version|Automatically detected platform")
_UP = "Application startup complete"
_NEAR = 50
"""Lines within which two such lines are of one start."""


def starts(lines: Sequence[str]) -> list[list[str]]:
    """The log of each start that a log file has, oldest first."""
    found = [number for number, line in enumerate(lines) if _START.search(line)]
    begins = [
        number
        for before, number in zip([-_NEAR - 1, *found], found)
        if number - before > _NEAR or any(_UP in line for line in lines[before:number])
    ]
    if not begins:
        return [list(lines)]
    begins[0] = 0
    return [list(lines[one:two]) for one, two in zip(begins, [*begins[1:], len(lines)])]


def telling_part(lines: Sequence[str], told: str) -> list[str]:
    """What stands around the first line that tells it; the end where none does."""
    for number, line in enumerate(lines):
        if told and told in parse(line).text:
            return list(lines[max(0, number - BEFORE) : number + AFTER])
    return list(lines[-BEFORE - AFTER :])


def _without_an_end(lines: Sequence[str]) -> Verdict:
    """What is to be said of a log that does not tell how a server ended, or that it did."""
    told = [text for line in lines if (text := parse(line).text.strip())]
    last = told[-1] if told else "nothing"
    state = phase_of(lines)[0]
    waits = bool(told) and all(WAITS in text for text in told[-2:])
    if waits and state in (STARTING, CAPTURING):
        summary, remedy = BY_FIGURES["workers_wait"]
        return Verdict("", summary, (f"log: {last}",), remedy, cause="workers_wait")
    return Verdict(
        "",
        "the log tells neither that the server has ended nor why",
        (f"it was {state}", f"it said last: {last[:200]}"),
        "Give the whole log, from the start on, and exit_status, where that is known; journalctl "
        "-k tells of the out-of-memory killer and of Xid.",
    )


def diagnose(lines: Sequence[str], exit_status: int | None = None) -> dict[str, Any]:
    """Say why a server ended.

    Args:
        lines: A log file's lines, of one start or of several; the last that failed counts.
        exit_status: How it ended, where that is known; a signal's number negative, or 128 more.

    Returns:
        `cause`, `summary`, `evidence` and `remedy` as the supervisor's verdict has them,
        `telling`, the part of the log that says it, `start` and `starts`, which start that is
        and of how many.
    """
    parts = starts(lines)
    which, kept = len(parts), parts[-1]
    for number in range(len(parts), 0, -1):
        tail = Tail(KEPT)
        tail.feed("\n".join([*parts[number - 1], ""]).encode("utf-8", "replace"))
        if number == len(parts):
            kept = tail.lines
        if find_cause(tail.lines) is not None:
            which, kept = number, tail.lines
            break
    said_how = exit_status is not None
    verdict = classify([Sample(0.0, exit_status=exit_status if said_how else 1)], kept, Limits())
    if verdict.cause == "unknown" and not said_how:
        verdict = _without_an_end(kept)
    # Nobody has said how it ended, so that is no evidence.
    evidence = [line for line in verdict.evidence if said_how or line != "exit status 1"]
    told = next((line[len("log: ") :] for line in evidence if line.startswith("log: ")), "")
    return {
        "cause": verdict.cause,
        "summary": verdict.summary,
        "evidence": evidence,
        "remedy": verdict.remedy,
        "telling": telling_part(kept, told),
        "start": which,
        "starts": len(parts),
    }
