# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The middleware as ASGI calls it; behind vLLM's own server it is in molecule's faults."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import draining, process

if TYPE_CHECKING:
    from pathlib import Path

CHAT = {"type": "http", "method": "POST", "path": "/v1/chat/completions"}
BODY = [
    {"type": "http.request", "body": b"{", "more_body": True},
    {"type": "http.request", "body": b"}", "more_body": False},
]


async def served(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


class Server:
    """What uvicorn does: one application, many requests."""

    def __init__(self) -> None:
        self.app = draining.Draining(served)
        self.unread: list[dict[str, Any]] = []

    def ask(self, scope: dict[str, Any]) -> dict[str, Any]:
        """The beginning of the answer."""
        self.unread = list(BODY)
        sent: list[Any] = []

        async def receive() -> Any:
            return self.unread.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        return dict(sent[0])


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(draining.MARKER, str(tmp_path / "draining"))
    return tmp_path / "draining"


def test_requests_are_refused_from_when_the_file_is_there(marker: Path) -> None:
    server = Server()
    assert server.ask(CHAT)["status"] == 200
    marker.touch()
    answer = server.ask(CHAT)
    assert answer["status"] == 503
    assert (b"connection", b"close") in answer["headers"]
    assert (b"retry-after", b"30") in answer["headers"]
    assert server.unread == []
    marker.unlink()
    assert server.ask(CHAT)["status"] == 200


def test_the_supervisor_can_still_count_requests(marker: Path) -> None:
    marker.touch()
    assert Server().ask({**CHAT, "method": "GET", "path": "/metrics"})["status"] == 200
    assert Server().ask({**CHAT, "method": "GET", "path": "/health"})["status"] == 503


def test_other_kinds_of_traffic_pass(marker: Path) -> None:
    marker.touch()
    assert Server().ask({"type": "lifespan"})["status"] == 200


def test_a_server_that_nobody_supervises_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(draining.MARKER, raising=False)
    assert Server().ask(CHAT)["status"] == 200


def test_the_server_finds_it_where_the_supervisor_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [process.FOLDER])
    module, _, name = draining.MIDDLEWARE.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, type)  # build_app of vLLM adds classes as ASGI middleware
    assert os.path.samefile(sys.modules[module].__file__ or "", draining.__file__)
