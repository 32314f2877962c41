# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel has said of a server that has ended, where its log may be read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

MOST = 5
"""How many of the kernel's lines are told."""
_SERVER = r"(?:VLLM::|vllm|python|pt_main_thread|ray::)"
# The out-of-memory killer (mm/oom_kill.c), NVIDIA's driver, a fault (arch/x86/mm/fault.c, traps.c).
_TELLING = re.compile(
    rf"ut of memory: Killed process \d+ \({_SERVER}"
    r"|NVRM: (?:Xid|GPU at \S+ has fallen off)"
    rf"|{_SERVER}[^ ]*\[\d+\]:? (?:segfault at|general protection|trap invalid opcode)"
    rf"|traps: {_SERVER}[^ ]*\[\d+\] trap"
)


def telling(records: Iterable[str], since: float) -> tuple[str, ...]:
    """The lines that tell why a server ended.

    Args:
        records: As `/dev/kmsg` gives them: `level,number,microseconds,flags;text`.
        since: When the server was started, seconds since the host's start.
    """
    told = []
    for record in records:
        fields, _semicolon, text = record.partition(";")
        text = text.split("\n", 1)[0]
        parts = fields.split(",")
        if len(parts) < 3 or not parts[2].isdigit() or not _TELLING.search(text):
            continue
        if int(parts[2]) / 1e6 >= since - 1.0:  # the kernel's clock is not quite ours
            told.append(text[:200])
    return tuple(told[-MOST:])


def _records(path: str) -> Iterator[str]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            try:
                yield os.read(descriptor, 8192).decode("utf-8", "replace")
            except BrokenPipeError:  # it was overwritten meanwhile
                continue
    finally:
        os.close(descriptor)


def words(since: float, path: str = "/dev/kmsg") -> tuple[str, ...]:
    """What the kernel has said since then; nothing where its log is not ours to read."""
    told: list[str] = []
    try:
        for record in _records(path):
            told += telling([record], since)
    except OSError:  # also: there is no more
        pass
    return tuple(told[-MOST:])
