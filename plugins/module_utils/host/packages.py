# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which operating system packages are installed, in which version."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host

DPKG_STATUS = "/var/lib/dpkg/status"
_RPM = ("/usr/bin/rpm", "/bin/rpm")


def dpkg_versions(status: bytes, names: Sequence[str]) -> dict[str, str | None]:
    """Looks packages up in dpkg's own database, which is ten times faster than dpkg-query.

    Args:
        status: Content of /var/lib/dpkg/status (deb-control(5) paragraphs).
        names: Package names without architecture.

    Returns:
        Version by name; None for one that is not fully installed.
    """
    versions: dict[str, str | None] = {}
    text = b"\n" + status
    for name in names:
        versions[name] = None
        needle = b"\nPackage: " + name.encode() + b"\n"
        start = text.find(needle)
        while start >= 0 and versions[name] is None:  # one paragraph for each architecture
            end = text.find(b"\n\n", start + 1)
            paragraph = text[start : end if end >= 0 else len(text)]
            installed = re.search(rb"^Status: \S+ \S+ installed$", paragraph, re.MULTILINE)
            version = re.search(rb"^Version: (\S+)", paragraph, re.MULTILINE)
            if installed and version:
                versions[name] = version.group(1).decode()
            start = text.find(needle, start + len(needle) - 1)
    return versions


def parse_rpm(stdout: str, names: Sequence[str]) -> dict[str, str | None]:
    r"""Reads what `rpm -q --queryformat '%{NAME}\t%{EVR}\n'` printed; absent ones are None."""
    versions: dict[str, str | None] = dict.fromkeys(names)
    for line in stdout.splitlines():
        name, tab, version = line.partition("\t")
        if tab and name in versions:
            versions[name] = version
    return versions


def read(host: Host, names: Sequence[str]) -> dict[str, str | None]:
    """Reads `facts.packages`.

    Args:
        host: The machine.
        names: Package names as the distribution's package manager knows them.

    Returns:
        Version by asked name, None where it is not installed or there is no such database.
    """
    if not names:
        return {}
    status = host.read_bytes(DPKG_STATUS)
    if status is not None:
        return dpkg_versions(status, names)
    for path in _RPM:
        if host.is_executable(path):
            argv = [path, "-q", "--queryformat", "%{NAME}\\t%{EVR}\\n", "--", *names]
            return parse_rpm(host.run(argv, timeout=20.0).stdout, names)
    return dict.fromkeys(names)
