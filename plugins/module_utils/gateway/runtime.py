# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running gateway is told and asked, over HAProxy's runtime API.

https://docs.haproxy.org/2.6/management.html#9.3
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import socket
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Callable

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed

SOCKET = "/run/vllm-gateway/admin.sock"
FORCED_DRAIN = 0x08
"""In `srv_admin_state`: management manual 2.6, 9.3, "show servers state"."""
UP = ("UP", "no check")
"""How HAProxy begins the state of a server that gets requests."""


def _safe(text: str) -> str:
    """A name of HAProxy's (letters, digits and `-_.:`), other for each text."""
    safe = re.sub(r"[^A-Za-z0-9._:-]", "_", text)
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def backend_name(model: str) -> str:
    """The backend of a model."""
    return _safe(f"model:{model}")


def server_name(host: str, instance: str) -> str:
    """The server of an instance, in each backend of a name that it serves."""
    return _safe(f"{host}:{instance}")


@dataclass(frozen=True)
class Server:
    """A server as a gateway sees it.

    Attributes:
        backend: The model's backend.
        name: Of the server in it.
        status: HAProxy's word: `UP`, `DOWN 1/2`, `DRAIN`, `MAINT`, `no check`.
        sessions: Requests under way and in its queue.
        is_drained: Whether somebody has set it to drain.
    """

    backend: str
    name: str
    status: str
    sessions: int
    is_drained: bool = False

    @property
    def serves(self) -> bool:
        """Whether it gets new requests."""
        return self.status.startswith(UP)

    @property
    def path(self) -> str:
        """Its name in HAProxy's commands."""
        return f"{self.backend}/{self.name}"


def read_drained(text: str) -> set[tuple[str, str]]:
    """Backend and server of each that somebody has set to drain, in `show servers state`."""
    lines = [line.split() for line in text.splitlines()]
    columns = next((line[1:] for line in lines if line[:1] == ["#"]), [])
    rows = [dict(zip(columns, line)) for line in lines if len(line) == len(columns)]
    return {
        (row["be_name"], row["srv_name"])
        for row in rows
        if int(row["srv_admin_state"]) & FORCED_DRAIN
    }


def read_servers(stat: str, state: str) -> list[Server]:
    """The servers.

    Args:
        stat: The answer to `show stat`, CSV with its header after `# `.
        state: The answer to `show servers state`.
    """
    drained = read_drained(state)
    return [
        Server(
            row["pxname"],
            row["svname"],
            row["status"],
            int(row["scur"] or 0) + int(row["qcur"] or 0),
            (row["pxname"], row["svname"]) in drained,
        )
        for row in csv.DictReader(io.StringIO(stat.lstrip("# ")))
        if row.get("type") == "2"
    ]


def of(servers: Iterable[Server], names: Collection[str]) -> list[Server]:
    """Those of some names, in whatever backend."""
    return [server for server in servers if server.name in names]


def without_another(servers: Collection[Server], names: Collection[str]) -> list[str]:
    """The backends that nobody serves but the servers that are to be taken out."""
    return sorted(
        {
            server.backend
            for server in servers
            if server.name in names
            and server.serves
            and not any(
                other.backend == server.backend and other.name not in names and other.serves
                for other in servers
            )
        }
    )


class Gateway:
    """A running gateway.

    Args:
        path: Its socket.
        timeout: Seconds for one answer.
        sleep: Waits.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        path: str = SOCKET,
        timeout: float = 10.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.timeout = timeout
        self.sleep = sleep
        self.clock = clock

    def ask(self, command: str) -> str:
        """The answer to one command.

        Raises:
            Failed: Nobody answers.
        """
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                stream.settimeout(self.timeout)
                stream.connect(self.path)
                stream.sendall(f"{command}\n".encode())
                answer = b""
                while True:
                    part = stream.recv(1 << 16)
                    if not part:
                        return answer.decode("utf-8", "replace")
                    answer += part
        except OSError as problem:
            raise Failed(
                f"the gateway does not answer on {self.path} ({problem}); see: systemctl status"
                " vllm-gateway, and run gateway.yml"
            ) from problem

    def servers(self) -> list[Server]:
        """All servers."""
        return read_servers(self.ask("show stat"), self.ask("show servers state"))

    def pid(self) -> str:
        """The process that takes requests now; another one after each reload."""
        return dict(
            line.split(": ", 1) for line in self.ask("show info").splitlines() if ": " in line
        ).get("Pid", "")

    def set_state(self, servers: Iterable[Server], state: str) -> None:
        """Have servers drain, or get requests again as soon as they are well.

        Args:
            servers: Which.
            state: `drain` or `ready`.

        Raises:
            Failed: HAProxy refuses.
        """
        for server in servers:
            answer = self.ask(f"set server {server.path} state {state}").strip()
            if answer:
                raise Failed(f"the gateway would not set {server.path} to {state}: {answer}")

    def wait(
        self,
        names: Collection[str],
        is_done: Callable[[Mapping[str, Server]], bool],
        seconds: float,
    ) -> list[Server]:
        """Wait for servers; returns them as they are then, whether it is done or not.

        Args:
            names: Which.
            is_done: Asked of the servers by their paths.
            seconds: The longest.
        """
        end = self.clock() + seconds
        while True:
            found = of(self.servers(), names)
            if is_done({server.path: server for server in found}) or self.clock() >= end:
                return found
            self.sleep(0.25)
