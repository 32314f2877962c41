# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The members of a group over real sockets of this machine's loopback."""

from __future__ import annotations

import contextlib
import socket

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.group import (
    WAITING,
    Group,
    Leading,
    Member,
    NotUnderstood,
    Report,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.wire import (
    Leader,
    ask_leader,
    interface_of,
)

ROUTE = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0100000A	0003	0	0	0	00000000	0	0	0
eth0	0000000A	00000000	0001	0	0	0	0000FFFF	0	0	0
eth1	0005000A	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""
IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fd000000000000000000000000000007 02 40 00 80     eth1
"""


@pytest.mark.parametrize(
    ("address", "interface"),
    [
        ("10.0.0.7", "eth0"),
        ("10.0.5.7", "eth1"),
        ("192.0.2.7", None),
        ("fd00::7", "eth1"),
        ("fd00::8", None),
    ],
)
def test_the_interface_of_an_address(address, interface):
    assert interface_of(address, ROUTE, IF_INET6) == interface


@pytest.fixture
def group():
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    return Group(0, port, "f1", (Member("a", "127.0.0.1"), Member("b", "127.0.0.2")))


@pytest.fixture
def leader(group):
    leading = Leading(group, "g1")
    with contextlib.closing(Leader(group, lambda report: leading.hear(report, 0.0))):
        yield leading


def member(group, rank):
    return Group(rank, group.port, group.fingerprint, group.members)


@pytest.mark.usefixtures("leader")
def test_a_member_is_answered(group):
    orders = ask_leader(member(group, 1), Report(1, "f1", WAITING))
    assert (orders.generation, orders.phase) == ("g1", "gathering")


def test_who_is_no_member_is_not_read(group, leader):
    stranger = Group(1, group.port, "f1", (group.members[0], Member("b", "127.0.0.3")))
    with pytest.raises((NotUnderstood, OSError)):
        ask_leader(stranger, Report(1, "f1", WAITING))
    assert "has not been heard of" in leader.absent(0.0)


def test_a_member_speaks_for_itself_alone(group, leader):
    three = Group(0, group.port, "f1", (*group.members, Member("c", "127.0.0.3")))
    with pytest.raises((NotUnderstood, OSError)):
        ask_leader(member(three, 1), Report(2, "f1", WAITING))
    assert "has not been heard of" in leader.absent(0.0)


@pytest.mark.usefixtures("leader")
def test_it_listens_on_its_own_address_alone(group):
    with socket.socket() as trial, pytest.raises(ConnectionRefusedError):
        trial.connect(("127.0.0.9", group.port))


def test_a_line_without_end_is_not_read_on(group, leader):
    with socket.create_connection(("127.0.0.1", group.port), 5, ("127.0.0.2", 0)) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(b"x" * 100_000)
        with contextlib.suppress(ConnectionError):
            assert connection.recv(100) == b""
    assert "has not been heard of" in leader.absent(0.0)


def test_a_port_that_is_taken_is_told(group):
    with socket.socket() as other:
        other.bind(("127.0.0.1", group.port))
        other.listen(1)
        with pytest.raises(OSError, match="in use"):
            Leader(group, lambda report: Leading(group, "g1").hear(report, 0.0))
