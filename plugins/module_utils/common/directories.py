# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where what is deployed lies on a host."""

from __future__ import annotations

from typing import Any

DIRECTORIES: dict[str, dict[str, Any]] = {
    "etc_dir": {"type": "path", "default": "/etc/vllm"},
    "state_dir": {"type": "path", "default": "/var/lib/vllm"},
    "unit_dir": {"type": "path", "default": "/etc/systemd/system"},
}
"""Parameters of every module that looks at what is deployed."""

PROVED = ".proved.json"
"""What a release's environment holds once it is proved (`runtime/proof.py`)."""
