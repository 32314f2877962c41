# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One repository's folder in Hugging Face's cache, and what is known to be whole in it.

The layout is huggingface_hub's own
(https://huggingface.co/docs/huggingface_hub/guides/manage-cache)::

    models--ORG--NAME/blobs/ETAG                       a file's content
    models--ORG--NAME/blobs/ETAG.incomplete            what has arrived of it so far
    models--ORG--NAME/snapshots/COMMIT/PATH            symbolic link to the blob
    models--ORG--NAME/refs/REVISION                    a branch's or tag's commit
    models--ORG--NAME/.compute_plane/state.json        ours: what was resolved and verified
    .locks/models--ORG--NAME/compute_plane.lock        ours: one writer at a time

A blob gets its name only after it was verified, a snapshot its links and a ref its commit only
after every file is there, so that whoever else reads the cache never meets half a model.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterable
from typing import Any, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.layout import (
    BLOBS,
    COMMIT,
    PART,
    RECORD,
    SCHEMA,
    folder_name,
)

ETAG = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
"""Name of a blob: git's SHA-1 or an LFS file's SHA-256."""


class CacheError(Exception):
    """The cache cannot be used; the text says what is wrong, where, and what to do."""


class RepoFile(NamedTuple):
    """A file of a repository at one commit, as the Hub describes it."""

    path: str
    """Path inside the repository."""
    size: int
    """Bytes."""
    etag: str
    """Name of the blob in the cache: the SHA-256 of an LFS file, else git's blob id (SHA-1)."""
    sha256: str | None
    """SHA-256 of an LFS file, else None."""


def is_safe(file: RepoFile) -> bool:
    """Whether what the Hub says of a file stays inside the repository's folder when it is used."""
    return (
        "\0" not in file.path
        and not any(part in ("", ".", "..") for part in file.path.split("/"))
        and ETAG.match(file.etag) is not None
        and file.sha256 in (None, file.etag)
    )


class Blob(NamedTuple):
    """A blob that was verified."""

    size: int
    mtime_ns: int
    """Modification time when it was verified: what was written to since is hashed again."""


class State:
    """What earlier runs found out about a repository.

    Attributes:
        revisions: Commit by the name of a branch or tag.
        commits: All files of the repository by commit, as the Hub listed them.
        indexes: The files that `model.safetensors.index.json` names, by commit.
        blobs: The verified blobs by name.
    """

    def __init__(self, repo_id: str) -> None:
        self.repo_id = repo_id
        self.revisions: dict[str, str] = {}
        self.commits: dict[str, list[RepoFile]] = {}
        self.indexes: dict[str, list[str]] = {}
        self.blobs: dict[str, Blob] = {}

    def index(self, commit: str) -> dict[str, Any] | None:
        """The index of a commit in the form that `select.select` takes; None where unknown."""
        names = self.indexes.get(commit)
        return None if names is None else {"weight_map": {name: name for name in names}}

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "schema": SCHEMA,
            "repo_id": self.repo_id,
            "revisions": self.revisions,
            "commits": {
                commit: {
                    "files": [list(file) for file in files],
                    "index": self.indexes.get(commit),
                }
                for commit, files in self.commits.items()
            },
            "blobs": {etag: list(blob) for etag, blob in self.blobs.items()},
        }

    @classmethod
    def load(cls, repo_id: str, data: Any) -> State:
        """From JSON; what is not of this form is as good as nothing: it is found out again."""
        state = cls(repo_id)
        try:
            if data["schema"] != SCHEMA or data["repo_id"] != repo_id:
                return state
            state.revisions = {str(k): str(v) for k, v in data["revisions"].items()}
            for commit, entry in data["commits"].items():
                state.commits[commit] = [
                    RepoFile(str(p), int(n), str(e), None if h is None else str(h))
                    for p, n, e, h in entry["files"]
                ]
                if entry["index"] is not None:
                    state.indexes[commit] = [str(name) for name in entry["index"]]
            state.blobs = {str(k): Blob(int(v[0]), int(v[1])) for k, v in data["blobs"].items()}
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            return cls(repo_id)
        return state


