# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file system a path is on, how it is mounted and how much fits on it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host

_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """One line of /proc/self/mountinfo (proc_pid_mountinfo(5)).

    Attributes:
        point: Where it is mounted.
        device: Its source, like /dev/sda1.
        fstype: Its type, like ext4.
        options: Options of this mount, then those of the file system that it does not repeat.
        read_only: Whether either is read-only.
    """

    point: str
    device: str
    fstype: str
    options: list[str]
    read_only: bool


def _unescape(text: str) -> str:
    """Undoes the kernel's octal escapes of blanks and backslashes in names."""
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), text)


def parse_mountinfo(text: str) -> list[Mount]:
    """Reads /proc/self/mountinfo, in the order of mounting."""
    mounts = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        fields, source = left.split(" "), right.split(" ")
        if not separator or len(fields) < 6 or len(source) < 2:
            continue
        own = fields[5].split(",")
        filesystem = source[2].split(",") if len(source) > 2 else []
        # The file system's own "rw" says nothing where the mount is read-only.
        options = own + [
            name for name in filesystem if name not in own and name not in ("ro", "rw")
        ]
        mounts.append(
            Mount(
                point=_unescape(fields[4]),
                device=_unescape(source[1]),
                fstype=source[0],
                options=options,
                read_only="ro" in own or "ro" in filesystem,
            )
        )
    return mounts


def mount_of(path: str, mounts: list[Mount]) -> Mount | None:
    """The mount that a resolved absolute path is on; a later mount hides an earlier one."""
    best: Mount | None = None
    for mount in mounts:
        prefix = f"{mount.point.rstrip('/')}/"
        if (f"{path}/").startswith(prefix) and (
            best is None or len(mount.point) >= len(best.point)
        ):
            best = mount
    return best


def existing_parent(host: Host, path: str) -> str:
    """The nearest part of the path that exists, links resolved: where a new file would land."""
    path = host.realpath(path)
    while path != "/" and not host.exists(path):
        path = path.rsplit("/", 1)[0] or "/"
    return path


def read(host: Host, paths: Sequence[str]) -> dict[str, Any]:
    """Reads `facts.mounts`.

    Args:
        host: The machine.
        paths: Absolute paths; they need not exist yet.

    Returns:
        By asked path: mount, device, fstype, options, total_bytes, free_bytes (what a service
        without root's reserve can fill), read_only, and `existing`, the nearest part of the path
        that is there.
    """
    mounts = parse_mountinfo(host.read_text("/proc/self/mountinfo") or "")
    facts = {}
    for asked in paths:
        existing = existing_parent(host, asked)
        mount = mount_of(existing, mounts)
        disk = host.disk(existing)
        facts[asked] = {
            "existing": existing,
            "mount": mount.point if mount else None,
            "device": mount.device if mount else None,
            "fstype": mount.fstype if mount else None,
            "options": mount.options if mount else [],
            "total_bytes": disk.total_bytes if disk else None,
            "free_bytes": disk.free_bytes if disk else None,
            "read_only": mount.read_only if mount else False,
        }
    return facts
