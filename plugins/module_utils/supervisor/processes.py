# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of a server: all that descend from the supervisor."""

from __future__ import annotations

import ctypes
import os
import signal
import time

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own, so that none escapes."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def parent_and_name(stat: str) -> tuple[int, str, str]:
    """Parent, state and name in the text of `/proc/PID/stat` (proc(5))."""
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    state, parent = stat[stat.rindex(")") + 2 :].split()[:2]
    return int(parent), state, name


def descendants(root: int) -> dict[int, str]:
    """The living descendants of a process, with their names."""
    parents: dict[int, tuple[int, str]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stream:
                    parent, state, name = parent_and_name(stream.read())
            except (OSError, ValueError):  # it has just ended
                continue
            if state != "Z":
                parents[int(entry)] = (parent, name)
    found: dict[int, str] = {}
    generation = {root}
    while generation:
        generation = {
            pid
            for pid, (parent, _name) in parents.items()
            if parent in generation and pid not in found
        }
        found.update({pid: parents[pid][1] for pid in generation})
    return found


def kill_descendants(root: int, within: float = 5.0) -> dict[int, str]:
    """Kill all descendants of a process, also those that are stopped or are being started.

    Args:
        root: The process.
        within: Seconds to wait for the kernel, which can hold a process in a driver's call.

    Returns:
        What was killed, by PID.
    """
    killed: dict[int, str] = {}
    end = time.monotonic() + within
    while True:
        alive = descendants(root)
        if not alive or time.monotonic() > end:
            return killed
        killed.update(alive)
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)
