# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whenever a run is killed, nothing of it goes on, and the next one goes on where it stood."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hub.testing import bytes_in, children, write_model

from .conftest import MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from hub import Hub
    from hub.testing import Module

KILLS = 10
DUPLICATE = 2  # bytes of the second of two files with the same content
SHARDS = [12_000_000, 8_000_000, 4_000_000]


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.timeout(180)
def test_ten_kills_at_random_moments_and_a_run_that_completes(
    run: Module, hub: Hub, cache: Path, tmp_path: Path, assert_whole: Callable[..., None]
) -> None:
    model = write_model(tmp_path / "model", SHARDS)
    hub.store.add(MODEL, model)
    # Slow enough that all the killed runs together do not get through.
    hub.pace.rate = sum(SHARDS) / 10
    rng = random.Random(5)
    arrived = 0
    blobs = cache / "models--acme--tiny" / "blobs"

    def size() -> int:
        """How many bytes have arrived."""
        return bytes_in(blobs, "*")

    for number in range(KILLS):
        process = run.start()
        # Some before the worker is there, the others while it fetches; on a slow machine a worker
        # that is killed before its first bytes would have begun at none once more.
        while number > 2 and size() <= arrived and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.4 if number <= 2 else 1.4))
        started = children(process.pid)
        if number % 2:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()
        deadline = time.monotonic() + 2
        while not all(_gone(child) for child in started):
            assert time.monotonic() < deadline, "a worker outlives its module"
            time.sleep(0.01)
        now = size()
        assert now >= arrived, "bytes that had arrived are gone"
        arrived = now
        assert not list(cache.glob("*/snapshots/*")) or arrived > sum(SHARDS)
    assert arrived > sum(SHARDS) / 10
    hub.pace.rate = 0
    result = run()
    assert_whole(result, model)
    # No file was begun again, and the last run fetched just what was missing. What a kill loses is
    # only what was on its way into a file.
    for path in (f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)):
        begins = [
            int((r.range or "bytes=0-")[len("bytes=") : -1])
            for r in hub.log
            if r.route == "content" and r.path == path
        ]
        assert begins == sorted(begins)
        assert begins.count(0) <= 2
    assert result["bytes_fetched"] == result["bytes"] - DUPLICATE - arrived
    assert not run()["changed"]
