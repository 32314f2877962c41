# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a backup on the controller."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import (
    write_atomically,
)

SCHEMA = 1


def read_backup(loader: DataLoader, path: str) -> dict[str, Any] | None:
    """A backup: its `host`, `at` and `files`; `None` where there is none.

    Args:
        loader: Decrypts what ansible-vault has encrypted.
        path: The backup.

    Raises:
        AnsibleError: It is no backup, of a later version, or cannot be decrypted.
    """
    if not os.path.exists(path):
        return None
    with open(loader.get_real_file(path), encoding="utf-8") as stream:
        text = stream.read()
    try:
        data = json.loads(text)
        is_known = data["schema"] == SCHEMA
        is_whole = not is_known or (isinstance(data["files"], list) and "host" in data)
    except (ValueError, LookupError, TypeError):
        is_known = is_whole = False
        data = None
    if not is_whole:
        raise AnsibleError(
            f"{path} is no backup by vllm_backup: it was cut off, or is another file"
        )
    if not is_known:
        raise AnsibleError(
            f"{path} is a backup of schema {data['schema']!r}, and this version of the collection "
            f"reads {SCHEMA}: use the version that made it"
        )
    return dict(data)


def write_backup(path: str, host: str, files: Sequence[Mapping[str, Any]]) -> None:
    """Write a backup, readable by its owner alone; a crash leaves the old one or the new one.

    Raises:
        AnsibleError: It cannot be written.
    """
    at = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0).isoformat()
    value = {"schema": SCHEMA, "host": host, "at": at, "files": list(files)}
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(value, indent=1) + "\n", 0o600)
    except OSError as error:
        raise AnsibleError(f"the backup cannot be written: {error}") from error


def listing(files: Sequence[Mapping[str, Any]] | None) -> str:
    """A line a file for people: its path and the bytes of its text."""
    return "".join(f"{one['path']} {len(one['text'].encode())}\n" for one in files or ())
