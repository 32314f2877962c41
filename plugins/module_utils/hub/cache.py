# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository's folder in Hugging Face's cache: what is written there, and deleted.

The layout is in `repo.py`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import Asking, held
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import (
    write_atomically,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.layout import (
    COMMIT,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import (
    Blob,
    CacheError,
    RepoFile,
    RepoFolder,
    State,
)

BLOCK = 1 << 20


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


class RepoCache(RepoFolder):
    """A repository's folder in a cache, written by whoever has its lock."""

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
        self.make_folder(os.path.dirname(self.state_path))

    def save(self, state: State) -> None:
        """Record the state; a crash leaves the old record or the new one."""
        self.make_folder(os.path.dirname(self.state_path))
        write_atomically(self.state_path, json.dumps(state.dump(), indent=1) + "\n")

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