class RepoFolder:
    """A repository's folder in a cache, read.

    Args:
        cache_dir: The cache, for example `/var/lib/vllm/hub`.
        repo_id: Like `Qwen/Qwen2.5-7B-Instruct`.
    """

    def __init__(self, cache_dir: str, repo_id: str) -> None:
        self.cache_dir = cache_dir
        self.repo_id = repo_id
        self.name = folder_name(repo_id)
        self.folder = os.path.join(cache_dir, self.name)
        self.blobs = os.path.join(self.folder, BLOBS)
        self.snapshots = os.path.join(self.folder, "snapshots")
        self.refs = os.path.join(self.folder, "refs")
        self.locks = os.path.join(cache_dir, ".locks", self.name)
        self.state_path = os.path.join(self.folder, RECORD)

    def snapshot(self, commit: str) -> str:
        """Folder of a commit's files."""
        return os.path.join(self.snapshots, commit)

    def blob(self, file: RepoFile) -> str:
        """Where a file's content lies once it is verified."""
        return os.path.join(self.blobs, file.etag)

    def part(self, file: RepoFile) -> str:
        """Where a file's content lies until then; huggingface_hub's own name for it."""
        return self.blob(file) + PART

    def pointer(self, commit: str, file: RepoFile) -> str:
        """A file's link in a commit's snapshot."""
        return os.path.join(self.snapshot(commit), *file.path.split("/"))

    def pointer_target(self, commit: str, file: RepoFile) -> str:
        """What the link says: a relative path, so that a cache can be moved."""
        return os.path.relpath(self.blob(file), os.path.dirname(self.pointer(commit, file)))

    def state(self) -> State:
        """What earlier runs recorded."""
        try:
            with open(self.state_path, encoding="utf-8") as stream:
                data = json.load(stream)
        except (OSError, ValueError):
            data = None
        return State.load(self.repo_id, data)

    def commits(self) -> list[str]:
        """The commits that have a snapshot."""
        try:
            return sorted(n for n in os.listdir(self.snapshots) if COMMIT.match(n))
        except OSError:
            return []

    def ref(self, revision: str) -> str | None:
        """The commit that a ref of the cache names."""
        try:
            with open(os.path.join(self.refs, *revision.split("/")), encoding="utf-8") as stream:
                commit = stream.read().strip()
        except (OSError, ValueError):
            return None
        return commit if COMMIT.match(commit) else None

    def is_whole(self, commit: str, file: RepoFile, blobs: dict[str, Blob]) -> bool:
        """Whether a file is in the snapshot exactly as it was when it was verified.

        Costs two system calls, whatever the file's size.
        """
        known = blobs.get(file.etag)
        if known is None:
            return False
        pointer = self.pointer(commit, file)
        try:
            if os.readlink(pointer) != self.pointer_target(commit, file):
                return False
            status = os.stat(pointer)
        except OSError:
            return False
        return (
            status.st_size == file.size == known.size
            and status.st_mtime_ns == known.mtime_ns
            and stat.S_ISREG(status.st_mode)
        )

    def wrong_modes(self, commit: str, files: Iterable[RepoFile]) -> dict[str, int]:
        """Modes to set so that every user can read the snapshot and only the owner can write it."""
        wrong: dict[str, int] = {}
        folders = {self.folder, self.blobs, self.snapshots, self.snapshot(commit)}
        for file in files:
            folder = os.path.dirname(self.pointer(commit, file))
            while len(folder) > len(self.snapshot(commit)):
                folders.add(folder)
                folder = os.path.dirname(folder)
            with contextlib.suppress(OSError):
                mode = stat.S_IMODE(os.stat(self.blob(file)).st_mode)
                if mode & 0o444 != 0o444 or mode & 0o022:
                    wrong[self.blob(file)] = (mode | 0o444) & ~0o022
        for folder in folders:
            with contextlib.suppress(OSError):
                mode = stat.S_IMODE(os.stat(folder).st_mode)
                if mode & 0o555 != 0o555 or mode & 0o022:
                    wrong[folder] = (mode | 0o555) & ~0o022
        return wrong
