# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan's instances as vllm_service takes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.grouping import (
    group_fingerprint,
)

DOCUMENTATION = r"""
name: service_instances
author: compute_plane.vllm contributors (@compute-plane)
version_added: 0.1.0
short_description: A plan's instances as vllm_service takes them
description:
  - Adds to the instances of a plan the one thing that the plan may not know before, the directory
    in which each model and each LoRA adapter has come to lie, and leaves out what
    M(compute_plane.vllm.vllm_service) does not take.
positional: models, commits
options:
  _input:
    description: The plan of M(compute_plane.vllm.vllm_plan).
    type: dict
    required: true
  models:
    description: The directory of each instance's model, by the instance's name.
    type: dict
    required: true
  commits:
    description: What the filter P(compute_plane.vllm.model_commits#filter) found.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Ensure the instances serve
  compute_plane.vllm.vllm_service:
    instances: >-
      {{ plan | compute_plane.vllm.service_instances(vllm_model_paths, vllm_model_commits) }}
"""

RETURN = r"""
_value:
  description: O(compute_plane.vllm.vllm_service#module:instances).
  type: list
  elements: dict
"""


def lora_module(name: str, path: str) -> str:
    """An adapter as vLLM takes it in its form that any name and path survive.

    vllm 0.14.1, vllm/entrypoints/openai/cli_args.py, LoRAParserAction.
    """
    return json.dumps({"name": name, "path": path})


def group_of(
    plan: Mapping[str, Any],
    instance: Mapping[str, Any],
    config: Mapping[str, Any],
    commits: Mapping[str, str | None],
) -> dict[str, Any]:
    """What the supervisor of a host's part of a group is told; nothing for one host alone."""
    group = instance.get("group")
    if group is None:
        return {}
    model = {
        "repo_id": instance["model"]["repo_id"] or config["model"],
        "revision": commits.get(instance["name"]),
    }
    return {
        "group": {
            "rank": group["rank"],
            "port": group["port"],
            "members": group["members"],
            "fingerprint": group_fingerprint(
                instance["name"], plan["release"], group, model, config, instance["environment"]
            ),
        }
    }


def service_instances(
    plan: Mapping[str, Any], models: Mapping[str, str], commits: Mapping[str, str | None]
) -> list[dict[str, Any]]:
    """Take the instances out of a plan.

    Args:
        plan: What vllm_plan returns as `plan`.
        models: The directory of each instance's model, by the instance's name.
        commits: The commit of each model of the Hub, by the instance's name.
    """
    instances = []
    for instance in plan["instances"]:
        backend = instance["attention_backend"]
        config = {**instance["config"], "model": models[instance["name"]]}
        if instance["lora"]:
            config["lora-modules"] = [
                lora_module(one["name"], models[f"{instance['name']}/{one['name']}"])
                for one in instance["lora"]
            ]
        attention = {key: backend[key] for key in ("mechanism", "key", "trial")}
        instances.append(
            {
                "name": instance["name"],
                # What vllm_service takes where nothing is said.
                **({"kind": instance["kind"]} if instance.get("kind", "chat") != "chat" else {}),
                "repository": instance["model"]["repo_id"],
                "revision": commits.get(instance["name"]),
                "venv": plan["runtime"]["venv"],
                "config": config,
                "environment": instance["environment"],
                "limits": instance["limits"],
                "attention": attention if backend["trial"] else None,
                **({"expected": instance["expected"]} if instance.get("expected") else {}),
                "url": instance["url"],
                "served_model_name": instance["served_model_name"],
                **group_of(plan, instance, config, commits),
                **({"on_demand": instance["on_demand"]} if instance.get("on_demand") else {}),
            }
        )
    return instances


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"service_instances": service_instances}
