# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client and the checks against a scripted server (a substitute; molecule has the real one)."""

from __future__ import annotations

import http.server
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    Endpoint,
    EndpointError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.short import (
    CheckFailed,
    check_question,
    verify,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "m"
CHAT = "/v1/chat/completions"


class Scripted(http.server.BaseHTTPRequestHandler):
    """Answers each path with what the test put in `server.script`."""

    server: ScriptedServer

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(json.loads(body))
        self.answer()

    def answer(self) -> None:
        action = self.server.script[self.path]
        if action == "hang":
            self.server.released.wait(10)
            return
        if action == "break off":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            return
        status, content = action if isinstance(action, tuple) else (200, action)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


class ScriptedServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    script: dict[str, Any]
    bodies: list[Any]
    released: threading.Event


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer(("127.0.0.1", 0), Scripted)
    server.bodies, server.released = [], threading.Event()
    server.script = {
        "/health": b"",
        "/version": {"version": "0.14.1+cpu"},
        "/v1/models": {"data": [{"id": MODEL, "max_model_len": 4096}]},
        "/v1/completions": {"choices": [{"text": "2"}], "usage": {"completion_tokens": 1}},
        CHAT: {"choices": [{"message": {"content": "It is Paris."}}]},
    }
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


class Impatient(Endpoint):
    """Gives little time only to what never comes: a busy machine answers late.

    Args:
        server: Whose script says which that is.
    """

    def __init__(self, server: ScriptedServer) -> None:
        super().__init__(f"http://127.0.0.1:{server.server_port}")
        self.server = server

    def request(self, path: str, *arguments: Any) -> bytes:
        self.timeout = 1 if self.server.script[path] == "hang" else 60
        return super().request(path, *arguments)


def endpoint(server: ScriptedServer) -> Endpoint:
    return Impatient(server)


QUESTION = {
    "name": "capital",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "expect": "Paris",
    "max_tokens": 16,
}


def verdicts(server: ScriptedServer, **changes: Any) -> dict[str, Any]:
    wanted = {"release": "0.14.1", "max_model_len": 4096, "questions": [QUESTION], **changes}
    results = verify(endpoint(server), MODEL, **wanted)
    return {result["name"]: result for result in results}


def test_a_good_server_passes_every_check(server: ScriptedServer) -> None:
    results = verdicts(server)
    assert list(results) == ["health", "version", "models", "capital"]
    assert all(result["passed"] for result in results.values())
    assert results["capital"]["detail"] == "It is Paris."
    assert server.bodies == [
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "max_tokens": 16,
            "temperature": 0,
        }
    ]


@pytest.mark.parametrize(
    ("path", "action", "check", "detail"),
    [
        ("/health", (503, b""), "health", "/health answered 503"),
        ("/version", {"version": "0.13.0"}, "version", "vLLM 0.13.0, expected 0.14.1"),
        ("/version", b"<html>", "version", "did not answer with JSON"),
        ("/version", [1], "version", "did not answer with a JSON object"),
        ("/v1/models", {"data": []}, "models", "expected m"),
        ("/v1/models", {}, "models", "no list of models"),
        (
            "/v1/models",
            {"data": [{"id": MODEL, "max_model_len": 2048}]},
            "models",
            "max_model_len 2048, expected 4096",
        ),
        (CHAT, {"choices": [{"message": {"content": "Berlin."}}]}, "capital", "'Berlin.'"),
        (CHAT, {"choices": [{"message": {"content": None}}]}, "capital", "it answered ''"),
        (CHAT, {"choices": []}, "capital", "no choice in it"),
        (CHAT, (500, b"EngineDeadError"), "capital", "answered 500: EngineDeadError"),
        (CHAT, "break off", "capital", "broke off"),
        (CHAT, "hang", "capital", "did not answer within 1 s"),
    ],
)
def test_one_wrong_answer_fails_its_own_check_alone(
    server: ScriptedServer, path: str, action: Any, check: str, detail: str
) -> None:
    server.script[path] = action
    results = verdicts(server)
    assert [name for name, result in results.items() if not result["passed"]] == [check]
    assert detail in results[check]["detail"]


def test_what_is_not_wanted_is_not_checked(server: ScriptedServer) -> None:
    server.script["/version"] = {"version": "9"}
    results = verdicts(server, release=None, max_model_len=None, questions=[])
    assert list(results) == ["health", "models"]
    assert all(result["passed"] for result in results.values())


def test_nobody_listening_is_said_so(server: ScriptedServer) -> None:
    dead = Endpoint("http://127.0.0.1:1")
    with pytest.raises(EndpointError, match=r"/health cannot be reached: .*refused"):
        dead.health()


def test_a_token_proves_the_engine(server: ScriptedServer) -> None:
    endpoint(server).complete_one_token(MODEL)
    assert server.bodies[0] == {"model": MODEL, "prompt": "1", "max_tokens": 1, "temperature": 0}


@pytest.mark.parametrize(
    "answer",
    [{"choices": []}, {"usage": {"completion_tokens": 0}}, {"usage": None}],
)
def test_an_answer_without_a_token_proves_nothing(
    server: ScriptedServer, answer: dict[str, Any]
) -> None:
    server.script["/v1/completions"] = answer
    with pytest.raises(EndpointError, match="computed no token"):
        endpoint(server).complete_one_token(MODEL)


def test_a_hanging_engine_is_not_waited_for(server: ScriptedServer) -> None:
    server.script["/v1/completions"] = "hang"
    with pytest.raises(EndpointError, match="did not answer within 1 s"):
        endpoint(server).complete_one_token(MODEL)


def test_the_key_is_a_bearer_token() -> None:
    assert Endpoint("http://x", api_key="k").headers["Authorization"] == "Bearer k"
    assert "Authorization" not in Endpoint("http://x").headers


class Thinker:
    """An endpoint that gives one choice."""

    def __init__(self, finish: str, **message: str) -> None:
        self.choice = {"finish_reason": finish, "message": message}

    def json(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"choices": [self.choice]}


@pytest.mark.parametrize(
    ("finish", "message", "answer"),
    [
        ("stop", {"reasoning": "France", "content": "\n\nParis."}, "\n\nParis."),
        ("length", {"reasoning": "France"}, "(it thinks) France"),
        # The thought came to its end, and what follows it has no room any more.
        ("length", {"reasoning": "France", "content": "\n"}, "(it thinks) France"),
        ("length", {"reasoning": "France", "content": "The cap"}, "(it thinks) France"),
        ("length", {"reasoning_content": "France", "content": ""}, "(it thinks) France"),
        ("length", {"content": "Paris is"}, "Paris is"),
    ],
)
def test_a_thought_that_leaves_no_room_is_an_answer(
    finish: str, message: dict[str, str], answer: str
) -> None:
    question = {"messages": [{"role": "user", "content": "?"}], "expect": "Paris"}
    assert check_question(Thinker(finish, **message), "m", question, "reasoning") == answer


def test_a_wrong_answer_after_a_thought_is_wrong() -> None:
    question = {"messages": [{"role": "user", "content": "?"}], "expect": "Paris"}
    with pytest.raises(CheckFailed, match="Rome"):
        check_question(Thinker("stop", reasoning="x", content="Rome"), "m", question, "reasoning")
