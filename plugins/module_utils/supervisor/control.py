# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a broker and the supervisor of a model on demand say to each other, over a Unix socket.

The broker imports this, and its sandbox lets it make no memory executable, as `ctypes` does.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from typing import TYPE_CHECKING

from .phases import ASLEEP

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTROL = "control"
"""The socket's name in the unit's runtime directory."""
WAKE, SLEEP, REST = b"wake\n", b"sleep\n", b"rest\n"
"""Orders: have a server, and have it awake; have it sleep; have none."""
LONGEST_KEPT = 1800.0
"""Seconds for which a model is kept awake by a run that has not said any more of it."""
ASLEEP_SUMMARY = "it is asleep, and started by the first request"
SLEEPING_SUMMARY = "it is asleep, and woken by the first request"


def kept_path(run_dir: str, name: str) -> str:
    """The file of who starts and proves a model: it keeps the model awake while it is there."""
    return os.path.join(run_dir, f".{name}.kept-awake")


class Control:
    """The socket over which a broker asks for phases, and hears of them.

    Args:
        path: The socket's.

    Attributes:
        awake: Set while a server is wanted awake.
        sleeps: Whether it may sleep where it is not; else it is to be stopped.
        turned: Set when an order comes.
        figures: What is told beside each phase: see `demand.OnDemand`.
    """

    def __init__(self, path: str) -> None:
        self.awake = threading.Event()
        self.turned = threading.Event()
        self.sleeps = False
        self.figures: Mapping[str, float] = {}
        self._told = json.dumps({"phase": ASLEEP}).encode() + b"\n"
        self._clients: list[socket.socket] = []
        self._lock = threading.Lock()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        mask = os.umask(0o077)  # the same user alone, also where the unit says nothing of it
        try:
            self._socket.bind(path)
        finally:
            os.umask(mask)
        self._socket.listen(8)
        threading.Thread(target=self._accept, daemon=True, name="control").start()

    def tell(self, phase: str, why: str = "") -> None:
        """Tell all who listen, and all who come, the phase."""
        with self._lock:
            told = {"phase": phase, "why": why, "figures": dict(self.figures)}
            self._told = json.dumps(told).encode() + b"\n"
            for client in list(self._clients):
                self._send(client)

    def _send(self, client: socket.socket) -> None:
        try:
            client.sendall(self._told)
        except OSError:  # it went away, or reads nothing
            if client in self._clients:
                self._clients.remove(client)

    def _accept(self) -> None:
        while True:
            client = self._socket.accept()[0]
            client.settimeout(5.0)
            with self._lock:
                self._clients.append(client)
                self._send(client)
            threading.Thread(target=self._hear, args=(client,), daemon=True).start()

    def _hear(self, client: socket.socket) -> None:
        client.settimeout(None)
        with contextlib.suppress(OSError), client, client.makefile("rb") as lines:
            for line in lines:
                if line == WAKE:
                    self.awake.set()
                elif line in (SLEEP, REST):
                    self.sleeps = line == SLEEP
                    self.awake.clear()
                self.turned.set()
        with self._lock:
            if client in self._clients:
                self._clients.remove(client)
