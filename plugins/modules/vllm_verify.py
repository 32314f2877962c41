#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that endpoints answer as they should."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_verify
short_description: Prove that OpenAI-compatible endpoints answer as they should
version_added: 0.1.0
description:
  - Runs a suite of checks against each endpoint. All checks run, also when one fails; then the task
    fails and names all that failed and are errors. Those that are warnings are warned of.
  - An endpoint that this collection deployed, and on which this suite has passed with this
    configuration before, is asked for its health, version and models and one question only.
  - Keeps the endpoint record C(<instance>.endpoint.json) of such an endpoint true.
  - Runs on the managed host, so that an endpoint on the loopback interface can be verified, and so
    that the log, the GPU and the sandbox for the model's code are at hand.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: Asks the same, and writes nothing.
  diff_mode:
    support: full
    description: Shows the endpoint records before and after.
extends_documentation_fragment:
  - compute_plane.vllm.verification
  - compute_plane.vllm.lock
  - compute_plane.vllm.code
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
        description: The server's address; a C(/v1) at its end does not matter.
        type: str
        required: true
      served_model_name:
        description: The name that requests give. The first that the server has, when not given.
        type: str
      max_model_len:
        description: The context length, in tokens, that the server must report.
        type: int
      kind:
        description:
          - What the model is asked for, as C(kind) of an instance of
            M(compute_plane.vllm.vllm_plan). As it was deployed when not given, and V(chat) for one
            that this collection did not deploy.
        type: str
        choices: [chat, base, reasoning, embed, rerank, classify, transcribe, multimodal]
      tools:
        description: Whether tool calls are enabled there.
        type: bool
        default: false
      api_key:
        description:
          - The endpoint's API key. For an endpoint that this collection deployed it is read on the
            host, from C(<instance>.env).
        type: str
  foreign:
    description:
      - The endpoints are not this collection's; nothing is looked up or kept on the host. One that
        does not tell its models is asked nothing more.
    type: bool
    default: false
  release:
    description: vLLM's version that must answer. Any, when not given.
    type: str
  mode:
    description:
      - V(full) runs the suite; V(auto) does it where it has not passed with this content on this
        deployment.
    type: str
    choices: [auto, full]
    default: auto
  timeout:
    description: The longest wait for one answer, in seconds.
    type: int
    default: 60
  ca_path:
    description: A file of certificate authorities to trust instead of the system's.
    type: path
  validate_certs:
    description: Whether the certificate of a server with C(https) must be right.
    type: bool
    default: true
  verified:
    description:
      - What M(compute_plane.vllm.vllm_service) has verified in this run. Where that is all of
        O(endpoints), it is the result, and nothing is asked again; but not when O(mode) is
        V(full), or reports are wanted.
    type: list
    elements: dict
    default: []
  deployed:
    description:
      - What M(compute_plane.vllm.vllm_service) has proved in this run, as fingerprints by the names
        of O(endpoints). The module waits until no other run changes the servers; where another one
        has replaced what this run had proved, the task fails with that and asks nothing.
    type: dict
    default: {}
  run_dir:
    description: Where the lock of the servers is.
    type: path
    default: /run/vllm
  progress:
    description: The file in which progress is kept; set by the action plugin.
    type: path
  etc_dir:
    description: Where the endpoint records are.
    type: path
    default: /etc/vllm
  state_dir:
    description: Where it is kept what was proved and verified.
    type: path
    default: /var/lib/vllm
"""

EXAMPLES = r"""
- name: The endpoint answers, and truly
  compute_plane.vllm.vllm_verify:
    release: "0.14.1"
    endpoints:
      - {name: smollm2, url: "http://127.0.0.1:8000", served_model_name: smollm2}
    suite:
      - health
      - models
      - {check: is_prime, severity: error, retries: 1}
    questions:
      - name: capital of France
        prompt: What is the capital of France?
        expect: Paris
        max_tokens: 16
"""

RETURN = r"""
endpoints:
  description:
    - The endpoints with what was found. Of a task that fails, only the checks that failed, since
      Ansible prints all of its result; the reports have the rest.
  type: list
  elements: dict
  returned: always
  sample:
    - name: smollm2
      url: http://127.0.0.1:8000
      served_model_name: smollm2
      full: false
      passed: true
      checks:
        - {name: health, passed: true, detail: "200", seconds: 0.002}
        - {name: capital, passed: true, detail: "The capital of France is Paris.", seconds: 0.4}
      verification: {at: "2026-11-23T01:32:57+00:00", suite: 3f1d0a9be2c45a70, passed: true}
  contains:
    full:
      description: Whether the whole suite ran now.
      type: bool
    passed:
      description: Whether no check failed whose failure is an error.
      type: bool
    checks:
      description:
        - What was asked now. C(outcome) is V(passed), V(failed) or V(skipped); C(seconds) is the
          whole time of a check and C(model_seconds) what of it was spent waiting for the endpoint.
      type: list
      elements: dict
    verification:
      description:
        - The last run of the whole suite - when, which suite, every check with its question, answer
          and verdict. Null where there was none.
      type: dict
    record:
      description: The endpoint record; null for a foreign endpoint.
      type: dict
