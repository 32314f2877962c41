# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from throwaway import network
from throwaway.common import Settings

if TYPE_CHECKING:
    from pathlib import Path

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


class Machine:
    """What sets of hosts change on a machine: its bridges by name with their subnets."""

    def __init__(self, directory: Path) -> None:
        self.bridges: dict[str, str] = {}
        self.forward = directory / "ip_forward"
        self.forward.write_text("0\n")

    def ip_json(self, *words: str) -> list[dict[str, Any]]:
        bridges = list(self.bridges.items())
        if words[:3] == ("-4", "route", "show"):
            time.sleep(0.1)  # it is busy
            routes = [{"dst": subnet, "dev": name} for name, subnet in bridges]
            return [{"dst": "default", "dev": "eth0"}, *routes]
        if words[:3] == ("-4", "address", "show") and words[-1] in self.bridges:
            local = self.bridges[words[-1]].replace(".0/24", ".1")
            return [{"addr_info": [{"local": local, "prefixlen": 24}]}]
        if words == ("link", "show", "type", "bridge"):
            return [{"ifname": "docker0"}, *({"ifname": name} for name, _subnet in bridges)]
        return []

    def run(self, argv: list[str], **_options: Any) -> None:
        if argv[:3] == ["ip", "address", "add"]:
            self.bridges[argv[-1]] = argv[3].replace(".1/24", ".0/24")
        if argv[:3] == ["ip", "link", "del"]:
            self.bridges.pop(argv[-1], None)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(network, "IP_FORWARD", machine.forward)
    monkeypatch.setattr(network, "FORWARD_BEFORE", tmp_path / "lock" / "before")
    monkeypatch.setattr(network, "_ip_json", machine.ip_json)
    monkeypatch.setattr(network, "run", machine.run)
    monkeypatch.setattr(network, "_forward_policy_drops", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda program: None)
    return machine


def sets_of(tmp_path: Path, *names: str) -> list[Settings]:
    return [Settings.from_environment({"TESTHOSTS_STATE": str(tmp_path / n)}) for n in names]


def test_two_sets_that_begin_at_once_take_two_subnets(machine: Machine, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as threads:
        taken = list(threads.map(network.up, sets_of(tmp_path, "one", "two")))
    assert taken[0] != taken[1]
    assert sorted(map(str, taken)) == sorted(machine.bridges.values())


def test_the_last_set_takes_back_that_the_machine_forwards(
    machine: Machine, tmp_path: Path
) -> None:
    first, second = sets_of(tmp_path, "one", "two")
    for _ in range(2):
        network.up(first)
        network.up(second)
        network.down(first)
        assert machine.forward.read_text() == "1\n"  # the second set's hosts need it
        network.down(second)
        assert machine.forward.read_text() == "0\n"
    network.down(second)
    machine.forward.write_text("1\n")
    network.up(first)
    network.down(first)
    assert machine.forward.read_text() == "1\n"
