# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle on a disk: whether it is there, whole, and the one that is needed."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.bundle import (
    MANIFEST,
    File,
    damage,
    other_bundle,
    read_manifest,
)

BLOCK = 1 << 22


def sha256_of(path: str) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def files_below(folder: str) -> Iterator[str]:
    """Every file below a directory, relative to it, in order; links to files count as files."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            yield os.path.relpath(os.path.join(parent, name), folder)


def bytes_below(folder: str) -> int:
    """How many bytes lie in a directory at this moment."""
    total = 0
    for parent, _folders, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # moved in between
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def remove(path: str) -> None:
    """Remove a file or a whole directory."""
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


class BundleFiles:
    """The files of a bundle.

    Args:
        params: The module's.
        progress: Where it says what is being done.
    """

    def __init__(self, params: dict[str, Any], progress: Progress) -> None:
        self.params = params
        self.progress = progress
        self.path: str = params["path"].rstrip("/") or "/"
        self.hashes: dict[str, tuple[tuple[int, int, int], str]] = {}

    def at(self, path: str) -> str:
        """A file of the bundle."""
        return os.path.join(self.path, path)

    def sha256(self, paths: Iterable[str], what: str) -> dict[str, str]:
        """Hash files of the bundle, two at a time, each once a run; what is gone is left out."""
        found: dict[str, str] = {}
        todo: dict[str, tuple[int, int, int]] = {}
        for path in paths:
            try:
                status = os.stat(self.at(path))
            except (FileNotFoundError, NotADirectoryError):
                continue
            key = (status.st_ino, status.st_size, status.st_mtime_ns)
            known = self.hashes.get(path)
            if known is not None and known[0] == key:
                found[path] = known[1]
            else:
                todo[path] = key
        total, done = sum(key[1] for key in todo.values()), 0
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            running = {pool.submit(sha256_of, self.at(path)): path for path in todo}
            for future in concurrent.futures.as_completed(running):
                path = running[future]
                found[path] = future.result()
                self.hashes[path] = (todo[path], found[path])
                done += todo[path][1]
                self.progress.update(what, bytes_done=done, bytes_total=total)
        return found

    def problem(self) -> tuple[str | None, list[File]]:
        """Why the bundle cannot be used, with what to do, and the files it is to have."""
        try:
            with open(self.at(MANIFEST), encoding="utf-8") as stream:
                text = stream.read()
        except (FileNotFoundError, NotADirectoryError):
            problem = (
                f"{self.path} is not a whole bundle: it has no {MANIFEST}, which is written last; "
                "bring the whole directory that playbooks/bundle.yml made to the host"
            )
            return problem, []
        except (OSError, UnicodeDecodeError) as error:
            return f"{self.at(MANIFEST)} cannot be read ({error}); copy the bundle again", []
        try:
            content, files = read_manifest(text)
        except ValueError as error:
            return f"{self.at(MANIFEST)} {error}; copy the bundle again", []
        other = other_bundle(
            content,
            self.params["lock"] or "another lock",
            self.params["lock_sha256"],
            self.params["tools_lock_sha256"],
        )
        if other is not None:
            problem = (
                f"{self.path} is another bundle: {other}; make one with playbooks/bundle.yml of "
                "this collection and bring it to the host"
            )
            return problem, files
        wrong = self.wrong_files(files)
        if wrong:
            problem = (
                f"{self.path} is damaged: {damage(wrong, len(files))}; copy them again from where "
                "the bundle was made"
            )
            return problem, files
        return None, files

    def wrong_files(self, files: list[File]) -> list[str]:
        """The files that are not as the manifest says, each with what is wrong."""
        wrong, whole = [], []
        for file in files:
            try:
                size = os.stat(self.at(file.path)).st_size
            except (FileNotFoundError, NotADirectoryError):
                wrong.append(f"{file.path} is missing")
                continue
            if size != file.bytes:
                wrong.append(f"{file.path} has {size} bytes instead of {file.bytes}")
            else:
                whole.append(file)
        if not wrong:
            try:
                hashes = self.sha256((file.path for file in whole), "checking the bundle")
            except OSError as error:  # a stick that cannot be read any more
                return [f"{os.path.relpath(error.filename or self.path, self.path)}: {error}"]
            wrong = [
                f"{file.path} holds other bytes"
                for file in whole
                if hashes.get(file.path) != file.sha256
            ]
        return wrong

    def verified(self) -> dict[str, Any]:
        """Check the bundle.

        Raises:
            Failed: It cannot be used, and that is to fail the task.
        """
        problem, files = self.problem()
        if problem is not None and self.params["fail_on_problem"]:
            raise Failed(problem)
        return {
            "changed": False,
            "problem": problem,
            "files": len(files),
            "bytes": sum(file.bytes for file in files),
        }
