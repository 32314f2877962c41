# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd says of units."""

from __future__ import annotations


def parse_show(stdout: str) -> dict[str, dict[str, str]]:
    """Reads `systemctl show`: a paragraph of Name=value lines for each unit.

    Returns:
        Properties by unit.
    """
    units = {}
    for paragraph in stdout.split("\n\n"):
        properties = dict(line.split("=", 1) for line in paragraph.splitlines() if "=" in line)
        if "Id" in properties:
            units[properties["Id"]] = properties
    return units
