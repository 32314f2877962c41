# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ipaddress

import pytest
from throwaway import addresses
from throwaway.common import HostsError

SUBNET = ipaddress.IPv4Network("10.77.0.0/24")


@pytest.mark.parametrize(
    ("asked", "routes", "chosen"),
    [
        (None, ["default", "192.0.2.0/24"], "10.77.0.0/24"),
        (None, ["10.77.0.0/24"], "10.78.0.0/24"),
        (None, ["10.77.0.5"], "10.78.0.0/24"),  # a single address in it
        (None, ["10.64.0.0/11"], "10.96.0.0/24"),  # a VPN's wide route
        (None, ["0.0.0.0/0"], "10.77.0.0/24"),
        ("172.30.1.0/24", ["10.77.0.0/24"], "172.30.1.0/24"),
    ],
)
def test_choose_subnet(asked: str | None, routes: list[str], chosen: str) -> None:
    assert str(addresses.choose_subnet(asked, routes)) == chosen


@pytest.mark.parametrize(
    ("asked", "routes", "told"),
    [
        ("10.77.0.0/24", ["10.0.0.0/8"], "overlaps a route"),
        ("10.77.0.1/24", [], "host bits"),
        ("10.77.0.0/30", [], "bad size"),
        ("10.0.0.0/8", [], "bad size"),
        ("home", [], "is not a subnet"),
        (None, ["10.0.0.0/8"], "every subnet"),
    ],
)
def test_choose_subnet_refuses(asked: str | None, routes: list[str], told: str) -> None:
    with pytest.raises(HostsError, match=told):
        addresses.choose_subnet(asked, routes)


@pytest.mark.parametrize(
    ("taken", "asked", "got"),
    [
        ([], None, "10.77.0.11"),
        (["10.77.0.11", "10.77.0.13"], None, "10.77.0.12"),
        ([], "10.77.0.200", "10.77.0.200"),
        ([f"10.77.0.{n}" for n in range(11, 255)], None, "10.77.0.2"),
    ],
)
def test_allocate(taken: list[str], asked: str | None, got: str) -> None:
    assert str(addresses.allocate(SUBNET, taken, asked)) == got


def test_allocate_in_a_small_subnet() -> None:
    small = ipaddress.IPv4Network("10.77.0.0/29")
    taken: list[str] = []
    for _ in range(5):
        taken.append(str(addresses.allocate(small, taken)))
    assert taken == [f"10.77.0.{n}" for n in range(2, 7)]
    with pytest.raises(HostsError, match="no address is free"):
        addresses.allocate(small, taken)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("10.77.0.1", "is taken"),  # the bridge
        ("10.77.0.30", "is taken"),
        ("10.77.1.1", "is not a host address in"),
        ("10.77.0.0", "is not a host address in"),
        ("10.77.0.255", "is not a host address in"),
        ("10.77.0", "is not an IPv4 address"),
        ("gpu1", "is not an IPv4 address"),
    ],
)
def test_allocate_refuses(asked: str, told: str) -> None:
    with pytest.raises(HostsError, match=told):
        addresses.allocate(SUBNET, ["10.77.0.30"], asked)


def test_interface_names_fit_and_differ() -> None:
    names = {addresses.interface_name(f"testhosts0-{'x' * n}") for n in range(40)}
    assert len(names) == 40
    assert all(len(name) <= 15 for name in names)
