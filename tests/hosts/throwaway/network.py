# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bridge that the hosts hang on, its NAT, and each host's network namespace."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from .addresses import choose_subnet, gateway, interface_name
from .common import HostsError, Settings, run

IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
FORWARD_BEFORE = Path("/run/lock/testhosts-ip-forward")
"""What the machine had in it before the first set of hosts; the last set puts it back. It is locked
while a set takes a subnet, which another might otherwise take too."""


def namespace(ident: str, host: str) -> str:
    """The name of a host's network namespace, as `ip netns` knows it."""
    return f"{ident}-{host}"


def _ip_json(*words: str) -> list[dict[str, Any]]:
    done = run(["ip", "-j", *words], check=False)
    if done.returncode != 0 or not done.stdout.strip():
        return []
    return [entry for entry in json.loads(done.stdout) if entry]


def _routes(bridge: str) -> list[str]:
    # `ip -j route` writes a single address without /32, which ipaddress reads just so.
    return [
        entry["dst"]
        for entry in _ip_json("-4", "route", "show", "table", "all")
        if entry.get("dev") != bridge and entry.get("type") not in ("broadcast", "multicast")
    ]


def current_subnet(bridge: str) -> ipaddress.IPv4Network | None:
    """The subnet on a bridge now; None where there is no such bridge."""
    for link in _ip_json("-4", "address", "show", "dev", bridge):
        for address in link.get("addr_info", []):
            return ipaddress.IPv4Network(f"{address['local']}/{address['prefixlen']}", strict=False)
    return None


def free_subnet(settings: Settings) -> ipaddress.IPv4Network:
    """The subnet the bridge has, or would get.

    Raises:
        HostsError: None can be had (see `addresses.choose_subnet`), or the bridge has another
            than `TESTHOSTS_SUBNET` says.
    """
    current = current_subnet(settings.ident)
    if current is None:
        return choose_subnet(settings.subnet, _routes(settings.ident))
    if settings.subnet is not None and ipaddress.IPv4Network(settings.subnet) != current:
        raise HostsError(
            f"the hosts' bridge has {current}, TESTHOSTS_SUBNET={settings.subnet}",
            "run `testhosts.py clean` first",
        )
    return current


def uplink_mtu() -> int:
    """The MTU of the machine's way out, so that guests do not send what cannot pass."""
    for route in _ip_json("-4", "route", "show", "default"):
        for link in _ip_json("link", "show", "dev", route["dev"]):
            return min(int(link["mtu"]), 1500)
    return 1500


def _forward_policy_drops() -> bool:
    """Whether the machine's own firewall (Docker's or ufw's, mostly) drops what is forwarded."""
    if shutil.which("iptables") is None:
        return False
    done = run(["iptables", "-w", "-S", "FORWARD"], check=False)
    return done.returncode == 0 and "-P FORWARD DROP" in done.stdout.splitlines()


def _forward_rules(bridge: str) -> list[list[str]]:
    return [["FORWARD", flag, bridge, "-j", "ACCEPT"] for flag in ("-i", "-o")]


