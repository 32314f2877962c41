#!/usr/bin/env python3
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A substitute for a vLLM server, for tests of what stands before it: it computes nothing.

Usage: fake_server.py PORT

It answers `/health`, completions and streams in the form of vLLM, and takes orders in the body of
a request (`n` events, `gap` seconds between them, `sleep` seconds before the first byte,
`break_after` events, `status`). `POST /control` with JSON sets what `/health` and every other
request get from then on: `health` and `status`, HTTP statuses; `GET /control` tells what requests
came, without bodies.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {
    "prompt_tokens": 12,
    "total_tokens": 17,
    "completion_tokens": 5,
    "prompt_tokens_details": None,
}


class Server(ThreadingHTTPServer):
    """The server and what it was told."""

    daemon_threads = True
    request_queue_size = 128
    health = 200
    status = 200

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.seen: list[dict[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    """Answers a request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""

    def answer(self, status: int, content: Any) -> None:
        """Answer with JSON."""
        body = json.dumps(content, separators=(",", ":")).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        """The body of the request, chunked or not."""
        if "content-length" in self.headers:
            return self.rfile.read(int(self.headers["content-length"]))
        parts = b""
        while "transfer-encoding" in self.headers:
            size = int(self.rfile.readline(), 16)
            parts += self.rfile.read(size)
            self.rfile.readline()
            if not size:
                break
        return parts

    def do_GET(self) -> None:
        """`/health` and `/control`."""
        if self.path == "/control":
            self.answer(200, self.server.seen)
        else:
            self.answer(self.server.health if self.path == "/health" else self.server.status, {})

    def do_POST(self) -> None:
        """Everything else."""
        body = self.body()
        wanted = json.loads(body)
        if self.path == "/control":
            for name, value in wanted.items():
                setattr(self.server, name, value)
            self.answer(200, {})
            return
        self.server.seen.append(
            {
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "length": len(body),
            }
        )
        time.sleep(wanted.get("sleep", 0))
        status = wanted.get("status", self.server.status)
        if status != 200:
            self.answer(status, {"error": {"message": "as told", "code": status}})
        elif wanted.get("stream"):
            self.stream(wanted)
        else:
            self.answer(
                200,
                {
                    "id": "x",
                    "object": "chat.completion",
                    "created": 0,
                    "model": wanted["model"],
                    "choices": [
                        {
                            "index": 0,
                            "message": {"role": "assistant", "content": "Paris"},
                            "finish_reason": "stop",
                        }
                    ],
                    "usage": USAGE,
                },
            )

    def chunk(self, data: bytes) -> None:
        """One chunk of a chunked body."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def stream(self, wanted: dict[str, Any]) -> None:
        """Server-sent events."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        part = {
            "id": "x",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": wanted["model"],
        }
        for number in range(wanted.get("n", 5)):
            if number == wanted.get("break_after"):
                self.close_connection = True
                return
            delta = {"content": f"{number} "}
            event = {
                **part,
                "sent": time.time(),
                "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
            }
            self.chunk(b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n")
            time.sleep(wanted.get("gap", 0.01))
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        self.chunk(b"data: " + json.dumps({**part, "choices": [end]}).encode() + b"\n\n")
        if (wanted.get("stream_options") or {}).get("include_usage"):
            last = {**part, "choices": [], "usage": USAGE}
            self.chunk(b"data: " + json.dumps(last, separators=(",", ":")).encode() + b"\n\n")
        self.chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")


if __name__ == "__main__":
    Server(int(sys.argv[1])).serve_forever()
