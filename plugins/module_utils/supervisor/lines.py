# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A line of a server's log taken apart: who said it, and how. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .log import LONGEST

ENGINE, WORKER, SERVER = "engine", "worker", "server"

# What stands before a line because of where it was read: a terminal's colours, docker compose's
# service, the time of kubectl logs --timestamps and of docker logs -t, journalctl's and syslog's
# host and program.
_ANSI = re.compile("(?:\x1b|\ufffd|\\^\\[)\\[[0-9;?]*[A-Za-z]")
_OUTER = re.compile(
    r"^(?:\[?[\w.-]+\]? +\| ?|\s+\| ?"
    r"|\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d)(?: std(?:out|err) [FP])? "
    r"|\d{4}-\d\d-\d\d [\d:.,]+ \| \w+ *\| \w+ \| "
    r"|(?:[A-Z][a-z]{2} +\d+ [\d:]{8}|\d{4}-\d\d-\d\dT\S+) \S+ [\w@.\\/-]+\[\d+\]: )+"
)
# (EngineCore_DP0 pid=6564) INFO 11-23 01:19:12 [core.py:97] …; before 0.9 "core.py:97] …".
# A multi-line message is one record, but each line bears the prefix.
_PROCESS = re.compile(
    r"^(?:\([^()]*\bpid=\d+[^()]*\) )*\((?P<process>\w+)[^()]*\bpid=\d+[^()]*\) ?"
)
_RANK = re.compile(r"^(?:\[\d+\] )?\[rank\d+\]: ?")
_RECORD = re.compile(
    r"^(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) (?:\d\d-\d\d [\d:.]+ )?"
    r"(?:\[(?P<source>[^\]]*)\]|(?P<old>[\w./]+\.py:\d+)\]) ?"
)
# uvicorn's, torch's and python's own formats, and warnings.
_UVICORN = re.compile(r"^(?P<level>INFO|WARNING|ERROR|CRITICAL):\s+")
_CHATTER = re.compile(
    r"^(?:\[rank\d+\]:)?\[?[IW](?:\d{3,4} [\d:]{8}| \S+\.cpp:)"
    r"|^\[?\d{4}-\d\d-\d\d[ T][\d:.,]+\]?\s*(?:- ?[\w.]+ ?)?[-\[| ]*(?:DEBUG|INFO|WARNING)\b"
    r"|^(?:WARNING|INFO|DEBUG):[\w.]+:"
    r"|^\S+:\d+: \w*Warning:(?: |$)|^\s+warnings\.warn\(|^\w*Warning:(?: |$)"
    r"|\bNCCL INFO\b"
)
_QUIET = ("DEBUG", "INFO", "WARNING")

_GROUP = re.compile(r"^\s+[|+](?:[-+ \d]*-)? ?")
_WORKER_SOURCES = ("multiproc_executor.py", "worker_base.py", "multiproc_worker_utils.py")
FATAL_SOURCES = ("core.py", "engine.py", *_WORKER_SOURCES)


@dataclass(frozen=True)
class Line:
    """A line without what stands before its text.

    Attributes:
        text: The text, with the spaces it begins with.
        stream: Who says it and from where, so that lines of several processes can be told apart.
        who: `ENGINE`, `WORKER`, `SERVER`, or nothing where that is not told.
        level: The record's level; nothing for what was written past the logger.
        source: The source file of the record.
        chatter: Whether the line itself says that it is no error.
    """

    text: str
    stream: str = ""
    who: str = ""
    level: str = ""
    source: str = ""
    chatter: bool = False


def _who(process: str) -> str:
    if process.startswith("EngineCore"):
        return ENGINE
    if "Worker" in process:
        return WORKER
    return SERVER if process.lower().startswith("api") else ""


def parse(raw: str) -> Line:
    """Take a line apart; of a progress bar that draws over itself the last state counts."""
    text = _ANSI.sub("", raw.rstrip("\r\n").rsplit("\r", 1)[-1][:LONGEST])
    text = _OUTER.sub("", text)
    match = _PROCESS.match(text)
    process = ""
    if match:
        process, text = match.group(0), text[match.end() :]
    who = _who(match.group("process")) if match else ""
    match = _RECORD.match(text)
    if match:
        source = (match.group("source") or match.group("old") or "").partition(":")[0]
        source = source.rsplit("/", 1)[-1]
        level, text = match.group("level"), text[match.end() :]
        if not who and source in FATAL_SOURCES:
            who = WORKER if source in _WORKER_SOURCES else ENGINE
        return Line(text, f"{process}{level}{source}", who, level, source, level in _QUIET)
    if _CHATTER.search(text):
        return Line(text, process, who, chatter=True)
    match = _RANK.match(text)
    if match:
        return Line(text[match.end() :], match.group(0), who or WORKER)
    match = _UVICORN.match(text)
    if match:
        return Line(text[match.end() :], process, who, chatter=match.group("level") in _QUIET)
    return Line(_GROUP.sub("", text), process, who)
