# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removal of releases and supervisors that nothing uses."""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from typing import Callable

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.directories import PROVED
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import (
    read_record,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.paths import Paths


def releases_to_remove(proved: Mapping[str, str], used: Iterable[str], keep: int) -> list[str]:
    """Which releases' venvs may go.

    Args:
        proved: When each venv was proved, in ISO 8601, by its path.
        used: Venvs that a service runs with or a rollback goes to; they stay.
        keep: How many of the others, the newest, stay too.
    """
    in_use = {os.path.normpath(path) for path in used}
    spare = [path for path in proved if os.path.normpath(path) not in in_use]
    spare.sort(key=lambda path: (proved[path], path), reverse=True)
    return sorted(spare[keep:])


def prune(paths: Paths, keep: int, supervisor: str, tell: Callable[[str], None]) -> list[str]:
    """Remove releases that nothing uses, but for the newest ones, and unused supervisors.

    Args:
        paths: Where things are.
        keep: How many unused releases stay.
        supervisor: The folder of the supervisor that is current.
        tell: Takes what is being done.

    Returns:
        The releases that were removed; none where a record cannot be read.
    """
    venvs: set[str] = set()
    supervisors = {supervisor}
    for path in glob.glob(paths.proved("*")):
        record = read_record(read(path))
        if record is None:  # not ours to understand: nothing is removed
            return []
        for one in (record.current, record.previous):
            if one is not None:
                venvs.add(one.venv)
                supervisors.update(one.command)
    proved = {}
    for marker in glob.glob(os.path.join(paths.releases_dir, "*", PROVED)):
        text = read(marker)
        if text is not None:
            proved[os.path.dirname(marker)] = str(json.loads(text).get("proved_at"))
    removed = releases_to_remove(proved, venvs, keep)
    for path in removed:
        tell(f"removing {path}")
        os.unlink(os.path.join(path, PROVED))  # first: half of it is not usable
        shutil.rmtree(path)
    for folder in glob.glob(os.path.join(paths.supervisors_dir, "*")):
        if folder not in supervisors:
            shutil.rmtree(folder)
    return removed
