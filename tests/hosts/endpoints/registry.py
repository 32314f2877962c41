# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry of endpoints, as small as one can be: a record an address, kept in memory.

It is real: what is PUT is there for GET until it is DELETEd or the registry is restarted. Its
faults are switched on by the test.

Usage on a throwaway host: registry.py PORT    on the loopback; prints each request with its status
"""

from __future__ import annotations

import contextlib
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

TOKEN = "right-token"  # noqa: S105 - of a registry that lives in a test


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    server: RegistryServer

    def do_GET(self) -> None:
        """Tell a record, with what the registry adds to it."""
        record = self.server.records.get(self.path)
        if self.begin():
            self.send(404 if record is None else 200, record)

    def do_PUT(self) -> None:
        """Keep a record."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.begin():
            known = self.path in self.server.records
            revision = self.server.records.get(self.path, {}).get("revision", 0) + 1
            self.server.records[self.path] = {**json.loads(body), "revision": revision}
            self.send(200 if known else 201, None)

    def do_DELETE(self) -> None:
        """Forget a record."""
        if self.begin():
            gone = self.server.records.pop(self.path, None)
            self.send(404 if gone is None else 204, None)

    def begin(self) -> bool:
        """Note the request; answer it with a fault where one is on."""
        self.server.requests.append((self.command, self.path))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.send(401, {"error": "who are you?"})
            return False
        if self.server.faults:
            fault = self.server.faults.pop(0)
            if fault == "slow":
                self.server.released.wait(5)
                self.close_connection = True
                return False
            if fault is not None:
                self.send(int(fault), {"error": "a fault"})
                return False
        if self.path in self.server.taken and self.command != "GET":
            self.send(409, {"error": "somebody else's"})
            return False
        return True

    def send(self, status: int, value: Any) -> None:
        """Send an answer."""
        data = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if status == 503:
            self.send_header("Retry-After", "3")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Tell a request and its status where that is wanted."""
        if self.server.is_told:
            print(*args[1:3], flush=True)


class RegistryServer(http.server.ThreadingHTTPServer):
    """The registry.

    Attributes:
        records: What it has, by path.
        faults: Of the next requests: `"slow"`, an HTTP status, or None for none.
        taken: Paths that belong to somebody else.
        requests: Method and path of every request.
        is_told: Whether requests are printed.

    Args:
        port: Where it listens on the loopback; any that is free when 0.
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.is_told = False
        self.records: dict[str, dict[str, Any]] = {}
        self.faults: list[str | int | None] = []
        self.taken: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.released = threading.Event()

    @property
    def template(self) -> str:
        """Where records go."""
        return f"http://127.0.0.1:{self.server_port}/v1/endpoints/{{host}}/{{instance}}"

    def restart(self) -> None:
        """Lose everything, as one that keeps its records in memory does."""
        self.records.clear()
        self.requests.clear()


@contextlib.contextmanager
def registering() -> Iterator[RegistryServer]:
    """A registry that runs in a thread."""
    server = RegistryServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def main() -> None:
    """Be a registry until the process is ended."""
    server = RegistryServer(int(sys.argv[1]))
    server.is_told = True
    server.serve_forever()


if __name__ == "__main__":
    main()
