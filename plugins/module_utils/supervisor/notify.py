# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service tells systemd: sd_notify(3) over the standard library."""

from __future__ import annotations

import contextlib
import os
import socket

TIMEOUT = 5.0
"""Seconds that the service manager may take to make room for a message."""


class Notifier:
    """Sender of states to the service manager; silent where none listens.

    Args:
        address: `$NOTIFY_SOCKET`; a path, or an abstract address beginning with `@`.
    """

    def __init__(self, address: str | None = None) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status: str | None = None

    def send(self, *lines: str) -> None:
        """Send lines such as `READY=1` in one datagram."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            # PID 1 that does not read must not stop the one who watches over a server.
            connection.settimeout(TIMEOUT)
            with contextlib.suppress(socket.timeout):
                connection.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)

    def status(self, text: str) -> None:
        """Say what is going on, where it is something new; `systemctl status` shows it."""
        text = " ".join(text.split())
        if text != self._status:
            self._status = text
            self.send(f"STATUS={text}")
