# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifies a task's endpoints: in full or briefly, keeping what was found and their records."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import File
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.late import late
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    Endpoint,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import (
    Record,
    read_record,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.record import (
    make_record,
    record_path,
    record_text,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.status.asleep import is_asleep
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.run import (
    Verification,
    api_key_of,
    budget_of,
    endpoint_result,
    failed_path,
    is_due,
    read_state,
    state_path,
    state_text,
    subject_of,
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


def address_of(url: str) -> str | None:
    """A server's address without the `/v1` that clients' settings have; `None` for none."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return None
    except ValueError:
        return None
    return url.rstrip("/").removesuffix("/v1")


def failed_checks(checks: list[dict[str, Any]]) -> set[str]:
    """Names of the checks that did not pass."""
    return {check["name"] for check in checks if not check["passed"]}


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
                    self.kind(endpoint),
                )
                for endpoint in self.params["endpoints"]
            }
        except SuiteError as problem:
            self.module.fail_json(msg=str(problem))
            raise

    def kind(self, wanted: Mapping[str, Any]) -> str:
        """What an endpoint is asked for: as the task says, or as it was deployed."""
        if wanted.get("kind"):
            return str(wanted["kind"])
        proved = None if self.params["foreign"] else self.proved(wanted["name"])
        return proved.current.kind if proved is not None else "chat"

    def proved(self, name: str) -> Record | None:
        """What was proved last of an instance of this host."""
        return read_record(read(os.path.join(self.params["state_dir"], "proved", f"{name}.json")))

    def verify(self, wanted: dict[str, Any], suite: list[Check]) -> dict[str, Any]:
        """Verify one endpoint, and keep what was found."""
        name = wanted["name"]
        proved, last, key = None, None, wanted["api_key"]
        if not self.params["foreign"]:
            proved = self.proved(name)
            last = read_state(read(state_path(self.params["state_dir"], name)))
            key = key or api_key_of(self.params["etc_dir"], name)
        fingerprint = proved.current.fingerprint if proved else ""
        full = self.params["mode"] == "full" or is_due(last, fingerprint, suite)
        checks: list[dict[str, Any]] = []
        asleep = False  # then the last proof counts
        if not full and proved is not None and proved.current.on_demand is not None:
            asleep = is_asleep(self.params["run_dir"], name)
        if not full and last is not None and not asleep:
            checks = verify(
                Endpoint(wanted["url"], api_key=key, timeout=self.params["timeout"]),
                wanted["served_model_name"],
                self.params["release"],
                wanted["max_model_len"] or last.max_model_len,
                short_question(suite),
                self.kind(wanted),
            )
            # Where vLLM takes the context itself, another start may have taken another.
            full = wanted["max_model_len"] is None and "models" in failed_checks(checks)
        if full or last is None:
            full, last = True, self.run_suite(wanted, suite, proved, key)
            checks = last.checks
            if proved is not None:
                self.keep(name, last)
        passed = last.passed if full else not failed_checks(checks)
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
        whole, clients = late("verify.whole"), late("verify.client")
        tools = self.params["tools_path"]
        subject = Subject(
            name=wanted["name"],
            release=self.params["release"],
            max_model_len=wanted["max_model_len"],
            tools=wanted["tools"],
            kind=self.kind(wanted),
            **budget_of(self.params),
        )
        if proved is not None:
            known = subject_of(proved.current, budget_of(self.params))
            subject = dataclasses.replace(known, kind=self.kind(wanted))
        try:
            with clients.Client(
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
                        models = clients.told_models(client)
                    except clients.Wrong as problem:
                        nothing: Verification = whole.unusable(client, suite, str(problem))
                        return nothing
                    client.model = client.model or next(iter(models), "")
                    wanted["served_model_name"] = client.model
                found: Verification = whole.verify_endpoint(
                    client,
                    subject,
                    suite,
                    None if self.params["foreign"] else whole.LocalMachine(tools),
                    proved.current.fingerprint if proved is not None else None,
                )
                return found
        except clients.ClientError as problem:
            self.module.fail_json(msg=f"{wanted['name']}: {problem}")
            raise

    def write(self, path: str, text: str | None, mode: int) -> None:
        """Keep a file, or remove it, outside of check mode."""
        file = File(path, text, mode)
        if not file.is_right() and not self.module.check_mode:
            file.write()

    def keep(self, name: str, found: Verification) -> None:
        """Keep what the suite has found; what failed stays beside what passed before it."""
        proved = self.proved(name)
        if proved is not None and proved.current.expected and found.engine:
            whole, state_dir = late("verify.whole"), self.params["state_dir"]
            text = whole.measured_text(state_dir, proved.current.expected, found.engine)
            self.write(whole.measured_path(state_dir), text, 0o644)
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
