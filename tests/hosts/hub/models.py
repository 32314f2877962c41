# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models that the hub has: directories of files, seen as commits."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

LFS_PATTERNS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack")
"""What is in LFS whatever its size, as the Hub's own `.gitattributes` has it."""

LFS_SIZE = 10_000_000
"""Bytes from which on any file is in LFS: the Hub takes no larger ones into git."""

BLOCK = 1 << 20


@dataclass(frozen=True)
class File:
    """A file at a commit.

    Attributes:
        name: Path inside the repository.
        path: Where its content is.
    """

    name: str
    path: Path

    @cached_property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    @property
    def lfs(self) -> bool:
        """Whether git has only a pointer to it."""
        return self.size >= LFS_SIZE or any(
            fnmatch.fnmatch(self.name, pattern) for pattern in LFS_PATTERNS
        )

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the content."""
        return self._hash(hashlib.sha256())

    @cached_property
    def blob_id(self) -> str:
        """Git's name for it: for LFS that of the pointer (https://git-lfs.com/spec)."""
        if self.lfs:
            pointer = (
                "version https://git-lfs.github.com/spec/v1\n"
                f"oid sha256:{self.sha256}\nsize {self.size}\n"
            ).encode()
            return hashlib.sha1(b"blob %d\0" % len(pointer) + pointer).hexdigest()  # noqa: S324
        hasher = hashlib.sha1(b"blob %d\0" % self.size)  # noqa: S324
        return self._hash(hasher)

    @property
    def etag(self) -> str:
        """What the Hub sends as ETag."""
        return self.sha256 if self.lfs else self.blob_id

    @property
    def xet_hash(self) -> str:
        """A name of the form that xet uses; this hub has no xet storage behind it."""
        return hashlib.sha256(b"xet" + self.sha256.encode()).hexdigest()

    def _hash(self, hasher: hashlib._Hash) -> str:
        with self.path.open("rb") as stream:
            while block := stream.read(BLOCK):
                hasher.update(block)
        return hasher.hexdigest()


@dataclass
class Repository:
    """A model.

    Attributes:
        repo_id: Like `org/name`.
        private: Only tokens in `readers` see it.
        gated: Only tokens in `readers` get its files.
        readers: Tokens that may.
        branches: Commit by the name of a branch or tag.
        commits: Files by name, by commit.
        card: What the model's card says of it, such as `base_model`.
    """

    repo_id: str
    private: bool = False
    gated: bool = False
    readers: set[str] = field(default_factory=set)
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)

    def push(self, directory: Path, branch: str = "main") -> str:
        """Make a directory's content a commit, and let a branch be there.

        Args:
            directory: Its files; they must not change afterwards.
            branch: Branch or tag.

        Returns:
            The commit, which depends on names and content only.

        Raises:
            ValueError: There are no files.
        """
        files = {
            path.relative_to(directory).as_posix(): File(
                path.relative_to(directory).as_posix(), path
            )
            for path in sorted(directory.rglob("*"))
            if path.is_file()
        }
        if not files:
            raise ValueError(f"{directory} has no files")
        listing = "".join(f"{name} {file.etag}\n" for name, file in files.items())
        commit = hashlib.sha1(f"{self.repo_id}\n{listing}".encode()).hexdigest()  # noqa: S324
        self.commits[commit] = files
        self.branches[branch] = commit
        return commit

    def parameters(self, commit: str) -> dict[str, int]:
        """Numbers of a commit's safetensors by format; none where a file is not of that format."""
        found: dict[str, int] = {}
        for file in self.commits[commit].values():
            if "/" in file.name or not file.name.endswith(".safetensors"):
                continue
            with file.path.open("rb") as stream:
                start = stream.read(8)
                try:
                    header = json.loads(
                        stream.read(min(file.size, int.from_bytes(start, "little")))
                    )
                except ValueError:
                    return {}
            header.pop("__metadata__", None)
            for tensor in header.values():
                count = math.prod(tensor["shape"])
                found[tensor["dtype"]] = found.get(tensor["dtype"], 0) + count
        return found

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch, a tag or a commit."""
        if revision in self.commits:
            return revision
        return self.branches.get(revision)


class Store:
    """All models.

    Attributes:
        repositories: By id.
        tokens: Tokens that the hub knows.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.tokens: set[str] = set()

    def add(
        self, repo_id: str, directory: Path, *, private: bool = False, gated: bool = False
    ) -> Repository:
        """Add a model from a directory."""
        repository = Repository(repo_id, private, gated)
        repository.push(directory)
        self.repositories[repo_id] = repository
        return repository

    def add_tree(self, root: Path) -> None:
        """Add every model of a tree `ORG/NAME/…files`.

        Raises:
            ValueError: There is none.
        """
        found = [path for path in sorted(root.glob("*/*")) if path.is_dir()]
        if not found:
            raise ValueError(f"{root} has no directories ORG/NAME")
        for path in found:
            self.add(path.relative_to(root).as_posix(), path)

    def file(self, sha256: str) -> File | None:
        """The LFS file of that hash, wherever it is."""
        for repository in self.repositories.values():
            for files in repository.commits.values():
                for file in files.values():
                    if file.lfs and file.sha256 == sha256:
                        return file
        return None
