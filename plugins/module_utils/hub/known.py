# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's cache knows of a model of the Hub: concluded from what `record.read` found there.

Pure, so that a host is sent no more than what looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.layout import PART, SCHEMA
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import (
    RepoFile,
    State,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.select import (
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


def recorded(request: Request, found: Mapping[str, Any]) -> dict[str, Any]:
    """What a host's cache knows of a model.

    Args:
        request: The model.
        found: What `record.read` found of it.

    Returns:
        `entry_of` with the commit that `hf_model` serves, and the bytes that it would still fetch
        of it, where the record tells.
    """
    commit, listed = found["commit"], found["listed"]
    entry = {**entry_of(request), "commit": commit, "path": found["path"]}
    state = State.load(
        request.repo_id,
        {
            "schema": SCHEMA,
            "repo_id": request.repo_id,
            "revisions": {},
            "commits": {commit: listed},
            "blobs": {},
        },
    )
    if commit in state.commits:
        try:
            chosen = select(
                state.commits[commit],
                trust_remote_code=request.trust_remote_code,
                index=state.index(commit),
            ).files
        except SelectionError:
            return entry
        entry.update(sizes(chosen, found["sizes"]))
    return entry


def sizes(files: Sequence[RepoFile], there: Mapping[str, int]) -> dict[str, int]:
    """What `entry_of` has of the files that are fetched: their bytes, and those still to fetch.

    Args:
        files: The files.
        there: The sizes of their contents in the cache, as `record.sizes_of` finds them.
    """
    return {"bytes": sum(file.size for file in files), "download_bytes": to_fetch(files, there)}


def to_fetch(files: Sequence[RepoFile], there: Mapping[str, int]) -> int:
    """Bytes of files that are not in the cache, nor have arrived there in part."""
    total = 0
    for file in {file.etag: file for file in files}.values():
        if there.get(file.etag) != file.size:
            arrived = there.get(file.etag + PART, 0)
            total += file.size - (arrived if arrived <= file.size else 0)
    return total
