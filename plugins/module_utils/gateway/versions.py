# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which HAProxy packages decode JSON safely.

CVE-2025-11230: a number with a large exponent keeps the JSON decoder busy for as long as it likes,
and a gateway decodes what strangers send. Read in the packages' own changelogs
(`/usr/share/doc/haproxy/changelog.Debian.gz`): mended in Debian 12 by 2.6.12-1+deb12u3, in Debian
13 by 3.0.11-1+deb13u1. Upstream's releases with it: 2.8.16 (ray-project/ray#62585) and 3.2.6
(openwrt/packages#27613).
"""

from __future__ import annotations

import re

OLDEST = (2, 6)
"""Has all that the configuration uses: `json_query` came with 2.4, Lua filters with 2.5."""
DEBIAN = {"2.6.12-1": ("deb12", 3), "3.0.11-1": ("deb13", 1)}
"""Upstream's version and the package's: the revision of which release of Debian, and the first."""
UPSTREAM = {(2, 8): 16, (3, 2): 6}
"""The first mended patch release of a branch, where it is known; later branches all have it."""
LAST_KNOWN = (3, 2)


def problem(version: str) -> str | None:
    """Say why a package must not be used; `None` where it may.

    Args:
        version: The package's, such as `2.6.12-1+deb12u4`.
    """
    parts = re.match(r"(?:\d+:)?(\d+)\.(\d+)\.(\d+)", version)
    if parts is None:
        return f"{version!r} is no version of HAProxy"
    branch, patch = (int(parts[1]), int(parts[2])), int(parts[3])
    if branch < OLDEST:
        return f"HAProxy {version} is too old; 2.6 (Debian 12) is the oldest that serves"
    for base, (release, first) in DEBIAN.items():
        revision = re.fullmatch(rf"{re.escape(base)}\+{release}u(\d+)(?:[+~].*)?", version)
        if revision is not None and int(revision[1]) >= first:
            return None
    if branch > LAST_KNOWN or patch >= UPSTREAM.get(branch, patch + 1):
        return None
    wanted = ", ".join(f"{base}+{release}u{first}" for base, (release, first) in DEBIAN.items())
    return (
        f"HAProxy {version} is not known to have the mended JSON decoder (CVE-2025-11230): one"
        f" request could stop the gateway. Have Debian's security updates ({wanted} or later:"
        " apt-get update, apt-get install haproxy), or upstream's 2.8.16, 3.2.6 or later"
    )
