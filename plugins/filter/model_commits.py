# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commit of each model of the Hub that a plan's instances serve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: model_commits
author: compute_plane.vllm contributors (@compute-plane)
version_added: 0.1.0
short_description: The commit of each model of the Hub that a plan's instances serve
description:
  - The commit that M(compute_plane.vllm.hf_model) has resolved each instance's revision to; none
    for a branch of a model that is not there yet, in check mode. Local models are left out.
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
- name: Show the commits of the models
  ansible.builtin.debug:
    msg: "{{ plan.instances | compute_plane.vllm.model_commits(requests, fetched.results) }}"
"""

RETURN = r"""
_value:
  description: Commits by the instances' names.
  type: dict
"""


def model_commits(
    instances: Iterable[Mapping[str, Any]],
    requests: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
) -> dict[str, str | None]:
    """Find the commit of each instance's model of the Hub.

    Args:
        instances: The plan's instances.
        requests: What was asked of the Hub.
        results: What became of each request, in the same order.
    """
    fetched = {
        (request["repo_id"], request["revision"]): result.get("commit")
        for request, result in zip(requests, results, strict=True)
    }
    models = {instance["name"]: instance["model"] for instance in instances}
    return {
        name: fetched[model["repo_id"], model["revision"] or "main"]
        for name, model in models.items()
        if model["source"] != "local"
    }


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"model_commits": model_commits}
