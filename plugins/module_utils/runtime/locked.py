# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual environment that is named by its lock: what proves it, and whether it is whole."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.directories import PROVED
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import (
    read,
    write_atomically,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime import (
    manifest as venv_manifest,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.proof import (
    is_proved,
    lock_sha256,
    proved_record,
)

Versions = dict[str, Any]
"""What an environment's own Python says: version by name, `None` where there is none."""

LOCK = "requirements.txt"
"""The lock that a venv was built from, in the venv."""


def now() -> str:
    """The time, in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


class Locked:
    """An environment that holds what a lock names.

    Args:
        path: Where it is, or is to be.
        lock: The text of the lock.
        python: The interpreter that it is made for.
        full: Whether every file is read when it is compared with its manifest.
    """

    def __init__(self, path: str, lock: str, python: str, full: bool) -> None:
        self.path = path
        self.lock = lock
        self.sha256 = lock_sha256(lock)
        self.python = python
        self.full = full

    def record(self) -> dict[str, Any] | None:
        """What was recorded when it was proved, or `None` if it is not."""
        marker = read(os.path.join(self.path, PROVED))
        if marker is None or not is_proved(marker, self.sha256):
            return None
        record: dict[str, Any] = json.loads(marker)
        return record

    def damage(
        self,
    ) -> tuple[venv_manifest.Damage, dict[str, venv_manifest.Entry], list[str]]:
        """Compare it, proved, with its manifest.

        Returns:
            The damage, the manifest, and the files that only have another time.
        """
        found = venv_manifest.scan(self.path)
        text = read(os.path.join(self.path, venv_manifest.MANIFEST)) or ""
        record = json.loads(read(os.path.join(self.path, PROVED)) or "{}")
        if hashlib.sha256(text.encode()).hexdigest() == record.get("manifest_sha256"):
            entries = venv_manifest.parse(text)
            damage, touched = venv_manifest.compare(self.path, entries, found, self.full)
            return damage, entries, touched
        # Without its manifest a venv is judged by its packages' own records, every file of it.
        entries = venv_manifest.make(self.path, found)
        damage = venv_manifest.compare(self.path, entries, found, full=True)[0]
        missing = sorted([*damage.missing, venv_manifest.MANIFEST])
        return damage._replace(missing=missing), entries, []

    def write_lock(self) -> str:
        """Put the lock into it; returns where."""
        path = os.path.join(self.path, LOCK)
        write_atomically(path, self.lock)
        return path

    def mark(
        self, versions: Versions, entries: dict[str, venv_manifest.Entry], **more: Any
    ) -> None:
        """Write its manifest, then the mark that it is proved."""
        text = venv_manifest.render(entries)
        write_atomically(os.path.join(self.path, venv_manifest.MANIFEST), text)
        record = proved_record(
            self.sha256,
            self.python,
            versions,
            now(),
            manifest_sha256=hashlib.sha256(text.encode()).hexdigest(),
            **more,
        )
        write_atomically(os.path.join(self.path, PROVED), record)
