# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bridge that the hosts hang on, its NAT, and each host's network namespace."""

from __future__ import annotations

import ipaddress
import json
import shutil
from pathlib import Path
from typing import Any

from .addresses import choose_subnet, gateway, interface_name
from .common import HostsError, Settings, read_json, run, write_json

BRIDGE = "testhosts0"
NFT_TABLE = "testhosts"
NAMESPACE_PREFIX = "testhost-"
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


def namespace(host: str) -> str:
    """The name of a host's network namespace, as `ip netns` knows it."""
    return NAMESPACE_PREFIX + host


def _ip_json(*words: str) -> list[dict[str, Any]]:
    done = run(["ip", "-j", *words], check=False)
    if done.returncode != 0 or not done.stdout.strip():
        return []
    return [entry for entry in json.loads(done.stdout) if entry]


def _routes() -> list[str]:
    # `ip -j route` writes a single address without /32, which ipaddress reads just so.
    return [
        entry["dst"]
        for entry in _ip_json("-4", "route", "show", "table", "all")
        if entry.get("dev") != BRIDGE and entry.get("type") not in ("broadcast", "multicast")
    ]


def current_subnet() -> ipaddress.IPv4Network | None:
    """The subnet on the bridge now; None where there is no bridge."""
    for link in _ip_json("-4", "address", "show", "dev", BRIDGE):
        for address in link.get("addr_info", []):
            return ipaddress.IPv4Network(f"{address['local']}/{address['prefixlen']}", strict=False)
    return None


def free_subnet(settings: Settings) -> ipaddress.IPv4Network:
    """The subnet the bridge has, or would get.

    Raises:
        HostsError: None can be had (see `addresses.choose_subnet`), or the bridge has another
            than `TESTHOSTS_SUBNET` says.
    """
    current = current_subnet()
    if current is None:
        return choose_subnet(settings.subnet, _routes())
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


def _forward_rules() -> list[list[str]]:
    return [["FORWARD", flag, BRIDGE, "-j", "ACCEPT"] for flag in ("-i", "-o")]


def up(settings: Settings) -> ipaddress.IPv4Network:
    """Make the bridge and its NAT where they are not there. Call it under the lock `network`.

    Returns:
        The hosts' subnet.
    """
    subnet = free_subnet(settings)
    if current_subnet() is None:
        run(["ip", "link", "del", BRIDGE], check=False)
        run(["ip", "link", "add", BRIDGE, "type", "bridge"])
        run(["ip", "link", "set", BRIDGE, "mtu", str(uplink_mtu()), "up"])
        run(["ip", "address", "add", f"{gateway(subnet)}/{subnet.prefixlen}", "dev", BRIDGE])
    record = settings.state / ".network.json"
    forwarding = IP_FORWARD.read_text(encoding="ascii").strip()
    if read_json(record) is None:
        write_json(record, {"ip_forward_before": forwarding})
    if forwarding != "1":
        IP_FORWARD.write_text("1\n", encoding="ascii")
    # `add` then `delete` makes the next lines start from nothing, in one transaction.
    rules = f"""
add table ip {NFT_TABLE}
delete table ip {NFT_TABLE}
table ip {NFT_TABLE} {{
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        ip saddr {subnet} ip daddr != {subnet} masquerade
    }}
}}
"""
    run(["nft", "-f", "-"], stdin=rules)
    if _forward_policy_drops():
        for rule in _forward_rules():
            if run(["iptables", "-w", "-C", *rule], check=False).returncode != 0:
                run(["iptables", "-w", "-I", *rule])
    return subnet


def down(settings: Settings) -> None:
    """Remove the bridge and its NAT; nothing happens where they are not there."""
    if shutil.which("iptables") is not None:
        for rule in _forward_rules():
            while run(["iptables", "-w", "-D", *rule], check=False).returncode == 0:
                pass
    run(["nft", "delete", "table", "ip", NFT_TABLE], check=False)
    run(["ip", "link", "del", BRIDGE], check=False)
    record = settings.state / ".network.json"
    before = read_json(record)
    if before is not None:
        IP_FORWARD.write_text(f"{before['ip_forward_before']}\n", encoding="ascii")
        record.unlink()


def connect(host: str, address: str, subnet: ipaddress.IPv4Network) -> None:
    """Give a host its namespace and its cable (`host0` inside).

    Args:
        host: The host's name.
        address: Its address.
        subnet: The hosts' subnet.
    """
    inside, outside = namespace(host), interface_name(host)
    run(["ip", "netns", "add", inside])
    run(["ip", "link", "add", outside, "type", "veth", "peer", "name", "host0", "netns", inside])
    run(["ip", "link", "set", outside, "master", BRIDGE, "mtu", str(uplink_mtu()), "up"])
    commands = f"""
link set lo up
address add {address}/{subnet.prefixlen} dev host0
link set host0 mtu {uplink_mtu()} up
route add default via {gateway(subnet)}
"""
    run(["ip", "-n", inside, "-batch", "-"], stdin=commands)


def disconnect(host: str) -> None:
    """Take a host's cable and namespace away; nothing happens where they are not there."""
    run(["ip", "link", "del", interface_name(host)], check=False)
    run(["ip", "netns", "del", namespace(host)], check=False)


def connected_hosts() -> list[str]:
    """Names of the hosts that have a namespace, also of those a crash left behind."""
    names = [entry.get("name", "") for entry in _ip_json("netns", "list")]
    return sorted(n[len(NAMESPACE_PREFIX) :] for n in names if n.startswith(NAMESPACE_PREFIX))


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
            if len(words) >= 2 and words[0] == "nameserver" and "%" not in words[1]:
                if not ipaddress.ip_address(words[1]).is_loopback:
                    servers.append(words[1])
        if servers:
            return servers
    return []


def _resolv_confs() -> list[str]:
    texts = []
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        try:
            texts.append(path.read_text(encoding="utf-8"))
        except OSError:
            continue
    return texts
