# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which addresses the hosts get. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable

from .common import HostsError

CANDIDATES = tuple(f"10.{second}.0.0/24" for second in range(77, 100))
"""Subnets tried in this order when none is asked for."""


def choose_subnet(asked: str | None, routes: Iterable[str]) -> ipaddress.IPv4Network:
    """Choose a subnet that nothing else on the machine uses.

    Args:
        asked: The subnet the user wants (CIDR), or None for the first free candidate.
        routes: Destinations in the machine's routing tables, `default` allowed.

    Returns:
        The subnet.

    Raises:
        HostsError: What was asked for is no subnet, too small or in use; or all are in use.
    """
    used = [ipaddress.IPv4Network(route) for route in routes if route != "default"]
    used = [network for network in used if network.prefixlen > 0]

    def taken(subnet: ipaddress.IPv4Network) -> bool:
        return any(subnet.overlaps(network) for network in used)

    if asked is not None:
        try:
            subnet = ipaddress.IPv4Network(asked)
        except ValueError as error:
            raise HostsError(
                f"TESTHOSTS_SUBNET={asked} is not a subnet ({error})", "write it like 10.77.0.0/24"
            ) from None
        if not 16 <= subnet.prefixlen <= 29:
            raise HostsError(f"TESTHOSTS_SUBNET={asked} has a bad size", "use /16 to /29")
        if taken(subnet):
            raise HostsError(
                f"TESTHOSTS_SUBNET={asked} overlaps a route of this machine", "choose another"
            )
        return subnet
    for candidate in CANDIDATES:
        subnet = ipaddress.IPv4Network(candidate)
        if not taken(subnet):
            return subnet
    raise HostsError(
        "every subnet this tool would choose is in use", "name a free one in TESTHOSTS_SUBNET"
    )


def gateway(subnet: ipaddress.IPv4Network) -> ipaddress.IPv4Address:
    """The bridge's own address: the first of the subnet."""
    return subnet.network_address + 1


def allocate(
    subnet: ipaddress.IPv4Network, taken: Iterable[str], asked: str | None = None
) -> ipaddress.IPv4Address:
    """Choose a host's address.

    Args:
        subnet: The hosts' subnet.
        taken: Addresses of the hosts that exist.
        asked: The address the user wants, or None for the lowest free one from .11 on (lower
            ones only when the subnet is that small).

    Returns:
        The address.

    Raises:
        HostsError: What was asked for is no address, outside, or taken; or none is free.
    """
    used = {ipaddress.IPv4Address(address) for address in taken} | {gateway(subnet)}
    if asked is not None:
        try:
            address = ipaddress.IPv4Address(asked)
        except ValueError:
            raise HostsError(f"--ip {asked} is not an IPv4 address") from None
        if address not in subnet or address in (subnet.network_address, subnet.broadcast_address):
            raise HostsError(
                f"--ip {asked} is not a host address in {subnet}",
                "choose one there, or set TESTHOSTS_SUBNET when no host is up",
            )
        if address in used:
            raise HostsError(f"--ip {asked} is taken", "see `testhosts.py list`")
        return address
    for offset in [*range(11, subnet.num_addresses - 1), *range(2, 11)]:
        free: ipaddress.IPv4Address = subnet.network_address + offset
        if free in subnet and free != subnet.broadcast_address and free not in used:
            return free
    raise HostsError(f"no address is free in {subnet}", "take a host down")


def interface_name(namespace: str) -> str:
    """The machine's end of the cable into a namespace: at most 15 characters (IFNAMSIZ), stable."""
    return "thv" + hashlib.sha256(namespace.encode()).hexdigest()[:10]
