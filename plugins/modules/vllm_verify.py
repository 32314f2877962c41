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

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import File, read
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    Endpoint,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import (
    Record,
    read_record,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.record import (
    make_record,
    record_path,
    record_text,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.run import (
    ARGUMENTS,
    LocalMachine,
    Verification,
    api_key_of,
    endpoint_result,
    failed_path,
    is_due,
    read_state,
    state_path,
    state_text,
    subject_of,
    unusable,
    verify_endpoint,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.short import (
    short_question,
    verify,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.suite import (
    Check,
    Subject,
    SuiteError,
    read_suite,
)

if TYPE_CHECKING:
    from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.client import Client


class Verifier:
    """The verification of one task's endpoints.

    Args:
        module: The module that runs.
    """

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.changed = False
        self.diff: list[dict[str, str]] = []
        self.evidence: list[str] = []

    def suites(self) -> dict[str, list[Check]]:
        """The checks of every endpoint; ends the task when they cannot be read."""
        try:
            return {
                endpoint["name"]: read_suite(
                    self.params["suite"],
                    self.params["questions"],
                    self.params["ability"],
                    endpoint["name"],
                )
                for endpoint in self.params["endpoints"]
            }
        except SuiteError as problem:
            self.module.fail_json(msg=str(problem))
            raise

    def verify(self, wanted: dict[str, Any], suite: list[Check]) -> dict[str, Any]:
        """Verify one endpoint, and keep what was found."""
        name = wanted["name"]
        proved, last, key = None, None, wanted["api_key"]
        if not self.params["foreign"]:
            text = read(os.path.join(self.params["state_dir"], "proved", f"{name}.json"))
            proved = read_record(text)
            last = read_state(read(state_path(self.params["state_dir"], name)))
            key = key or api_key_of(self.params["etc_dir"], name)
        fingerprint = proved.current.fingerprint if proved else ""
        if self.params["mode"] == "full" or is_due(last, fingerprint, suite):
            full, last = True, self.run_suite(wanted, suite, proved, key)
            checks, passed = last.checks, last.passed
            if proved is not None:
                self.keep(name, last)
        else:
            full = False
            checks = verify(
                Endpoint(wanted["url"], api_key=key, timeout=self.params["timeout"]),
                wanted["served_model_name"],
                self.params["release"],
                wanted["max_model_len"],
                short_question(suite),
            )
            passed = all(check["passed"] for check in checks)
        record = None
        if proved is not None and last is not None:
            record = make_record(proved.current, last, key is not None, self.params["state_dir"])
            record["state"] = "verified" if passed else "failed"
            self.publish(record_path(self.params["etc_dir"], name), record_text(record))
        return endpoint_result(wanted, last, record, checks, full=full, passed=passed)

    def run_suite(
        self, wanted: dict[str, Any], suite: list[Check], proved: Record | None, key: str | None
    ) -> Verification:
        """Run the whole suite; ends the task when it cannot be run at all."""
        from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.client import (
            Client,
            ClientError,
            Wrong,
        )

        tools = self.params["tools_path"]
        subject = Subject(
            name=wanted["name"],
            release=self.params["release"],
            max_model_len=wanted["max_model_len"],
            tools=wanted["tools"],
        )
        if proved is not None:
            subject = subject_of(proved.current)
        try:
            with Client(
                os.path.join(tools, "bin", "python"),
                wanted["url"],
                wanted["served_model_name"] or "",
                key=key,
                timeout=self.params["timeout"],
                ca_path=self.params["ca_path"],
                validate_certs=self.params["validate_certs"],
            ) as client:
                if self.params["foreign"]:
                    try:
                        models = told_models(client)
                    except Wrong as problem:
                        return unusable(client, suite, str(problem))
                    client.model = client.model or next(iter(models), "")
                    wanted["served_model_name"] = client.model
                return verify_endpoint(
                    client,
                    subject,
                    suite,
                    None if self.params["foreign"] else LocalMachine(tools),
                    proved.current.fingerprint if proved is not None else None,
                )
        except ClientError as problem:
            self.module.fail_json(msg=f"{wanted['name']}: {problem}")
            raise

    def write(self, path: str, text: str | None, mode: int) -> None:
        """Keep a file, or remove it, outside of check mode."""
        file = File(path, text, mode)
        if not file.is_right() and not self.module.check_mode:
            file.write()

    def keep(self, name: str, found: Verification) -> None:
        """Keep what the suite has found; what failed stays beside what passed before it."""
        failed = failed_path(self.params["state_dir"], name)
        if found.passed:
            self.write(state_path(self.params["state_dir"], name), state_text(found), 0o600)
            self.write(failed, None, 0o600)
        else:
            self.write(failed, state_text(found), 0o600)
            if not self.module.check_mode:
                self.evidence.append(failed)

    def publish(self, path: str, text: str) -> None:
        """Keep an endpoint record; this is what counts as a change."""
        file = File(path, text)
        if not file.is_right():
            self.changed = True
            self.diff.append(file.diff())
            self.write(path, text, 0o644)


def told_models(client: Client) -> list[str]:
    """The names of the models that a server has.

    Raises:
        Wrong: It does not tell.
    """
    from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.client import (
        Request,
        Wrong,
    )

    answer = client.ask(Request("/v1/models"))
    if answer.status in (401, 403):
        key = "the API key is wrong" if client.key is not None else "it wants an API key"
        raise Wrong(f"/v1/models answered {answer.status}: {key}")
    data = answer.json().get("data")
    if not isinstance(data, list):
        raise Wrong("/v1/models has no list of models")
    return [str(entry["id"]) for entry in data if isinstance(entry, dict) and "id" in entry]


def address_of(url: str) -> str | None:
    """A server's address without the C(/v1) that clients' settings have; C(None) for none."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return None
    except ValueError:
        return None
    return url.rstrip("/").removesuffix("/v1")


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
            "etc_dir": {"type": "path", "default": "/etc/vllm"},
            "state_dir": {"type": "path", "default": "/var/lib/vllm"},
            **ARGUMENTS,
        },
        supports_check_mode=True,
    )
    run(module)


if __name__ == "__main__":
    main()
