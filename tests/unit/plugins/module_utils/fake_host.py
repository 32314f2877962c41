# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Host documents the methods; the fake keeps their signatures.
# ruff: noqa: ARG002, D102
"""A machine in memory, for tests of what reads a real one, and for making fixtures."""

from __future__ import annotations

import os
import posixpath
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import (
    Completed,
    Disk,
    Forked,
    Host,
    Isolated,
    Running,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


class Sparse(NamedTuple):
    """A file too large to hold: how it starts, and its size in bytes."""

    head: bytes
    size: int


class _Answered(Running):
    """A program whose answer is known."""

    def __init__(self, answer: Completed) -> None:
        self._answer = answer

    def result(self) -> Completed:
        return self._answer


class _Asked(Forked):
    """A function in a child process whose answer is known."""

    def __init__(self, answer: Isolated) -> None:
        self._known = answer

    def result(self) -> Isolated:
        return self._known


def ok(stdout: str) -> Completed:
    """A program that ended well."""
    return Completed(0, stdout, "", None)


def answered(value: Any) -> Isolated:
    """A function that returned."""
    return Isolated(value, None, None, False)


class FakeHost(Host):
    """A machine made of what the test gives it; anything else is not there.

    Args:
        files: Content by absolute path. Directories exist because something is in them.
        links: Symbolic links by absolute path.
        directories: Directories that are empty.
        programs: Executables by absolute path: their answer, or a function of their arguments.
            The commands that were started are kept in `started`.
        isolated: Answers of functions that would run in a child process, by the name they are
            started under.
        disks: Sizes by mount point.
        sockets: Process ids by socket inode.
        users: Login names by user id.
        unreadable: Paths that may not be read.
        modules: Python modules that can be imported.
        environ: Environment variables.
        machine: nodename, kernel release, architecture.
        glibc: Version of the C library.
        uid: Effective user id.
        cpus: Number of CPUs.
    """

    def __init__(
        self,
        files: Mapping[str, str | bytes | Sparse] | None = None,
        *,
        links: Mapping[str, str] | None = None,
        directories: Iterable[str] = (),
        programs: Mapping[str, Completed | Callable[[list[str]], Completed]] | None = None,
        isolated: Mapping[str, Isolated] | None = None,
        disks: Mapping[str, Disk] | None = None,
        sockets: Mapping[str, int] | None = None,
        users: Mapping[int, str] | None = None,
        unreadable: Iterable[str] = (),
        modules: Iterable[str] = (),
        environ: Mapping[str, str] | None = None,
        machine: tuple[str, str, str] = ("host", "6.1.0", "x86_64"),
        glibc: str | None = "2.36",
        uid: int = 0,
        cpus: int = 2,
    ) -> None:
        self.files = dict(files or {})
        self.links = dict(links or {})
        self.programs = dict(programs or {})
        self.isolated = dict(isolated or {})
        self.disks = dict(disks or {})
        self.sockets = dict(sockets or {})
        self.users = {0: "root", **(users or {})}
        self.unreadable = set(unreadable)
        self.modules = set(modules)
        self.machine = machine
        self.glibc = glibc
        self.uid = uid
        self.cpus = cpus
        self.started: list[list[str]] = []
        self._environ = dict(environ or {})
        self._directories = {"/"}
        for path in [*self.files, *self.links, *self.programs, *(f"{d}/." for d in directories)]:
            self._directories.update(str(parent) for parent in PurePosixPath(path).parents)
        self._directories.update(directories)

    @property
    def environ(self) -> Mapping[str, str]:
        return self._environ

    def realpath(self, path: str) -> str:
        resolved = "/"
        parts = [part for part in path.split("/") if part not in ("", ".")]
        for _ in range(1000):  # more links than that are a loop
            if not parts:
                break
            part = parts.pop(0)
            if part == "..":
                resolved = posixpath.dirname(resolved)
                continue
            candidate = posixpath.join(resolved, part)
            target = self.links.get(candidate)
            if target is None:
                resolved = candidate
            else:
                parts = [p for p in target.split("/") if p not in ("", ".")] + parts
                resolved = "/" if target.startswith("/") else resolved
        return resolved

    def _content(self, path: str) -> str | bytes | Sparse | None:
        real = self.realpath(path)
        return None if real in self.unreadable else self.files.get(real)

    def read_bytes(self, path: str, limit: int | None = None, offset: int = 0) -> bytes | None:
        content = self._content(path)
        if content is None:
            return None
        if isinstance(content, Sparse):
            content = content.head
        data = content.encode() if isinstance(content, str) else content
        return data[offset : None if limit is None else offset + limit]

    def listdir(self, path: str) -> list[str]:
        directory = self.realpath(path)
        if directory in self.unreadable:
            return []
        everything = [*self.files, *self.links, *self.programs, *self._directories]
        names = {posixpath.basename(p) for p in everything if posixpath.dirname(p) == directory}
        return sorted(names - {""})

    def exists(self, path: str) -> bool:
        return self.is_dir(path) or self.is_file(path)

    def is_dir(self, path: str) -> bool:
        return self.realpath(path) in self._directories

    def is_file(self, path: str) -> bool:
        real = self.realpath(path)
        return real in self.files or real in self.programs

    def can_read(self, path: str) -> bool:
        return self.exists(path) and self.realpath(path) not in self.unreadable

    def is_executable(self, path: str) -> bool:
        return self.realpath(path) in self.programs

    def size(self, path: str) -> int | None:
        content = self.files.get(self.realpath(path))
        if content is None:
            return None
        if isinstance(content, Sparse):
            return content.size
        return len(content.encode() if isinstance(content, str) else content)

    def disk(self, path: str) -> Disk | None:
        points = [p for p in self.disks if f"{path}/".startswith(p.rstrip("/") + "/")]
        return self.disks[max(points, key=len)] if points else None

    def user_name(self, uid: int) -> str:
        return self.users.get(uid, str(uid))

    def uname(self) -> os.uname_result:
        nodename, release, machine = self.machine
        return os.uname_result(("Linux", nodename, release, "#1 SMP", machine))

    def glibc_version(self) -> str | None:
        return self.glibc

    def has_module(self, name: str) -> bool:
        return name in self.modules

    def effective_uid(self) -> int:
        return self.uid

    def cpu_count(self) -> int:
        return self.cpus

    def socket_owners(self, inodes: Iterable[str]) -> dict[str, int]:
        return {inode: self.sockets[inode] for inode in inodes if inode in self.sockets}

    def start(
        self, argv: Sequence[str], timeout: float = 10.0, environ: Mapping[str, str] | None = None
    ) -> Running:
        self.started.append(list(argv))
        program = self.programs.get(self.realpath(argv[0]))
        if program is None:
            return _Answered(Completed(None, "", "", f"{argv[0]} cannot be started: not there"))
        return _Answered(program if isinstance(program, Completed) else program(list(argv)))

    def start_isolated(
        self, name: str, function: Callable[[], Any], timeout: float = 10.0
    ) -> Forked:
        return _Asked(self.isolated[name])
