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

from .conftest import SHARDS
from .test_faults import workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from hub import Hub
    from hub.testing import Module

KILLS = 10


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.timeout(180)
def test_ten_kills_at_random_moments_and_a_run_that_completes(
    run: Module, hub: Hub, cache: Path, assert_whole: Callable[..., None]
) -> None:
    # A run alone would take about four seconds; each gets a part of that.
    hub.pace.rate = sum(SHARDS) / 3
    rng = random.Random(5)
    arrived = 0
    for number in range(KILLS):
        process = run.start()
        # Some before the worker is there, the others while it fetches.
        while number > 2 and not workers(process.pid) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.4 if number <= 2 else 1.2))
        children = workers(process.pid)
        if number % 2:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()
        deadline = time.monotonic() + 2
        while not all(_gone(child) for child in children):
            assert time.monotonic() < deadline, "a worker outlives its module"
            time.sleep(0.01)
        blobs = cache / "models--acme--tiny" / "blobs"
        now = sum(path.stat().st_size for path in blobs.glob("*"))
        assert now >= arrived, "bytes that had arrived are gone"
        arrived = now
        assert not list(cache.glob("*/snapshots/*")) or arrived > sum(SHARDS)
    hub.pace.rate = 0
    result = run()
    assert_whole(result)
    # Nothing is fetched twice but what was between the kernel's buffers and the disk at a kill.
    assert hub.sent() <= result["bytes"] * 1.12 + KILLS * hub.sent("model.safetensors.index.json")
    assert not run()["changed"]
