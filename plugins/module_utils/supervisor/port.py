# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's port: free before the start, closed to new work before the stop."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
import threading
from typing import TYPE_CHECKING

from .draining import REFUSAL, RETRY_AFTER

if TYPE_CHECKING:
    from types import TracebackType

SO_ATTACH_REUSEPORT_CBPF = 51  # asm-generic/socket.h; Python has no name for it
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: %d\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
) % (RETRY_AFTER, len(REFUSAL), REFUSAL)


def _socket(host: str) -> socket.socket:
    # As vLLM does it: vllm/entrypoints/openai/api_server.py, create_server_socket.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens on the port.

    vLLM itself (0.14.1; later ones with several API servers) would not notice a second server of
    the same user there: it asks for SO_REUSEPORT, and the kernel then deals the connections out to
    both.
    """
    with _socket(host) as trial:
        try:
            trial.bind((host, port))
            trial.listen(1)
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


class Refusal:
    """Takes the port's new connections from the server and refuses them with 503.

    vLLM offers no way to stop accepting. Where it listens with SO_REUSEPORT (0.14.1; 0.26.0 with
    several API servers alone, vllm/entrypoints/cli/serve.py), a second socket of the same user
    joins its group, and a filter (two machine words, no privilege: socket(7),
    SO_ATTACH_REUSEPORT_CBPF) deals every new connection to that one. What the server has accepted
    stays with it; what clients send over connections that they keep, or over new ones where this
    cannot be, it refuses itself (draining.py).

    Args:
        host: The address that the server listens on.
        port: Its port.

    Raises:
        OSError: The server keeps the port to itself.
    """

    def __init__(self, host: str, port: int) -> None:
        self.refused = 0
        self._socket = _socket(host)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((host, port))
        self._socket.listen(128)
        # struct sock_fprog with one instruction, BPF_RET | BPF_K: the group's socket 1, which is
        # this one; the server's own was the first.
        program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 1))
        self._socket.setsockopt(
            socket.SOL_SOCKET,
            SO_ATTACH_REUSEPORT_CBPF,
            struct.pack("HP", 1, ctypes.addressof(program)),
        )
        self._socket.settimeout(0.2)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refuse, daemon=True)

    def _refuse(self) -> None:
        while not self._ended.is_set():
            try:
                client = self._socket.accept()[0]
            except OSError:  # nobody came
                continue
            self.refused += 1
            with client:
                client.settimeout(0.5)
                try:
                    client.recv(65536)
                    client.sendall(_REFUSAL)
                    client.shutdown(socket.SHUT_WR)
                    # What is unread when a socket is closed makes the kernel reset the connection,
                    # and the client may lose the answer.
                    while client.recv(65536):
                        continue
                except OSError:  # it went away, or sends on
                    continue

    def __enter__(self) -> Refusal:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()