summary:
  description: A line for each endpoint, with the checks that passed and what it said last.
  type: list
  elements: str
  returned: success
  sample:
    - "http://127.0.0.1:8000 serves smollm2, verified: health. It says: Paris is the capital."
"""

import contextlib
import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common import late
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import (
    ARGUMENTS as LOCK_ARGUMENTS,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import Asking, held
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import (
    read_record,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.verifier import (
    Verifier,
    address_of,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.paths import LOCK
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.kinds import KINDS
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.run import ARGUMENTS


def check_deployed(deployed: dict[str, str], state_dir: str) -> None:
    """See that this run's deployments are still what was proved last.

    Args:
        deployed: Their fingerprints by the instances' names.
        state_dir: Where it is kept what was proved.

    Raises:
        Failed: Another run has replaced one.
    """
    replaced = []
    for name, fingerprint in sorted(deployed.items()):
        record = read_record(read(os.path.join(state_dir, "proved", f"{name}.json")))
        if record is None or record.current.fingerprint != fingerprint:
            replaced.append(name)
    if replaced:
        raise Failed(
            f"{', '.join(replaced)}: served as this run wants and was proved, and then another run"
            " replaced it with what that one wants. Let the two agree, and run the one that is to"
            " count again"
        )


def run(module: AnsibleModule) -> None:
    """Verify every endpoint and end the task."""
    os.umask(0o022)
    for one in module.params["endpoints"]:
        address = address_of(one["url"])
        if address is None:
            module.fail_json(
                msg=f"{one['url']!r} is not the address of a server: write it with http:// or"
                " https://, such as https://llm.example"
            )
        one["url"] = address
    verifier = Verifier(module)
    suites = verifier.suites()
    endpoints = [verifier.verify(one, suites[one["name"]]) for one in module.params["endpoints"]]
    for one, wanted in zip(endpoints, module.params["endpoints"]):
        one["served_model_name"] = wanted["served_model_name"]
    failures = []
    for one in endpoints:
        for check in one["checks"]:
            if check["passed"]:
                continue
            line = f"{one['name']}: {check['name']}: {check['detail']}"
            if check.get("severity", "error") == "error":
                failures.append(line)
            else:
                module.warn(line)
    result = {"changed": verifier.changed, "endpoints": endpoints, "diff": verifier.diff}
    if failures:
        failures += [
            f"All questions and answers are in {p} on the host." for p in verifier.evidence
        ]
        module.fail_json(msg="\n".join(failures), **result)
    module.exit_json(**result)


def main() -> None:
    """Run the module."""
    endpoint = {
        "name": {"type": "str", "required": True},
        "url": {"type": "str", "required": True},
        "served_model_name": {"type": "str"},
        "max_model_len": {"type": "int"},
        "kind": {"type": "str", "choices": list(KINDS)},
        "tools": {"type": "bool", "default": False},
        "api_key": {"type": "str", "no_log": True},
    }
    module = AnsibleModule(
        argument_spec={
            "endpoints": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": endpoint,
            },
            "foreign": {"type": "bool", "default": False},
            "release": {"type": "str"},
            "mode": {"type": "str", "choices": ["auto", "full"], "default": "auto"},
            "timeout": {"type": "int", "default": 60},
            "ca_path": {"type": "path"},
            "validate_certs": {"type": "bool", "default": True},
            "verified": {"type": "list", "elements": "dict", "default": []},
            "deployed": {"type": "dict", "default": {}},
            "run_dir": {"type": "path", "default": "/run/vllm"},
            "progress": {"type": "path"},
            "etc_dir": {"type": "path", "default": "/etc/vllm"},
            "state_dir": {"type": "path", "default": "/var/lib/vllm"},
            **ARGUMENTS,
            **LOCK_ARGUMENTS,
            **late.ARGUMENTS,
        },
        supports_check_mode=True,
    )
    progress = Progress(module.params["progress"])
    late.use(module.params["code_archive"])
    try:
        with contextlib.ExitStack() as stack:
            if module.params["deployed"] and not module.check_mode:
                path = os.path.join(module.params["run_dir"], LOCK)
                asking = Asking.of(module.params, progress.update)
                stack.enter_context(held(path, "the servers of this host", asking))
                progress.close()  # nobody is waited for any more
                check_deployed(module.params["deployed"], module.params["state_dir"])
            run(module)
    except late.CodeNeeded:
        module.fail_json(**late.ASKS)
    except Failed as problem:
        progress.close()
        module.fail_json(msg=str(problem))


if __name__ == "__main__":
    main()
