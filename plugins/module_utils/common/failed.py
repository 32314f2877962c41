# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How what a module does ends when it cannot be done."""

from __future__ import annotations


class Failed(Exception):
    """The run ends with this text: what is wrong, where, and what to do."""
