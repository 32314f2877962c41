# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the members of a group say of it in their runtime directories, for who looks at a host."""

from __future__ import annotations

import json
from typing import Any

GROUP_STATE = "group.json"
"""The file in each member's runtime directory that says how the group is."""
PROVED_GENERATION = "proved"
"""The file in the leader's that names the fingerprint of the configuration that was verified."""


def group_state(text: str | None, rank: int | None = None) -> dict[str, Any]:
    """What a supervisor says of its group in `GROUP_STATE`, for who looks at the host.

    Args:
        text: The file's; `None` where there is none.
        rank: The member's, where it is known otherwise.

    Returns:
        `rank`, `leader` and `members` (names), `generation`, `phase`, `proved` and `summary`.
    """
    state: dict[str, Any] = {
        "rank": rank,
        "members": [],
        "generation": "",
        "phase": "",
        "proved": False,
        "summary": "",
    }
    try:
        told = json.loads(text or "{}")
        state = {key: told.get(key, value) for key, value in state.items()}
    except (ValueError, AttributeError):
        pass  # half of it was never written: what replaces the file is whole
    return {**state, "leader": next(iter(state["members"]), None)}
