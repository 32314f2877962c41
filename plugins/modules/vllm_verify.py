#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that endpoints answer as they should."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_verify
short_description: Prove that vLLM endpoints answer as they should
version_added: 0.1.0
description:
  - Asks each endpoint for its health, version and models, and puts questions to the model whose
    answers are known. All checks run, also when one fails; then the task fails and names them all.
  - Runs on the managed host, so that an endpoint on the loopback interface can be verified.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: Verification changes nothing and runs in check mode too.
  diff_mode:
    support: none
    description: Nothing changes.
options:
  endpoints:
    description: The endpoints.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The instance's name.
        type: str
        required: true
      url:
        description: The server's address, without a path.
        type: str
        required: true
      served_model_name:
        description: The name that requests give.
        type: str
        required: true
      max_model_len:
        description: The context length, in tokens, that the server must report.
        type: int
  release:
    description: vLLM's version that must answer. Any, when not given.
    type: str
  questions:
    description: What is put to each model.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The check's name.
        type: str
        required: true
      messages:
        description: The conversation, as the chat completions API takes it.
        type: list
        elements: dict
        required: true
      expect:
        description: A regular expression (Python's) that the answer must match somewhere.
        type: str
        required: true
      max_tokens:
        description: The longest answer, in tokens.
        type: int
        default: 64
      temperature:
        description: The sampling temperature.
        type: float
        default: 0
  timeout:
    description: The longest wait for one answer, in seconds.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: The endpoint answers, and truly
  compute_plane.vllm.vllm_verify:
    release: "0.14.1"
    endpoints:
      - {name: smollm2, url: "http://127.0.0.1:8000", served_model_name: smollm2}
    questions:
      - name: capital of France
        messages: [{role: user, content: "What is the capital of France?"}]
        expect: Paris
        max_tokens: 16
"""

RETURN = r"""
endpoints:
  description: The endpoints with their checks.
  type: list
  elements: dict
  returned: always
  sample:
    - name: smollm2
      url: http://127.0.0.1:8000
      checks:
        - {name: health, passed: true, detail: "200", seconds: 0.002}
        - {name: capital, passed: true, detail: "The capital of France is Paris.", seconds: 0.4}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.openai_client import Endpoint
from ansible_collections.compute_plane.vllm.plugins.module_utils.verification import verify


def run(module: AnsibleModule) -> None:
    """Verify every endpoint and end the task."""
    params = module.params
    endpoints, failures = [], []
    for wanted in params["endpoints"]:
        checks = verify(
            Endpoint(wanted["url"], timeout=params["timeout"]),
            wanted["served_model_name"],
            params["release"],
            wanted["max_model_len"],
            params["questions"],
        )
        endpoints.append({"name": wanted["name"], "url": wanted["url"], "checks": checks})
        failures += [
            f"{wanted['name']}: {check['name']}: {check['detail']}"
            for check in checks
            if not check["passed"]
        ]
    if failures:
        module.fail_json(msg="\n".join(failures), endpoints=endpoints)
    module.exit_json(changed=False, endpoints=endpoints)


def main() -> None:
    """Run the module."""
    endpoint = {
        "name": {"type": "str", "required": True},
        "url": {"type": "str", "required": True},
        "served_model_name": {"type": "str", "required": True},
        "max_model_len": {"type": "int"},
    }
    question = {
        "name": {"type": "str", "required": True},
        "messages": {"type": "list", "elements": "dict", "required": True},
        "expect": {"type": "str", "required": True},
        "max_tokens": {"type": "int", "default": 64},
        "temperature": {"type": "float", "default": 0},
    }
    module = AnsibleModule(
        argument_spec={
            "endpoints": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": endpoint,
            },
            "release": {"type": "str"},
            "questions": {"type": "list", "elements": "dict", "default": [], "options": question},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    run(module)


if __name__ == "__main__":
    main()
