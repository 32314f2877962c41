# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of servers as URLs."""

from __future__ import annotations


def host_and_port(host: str, port: int | None) -> str:
    """A host and its port, as URLs and systemd write them.

    Args:
        host: A name, an IPv4 or an IPv6 address; the last comes into brackets (RFC 3986, 3.2.2).
        port: `None` for the host alone.
    """
    name = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return name if port is None else f"{name}:{port}"


def url_of(host: str, port: int | None, scheme: str = "http") -> str:
    """The URL of a server, without a path.

    Args:
        host: See `host_and_port`.
        port: `None` for the scheme's own.
        scheme: `http` or `https`.
    """
    return f"{scheme}://{host_and_port(host, port)}"
