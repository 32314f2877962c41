# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which instances were planned without knowing the model that has been fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: unplanned_models
short_description: Which instances were planned without knowing the model that has been fetched
version_added: 0.1.0
author: compute_plane.vllm contributors (@compute-plane)
description:
  - Names the instances of whose model nobody could tell anything when the plan was made, or of
    which another commit was fetched than was planned. Local models are left out.
options:
  _input:
    description: RV(compute_plane.vllm.vllm_plan#module:plan), its C(instances).
    type: list
    elements: dict
    required: true
  commits:
    description: What the filter P(compute_plane.vllm.model_commits#filter) found.
    type: dict
    required: true
positional: commits
"""

EXAMPLES = r"""
- name: Plan again
  ansible.builtin.include_role:
    name: compute_plane.vllm.vllm_preflight
  when: plan.instances | compute_plane.vllm.unplanned_models(vllm_model_commits) | length > 0
"""

RETURN = r"""
_value:
  description: Their names.
  type: list
  elements: str
"""


def unplanned_models(
    instances: Iterable[Mapping[str, Any]], commits: Mapping[str, str | None]
) -> list[str]:
    """Find the instances whose plan has to be made again.

    Args:
        instances: The plan's instances.
        commits: The commit that was fetched of each model of the Hub, by the instance's name.
    """
    return [
        instance["name"]
        for instance in instances
        if instance["model"]["source"] == "hub"
        and (
            instance["model"]["known"] is None
            or instance["model"]["commit"] != commits.get(instance["name"])
        )
    ]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"unplanned_models": unplanned_models}
