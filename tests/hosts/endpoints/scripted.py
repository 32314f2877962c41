# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An OpenAI-compatible server that says what a test tells it to: a substitute for vLLM's.

It is a real HTTP server; what it answers is a table from the kind of request to an action. The
well-behaved one (`GOOD`) passes every check of the suite.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

MODEL = "m"
LENGTH = 128
KEY = "right-key"

TRADITIONAL = (
    "機器學習是人工智慧的一個分支，讓電腦系統從大量資料中學習規律，而不必逐條寫出規則。"  # noqa: RUF001
    "演算法根據訓練資料建立模型，再利用這個模型對新的資料進行預測或分類。"  # noqa: RUF001
    "隨著經驗的累積，模型的表現會逐漸改善。"  # noqa: RUF001
)
SIMPLIFIED = (
    "机器学习是人工智能的一个分支，让电脑系统从大量数据中学习规律，而不必逐条写出规则。"  # noqa: RUF001
    "算法根据训练数据建立模型，再利用这个模型对新的数据进行预测或分类。"  # noqa: RUF001
)
PRIME = """Here it is:
```python
def is_prime(n):
    if n < 2:
        return False
    for divisor in range(2, int(n ** 0.5) + 1):
        if n % divisor == 0:
            return False
    return True
```
"""
REFUSAL = "I'm sorry, but I can't help with that."


def chat(text: str | None, **message: Any) -> dict[str, Any]:
    """A chat completion with one choice."""
    answer = {"role": "assistant", "content": text, **message}
    return {"choices": [{"index": 0, "message": answer, "finish_reason": "stop"}]}


def tool_call(name: str, arguments: str) -> dict[str, Any]:
    """A chat completion that calls a tool."""
    function = {"name": name, "arguments": arguments}
    return chat(None, tool_calls=[{"id": "1", "type": "function", "function": function}])


def chunks(pieces: list[str], *, reason: str | None = "stop", done: bool = True) -> bytes:
    """The events of a streamed chat completion."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in pieces]
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": delta, "finish_reason": None} for delta in deltas
    ]
    if reason is not None:
        choices.append({"index": 0, "delta": {}, "finish_reason": reason})
    lines = [json.dumps({"choices": [choice]}) for choice in choices] + (["[DONE]"] if done else [])
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def kind_of(path: str, body: dict[str, Any] | None) -> str:
    """Which check a request belongs to, told from what it asks."""
    if body is None or "messages" not in body:
        return path
    if body.get("stream"):
        return "stream"
    if "response_format" in body:
        return "structured"
    if "tools" in body:
        return "tools"
    last = body["messages"][-1]["content"]
    if isinstance(last, list):
        return "picture"
    for word, kind in (
        ("機器學習", "chinese"),
        ("is_prime", "is_prime"),
        ("15 * 23", "turn 1"),
        ("Divide that", "turn 2"),
        ("in words", "concurrent"),
    ):
        if word in last:
            return kind
    return "question"


def completions(body: dict[str, Any]) -> tuple[int, Any]:
    """As vLLM: a prompt that leaves no room for an answer is the request's fault."""
    count = len(body["prompt"])
    if count + body["max_tokens"] > LENGTH:
        message = f"This model's maximum context length is {LENGTH} tokens."
        return 400, {"error": {"message": message, "code": 400}}
    return 200, {"choices": [{"text": "x"}], "usage": {"prompt_tokens": count}}


GOOD: dict[str, Any] = {
    "/health": b"",
    "/version": {"version": "0.14.1+cpu"},
    "/v1/models": {"data": [{"id": MODEL, "max_model_len": LENGTH}]},
    "/v1/completions": completions,
    "stream": chunks(["one ", "two ", "three"]),
    "structured": chat('{"city": "Paris", "is_capital": true}'),
    "tools": tool_call("get_weather", '{"city": "Taipei"}'),
    "chinese": chat(TRADITIONAL),
    "is_prime": chat(PRIME),
    "turn 1": chat("345"),
    "turn 2": chat("345 / 5 = 69"),
    "concurrent": chat("one"),
    "question": chat("It is Paris."),
}
"""Actions: bytes or JSON (answered with 200), `(status, bytes or JSON)`, a function of the
request's body that gives one of those, `"hang"`, or `("break off", bytes)`: those bytes of a
longer answer."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what the server's script says."""

    server: ScriptedServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """A request without a body."""
        self.answer(None)

    def do_POST(self) -> None:
        """A request with one."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        form = self.headers.get("Content-Type", "").startswith("multipart/")
        self.answer({"form": content} if form else json.loads(content))

    def answer(self, body: dict[str, Any] | None) -> None:
        """Do what the script says."""
        kind = kind_of(self.path, body)
        with self.server.lock:
            self.server.requests.append((kind, body))
        key = self.server.key
        if (
            key is not None
            and self.path.startswith("/v1")
            and self.headers["Authorization"] != f"Bearer {key}"
        ):
            self.send(401, b'{"error": "Unauthorized"}')
            return
        action = self.server.script[kind]
        if callable(action):
            action = action(body)
        if action == "hang":
            self.server.released.wait(20)
            self.close_connection = True
            return
        if isinstance(action, tuple) and action[0] == "break off":
            self.send(200, action[1], announce=len(action[1]) + 1000)
            self.close_connection = True
            return
        status, content = action if isinstance(action, tuple) else (200, action)
        self.send(status, content if isinstance(content, bytes) else json.dumps(content).encode())

    def send(self, status: int, data: bytes, announce: int | None = None) -> None:
        """Send an answer, or a part of a longer one that is announced."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if announce is None else announce))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Nothing."""


class ScriptedServer(http.server.ThreadingHTTPServer):
    """The server.

    Attributes:
        script: What it does for each kind of request.
        key: The API key that it asks for.
        requests: What it was asked: kind and body.
    """

    daemon_threads = True

    def __init__(self, address: str = "127.0.0.1") -> None:
        super().__init__((address, 0), Handler)
        self.script: dict[str, Any] = dict(GOOD)
        self.key: str | None = None
        self.requests: list[tuple[str, dict[str, Any] | None]] = []
        self.released = threading.Event()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{self.server_address[0]!s}:{self.server_port}"


@contextlib.contextmanager
def serving(address: str = "127.0.0.1") -> Iterator[ScriptedServer]:
    """A scripted server that runs in a thread."""
    server = ScriptedServer(address)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
