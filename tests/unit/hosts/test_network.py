# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from throwaway import network
from throwaway.common import Settings

NOWHERE = Settings.from_environment({"HOME": "/nonexistent"})


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nameserver 192.0.2.1\nnameserver 192.0.2.2\n", ["192.0.2.1", "192.0.2.2"]),
        ("# nameserver 192.0.2.1\nsearch example\n", []),
        ("nameserver 127.0.0.53\noptions edns0\n", []),
        ("nameserver 127.0.0.1\nnameserver 192.0.2.2\n", ["192.0.2.2"]),
        ("nameserver ::1\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\n", ["2001:db8::1"]),
        ("nameserver\nnameserver nonsense\n", []),
        ("", []),
    ],
)
def test_name_servers_are_those_a_guest_can_reach(text: str, servers: list[str]) -> None:
    assert network.name_servers(NOWHERE, text) == servers


def test_name_servers_asked_for_win() -> None:
    settings = Settings.from_environment({"TESTHOSTS_DNS": "192.0.2.9"})
    assert network.name_servers(settings, "nameserver 192.0.2.1\n") == ["192.0.2.9"]


def test_namespaces_of_two_sets_of_hosts_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["testhosts0-a", "testhosts0-b-c", "testhosts0abc-d", "testhostsffff-a", "other"]
    monkeypatch.setattr(network, "_ip_json", lambda *words: [{"name": name} for name in names])
    assert network.connected_hosts("testhosts0") == ["a", "b-c"]
    assert network.connected_hosts("testhostsffff") == ["a"]
