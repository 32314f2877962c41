# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which TCP ports are taken, and by whom."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.processes import Processes

_LISTEN = "0A"  # TCP_LISTEN in the kernel's include/net/tcp_states.h


def parse_address(text: str) -> tuple[str, int]:
    """Reads an address of /proc/net/tcp or tcp6.

    Args:
        text: "0100007F:1F40"; the address is printed as 32-bit words in the CPU's byte order.

    Returns:
        Address and port, for example ("127.0.0.1", 8000) or ("::", 22).
    """
    address, port = text.split(":")
    order = "<" if sys.byteorder == "little" else ">"
    words = [int(address[start : start + 8], 16) for start in range(0, len(address), 8)]
    packed = struct.pack(f"{order}{len(words)}I", *words)
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed), int(port, 16)


def listening(table: str) -> list[tuple[str, int, int, str]]:
    """Picks the listening sockets out of /proc/net/tcp or tcp6.

    Returns:
        (address, port, user id, inode) for each.
    """
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTEN:
            address, port = parse_address(fields[1])
            found.append((address, port, int(fields[7]), fields[9]))
    return found


def read(host: Host) -> list[dict[str, Any]]:
    """Reads `facts.ports`.

    Args:
        host: The machine.

    Returns:
        For every listening TCP socket of this network namespace, by port: address, port, user (who
        made it), pid, process and unit; the last three None where this user may not see who holds
        it.
    """
    sockets = [
        entry
        for path in ("/proc/net/tcp", "/proc/net/tcp6")
        for entry in listening(host.read_text(path) or "")
    ]
    owners = host.socket_owners(entry[3] for entry in sockets)
    processes = Processes(host)
    facts = []
    for address, port, uid, inode in sorted(sockets, key=lambda entry: (entry[1], entry[0])):
        pid = owners.get(inode)
        facts.append(
            {
                "address": address,
                "port": port,
                "user": host.user_name(uid),
                "pid": pid,
                "process": None if pid is None else processes.command(pid),
                "unit": None if pid is None else processes.unit(pid),
            }
        )
    return facts


def local_addresses(fib_trie: str | None, if_inet6: str | None) -> list[str] | None:
    """The addresses that this host has itself.

    Args:
        fib_trie: /proc/net/fib_trie, the kernel's IPv4 routes; None where it is not there.
        if_inet6: /proc/net/if_inet6; None without IPv6.

    Returns:
        Them, IPv4 first; None where they cannot be read.
    """
    if fib_trie is None:
        return None
    found, address = set(), ""
    for line in fib_trie.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            address = words[1]
        elif words == ["/32", "host", "LOCAL"]:
            found.add(ipaddress.ip_address(address))
    six = {
        ipaddress.ip_address(int(line.split()[0], 16).to_bytes(16, "big"))
        for line in (if_inet6 or "").splitlines()
    }
    return [str(one) for one in sorted(found)] + [str(one) for one in sorted(six)]
