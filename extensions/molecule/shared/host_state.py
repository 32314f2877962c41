#!/usr/bin/env python3
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remember a host's state, or say how it differs from what is remembered.

Usage: host_state.py remember | compare

The state is every file's kind, size, time, mode and owner, and that of the services. Left out is
what a running Debian and an Ansible connection write by themselves.
"""

from __future__ import annotations

import os
import subprocess
import sys

MEMORY = "/run/testhosts-state"
LEFT_OUT = {
    "/dev",
    "/proc",
    "/root",
    "/run",
    "/srv/models",
    "/sys",
    "/tmp",  # noqa: S108 - named, not used
    "/var/cache/vllm",
    "/var/lib/systemd",
    "/var/log",
    "/var/tmp",  # noqa: S108
}


def state() -> list[str]:
    """One line for each file and each service."""
    lines = []
    folders = ["/"]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.path in LEFT_OUT:
                    continue
                status = entry.stat(follow_symlinks=False)
                lines.append(
                    f"{entry.path} {status.st_mode:o} {status.st_size} {status.st_mtime_ns} "
                    f"{status.st_uid}:{status.st_gid}"
                )
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
    show = ["systemctl", "show", "vllm@*", "--property", "Id,ActiveState,MainPID,NRestarts"]
    lines.append(subprocess.run(show, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return sorted(lines)


def main() -> None:
    """Remember or compare."""
    now = "\n".join(state())
    if sys.argv[1:] == ["remember"]:
        with open(MEMORY, "w", encoding="utf-8") as stream:
            stream.write(now)
    elif sys.argv[1:] == ["compare"]:
        with open(MEMORY, encoding="utf-8") as stream:
            then = stream.read()
        different = sorted(set(then.split("\n")) ^ set(now.split("\n")))
        if different:
            sys.exit("\n".join(different[:40]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
