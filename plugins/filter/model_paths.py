# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the model of each of a plan's instances lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: model_paths
author: compute_plane.vllm contributors (@compute-plane)
version_added: 0.1.0
short_description: Where the model of each of a plan's instances lies
description:
  - The directory that the plan names, or the one into which M(compute_plane.vllm.hf_model) has
    fetched the model, and the same of each LoRA adapter, as C(INSTANCE/ADAPTER).
    In check mode a branch of a model that is not there yet has no place yet, and a text in
    brackets stands for it.
positional: requests, results
options:
  _input:
    description: The instances of a plan of M(compute_plane.vllm.vllm_plan).
    type: list
    elements: dict
    required: true
  requests:
    description: What the filter P(compute_plane.vllm.model_requests#filter) made of them.
    type: list
    elements: dict
    required: true
  results:
    description: What M(compute_plane.vllm.hf_model) returned for each request, in the same order.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show where the models lie
  ansible.builtin.debug:
    msg: "{{ plan.instances | compute_plane.vllm.model_paths(requests, fetched.results) }}"
"""

RETURN = r"""
_value:
  description: Directories by the instances' names, and by C(INSTANCE/ADAPTER).
  type: dict
"""

LATER = "(known when it is fetched)"


def model_paths(
    instances: Iterable[Mapping[str, Any]],
    requests: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
) -> dict[str, str]:
    """Find the directory of each instance's model.

    Args:
        instances: The plan's instances.
        requests: What was asked of the Hub.
        results: What became of each request, in the same order.
    """
    fetched = {
        (request["repo_id"], request["revision"]): result.get("path") or LATER
        for request, result in zip(requests, results, strict=True)
    }
    sources = {}
    for instance in instances:
        sources[instance["name"]] = instance["model"]
        sources.update({f"{instance['name']}/{one['name']}": one for one in instance["lora"]})
    return {
        name: source["path"]
        if source["source"] == "local"
        else fetched[source["repo_id"], source["revision"] or "main"]
        for name, source in sources.items()
    }


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"model_paths": model_paths}
