# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models that a plan's instances need of the Hub, as hf_model takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: model_requests
author: compute_plane.vllm contributors (@compute-plane)
version_added: 0.1.0
short_description: The models that a plan's instances need of the Hub, as hf_model takes them
description:
  - Each model once, however many instances serve it; models in local directories are left out.
positional: _input
options:
  _input:
    description: The instances of a plan of M(compute_plane.vllm.vllm_plan).
    type: list
    elements: dict
    required: true
  others:
    description: Any other parameters of M(compute_plane.vllm.hf_model), by name, for all of them.
    type: raw
"""

EXAMPLES = r"""
- name: Ensure the models are fetched
  compute_plane.vllm.hf_model: "{{ item }}"
  loop: "{{ plan.instances | compute_plane.vllm.model_requests(cache_dir='/srv/hub') }}"
"""

RETURN = r"""
_value:
  description: Parameters of M(compute_plane.vllm.hf_model) for each model.
  type: list
  elements: dict
"""


def request_of(instance: Mapping[str, Any]) -> dict[str, Any] | None:
    """What an instance needs of the Hub; None when its model is in a local directory."""
    model = instance["model"]
    if model["source"] != "hub":
        return None
    request = {
        "repo_id": model["repo_id"],
        "revision": model["revision"] or "main",
        "trust_remote_code": instance["config"].get("trust-remote-code", False),
    }
    # What was planned is what is fetched, although a branch has moved since.
    commit = model.get("commit")
    return {**request, "commit": commit} if commit else request


def model_requests(instances: Iterable[Mapping[str, Any]], **others: Any) -> list[dict[str, Any]]:
    """Collect what the instances need of the Hub, in their order.

    Args:
        instances: The plan's instances.
        **others: Other parameters of hf_model, the same for all of them.
    """
    requests: list[dict[str, Any]] = []
    for request in map(request_of, instances):
        if request is not None and {**request, **others} not in requests:
            requests.append({**request, **others})
    return requests


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"model_requests": model_requests}
