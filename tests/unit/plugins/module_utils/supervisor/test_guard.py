# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who reaches what of a server in developer mode: every path of the releases, an app behind it."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import guard

ROOT = Path(__file__).resolve().parents[5]
ROUTES = yaml.safe_load((ROOT / "tests/fixtures/routes.yml").read_text(encoding="utf-8"))
CLOSED = sorted({row for one in ROUTES.values() for row in one["developer"] + one["always"]})
PUBLIC = sorted({row for one in ROUTES.values() for row in one["public"]})
# Other ways to write a path that routers or proxies may take for it, and what is not there yet.
DISGUISED = [
    *("POST /sleep/", "POST //sleep", "POST /v1/../sleep", "POST /v1/models/../../sleep"),
    *("POST /SLEEP", "POST /sleep;x", "POST /v1/responses/a/b", "POST /v1/responses/"),
    *("POST /v1/responses/x/cancel/../../../../sleep", "POST /v1//models", "POST ", "POST *"),
    *("POST /a_route_of_a_later_release", "POST /v1/rl/update", "WEBSOCKET /a_later_socket"),
]


class App:
    """An application that has whatever it is asked for, in place of vLLM's."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached.append(scope.get("path", scope["type"]))
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"reached"})


def ask(row: str, *headers: tuple[str, str], **more: Any) -> tuple[Any, bool]:
    """Ask a guarded app; returns the status, or a socket's message, and whether it was reached."""
    method, _space, path = row.partition(" ")
    is_socket = method == "WEBSOCKET"
    scope: dict[str, Any] = {"type": "websocket" if is_socket else "http", "path": path}
    scope |= {"headers": [(key.encode(), value.encode()) for key, value in headers], **more}
    if not is_socket:
        scope["method"] = method
    sent: list[Any] = []
    body = [{"type": "http.request", "body": b"x", "more_body": left} for left in (True, False)]

    async def receive() -> Any:
        return {"type": "websocket.connect"} if is_socket else body.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    app = App()
    asyncio.run(guard.Guard(app)(scope, receive, send))
    return sent[0].get("status", sent[0]["type"]), bool(app.reached)


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(guard.SECRET_FILE, str(tmp_path / "secret"))
    return guard.new_secret(str(tmp_path / "secret"))


def refused(row: str) -> tuple[Any, bool]:
    return ("websocket.close" if row.startswith("WEBSOCKET") else 404), False


@pytest.mark.parametrize("row", [*CLOSED, *DISGUISED])
def test_nobody_else_reaches_what_developer_mode_opens(row: str, secret: str) -> None:
    keys = [
        (),
        (("authorization", "Bearer the-api-key"),),
        (("authorization", f"Bearer {secret}"),),
        ((guard.HEADER, secret[:-1]),),
        ((guard.HEADER, ""),),
        ((guard.HEADER, secret), (guard.HEADER, "another")),
    ]
    for headers in keys:
        assert ask(row, *headers) == refused(row)


@pytest.mark.parametrize("row", CLOSED)
def test_the_supervisor_reaches_it(row: str, secret: str) -> None:
    assert ask(row, (guard.HEADER, secret)) == (200, True)


@pytest.mark.parametrize("row", PUBLIC)
def test_anybody_reaches_what_serves(row: str, secret: str) -> None:
    answer = "websocket.accept" if row.startswith("WEBSOCKET") else 200
    assert ask(row) == (answer, True)


def test_no_path_is_of_two_sorts() -> None:
    paths = {sort: {row.split()[1] for row in rows} for sort, rows in ((1, CLOSED), (2, PUBLIC))}
    assert not paths[1] & paths[2]
    assert {path for path in guard.PUBLIC if path not in paths[2]} == set()


def test_a_gateway_lets_through_only_what_serves() -> None:
    defaults = yaml.safe_load((ROOT / "roles/vllm_gateway/defaults/main.yml").read_text())
    assert [path for path in defaults["vllm_gateway_paths"] if not guard.is_public(path)] == []


@pytest.mark.parametrize("lost", ["no variable", "no file", "an empty file"])
def test_without_a_secret_nobody_has_it(
    lost: str, secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lost == "no variable":
        monkeypatch.delenv(guard.SECRET_FILE)
    elif lost == "no file":
        (tmp_path / "secret").unlink()
    else:
        (tmp_path / "secret").write_text("")
    assert ask("POST /sleep", (guard.HEADER, "" if lost == "an empty file" else secret)) == (
        404,
        False,
    )
    assert ask("GET /v1/models") == (200, True)


def test_a_secret_of_the_server_before_is_worth_nothing(secret: str, tmp_path: Path) -> None:
    new = guard.new_secret(str(tmp_path / "secret"))
    assert new != secret
    assert ask("POST /sleep", (guard.HEADER, secret)) == (404, False)
    assert ask("POST /sleep", (guard.HEADER, new)) == (200, True)


def test_a_root_path_makes_nothing_public() -> None:
    # Starlette takes it away before it looks for the route: this is /sleep.
    assert ask("POST /v1/responses/sleep", root_path="/v1/responses") == (404, False)


def test_nobody_else_can_read_the_secret(tmp_path: Path) -> None:
    (tmp_path / "secret.new").write_text("left by one that was killed")
    (tmp_path / "secret.new").chmod(0o666)
    before = os.umask(0)
    try:
        secret = guard.new_secret(str(tmp_path / "secret"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert (tmp_path / "secret").read_text() == secret
    assert len(secret) >= 43  # 256 bits


def test_the_application_s_own_life_is_passed_on() -> None:
    app = App()
    asyncio.run(guard.Guard(app)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert app.reached == ["lifespan"]
