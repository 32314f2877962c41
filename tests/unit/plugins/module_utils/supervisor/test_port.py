# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.port import (
    Refusal,
    is_free,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # As vLLM binds: vllm/entrypoints/openai/api_server.py, create_server_socket.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()


@pytest.fixture
def port() -> Iterator[int]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def status(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/")
    response = connection.getresponse()
    response.read()
    return response.status


def ask(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        return status(connection)


def test_new_connections_are_refused_and_old_ones_stay_with_the_server(port: int) -> None:
    old = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(old):
        assert status(old) == 200
        with Refusal("127.0.0.1", port) as refusal:
            assert [ask(port) for _ in range(20)] == [503] * 20
            assert status(old) == 200
        assert refusal.refused == 20


def test_a_request_in_two_parts_is_refused_and_not_reset(port: int) -> None:
    with Refusal("127.0.0.1", port), socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
        time.sleep(0.1)
        client.sendall(b'{"a": 1}\n')
        assert client.recv(4096).startswith(b"HTTP/1.1 503 ")


def test_afterwards_the_server_has_its_port_again(port: int) -> None:
    with Refusal("127.0.0.1", port):
        pass
    assert [ask(port) for _ in range(20)] == [200] * 20


def test_a_port_with_a_listener_is_not_free(port: int) -> None:
    assert not is_free("127.0.0.1", port)


def test_a_port_without_a_listener_is_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number = taken.getsockname()[1]
    assert is_free("127.0.0.1", number)
