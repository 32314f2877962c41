# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring files from another host's cache, with rsync over SSH, in place of the Hub.

The other host's record says which files a commit has and what their hashes are; each file that
comes is compared with that before it gets its name, as one from the Hub is.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Callable

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.children import dies_with
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.cache import (
    RepoCache,
    digest,
    expected_digest,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.fetch import (
    TICK,
    WRONG_CONTENT_RETRIES,
    HubError,
    Rate,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.layout import (
    COMMIT,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import (
    Blob,
    RepoFile,
    State,
)

if TYPE_CHECKING:
    import builtins

# rsync(1), "EXIT VALUES": some files or attributes were not transferred.
_PARTIAL = 23


def ssh_command(options: Mapping[str, Any]) -> list[str]:
    """How rsync is to start ssh: it asks nothing, and trusts only the host keys that are given.

    Args:
        options: `identity_file`, `known_hosts` and `port`, each possibly None.
    """
    command = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    # rsync's --timeout begins when it is connected.
    command += ["-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15"]
    if options.get("identity_file"):
        command += ["-o", "IdentitiesOnly=yes", "-i", options["identity_file"]]
    if options.get("known_hosts"):
        command += ["-o", f"UserKnownHostsFile={options['known_hosts']}"]
        command += ["-o", "GlobalKnownHostsFile=none"]
    if options.get("port"):
        command += ["-p", str(options["port"])]
    return command


class Peer:
    """Another host's cache; what `fetch.Hub` offers, as far as the module uses it.

    Args:
        cache: The repository's folder here.
        options: `source`, the other's cache as rsync names it, and those of `ssh_command`.
        stall_timeout: Seconds without a byte after which a transfer is ended and resumed.
        retries: How often in a row something is tried again without a byte having come.
        scratch: A directory of this run.
        report: Told about progress, with the keywords of `Progress.update`.
    """

    def __init__(
        self,
        cache: RepoCache,
        options: Mapping[str, Any],
        stall_timeout: int,
        retries: int,
        scratch: str,
        report: Callable[..., None],
    ) -> None:
        self.cache = cache
        self.received = 0
        """Bytes that came from the other host."""
        self.restarts = 0
        """How often a transfer was begun again where it stood."""
        self.source = str(options["source"]).rstrip("/")
        self._ssh = shlex.join(ssh_command(options))
        self._stall_timeout = stall_timeout
        self._retries = retries
        self._scratch = scratch
        self._report = report
        self._record: State | None = None

    def close(self) -> None:
        """Nothing goes on between two calls."""

    def list(self, revision: str) -> tuple[str, builtins.list[RepoFile]]:
        """The commit that a revision is at on the other host, and its files.

        Raises:
            HubError: It cannot be asked, or does not know it.
        """
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            path = os.path.join(folder, "state.json")
            self._bring(".compute_plane/state.json", path)
            with open(path, encoding="utf-8") as stream:
                text = stream.read()
        try:
            record = State.load(self.cache.repo_id, json.loads(text))
        except ValueError:
            record = State(self.cache.repo_id)
        commit = revision if COMMIT.match(revision) else record.revisions.get(revision, "")
        if commit not in record.commits:
            raise HubError({"code": "peer", "message": f"it does not have revision {revision}"})
        self._record = record
        return commit, record.commits[commit]

    def read(self, commit: str, path: str) -> str:
        """The text of a small file.

        Raises:
            HubError: It cannot be had.
        """
        record = self._record or State(self.cache.repo_id)
        files = [file for file in record.commits.get(commit, []) if file.path == path]
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            here = os.path.join(folder, "text")
            for file in files:
                self._bring(f"blobs/{file.etag}", here)
                if digest(here, file) == expected_digest(file):
                    with open(here, encoding="utf-8") as stream:
                        return stream.read()
        raise HubError({"code": "peer", "message": f"its {path} is damaged"}, path)

    def fetch(
        self,
        commit: str,  # noqa: ARG002 - as the Hub's; blobs are named by their content
        files: Iterable[RepoFile],
        total: int,
        verified: Callable[[RepoFile, Blob], None],
    ) -> None:
        """Bring files and verify them, as `Hub.fetch` does."""
        todo = sorted(files, key=lambda file: (-file.size, file.path))
        missing, rate = sum(file.size for file in todo), Rate()
        for number, file in enumerate(todo):
            part = self.cache.part(file)
            here = missing

            def growing(size: int, number: int = number, here: int = here) -> None:
                done = total - here + size
                speed = rate.add(time.monotonic(), self.received)
                self._report(
                    f"copying {self.cache.repo_id}",
                    files_done=number,
                    files_total=len(todo),
                    bytes_done=done,
                    bytes_total=total,
                    rate=round(speed),
                    eta=round((total - done) / speed) if speed else None,
                )

            for attempt in range(WRONG_CONTENT_RETRIES + 1):
                with contextlib.suppress(FileNotFoundError):
                    if os.stat(part).st_size > file.size:
                        os.unlink(part)
                self._bring(f"blobs/{file.etag}", part, growing)
                if digest(part, file) == expected_digest(file):
                    break
                self.cache.discard(file)
                if attempt == WRONG_CONTENT_RETRIES:
                    raise HubError({"code": "peer", "message": "its copy is damaged"}, file.path)
            verified(file, self.cache.accept(file))
            missing -= file.size

    def _bring(
        self, path: str, here: str, growing: Callable[[int], None] = lambda _size: None
    ) -> None:
        """Bring one file of the repository's folder, from where an earlier attempt stopped."""
        failures = 0
        while True:
            before = _size(here)
            code, said = self._rsync(path, here, growing)
            if code == 0:
                return
            if code == _PARTIAL:
                raise HubError({"code": "peer", "message": f"it has no {path} to read ({said})"})
            failures = failures + 1 if _size(here) <= before else 0
            if failures > self._retries:
                raise HubError({"code": "peer", "message": said or f"rsync ends with {code}"})
            self.restarts += 1
            time.sleep(min(30.0, 0.5 * 2.0**failures))

    def _rsync(self, path: str, here: str, growing: Callable[[int], None]) -> tuple[int, str]:
        """Run rsync for one file; returns its exit status and what it complained about."""
        command = ["rsync", "--append", "--copy-links", f"--timeout={self._stall_timeout}"]
        command += ["--no-motd", f"--rsh={self._ssh}"]
        command += [f"{self.source}/{self.cache.name}/{path}", here]
        with tempfile.TemporaryFile("w+") as errors:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    preexec_fn=dies_with(os.getpid()),  # noqa: PLW1509 - there is one thread
                )
            except FileNotFoundError as error:
                raise HubError(
                    {"code": "peer", "message": "rsync is not installed on this host"}
                ) from error
            seen = _size(here)
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(TICK)
                size = _size(here)
                self.received += max(0, size - seen)
                seen = size
                growing(size)
                if process.returncode is not None:
                    break
            errors.seek(0)
            lines = [line.strip() for line in errors if line.strip()]
        return process.returncode, " | ".join(lines[:3])


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
