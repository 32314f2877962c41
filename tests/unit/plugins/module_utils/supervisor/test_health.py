# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`/health` as a load balancer asks it; behind vLLM's own server it is in molecule's faults."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import (
    draining,
    health,
    process,
)

if TYPE_CHECKING:
    from pathlib import Path

GET = {"type": "http", "method": "GET", "path": "/health"}


async def served(scope: Any, receive: Any, send: Any) -> None:
    """vLLM, which answers 200 whatever its engine does."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"vLLM's own"})


def ask(**change: Any) -> tuple[int, bytes]:
    """Ask; returns status and body."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(health.Health(served)({**GET, **change}, receive, send))
    return sent[0]["status"], sent[1]["body"]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> health.StateFile:
    monkeypatch.setenv(health.STATE, str(tmp_path / "state.json"))
    monkeypatch.setenv(draining.MARKER, str(tmp_path / "draining"))
    return health.StateFile(str(tmp_path / "state.json"))


@pytest.mark.parametrize("path", ["/health", "/ping"])
@pytest.mark.parametrize(
    "seen", ["starting", "hung at start", "hung while serving", "crashed", "draining", "given up"]
)
def test_what_does_not_serve_is_unavailable_and_says_why(
    state: health.StateFile, seen: str, path: str
) -> None:
    state.tell(seen, "no token for 12 s")
    status, body = ask(path=path)
    assert status == 503
    told = json.loads(body)
    assert told["status"] == "unavailable"
    assert told["state"] == seen
    assert told["summary"] == "no token for 12 s"
    assert told["told_by"] == "supervisor"
    assert told["since"] > 1_700_000_000


def test_what_serves_answers_itself(state: health.StateFile) -> None:
    state.tell("hung while serving", "no token")
    state.tell(health.SERVING, "it serves")
    assert ask() == (200, b"vLLM's own")


def test_what_drains_is_unavailable_before_the_state_is_told(
    state: health.StateFile, tmp_path: Path
) -> None:
    state.tell(health.SERVING, "it serves")
    (tmp_path / "draining").touch()
    status, body = ask()
    assert (status, json.loads(body)["state"]) == (503, "draining")


@pytest.mark.parametrize("change", [{"path": "/v1/models"}, {"path": "/metrics"}])
def test_other_paths_pass(state: health.StateFile, change: dict[str, str]) -> None:
    state.tell("hung while serving", "no token")
    assert ask(**change) == (200, b"vLLM's own")


@pytest.mark.parametrize("text", ["", "[]", "null", '{"state"', '{"other": 1}'])
def test_where_nothing_can_be_read_vllm_answers(
    state: health.StateFile, tmp_path: Path, text: str
) -> None:
    (tmp_path / "state.json").write_text(text)
    assert ask()[0] == 200


def test_where_nobody_says_anything_vllm_answers(
    state: health.StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask()[0] == 200
    monkeypatch.delenv(health.STATE)
    assert ask()[0] == 200


def test_the_time_is_that_of_the_change(
    state: health.StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health.time, "time", lambda: 100.0)
    state.tell("starting", "no token yet")
    monkeypatch.setattr(health.time, "time", lambda: 200.0)
    state.tell("starting", "no token yet")
    assert json.loads(ask()[1])["since"] == 100


def test_whoever_is_refused_while_it_drains_is_told_the_same() -> None:
    told = json.loads(draining.REFUSAL)
    assert told["error"]["message"]
    assert (told["status"], told["state"]) == ("unavailable", "draining")
    assert health.is_ours(draining.REFUSAL.decode())


def test_its_answers_are_told_from_vllms_own(state: health.StateFile) -> None:
    state.tell("starting", "no token yet")
    assert health.is_ours(ask()[1].decode())
    assert not health.is_ours('{"detail": "engine dead"}')


def test_the_server_finds_it_where_the_supervisor_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [process.FOLDER])
    module, _, name = health.MIDDLEWARE.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, type)  # build_app of vLLM adds classes as ASGI middleware
    assert os.path.samefile(sys.modules[module].__file__ or "", health.__file__)
