# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's cache knows of a model of the Hub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.cache import RepoCache
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.names import (
    COMMIT,
    snapshot_path,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.select import (
    RepoFile,
    SelectionError,
    select,
)


class Request(NamedTuple):
    """A model that is asked about.

    Attributes:
        repo_id: Like `Qwen/Qwen3-8B`.
        revision: A branch, a tag or a commit.
        trust_remote_code: Whether Python files are fetched too.
    """

    repo_id: str
    revision: str
    trust_remote_code: bool = False


def entry_of(request: Request) -> dict[str, Any]:
    """One entry of `facts.hub`, of a model of which nothing is known yet."""
    return {
        "repo_id": request.repo_id,
        "revision": request.revision,
        "commit": None,
        "path": None,
        "bytes": None,
        "download_bytes": None,
        "asked": None,
        "error": None,
        "base_models": [],
    }


def recorded(cache_dir: str, request: Request) -> dict[str, Any]:
    """What the host's cache knows of a model, from a few small files.

    Args:
        cache_dir: The cache.
        request: The model.

    Returns:
        `entry_of` with the commit that `hf_model` serves, and the bytes that it would still fetch
        of it, where the record tells.
    """
    entry = entry_of(request)
    cache = RepoCache(cache_dir, request.repo_id)
    state = cache.state()
    pinned = COMMIT.match(request.revision) is not None
    commit = request.revision if pinned else state.revisions.get(request.revision)
    if commit is None:
        return entry
    entry.update(commit=commit, path=snapshot_path(cache_dir, request.repo_id, commit))
    if commit in state.commits:
        try:
            chosen = select(
                state.commits[commit],
                trust_remote_code=request.trust_remote_code,
                index=state.index(commit),
            ).files
        except SelectionError:
            return entry
        entry.update(sizes(cache, chosen))
    return entry


def sizes(cache: RepoCache, files: Sequence[RepoFile]) -> dict[str, int]:
    """What `entry_of` has of the files that are fetched: their bytes, and those still to fetch."""
    return {"bytes": sum(file.size for file in files), "download_bytes": to_fetch(cache, files)}


def to_fetch(cache: RepoCache, files: Sequence[RepoFile]) -> int:
    """Bytes of files that are not in the cache, nor have arrived there in part."""
    total = 0
    for file in {file.etag: file for file in files}.values():
        if _size(cache.blob(file)) != file.size:
            arrived = _size(cache.part(file)) or 0
            total += file.size - (arrived if arrived <= file.size else 0)
    return total


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None
