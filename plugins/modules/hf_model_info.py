#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a Hugging Face Hub what models are, before they are fetched."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_model_info
short_description: Ask a Hugging Face Hub what models are, before they are fetched
version_added: 0.1.0
description:
  - What O(cache_dir) has whole is told from there, and the Hub is not asked for it.
  - Finds the commit of each model, the size of its files, its configuration, chat template and
    numbers of parameters, with a few small requests; no weights are fetched. What it returns has
    the form of what M(compute_plane.vllm.vllm_probe) reads of a model that is there.
  - Needs nothing on the host but Python, since it looks before anything is installed.
  - A Hub that refuses, or cannot be reached, is an RV(hub[].error) of that model; the module fails
    on wrong parameters only.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    description: Can run in check mode and return what it would without.
    support: full
    details:
      - Only asks.
  diff_mode:
    description: Returns details on what has changed in diff mode.
    support: none
    details:
      - Changes nothing, so there is no difference to show.
options:
  models:
    description: The models.
    type: list
    elements: dict
    required: true
    suboptions:
      repo_id:
        description: The model's repository, as C(ORGANIZATION/NAME).
        type: str
        required: true
      revision:
        description: A branch, a tag or a full commit hash.
        type: str
        default: main
      commit:
        description: The commit that O(models[].revision) was recorded to be at, which is asked for.
        type: str
      trust_remote_code:
        description: Whether the repository's Python files would be fetched too.
        type: bool
        default: false
  cache_dir:
    description: The cache in which the models will be; what is there already is not counted.
    type: path
    default: /var/lib/vllm/hub
  endpoint:
    description: Address of the Hub or of a mirror.
    type: str
    default: https://huggingface.co
  token:
    description: Token for private and gated models. It reaches only the O(endpoint).
    type: str
  timeout:
    description: Seconds that all questions together may take.
    type: int
    default: 8
notes:
  - Proxies and certificates are read from the task's environment (C(HTTPS_PROXY),
    C(SSL_CERT_FILE)).
seealso:
  - module: compute_plane.vllm.hf_model
  - module: compute_plane.vllm.vllm_plan
"""

EXAMPLES = r"""
- name: Look at a model
  compute_plane.vllm.hf_model_info:
    models:
      - repo_id: Qwen/Qwen3-8B
  register: asked

- name: Show how large it is
  ansible.builtin.debug:
    msg: "{{ asked.models[asked.hub[0].path].weights.bytes }} bytes"
"""

RETURN = r"""
hub:
  description: What the Hub says of each model, in their order.
  type: list
  elements: dict
  returned: always
  contains:
    repo_id:
      description: As given.
      type: str
      sample: Qwen/Qwen3-8B
    revision:
      description: As given.
      type: str
      sample: main
    commit:
      description: The commit; null when it is not known.
      type: str
      sample: b968826d9c46dd6066d109eabc6255188de91218
    path:
      description: Where the model will be.
      type: str
      sample: /srv/hub/models--Qwen--Qwen3-8B/snapshots/b968826d9c46dd6066d109eabc6255188de91218
    bytes:
      description: Bytes of all files that are fetched; null as RV(hub[].download_bytes).
      type: int
      sample: 16392996458
    download_bytes:
      description: Bytes that would be fetched; null when nothing of the repository can be served.
      type: int
      sample: 16392996458
    asked:
      description: The Hub's address; null for a model that O(cache_dir) has, with its record.
      type: str
      sample: https://huggingface.co
    error:
      description:
        - Why it says nothing, with C(code), HTTP C(status), C(message) and C(retry_after); or null.
      type: dict
      sample: null
    base_models:
      description: The models that it was made from, as its card says.
      type: list
      elements: str
      sample: [Qwen/Qwen3-8B-Base]
models:
  description: By RV(hub[].path), what C(facts.models) of M(compute_plane.vllm.vllm_probe) will be.
  type: dict
  returned: always
  sample: {}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.host import models_dir
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub import known, listing, record
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.ask import Asker
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.known import Request
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.names import (
    endpoint_problem,
    repo_id_problem,
    revision_problem,
)


def problems(params: dict[str, Any]) -> list[str]:
    """Everything that is wrong with the parameters."""
    found = []
    for model in params["models"]:
        for key, check in (("repo_id", repo_id_problem), ("revision", revision_problem)):
            problem = check(model[key])
            if problem:
                found.append(f"{key} {model[key]!r} {problem}")
    problem = endpoint_problem(params["endpoint"])
    if problem:
        found.append(f"endpoint {params['endpoint']!r} {problem}")
    if not params["cache_dir"].startswith("/"):
        found.append(f"cache_dir {params['cache_dir']!r} is not an absolute path")
    return found


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "repo_id": {"type": "str", "required": True},
                    "revision": {"type": "str", "default": "main"},
                    "commit": {"type": "str"},
                    "trust_remote_code": {"type": "bool", "default": False},
                },
            },
            "cache_dir": {"type": "path", "default": "/var/lib/vllm/hub"},
            "endpoint": {"type": "str", "default": "https://huggingface.co"},
            "token": {"type": "str", "no_log": True},
            "timeout": {"type": "int", "default": 8},
        },
        supports_check_mode=True,
    )
    params = module.params
    wrong = problems(params)
    if wrong:
        module.fail_json(msg="; ".join(wrong))
    hub: dict[Request, dict[str, Any]] = {}
    models: dict[str, Any] = {}
    requests: dict[Request, str | None] = {}
    for model in params["models"]:
        request = Request(model["repo_id"], model["revision"], model["trust_remote_code"])
        found = record.read(params["cache_dir"], request.repo_id, request.revision)
        entry = hub[request] = known.recorded(request, found)
        if entry["download_bytes"] == 0:
            models[entry["path"]] = models_dir.read_one(Host(), entry["path"])
        else:
            requests[request] = entry["commit"] or model["commit"]
    if requests:
        asker = Asker(params["endpoint"], params["token"], params["timeout"])
        answers = listing.ask_all(asker, params["cache_dir"], requests, params["timeout"])
        for request, (entry, row) in answers.items():
            hub[request] = entry
            if row is not None:
                models[entry["path"]] = row
    module.exit_json(changed=False, hub=list(hub.values()), models=models)


if __name__ == "__main__":
    main()
