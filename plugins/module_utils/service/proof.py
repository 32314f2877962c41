# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of a server that is ready."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Callable

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import File
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import Deployment
from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.record import (
    make_record,
    record_path,
    record_text,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.failures import (
    StartFailed,
    TaskFailed,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.installed import Installed
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.run import (
    LocalMachine,
    Verification,
    endpoint_result,
    failed_path,
    is_due,
    read_state,
    report_of,
    state_path,
    state_text,
    subject_of,
    verify_endpoint,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.short import (
    short_question,
    verify,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.suite import (
    Check,
    SuiteError,
    read_suite,
)


class Prover:
    """Proves servers.

    Args:
        installed: The files of the services.
        params: The module's, with those of `verify.run` and `answer_timeout`.
        progress: Where it is shown what is done.
        warn: Takes what is wrong and no error.
    """

    def __init__(
        self,
        installed: Installed,
        params: Mapping[str, Any],
        progress: Progress,
        warn: Callable[[str], None],
    ) -> None:
        self.installed = installed
        self.params = params
        self.progress = progress
        self.warn = warn
        self.etc_dir, self.state_dir = installed.paths.etc_dir, installed.paths.state_dir

    def suite(self, name: str, kind: str = "chat") -> list[Check]:
        """The checks that prove an instance of a kind.

        Raises:
            TaskFailed: The suite cannot be read.
        """
        try:
            return read_suite(
                self.params["suite"], self.params["questions"], self.params["ability"], name, kind
            )
        except SuiteError as problem:
            raise TaskFailed(str(problem)) from problem

    def prove(self, wanted: Deployment) -> None:
        """Verify a server that is ready.

        Raises:
            StartFailed: A check failed; all that failed are named.
        """
        # Here, for a run that changes nothing has to compile every module that it imports.
        from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.client import (
            Client,
            ClientError,
        )

        self.progress.update(f"verifying {wanted.name}")
        try:
            with Client(
                os.path.join(self.params["tools_path"], "bin", "python"),
                wanted.url,
                wanted.served_model_name,
                key=self.installed.key(wanted.name) or None,
                timeout=self.params["answer_timeout"],
            ) as client:
                found = verify_endpoint(
                    client,
                    subject_of(wanted),
                    self.suite(wanted.name, wanted.kind),
                    LocalMachine(self.params["tools_path"]),
                    wanted.fingerprint,
                )
        except ClientError as problem:
            raise StartFailed(f"{wanted.unit_name} cannot be verified: {problem}") from problem
        for line in found.failed("warning"):
            self.warn(f"{wanted.name}: {line}")
        failed = failed_path(self.state_dir, wanted.name)
        if not found.passed:
            File(failed, state_text(found), 0o600).write()
            raise StartFailed(
                f"{wanted.unit_name} answers, but not truly: {'; '.join(found.failed('error'))}\n"
                f"All questions and answers are in {failed} on the host.",
                evidence={**shown(wanted), "verification": report_of(found)},
            )
        File(failed, None).write()
        File(state_path(self.state_dir, wanted.name), state_text(found), 0o600).write()

    def last(self, wanted: Deployment) -> Verification | None:
        """What the last verification of an instance found that passed."""
        return read_state(read(state_path(self.state_dir, wanted.name)))

    def record(self, wanted: Deployment, found: Verification) -> tuple[dict[str, Any], File]:
        """The endpoint record of a server that was verified, and its file."""
        has_key = bool(self.installed.key(wanted.name))
        record = make_record(wanted, found, has_key, self.state_dir)
        return record, File(record_path(self.etc_dir, wanted.name), record_text(record))

    def verify_briefly(self, wanted: Deployment) -> dict[str, Any] | None:
        """Verify a server on which the suite has passed before, as `vllm_verify` does.

        Returns:
            What that module returns of it; `None` where it has work: the suite is due, the answer
            is wrong, or the endpoint record has to be written.
        """
        suite = self.suite(wanted.name, wanted.kind)
        last = self.last(wanted)
        if last is None or is_due(last, wanted.fingerprint, suite):
            return None
        checks = verify(
            self.installed.endpoint(wanted, self.params["answer_timeout"]),
            wanted.served_model_name,
            wanted.release,
            wanted.max_model_len,
            short_question(suite),
            wanted.kind,
        )
        record, file = self.record(wanted, last)
        if not all(check["passed"] for check in checks) or not file.is_right():
            return None
        return endpoint_result(shown(wanted), last, record, checks, full=False, passed=True)


def shown(wanted: Deployment) -> dict[str, Any]:
    """What results say of a server."""
    return {key: getattr(wanted, key) for key in ("name", "url", "served_model_name")}
