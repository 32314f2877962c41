# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's cache says of a model, for the controller to conclude from (`known.py`)."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.layout import (
    BLOBS,
    COMMIT,
    PART,
    RECORD,
    SCHEMA,
    folder_name,
    snapshot_path,
)


def read(cache_dir: str, repo_id: str, revision: str) -> dict[str, Any]:
    """What is recorded of a model's revision: commit, path, listed (its entry) and `sizes_of` it.

    What is not recorded is None.
    """
    folder = os.path.join(cache_dir, folder_name(repo_id))
    pinned = commit = revision if COMMIT.match(revision) else None
    listed = None
    sizes: dict[str, int] = {}
    try:
        with open(os.path.join(folder, RECORD), encoding="utf-8") as stream:
            record = json.load(stream)
        if record["schema"] == SCHEMA and record["repo_id"] == repo_id:
            commit = pinned or record["revisions"].get(revision)
            listed = record["commits"].get(commit)
            if listed is not None:
                sizes = sizes_of(folder, [etag for _path, _size, etag, _sha256 in listed["files"]])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        # What is not of this form is as good as nothing: it is found out again.
        commit, listed = pinned, None
    path = snapshot_path(cache_dir, repo_id, commit) if commit else None
    return {"commit": commit, "path": path, "listed": listed, "sizes": sizes}


def sizes_of(folder: str, names: Iterable[str]) -> dict[str, int]:
    """Bytes of contents that are in a repository's folder, whole or (with `PART`) in part."""
    sizes = {}
    for name in names:
        for file in (name, name + PART):
            with contextlib.suppress(OSError):
                sizes[file] = os.stat(os.path.join(folder, BLOBS, file)).st_size
    return sizes
