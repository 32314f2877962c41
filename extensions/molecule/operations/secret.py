#!/usr/bin/env python3
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say where on this host the server's API key is, besides where it belongs.

It belongs into the instance's secrets, which only root and the server's group read, and into the
environment of the unit's processes.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

UNIT = "vllm@smollm2.service"
SECRETS = pathlib.Path("/etc/vllm/smollm2.env")
LEFT_OUT = {"/dev", "/opt/vllm/releases", "/opt/vllm/cache", "/proc", "/srv/models", "/sys", "/usr"}
"""Folders that are no files of this deployment; the journal is read by its own program."""


def read(path: pathlib.Path) -> bytes:
    """A file's content; nothing where it is gone."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """All files below a folder."""
    for path in folder.iterdir():
        if str(path) in LEFT_OUT or path.is_symlink():
            continue
        if path.is_dir():
            yield from files(path)
        elif path.is_file():
            yield path


def found(key: bytes) -> Iterator[str]:
    """All that is wrong."""
    holders = 0
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        if key in read(process / "cmdline"):
            yield f"the command line of process {process.name}"
        if key in read(process / "environ"):
            holders += 1
            if UNIT.encode() not in read(process / "cgroup"):
                yield f"the environment of process {process.name}, which is none of the unit's"
    if not holders:
        yield "no process has it in its environment: nothing was looked at"
    journal = subprocess.run(["journalctl", "--output=export"], stdout=subprocess.PIPE, check=True)
    if UNIT.encode() not in journal.stdout:
        yield "the journal has nothing of the unit: nothing was looked at"
    if key in journal.stdout:
        yield "the journal"
    having = [path for path in files(pathlib.Path("/")) if key in read(path)]
    if having != [SECRETS]:
        yield f"files {having}"
    status = SECRETS.stat()
    if status.st_mode & 0o7777 != 0o640 or status.st_uid != 0 or SECRETS.group() != "vllm":
        yield f"{SECRETS} has mode {status.st_mode:o}, {SECRETS.owner()}:{SECRETS.group()}"


def main() -> None:
    """Look and tell."""
    # As far as nothing of it is escaped, so that it is the same text everywhere.
    match = re.search(rb'^VLLM_API_KEY="?([A-Za-z0-9-]{8,})', SECRETS.read_bytes(), re.MULTILINE)
    if match is None:
        sys.exit(f"{SECRETS} has no key")
    sys.exit("\n".join(found(match[1])) or 0)


if __name__ == "__main__":
    main()
