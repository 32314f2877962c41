# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the members of a group reach each other: a line and its answer over a connection each.

A connection of its own for each report: one that stays open does not tell whether a cable is
pulled. The leader listens on its address in the group's network alone, and reads nothing from an
address that is no member's. There is no key: what vLLM itself opens there has none either, so the
network must be one that is trusted (docs/groups.md).
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import socketserver
import struct
import threading
from typing import Callable

from .group import (
    Following,
    Group,
    NotUnderstood,
    Orders,
    Report,
    read_orders,
    read_report,
    written,
)

BEAT = 1.0
"""Seconds between two reports."""
PATIENCE = 3.0
"""Seconds that a connection, or an answer, may take."""
LONGEST = 4096
"""Bytes of a line at most."""


def interface_of(address: str, route: str, if_inet6: str) -> str | None:
    """The network interface that has an address, by the kernel's tables.

    Args:
        address: An IPv4 or IPv6 address of this host.
        route: `/proc/net/route`: each network that an interface is in, as hexadecimal numbers
            in the machine's order of bytes.
        if_inet6: `/proc/net/if_inet6`: each IPv6 address with its interface.
    """
    wanted = ipaddress.ip_address(address)
    if wanted.version == 6:
        for line in if_inet6.splitlines():
            words = line.split()
            if len(words) == 6 and int(words[0], 16) == int(wanted):
                return words[5]
        return None
    best, found = -1, None
    for line in route.splitlines()[1:]:
        words = line.split()
        if len(words) < 8 or int(words[2], 16):
            continue  # it goes by a gateway
        network, mask = (
            int.from_bytes(struct.pack("=I", int(words[place], 16)), "big") for place in (1, 7)
        )
        if mask > best and int(wanted) & mask == network:
            best, found = mask, words[0]
    return found


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class Leader:
    """Answers the followers.

    Args:
        group: The group; its own address and port are listened on.
        answer: Takes a report of a member, and gives the orders.

    Raises:
        OSError: The address is not there yet, or the port is taken.
    """

    def __init__(self, group: Group, answer: Callable[[Report], Orders]) -> None:
        known = {ipaddress.ip_address(one.address): rank for rank, one in group.followers.items()}

        class Handler(socketserver.StreamRequestHandler):
            timeout = PATIENCE

            def handle(self) -> None:
                rank = known.get(ipaddress.ip_address(self.client_address[0]))
                if rank is None:
                    return
                with contextlib.suppress(OSError, NotUnderstood):
                    report = read_report(self.rfile.readline(LONGEST))
                    if report.rank == rank:
                        self.wfile.write(written(answer(report)))

        class Server(_Server):
            address_family = socket.AF_INET6 if ":" in group.me.address else socket.AF_INET

            def verify_request(self, _request: object, client_address: tuple[str, int]) -> bool:
                return ipaddress.ip_address(client_address[0]) in known

            def handle_error(self, _request: object, _client_address: object) -> None:
                """A connection that breaks is none of the leader's faults."""

        self._server = Server((group.me.address, group.port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


def ask_leader(group: Group, report: Report) -> Orders:
    """Report to the leader.

    Raises:
        OSError: It cannot be reached.
        NotUnderstood: Somebody else answers, or nobody in time.
    """
    with socket.create_connection(
        (group.leader.address, group.port), PATIENCE, (group.me.address, 0)
    ) as connection:
        connection.sendall(written(report))
        with connection.makefile("rb") as stream:
            line = stream.readline(LONGEST)
    if not line:
        raise NotUnderstood("it closes the connection: this host's address is not one it knows")
    return read_orders(line)


class Follower:
    """Reports to the leader once a second, in a thread.

    Args:
        following: What is made of the answers.
        report: Says what to report now.
        clock: The monotonic time.
    """

    def __init__(
        self, following: Following, report: Callable[[], Report], clock: Callable[[], float]
    ) -> None:
        self._following = following
        self._report = report
        self._clock = clock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="reports")
        self._thread.start()

    def once(self) -> bool:
        """Report once; says whether the leader has heard it."""
        try:
            orders = ask_leader(self._following.group, self._report())
        except (OSError, NotUnderstood) as problem:
            self._following.miss(str(problem), isinstance(problem, ConnectionRefusedError))
            return False
        self._following.hear(orders, self._clock())
        return True

    def _run(self) -> None:
        while not self._ended.wait(BEAT):
            self.once()

    def close(self) -> None:
        """Report no more."""
        self._ended.set()
