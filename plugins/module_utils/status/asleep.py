# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an instance on demand is asleep; whoever only looks does not wake it."""

from __future__ import annotations

import json
import os

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.phases import (
    ASLEEP,
)


def is_asleep(run_dir: str, name: str) -> bool:
    """Whether an instance's supervisor says that it is asleep.

    Args:
        run_dir: Where supervisors say what they see.
        name: The instance.
    """
    try:
        told = json.loads(read(os.path.join(run_dir, name, "state.json")) or "")
        return bool(told["state"] == ASLEEP)
    except (ValueError, LookupError, TypeError):
        return False
