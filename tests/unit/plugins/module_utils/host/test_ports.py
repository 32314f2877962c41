# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import socket
import sys

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.host import ports
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.fake_host import (
    FakeHost,
)

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
LINE = "   0: {} 00000000:0000 {} 00000000:00000000 00:00000000 00000000  0  0 {} 1 0\n"


@pytest.mark.skipif(sys.byteorder != "little", reason="the addresses are a little-endian CPU's")
@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F:1F40", ("127.0.0.1", 8000)),
        ("00000000:0016", ("0.0.0.0", 22)),
        ("00000000000000000000000000000000:0050", ("::", 80)),
        ("00000000000000000000000001000000:1F40", ("::1", 8000)),
        ("0000000000000000FFFF00000100007F:1F40", ("::ffff:127.0.0.1", 8000)),
        ("B80D01200000000000000000010000FE:FFFF", ("2001:db8::fe00:1", 65535)),
    ],
)
def test_address(text, address):
    assert ports.parse_address(text) == address


def test_only_listening_sockets():
    table = HEADER + LINE.format("0100007F:1F40", "0A", 11) + LINE.format("0100007F:1F41", "01", 12)
    assert [entry[1:] for entry in ports.listening(table)] == [(8000, 0, "11")]


@pytest.mark.parametrize("table", ["", HEADER, "garbage\nmore garbage\n"])
def test_nothing_listens(table):
    assert ports.listening(table) == []


def test_read():
    host = FakeHost(
        {
            "/proc/net/tcp": HEADER
            + LINE.format("0100007F:1F40", "0A", 11).replace("  0  0 11", "  998  0 11")
            + LINE.format("00000000:0016", "0A", 12),
            "/proc/net/tcp6": HEADER + LINE.format("0" * 32 + ":0016", "0A", 13),
            "/proc/77/cmdline": "python3\0",
            "/proc/77/cgroup": "0::/system.slice/vllm@chat.service\n",
        },
        sockets={"11": 77, "13": 78},
        users={998: "vllm"},
    )
    ssh = {"port": 22, "user": "root", "process": None, "unit": None}
    assert ports.read(host) == [
        {**ssh, "address": "0.0.0.0", "pid": None},
        # Its process ended in between.
        {**ssh, "address": "::", "pid": 78},
        {
            "address": "127.0.0.1",
            "port": 8000,
            "user": "vllm",
            "pid": 77,
            "process": "python3",
            "unit": "vllm@chat.service",
        },
    ]


def test_a_kernel_without_ipv6():
    assert ports.read(FakeHost({"/proc/net/tcp": HEADER})) == []


def test_this_machine():
    with socket.create_server(("127.0.0.1", 0)) as four:
        port = four.getsockname()[1]
        [entry] = [entry for entry in ports.read(Host()) if entry["port"] == port]
    assert (entry["address"], entry["pid"]) == ("127.0.0.1", os.getpid())


@pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="this kernel has no IPv6")
def test_this_machine_ipv6():
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        port = six.getsockname()[1]
        [entry] = [entry for entry in ports.read(Host()) if entry["port"] == port]
    assert (entry["address"], entry["pid"]) == ("::1", os.getpid())


FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
        +-- 10.77.0.0/24 2 0 2
           |-- 10.77.0.0
              /24 link UNICAST
           |-- 10.77.0.1
              /32 host LOCAL
           |-- 10.77.0.255
              /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
"""
IF_INET6 = "fd000000000000000000000000000002 04 40 00 82     eth0\n"


def test_local_addresses():
    assert ports.local_addresses(FIB_TRIE, IF_INET6) == ["10.77.0.1", "127.0.0.1", "fd00::2"]
    assert ports.local_addresses(FIB_TRIE, None) == ["10.77.0.1", "127.0.0.1"]
    assert ports.local_addresses(None, IF_INET6) is None
