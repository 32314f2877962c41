# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fault ends in a whole, verified model or in one clear error; little is fetched twice."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hub.testing import bytes_in, children, write_model

from .conftest import MODEL, SHARDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from hub import Hub
    from hub.testing import Module

FILES = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
FIRST = FILES[0]
ALWAYS = -1


def _arrived(run: Module) -> int:
    blobs = Path(run.defaults["cache_dir"], "models--acme--tiny", "blobs")
    return bytes_in(blobs, "*.incomplete")


# Three faults at a time, one on each of the large files, and how often a file may come.
# A refused answer counts as sent: the kernel's buffers take it before the connection is closed.
@pytest.mark.parametrize(
    ("faults", "most"),
    [
        (
            [
                {"kind": "cut", "after": int(SHARDS[0] * 0.9)},
                {"kind": "cut", "after": 200_000, "times": 8},
                {"kind": "cut", "after": 0},
            ],
            1.12,
        ),
        (
            [
                {"kind": "stall", "after": SHARDS[0] // 2},
                {"kind": "stall", "after": 0},
                {"kind": "slow", "rate": 500_000},
            ],
            1.12,
        ),
        (
            [
                {"kind": "status", "status": 500, "times": 2},
                {"kind": "status", "status": 416},
                {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}},
            ],
            1.0,
        ),
        (
            [
                {"kind": "wrong_bytes", "at": 1_234_567},
                {"kind": "wrong_length", "delta": 100},
                {"kind": "wrong_length", "delta": -100},
            ],
            2.01,
        ),
    ],
    ids=["cut", "stall-and-slow", "status", "wrong"],
)
def test_faults_while_bytes_come_are_cured(
    run: Module,
    hub: Hub,
    assert_whole: Callable[..., None],
    faults: list[dict[str, Any]],
    most: float,
) -> None:
    for fault, path in zip(faults, FILES, strict=True):
        hub.faults.order(**fault, path=path)
    assert_whole(run(stall_timeout=2))
    for path, size in zip(FILES, SHARDS, strict=True):
        assert hub.sent(path) <= size * most
    assert hub.faults.open == []


@pytest.mark.parametrize("route", ["info", "head"])
def test_faults_before_bytes_come_are_cured(
    run: Module, hub: Hub, assert_whole: Callable[..., None], route: str
) -> None:
    hub.faults.order("status", status=503, route=route)
    hub.faults.order("status", status=429, headers={"Retry-After": "2"}, route=route)
    hub.faults.order("status", status=429, headers={"RateLimit": '"api";r=0;t=1'}, route=route)
    began = time.monotonic()
    assert_whole(run(retries=3))
    assert time.monotonic() - began >= 2
    assert hub.faults.open == []


def test_nothing_is_asked_while_the_hub_asks_to_wait(
    run: Module, hub: Hub, assert_whole: Callable[..., None]
) -> None:
    hub.faults.order("status", status=429, headers={"Retry-After": "3"}, route="head", path=FIRST)
    assert_whole(run(max_workers=1))
    limited = next(r for r in hub.log if r.status == 429)
    following = min(r.moment for r in hub.log if r.moment > limited.moment)
    assert following - limited.moment >= 3


def test_the_hub_may_not_ask_for_hours(run: Module, hub: Hub) -> None:
    hub.faults.order("status", status=429, headers={"Retry-After": "7200"}, route="info")
    result = run()
    assert "(HTTP 429)" in result["msg"]
    assert "asks to wait 7200 s" in result["msg"]


def test_after_a_cut_at_90_percent_little_comes_twice(
    run: Module, hub: Hub, assert_whole: Callable[..., None]
) -> None:
    for path, size in zip(("*-00001-*", "*-00002-*", "*-00003-*"), SHARDS, strict=True):
        hub.faults.order("cut", path=path, after=int(size * 0.9))
    result = run()
    assert_whole(result)
    assert hub.sent() <= result["bytes"] * 1.12
    resumed = [r for r in hub.log if r.range is not None]
    assert len(resumed) == len(SHARDS)


