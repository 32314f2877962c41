# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks, with processes of their own that have them, die with them, or come after one another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.common import lock
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import Asking, held

if TYPE_CHECKING:
    from pathlib import Path

WHAT = "the servers of this host"

HOLDER = textwrap.dedent(
    """
    import subprocess, sys, time
    from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import (
        Asking, held,
    )
    asking = Asking("alice@laptop with site.yml", 60, lambda *_, **__: None)
    with held(sys.argv[1], "it", asking) as stream:
        if "with-child" in sys.argv:
            child = subprocess.Popen(["sleep", "60"], stdin=stream)
            print(child.pid, flush=True)
        print("held", flush=True)
        sys.stdin.readline()
    """
)


class Other:
    """Another process that has a lock until it is let go."""

    def __init__(self, path: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path), *options],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said: list[str] = []
        for line in self.process.stdout:
            if line == "held\n":
                break
            self.said.append(line)
        assert self.process.poll() is None

    def let_go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / ".lock"


@pytest.fixture
def other(path: Path) -> Iterator[Other]:
    process = Other(path)
    yield process
    process.kill()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "POLL", 0.02)


def asking(patience: float = 60, told: list[Any] | None = None) -> Asking:
    def tell(what: str, **fields: Any) -> None:
        if told is not None:
            told.append((what, fields))

    return Asking("bob@ci with site.yml", patience, tell)


def test_nobody_waits_where_nobody_is(path: Path) -> None:
    told: list[Any] = []
    for _ in range(2):
        with held(str(path), WHAT, asking(told=told)):
            assert '"bob@ci with site.yml"' in path.read_text()
        assert path.read_text() == ""
    assert told == []


def test_who_comes_second_is_told_who_is_there_and_since_when(path: Path, other: Other) -> None:
    told: list[Any] = []
    threading.Timer(0.3, other.let_go).start()
    before = time.monotonic()
    with held(str(path), WHAT, asking(told=told)):
        waited = time.monotonic() - before
    assert waited >= 0.25
    what, fields = told[0]
    assert what.startswith("waiting for alice@laptop with site.yml (process ")
    assert f"(process {other.process.pid} on the host), since " in what
    assert what.endswith(f" UTC, to end with {WHAT}")
    assert 0 <= fields["elapsed"] < told[-1][1]["elapsed"] <= waited


def test_the_wait_is_bounded(path: Path, other: Other) -> None:
    with pytest.raises(Failed) as ended, held(str(path), WHAT, asking(patience=0.2)):
        raise AssertionError("it was not to be had")
    message = str(ended.value)
    for part in (WHAT, "alice@laptop with site.yml", str(other.process.pid), "vllm_lock_timeout"):
        assert part in message
    # Whoever has it still has it, and the file still says so.
    assert "alice@laptop" in path.read_text()
    with pytest.raises(Failed, match="alice"), held(str(path), WHAT, asking(patience=0)):
        raise AssertionError("it was not to be had")


def test_a_run_that_was_killed_keeps_nobody_waiting(path: Path, other: Other) -> None:
    other.kill()
    assert "alice@laptop" in path.read_text()
    told: list[Any] = []
    with held(str(path), WHAT, asking(patience=0, told=told)):
        assert "alice" not in path.read_text()
    assert told == []


def test_a_run_that_is_killed_while_somebody_waits_ends_the_wait(path: Path, other: Other) -> None:
    threading.Timer(0.2, other.kill).start()
    with held(str(path), WHAT, asking(patience=30)):
        pass


def test_a_program_that_a_killed_run_has_started_has_the_lock_until_it_ends(path: Path) -> None:
    other = Other(path, "with-child")
    child = int(other.said[0])
    other.kill()
    try:
        with pytest.raises(Failed, match="alice"), held(str(path), WHAT, asking(patience=0.1)):
            raise AssertionError("it was not to be had")
    finally:
        os.kill(child, signal.SIGKILL)
    with held(str(path), WHAT, asking(patience=30)):
        pass


def test_a_lock_whose_file_was_removed_is_nobodys(path: Path, other: Other) -> None:
    """Uninstalling removes the folder: those who wait must not then both have it."""
    got: list[str] = []

    def second() -> None:
        with held(str(path), WHAT, asking()):
            got.append("second")
            time.sleep(0.3)
            got.append("end of second")

    waiting = threading.Thread(target=second)
    waiting.start()
    time.sleep(0.1)
    path.unlink()
    other.let_go()
    while not got:
        time.sleep(0.01)
    with held(str(path), WHAT, asking()):
        got.append("third")
    waiting.join()
    assert got == ["second", "end of second", "third"]


def test_an_error_lets_go(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), held(str(path), WHAT, asking()):
        raise ZeroDivisionError
    with held(str(path), WHAT, asking(patience=0)):
        pass


def test_of_many_at_once_one_has_it_at_a_time(path: Path) -> None:
    inside, most, done = 0, 0, 0

    def run() -> None:
        nonlocal inside, most, done
        for _ in range(5):
            with held(str(path), WHAT, asking()):
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                inside -= 1
                done += 1

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, done) == (1, 30)