@contextlib.contextmanager
def _all_sets() -> Iterator[TextIO]:
    """What all sets of hosts on this machine share, while no other changes it."""
    FORWARD_BEFORE.parent.mkdir(parents=True, exist_ok=True)
    with open(FORWARD_BEFORE, "a+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


def up(settings: Settings) -> ipaddress.IPv4Network:
    """Make the bridge and its NAT where they are not there. Call it under the lock `network`.

    Returns:
        The hosts' subnet.
    """
    bridge = settings.ident
    with _all_sets() as before:
        subnet = free_subnet(settings)
        if current_subnet(bridge) is None:
            run(["ip", "link", "del", bridge], check=False)
            run(["ip", "link", "add", bridge, "type", "bridge"])
            run(["ip", "link", "set", bridge, "mtu", str(uplink_mtu()), "up"])
            run(["ip", "address", "add", f"{gateway(subnet)}/{subnet.prefixlen}", "dev", bridge])
        forwarding = IP_FORWARD.read_text(encoding="ascii")
        if not before.read():
            before.write(forwarding)
        if forwarding.strip() != "1":
            IP_FORWARD.write_text("1\n", encoding="ascii")
    # `add` then `delete` makes the next lines start from nothing, in one transaction.
    rules = f"""
add table ip {bridge}
delete table ip {bridge}
table ip {bridge} {{
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        ip saddr {subnet} ip daddr != {subnet} masquerade
    }}
}}
"""
    run(["nft", "-f", "-"], stdin=rules)
    if _forward_policy_drops():
        for rule in _forward_rules(bridge):
            if run(["iptables", "-w", "-C", *rule], check=False).returncode != 0:
                run(["iptables", "-w", "-I", *rule])
    return subnet


def down(settings: Settings) -> None:
    """Remove the bridge and its NAT; nothing happens where they are not there."""
    if shutil.which("iptables") is not None:
        for rule in _forward_rules(settings.ident):
            while run(["iptables", "-w", "-D", *rule], check=False).returncode == 0:
                pass
    run(["nft", "delete", "table", "ip", settings.ident], check=False)
    with _all_sets() as before:
        run(["ip", "link", "del", settings.ident], check=False)
        bridges = (link["ifname"] for link in _ip_json("link", "show", "type", "bridge"))
        forwarding = before.read()
        if forwarding and not any(bridge.startswith("testhosts") for bridge in bridges):
            IP_FORWARD.write_text(forwarding, encoding="ascii")
            before.truncate(0)


def connect(ident: str, host: str, address: str, subnet: ipaddress.IPv4Network) -> None:
    """Give a host its namespace and its cable (`host0` inside).

    Args:
        ident: The bridge's name.
        host: The host's name.
        address: Its address.
        subnet: The hosts' subnet.
    """
    inside = namespace(ident, host)
    outside = interface_name(inside)
    run(["ip", "netns", "add", inside])
    run(["ip", "link", "add", outside, "type", "veth", "peer", "name", "host0", "netns", inside])
    run(["ip", "link", "set", outside, "master", ident, "mtu", str(uplink_mtu()), "up"])
    commands = f"""
link set lo up
address add {address}/{subnet.prefixlen} dev host0
link set host0 mtu {uplink_mtu()} up
route add default via {gateway(subnet)}
"""
    run(["ip", "-n", inside, "-batch", "-"], stdin=commands)


def disconnect(ident: str, host: str) -> None:
    """Take a host's cable and namespace away; nothing happens where they are not there."""
    inside = namespace(ident, host)
    run(["ip", "link", "del", interface_name(inside)], check=False)
    run(["ip", "netns", "del", inside], check=False)


def connected_hosts(ident: str) -> list[str]:
    """Names of the hosts that have a namespace, also of those a crash left behind."""
    names = [entry.get("name", "") for entry in _ip_json("netns", "list")]
    prefix = namespace(ident, "")
    return sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix))


def name_servers(settings: Settings, resolv_conf: str | None = None) -> list[str]:
    """Name servers that a guest can reach.

    Args:
        settings: `settings.dns` wins.
        resolv_conf: The text of `resolv.conf`; by default the machine's, or systemd-resolved's
            list of real servers where the machine's names only its own stub.

    Returns:
        Their addresses; empty when the machine only knows servers on its loopback.
    """
    if settings.dns:
        return list(settings.dns)
    texts = [resolv_conf] if resolv_conf is not None else _resolv_confs()
    for text in texts:
        servers = []
        for line in text.splitlines():
            words = line.split()
            if words[:1] == ["nameserver"] and len(words) > 1 and _is_remote(words[1]):
                servers.append(words[1])
        if servers:
            return servers
    return []


def _is_remote(server: str) -> bool:
    try:
        address = ipaddress.ip_address(server)
    except ValueError:
        return False
    # A link-local server is only reached on its own link.
    return not (address.is_loopback or address.is_link_local)


def _resolv_confs() -> list[str]:
    texts = []
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        try:
            texts.append(path.read_text(encoding="utf-8"))
        except OSError:
            continue
    return texts