def test_a_server_that_ignores_ranges_sends_all_again(
    run: Module, hub: Hub, assert_whole: Callable[..., None]
) -> None:
    hub.faults.order("cut", path=FIRST, after=2_000_000)
    hub.faults.order("ignore_range", path=FIRST)
    assert_whole(run())
    assert hub.sent(FIRST) <= 2_000_000 + SHARDS[0]


def test_a_hung_client_is_ended_and_the_transfer_resumed(
    run: Module, hub: Hub, assert_whole: Callable[..., None]
) -> None:
    hub.pace.rate = 3_000_000
    process = run.start(stall_timeout=2)
    while _arrived(run) < 500_000:
        time.sleep(0.02)
    (worker,) = children(process.pid)
    os.kill(worker, signal.SIGSTOP)
    hub.pace.rate = 0
    began = time.monotonic()
    result = run.finish(process)
    assert_whole(result)
    assert result["restarts"] == 1
    assert 2 <= time.monotonic() - began < 12
    assert not Path(f"/proc/{worker}").exists()
    assert [r for r in hub.log if r.range is not None]


def test_a_client_that_dies_is_started_again(
    run: Module, hub: Hub, assert_whole: Callable[..., None]
) -> None:
    hub.pace.rate = 3_000_000
    process = run.start()
    while _arrived(run) < 500_000:
        time.sleep(0.02)
    (worker,) = children(process.pid)
    os.kill(worker, signal.SIGKILL)
    result = run.finish(process)
    assert_whole(result)
    assert result["restarts"] == 1
    assert hub.sent() <= result["bytes"] * 1.12


def test_a_revision_that_moves_meanwhile_does_not_mix(
    run: Module, hub: Hub, tmp_path: Path, assert_whole: Callable[..., None]
) -> None:
    repository = hub.store.repositories[MODEL]
    before = repository.branches["main"]
    later = write_model(tmp_path / "later", SHARDS, seed=2)
    after = repository.push(later)
    repository.branches["main"] = before
    hub.faults.order("move", route="info", commit=after)
    hub.faults.order("status", status=500, times=ALWAYS, path=FIRST)
    assert run(retries=0)["failed"]
    hub.faults.clear()
    result = run()
    assert_whole(result)
    assert result["commit"] == before
    assert_whole(run(update=True), later)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"kind": "wrong_bytes", "at": 5}, "arrives with the wrong content every time"),
        ({"kind": "wrong_length", "delta": 7}, "announces 3000007 bytes instead of 3000000"),
        ({"kind": "wrong_length", "delta": -7}, "announces 2999993 bytes instead of 3000000"),
        ({"kind": "status", "status": 500}, "fails at every attempt to get " + FIRST),
        ({"kind": "stall", "after": 0}, f"no byte of {FIRST} of {MODEL} came from"),
        ({"kind": "cut", "after": 0}, "cannot be reached"),
        (
            {"kind": "status", "status": 429, "headers": {"Retry-After": "0"}},
            "limits the rate of requests (HTTP 429)",
        ),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else value["kind"],
)
def test_a_fault_that_stays_is_one_clear_error(
    run: Module, hub: Hub, cache: Path, fault: dict[str, Any], text: str
) -> None:
    hub.faults.order(**fault, path=FIRST, times=ALWAYS)
    result = run(retries=0, stall_timeout=1)
    assert result["failed"]
    assert text in result["msg"]
    assert "\n" not in result["msg"]
    assert "Traceback" not in result["msg"] + result["stderr"]
    folder = cache / "models--acme--tiny"
    assert not list(folder.glob("snapshots/*"))
    assert not (folder / "refs").exists()


def test_the_run_after_a_failed_one_fetches_what_is_missing(
    run: Module, hub: Hub, assert_whole: Callable[..., None]
) -> None:
    hub.faults.order("cut", path=FIRST, after=2_500_000)
    hub.faults.order("status", path=FIRST, status=500, times=ALWAYS)
    result = run(retries=1)
    assert "are here and stay" in result["msg"]
    hub.faults.clear()
    assert_whole(run())
    assert hub.sent(FIRST) == SHARDS[0]
