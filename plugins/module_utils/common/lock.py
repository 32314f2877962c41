# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that change the same thing on a host do it one after the other, and say so.

The lock is the kernel's (`flock(2)`): it ends with the process that has it, however that ends. The
file only says whose it is; what it says counts as long as somebody has the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any, Callable, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.numbers import human_seconds

POLL = 0.5
"""Seconds between two looks at a lock that somebody else has."""

ARGUMENTS: dict[str, dict[str, Any]] = {
    "lock_timeout": {"type": "int", "default": 1800},
    "asked_by": {"type": "str"},
}
"""Parameters of every module that takes a lock."""


class Asking(NamedTuple):
    """Who wants a lock, and how.

    Attributes:
        by: The run, as people name it: `alice@laptop with site.yml`.
        patience: Seconds to wait for another run at most.
        tell: Takes what is waited for, and `elapsed` seconds.
    """

    by: str
    patience: float
    tell: Callable[..., None]

    @classmethod
    def of(cls, params: Mapping[str, Any], tell: Callable[..., None]) -> Asking:
        """What a module was asked with :data:`ARGUMENTS`."""
        return cls(params["asked_by"] or "a run of Ansible", params["lock_timeout"], tell)


class Holder(NamedTuple):
    """Whose lock it is.

    Attributes:
        by: The run.
        pid: Its process on the host; 0 where it is not known.
        since: Since when, in seconds since 1970.
    """

    by: str
    pid: int
    since: float

    def __str__(self) -> str:
        """`alice@laptop with site.yml (process 812 on the host), since 11:02:10 UTC`."""
        if not self.pid:
            return self.by
        at = time.strftime("%H:%M:%S UTC", time.gmtime(self.since))
        return f"{self.by} (process {self.pid} on the host), since {at}"


def _holder(stream: IO[str]) -> Holder:
    try:
        stream.seek(0)
        said = json.loads(stream.read())
        return Holder(str(said["by"]), int(said["pid"]), float(said["since"]))
    except (ValueError, LookupError, TypeError):  # it has the lock and has not yet said so
        return Holder("another run", 0, 0.0)


def _write(stream: IO[str], text: str) -> None:
    stream.seek(0)
    stream.truncate()
    stream.write(text)
    stream.flush()


def _take(stream: IO[str], path: str) -> bool:
    """Take the lock if nobody has it; one of a file that is no longer there is nobody's."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(path))
    return False


@contextlib.contextmanager
def held(path: str, what: str, asking: Asking) -> Iterator[IO[str]]:
    """Have a lock, after those who came before.

    Args:
        path: The lock's file; its folder is made.
        what: What the lock is for, as part of a sentence: `this host's services`.
        asking: Who wants it, and how.

    Yields:
        The file; a program that inherits it has the lock until it ends.

    Raises:
        Failed: Somebody else has it for longer than is to be waited.
    """
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    began = time.monotonic()
    while True:
        with open(path, "a+", encoding="utf-8") as stream:
            if _take(stream, path):
                _write(
                    stream, json.dumps({"by": asking.by, "pid": os.getpid(), "since": time.time()})
                )
                try:
                    yield stream
                finally:
                    # What it says must not outlast the lock where a program has inherited that.
                    _write(stream, "")
                return
            holder = _holder(stream)
        waited = time.monotonic() - began
        if waited >= asking.patience:
            raise Failed(
                f"{what}: changed right now by {holder}. Waited {human_seconds(waited)} for it"
                " (vllm_lock_timeout), and nothing was changed by this run here. Run again when"
                " that one has ended, or wait longer; a run whose controller was killed goes on"
                " to its end on the host, or ends when that process is stopped there"
            )
        asking.tell(f"waiting for {holder}, to end with {what}", elapsed=waited)
        time.sleep(min(POLL, max(asking.patience - waited, 0.01)))
