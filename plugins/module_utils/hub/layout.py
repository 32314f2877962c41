# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a cache keeps a model: huggingface_hub's own layout, and our record in it. Pure.

https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import re

COMMIT = re.compile(r"[0-9a-f]{40}\Z")
"""A full commit hash."""

BLOBS = "blobs"
"""A repository's folder of contents, which their ETags name."""
PART = ".incomplete"
"""How a content's name ends until all of it has arrived."""
RECORD = ".compute_plane/state.json"
"""What was resolved and verified of a repository (`State` in `repo.py`)."""
SCHEMA = 1
"""Of that file."""


def folder_name(repo_id: str) -> str:
    """The name of a repository's folder in a cache."""
    return "models--" + repo_id.replace("/", "--")


def snapshot_path(cache_dir: str, repo_id: str, commit: str) -> str:
    """The folder of a commit's files in a cache."""
    return f"{cache_dir.rstrip('/')}/{folder_name(repo_id)}/snapshots/{commit}"
