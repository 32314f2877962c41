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
  - Each model and each LoRA adapter once, however many instances serve it; those in local
    directories are left out. What is to be copied from another host has C(fetch=false).
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


def sources_of(instance: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What an instance needs of the Hub, as the plan has it: its model and adapters."""
    return [one for one in (instance["model"], *instance["lora"]) if one["source"] == "hub"]


def requests_of(instance: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an instance needs of the Hub, as hf_model takes it."""
    own_code = instance["config"].get("trust-remote-code", False)
    requests = []
    for source in sources_of(instance):
        request = {
            "repo_id": source["repo_id"],
            "revision": source["revision"] or "main",
            "trust_remote_code": own_code and source is instance["model"],
        }
        # What was planned is what is fetched, although a branch has moved since.
        commit = source.get("commit")
        requests.append({**request, "commit": commit} if commit else request)
    return requests


def model_requests(instances: Iterable[Mapping[str, Any]], **others: Any) -> list[dict[str, Any]]:
    """Collect what the instances need of the Hub, in their order.

    Args:
        instances: The plan's instances.
        **others: Other parameters of hf_model, the same for all of them.
    """
    requests: list[dict[str, Any]] = []
    copied: set[int] = set()
    for instance in instances:
        for source, request in zip(sources_of(instance), requests_of(instance), strict=True):
            if request not in requests:
                requests.append(request)
            if source.get("copy_from"):
                copied.add(requests.index(request))
    return [
        {**request, **others, **({"fetch": False} if number in copied else {})}
        for number, request in enumerate(requests)
    ]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"model_requests": model_requests}
