# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small client, against the rules of huggingface_hub's errors and against odd servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.ask import (
    Asker,
    HubRefusal,
    certificates,
    refusal_code,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.errors import refusal

# hf_raise_for_status of huggingface_hub 1.33.0, and what the Hub sends.
RULES: list[tuple[int, dict[str, str], str]] = [
    (401, {"X-Error-Code": "GatedRepo"}, "gated"),
    (403, {"X-Error-Code": "GatedRepo"}, "gated"),
    (404, {"X-Error-Code": "RevisionNotFound"}, "revision"),
    (404, {"X-Error-Code": "EntryNotFound"}, "entry"),
    (404, {"X-Error-Code": "RepoNotFound"}, "repository"),
    (401, {"X-Error-Code": "RepoNotFound"}, "repository"),
    (401, {"X-Error-Message": "Invalid username or password."}, "repository"),
    (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "token"),
    (403, {"X-Error-Message": "Access to this resource is disabled."}, "disabled"),
    (403, {}, "forbidden"),
    (404, {}, "endpoint"),
    (416, {}, "range"),
    (429, {}, "rate"),
    (500, {}, "server"),
    (503, {}, "server"),
]


@pytest.mark.parametrize(("status", "headers", "code"), RULES)
def test_the_code_of_a_refusal(status: int, headers: dict[str, str], code: str) -> None:
    message = Message()
    for name, value in headers.items():
        message[name.lower()] = value  # as proxies send them
    assert refusal_code(status, message) == code
    event = {"code": code, "status": status, "message": ""}
    texts = refusal(event, "org/name", "main", "https://hub.example/", has_token=False)
    passing = code in ("entry", "range", "rate", "server")
    assert (texts is None) == passing
    if texts is not None:
        assert "{" not in "".join(texts)


def test_certificates_of_the_host_unless_others_are_named() -> None:
    there = "/etc/pki/tls/certs/ca-bundle.crt"
    assert certificates({}, lambda path: path == there) == there
    assert certificates({}, lambda _path: False) is None
    assert certificates({"SSL_CERT_FILE": "/x"}, lambda _path: True) is None
    assert certificates({"SSL_CERT_DIR": "/x"}, lambda _path: True) is None


Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A server that answers each request so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_arguments: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", headers.pop("length", str(len(body))))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (lambda one: reply(one, 200, b"<html>"), "endpoint", "not JSON"),
        (lambda one: reply(one, 200, b"[]"), "endpoint", "not a JSON object"),
        (lambda one: reply(one, 302, b"", Location="/login"), "endpoint", "without an end"),
        (lambda one: reply(one, 302, b"", Location="file:///etc/passwd"), "network", "not an addr"),
        (lambda one: reply(one, 302, b""), "server", ""),
        (lambda one: one.wfile.write(b"nonsense\r\n\r\n"), "network", ""),
        (lambda one: reply(one, 200, b"{", length="9"), "network", ""),
    ],
)
def test_servers_that_are_no_hub(answer: Answer, code: str, words: str) -> None:
    with serving(answer) as url, pytest.raises(HubRefusal) as refused:
        Asker(url, None, 5).info("org/name", "main")
    assert refused.value.event["code"] == code
    assert words in refused.value.event["message"]


def test_a_token_goes_to_the_endpoint_and_to_no_other_server() -> None:
    seen: list[tuple[str, str | None]] = []

    def other(handler: BaseHTTPRequestHandler) -> None:
        seen.append(("other", handler.headers["Authorization"]))
        reply(handler, 200, b"{}")

    with serving(other) as elsewhere:

        def first(handler: BaseHTTPRequestHandler) -> None:
            seen.append((handler.path, handler.headers["Authorization"]))
            target = elsewhere if handler.path == "/second" else "/second"
            reply(handler, 307, b"", Location=target)

        with serving(first) as url:
            assert Asker(url, "hf_x", 5).get("/first") == b"{}"
    assert seen == [("/first", "Bearer hf_x"), ("/second", "Bearer hf_x"), ("other", None)]


def test_a_small_file_that_is_not_small_is_not_read() -> None:
    with serving(lambda one: reply(one, 200, b"x" * 1000)) as url:
        assert len(Asker(url, None, 5).text("o/n", "c", "f", 1000)) == 1000
        with pytest.raises(HubRefusal, match="larger than 999 bytes"):
            Asker(url, None, 5).text("o/n", "c", "f", 999)


def test_parts_of_files() -> None:
    ranges: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        ranges.append(handler.headers["Range"])
        reply(handler, 206 if "whole" not in handler.path else 200, b"0123456789")

    with serving(answer) as url:
        asker = Asker(url, None, 5)
        assert asker.part("o/n", "c", "f", 5, 9) == b"0123"
        # Who ignores the range begins at the beginning; no more is read than was asked for.
        assert asker.part("o/n", "c", "whole", 0, 3) == b"012"
        with pytest.raises(HubRefusal, match="parts of files"):
            asker.part("o/n", "c", "whole", 5, 9)
    assert ranges == ["bytes=5-8", "bytes=0-2", "bytes=5-8"]
