# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which models are missing and come from which other host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: model_copies
author: compute_plane.vllm contributors (@compute-plane)
version_added: 1.0.0
short_description: Which models are missing and come from which other host
description:
  - Of the models and LoRA adapters that the plan has copied from another host, those that
    M(compute_plane.vllm.hf_model) did not find whole.
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
- name: Show what is copied
  ansible.builtin.debug:
    msg: "{{ plan.instances | compute_plane.vllm.model_copies(requests, looked.results) }}"
"""

RETURN = r"""
_value:
  description:
    - For each host that something is copied from, C(host), C(address) (its own in the network of a
      group; null where the host is in none with this one) and C(models), the requests.
  type: list
  elements: dict
"""


def model_copies(
    instances: Iterable[Mapping[str, Any]],
    requests: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Find what is to be copied.

    Args:
        instances: The plan's instances.
        requests: What was asked of the Hub, or looked for.
        results: What became of each request, in the same order.
    """
    sources: dict[tuple[str, str], str] = {}
    addresses: dict[str, str] = {}
    for instance in instances:
        for member in (instance.get("group") or {}).get("members", ()):
            addresses[member["name"]] = member["address"]
        for source in (instance["model"], *instance["lora"]):
            if source.get("copy_from"):
                sources[source["repo_id"], source["revision"] or "main"] = source["copy_from"]
    copies: dict[str, dict[str, Any]] = {}
    for request, result in zip(requests, results, strict=True):
        host = sources.get((request["repo_id"], request["revision"]))
        if host is None or result.get("whole", True):
            continue
        peer = {"host": host, "address": addresses.get(host), "models": list[Any]()}
        copies.setdefault(host, peer)["models"].append(request)
    return list(copies.values())


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"model_copies": model_copies}
