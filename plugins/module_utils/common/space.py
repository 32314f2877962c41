# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room on disks: how much there is, and how it is said."""

from __future__ import annotations

import os
from typing import NamedTuple

RESERVE = 64 << 20
"""Bytes that must stay free on a mount: what runs there must be able to write its logs."""


class Space(NamedTuple):
    """Room on a mount."""

    mount: str
    free: int
    """Bytes that an ordinary user may still write."""


def space(path: str) -> Space:
    """Room where a path is or is to be: that of its nearest existing parent."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    status = os.statvfs(path)
    mount = os.path.realpath(path)
    while not os.path.ismount(mount):
        mount = os.path.dirname(mount)
    return Space(mount, status.f_bavail * status.f_frsize)


def human_bytes(count: float) -> str:
    """A number of bytes for people, in binary units like the tools that show free space."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
