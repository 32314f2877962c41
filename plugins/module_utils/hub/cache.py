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
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import Asking, held
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import (
    write_atomically,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.names import (
    COMMIT,
    folder_name,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.select import RepoFile

ETAG = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
"""Name of a blob: git's SHA-1 or an LFS file's SHA-256."""

BLOCK = 1 << 20

_SCHEMA = 1


class CacheError(Exception):
    """The cache cannot be used; the text says what is wrong, where, and what to do."""


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
            "schema": _SCHEMA,
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
            if data["schema"] != _SCHEMA or data["repo_id"] != repo_id:
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


class Removal(NamedTuple):
    """What deleting revisions takes away."""

    snapshots: list[str]
    blobs: list[str]
    refs: list[str]
    folders: list[str]
    """The repository's folder and its locks, when nothing of it remains."""
    bytes: int
    """Bytes of the files that go."""

    @property
    def paths(self) -> list[str]:
        """Every path that goes, for a diff."""
        return sorted(self.folders or self.snapshots + self.blobs + self.refs)


class RepoCache:
    """A repository's folder in a cache.

    Args:
        cache_dir: The cache, for example `/var/lib/vllm/hub`.
        repo_id: Like `Qwen/Qwen2.5-7B-Instruct`.
    """

    def __init__(self, cache_dir: str, repo_id: str) -> None:
        self.cache_dir = cache_dir
        self.repo_id = repo_id
        self.name = folder_name(repo_id)
        self.folder = os.path.join(cache_dir, self.name)
        self.blobs = os.path.join(self.folder, "blobs")
        self.snapshots = os.path.join(self.folder, "snapshots")
        self.refs = os.path.join(self.folder, "refs")
        self.locks = os.path.join(cache_dir, ".locks", self.name)
        self._state_path = os.path.join(self.folder, ".compute_plane", "state.json")

    def snapshot(self, commit: str) -> str:
        """Folder of a commit's files."""
        return os.path.join(self.snapshots, commit)

    def blob(self, file: RepoFile) -> str:
        """Where a file's content lies once it is verified."""
        return os.path.join(self.blobs, file.etag)

    def part(self, file: RepoFile) -> str:
        """Where a file's content lies until then; huggingface_hub's own name for it."""
        return self.blob(file) + ".incomplete"

    def pointer(self, commit: str, file: RepoFile) -> str:
        """A file's link in a commit's snapshot."""
        return os.path.join(self.snapshot(commit), *file.path.split("/"))

    def pointer_target(self, commit: str, file: RepoFile) -> str:
        """What the link says: a relative path, so that a cache can be moved."""
        return os.path.relpath(self.blob(file), os.path.dirname(self.pointer(commit, file)))

    # Reading

    def state(self) -> State:
        """What earlier runs recorded."""
        try:
            with open(self._state_path, encoding="utf-8") as stream:
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

    # Writing

    @contextlib.contextmanager
    def lock(self, asking: Asking) -> Iterator[None]:
        """Keep other runs of ours off this repository; waits for them.

        Raises:
            Failed: Another one takes longer than is to be waited.
        """
        self.make_folder(self.locks)
        path = os.path.join(self.locks, "compute_plane.lock")
        with held(path, f"the model {self.repo_id}", asking):
            yield

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it; refuse one that cannot be written with a clear text."""
        try:
            os.makedirs(path, mode=0o755, exist_ok=True)
            if not os.access(path, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        except OSError as error:
            raise CacheError(
                f"the cache cannot be written: {error.filename or path}: {error.strerror}."
                " Run as a user that may write there (become), remount it read-write, or set"
                " vllm_model_hub (cache_dir) to another place"
            ) from error

    def prepare(self) -> None:
        """Make the folders that a transfer needs."""
        for folder in (self.folder, self.blobs, self.snapshots):
            self.make_folder(folder)
        self.make_folder(os.path.dirname(self._state_path))

    def save(self, state: State) -> None:
        """Record the state; a crash leaves the old record or the new one."""
        self.make_folder(os.path.dirname(self._state_path))
        write_atomically(self._state_path, json.dumps(state.dump(), indent=1) + "\n")

    def accept(self, file: RepoFile) -> Blob:
        """Give a verified `.incomplete` file its blob's name, for good."""
        part = self.part(file)
        os.chmod(part, 0o644)
        with open(part, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(part, self.blob(file))
        status = os.stat(self.blob(file))
        return Blob(status.st_size, status.st_mtime_ns)

    def link(self, commit: str, files: Iterable[RepoFile]) -> bool:
        """Make a commit's links; says whether one was missing or wrong."""
        changed = False
        for file in files:
            pointer = self.pointer(commit, file)
            target = self.pointer_target(commit, file)
            if os.path.islink(pointer) and os.readlink(pointer) == target:
                continue
            os.makedirs(os.path.dirname(pointer), mode=0o755, exist_ok=True)
            temporary = f"{pointer}.{os.getpid()}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            os.symlink(target, temporary)
            os.replace(temporary, pointer)
            changed = True
        return changed

    def open_up(self, commit: str, files: Iterable[RepoFile]) -> bool:
        """Let every user read the snapshot, only the owner write; says whether it was not so."""
        wrong = self.wrong_modes(commit, files)
        for path, mode in wrong.items():
            os.chmod(path, mode)
        return bool(wrong)

    def write_ref(self, revision: str, commit: str) -> bool:
        """Let a ref name a commit; says whether it did not before."""
        if COMMIT.match(revision) or self.ref(revision) == commit:
            return False
        path = os.path.join(self.refs, *revision.split("/"))
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        write_atomically(path, commit)
        return True

    def discard(self, file: RepoFile) -> None:
        """Throw a wrong blob and what has arrived of it away."""
        for path in (self.blob(file), self.part(file)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    # Deleting

    def removal(self, commit: str | None) -> Removal:
        """What deleting a commit, or everything, would take away.

        The rules are those of `HFCacheInfo.delete_revisions` in huggingface_hub: the snapshot, the
        refs that name it, and the blobs that no other snapshot links to; the whole folder with the
        last snapshot.

        Args:
            commit: The commit; None for the whole repository.
        """
        have = set(self.commits())
        if not os.path.isdir(self.folder):
            return Removal([], [], [], [], 0)
        if commit is None or have <= {commit}:
            if commit is not None and not have and commit not in self.state().commits:
                return Removal([], [], [], [], 0)
            folders = [path for path in (self.folder, self.locks) if os.path.isdir(path)]
            return Removal([], [], [], folders, _tree_bytes(self.blobs))
        if commit not in have:
            return Removal([], [], [], [], 0)
        kept: set[str] = set()
        for other in have - {commit}:
            kept |= self._linked(other)
        blobs = sorted(self._linked(commit) - kept)
        refs = [path for path in _files(self.refs) if _read(path).strip() == commit]
        size = sum(os.lstat(path).st_size for path in blobs)
        return Removal([self.snapshot(commit)], blobs, refs, [], size)

    def remove(self, removal: Removal, commit: str | None) -> None:
        """Delete; links go before what they lead to."""
        for path in removal.refs:
            os.unlink(path)
        for path in removal.snapshots:
            shutil.rmtree(path)
        for path in removal.blobs:
            os.unlink(path)
        if not removal.folders:
            state = self.state()
            state.revisions = {n: c for n, c in state.revisions.items() if c != commit}
            if commit is not None:
                state.commits.pop(commit, None)
                state.indexes.pop(commit, None)
            for path in removal.blobs:
                state.blobs.pop(os.path.basename(path), None)
            self.save(state)
        for path in removal.folders:
            shutil.rmtree(path)

    def _linked(self, commit: str) -> set[str]:
        """The blobs that a snapshot's links lead to."""
        found = set()
        for path in _files(self.snapshot(commit)):
            if os.path.islink(path):
                blob = os.path.abspath(os.path.join(os.path.dirname(path), os.readlink(path)))
                if os.path.dirname(blob) == os.path.abspath(self.blobs) and os.path.lexists(blob):
                    found.add(blob)
        return found


def digest(path: str, file: RepoFile) -> str:
    """The hash that names a file's blob: SHA-256 for LFS, else git's SHA-1 of a blob object.

    Args:
        path: File to read.
        file: What it should be.

    Returns:
        Lower-case hexadecimal; equal to `file.etag` when the content is right.
    """
    hasher = new_hasher(file)
    with open(path, "rb") as stream:
        while True:
            block = stream.read(BLOCK)
            if not block:
                return str(hasher.hexdigest())
            hasher.update(block)


def new_hasher(file: RepoFile) -> Any:
    """A hash object that ends in `expected_digest(file)` for the right content."""
    if file.sha256 is not None:
        return hashlib.sha256()
    # git-hash-object(1): not a secret's protection but git's own name for the content.
    hasher = hashlib.sha1()  # noqa: S324
    hasher.update(b"blob %d\0" % file.size)
    return hasher


def expected_digest(file: RepoFile) -> str:
    """The hash of a file's right content."""
    return file.sha256 if file.sha256 is not None else file.etag


def _files(folder: str) -> Iterator[str]:
    for parent, _folders, names in os.walk(folder):
        for name in names:
            yield os.path.join(parent, name)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def _tree_bytes(folder: str) -> int:
    return sum(os.lstat(path).st_size for path in _files(folder))
