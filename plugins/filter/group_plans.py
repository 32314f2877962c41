# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of the hosts that an instance spans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: group_plans
author: compute_plane.vllm contributors (@compute-plane)
version_added: 1.0.0
short_description: The plans of the hosts that an instance spans
description:
  - Finds what C(vllm_preflight) has planned on other hosts of this run, for
    M(compute_plane.vllm.vllm_plan) to compare with its own.
positional: hostvars, batch
options:
  _input:
    description: Names of the hosts.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variables of all hosts, C(hostvars).
    type: dict
    required: true
  batch:
    description: The hosts that the play runs on at the same time, C(ansible_play_batch).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Plan with the others
  compute_plane.vllm.vllm_plan:
    instances: "{{ vllm_instances }}"
    members: >-
      {{ vllm_preflight_result.group_members
      | compute_plane.vllm.group_plans(hostvars, ansible_play_batch) }}
"""

RETURN = r"""
_value:
  description:
    - O(compute_plane.vllm.vllm_plan#module:members). A host that is not in the batch, or has no
      plan, is not in it.
  type: dict
"""


def group_plans(
    names: Sequence[str], hostvars: Mapping[str, Any], batch: Sequence[str]
) -> dict[str, Any]:
    """Find the plans of hosts.

    Args:
        names: The hosts.
        hostvars: The variables of all hosts.
        batch: The hosts that run at the same time.
    """
    plans = {}
    for name in names:
        if name in batch and name in hostvars:
            result = hostvars[name].get("vllm_preflight_result")
            if isinstance(result, Mapping) and isinstance(result.get("plan"), Mapping):
                plans[name] = result["plan"]
    return plans


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"group_plans": group_plans}
