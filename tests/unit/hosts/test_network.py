# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading
import time
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


def test_two_sets_that_begin_at_once_take_two_subnets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bridges: dict[str, str] = {}

    def ip_json(*words: str) -> list[dict[str, Any]]:
        if words[:3] == ("-4", "route", "show"):
            routes = [{"dst": subnet, "dev": dev} for dev, subnet in list(bridges.items())]
            time.sleep(0.1)  # a busy machine
            return [*routes, {"dst": "default", "dev": "eth0"}]
        if words[:3] == ("-4", "address", "show") and words[-1] in bridges:
            local = bridges[words[-1]].replace(".0/24", ".1")
            return [{"addr_info": [{"local": local, "prefixlen": 24}]}]
        return []

    def run(argv: list[str], **_options: Any) -> None:
        if argv[:3] == ["ip", "address", "add"]:
            bridges[argv[-1]] = argv[3].replace(".1/24", ".0/24")

    forward = tmp_path / "ip_forward"
    forward.write_text("1\n")
    monkeypatch.setattr(network, "IP_FORWARD", forward)
    monkeypatch.setattr(network, "CHOOSING", tmp_path / "lock" / "choosing")
    monkeypatch.setattr(network, "_ip_json", ip_json)
    monkeypatch.setattr(network, "run", run)
    monkeypatch.setattr(network, "_forward_policy_drops", lambda: False)
    taken = []
    threads = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        settings = Settings.from_environment({"TESTHOSTS_STATE": str(tmp_path / name)})
        threads.append(threading.Thread(target=lambda s=settings: taken.append(network.up(s))))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 2
    assert sorted(map(str, taken)) == sorted(bridges.values())
