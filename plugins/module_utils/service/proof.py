# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of a server that is ready."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Callable

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import File
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.late import late
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
    Verification,
    budget_of,
    endpoint_result,
    failed_path,
    is_due,
    read_state,
    report_of,
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

    def prepare(self) -> None:
        """See that a server can be proved, before anything is changed.

        Raises:
            CodeNeeded: What that takes was not sent.
        """
        late("verify.whole")

    def prove(self, wanted: Deployment) -> None:
        """Verify a server that is ready.

        Raises:
            StartFailed: A check failed; all that failed are named.
        """
        whole, clients = late("verify.whole"), late("verify.client")
        self.progress.update(f"verifying {wanted.name}")
        try:
            with clients.Client(
                os.path.join(self.params["tools_path"], "bin", "python"),
                wanted.url,
                wanted.served_model_name,
                key=self.installed.key(wanted.name) or None,
                timeout=self.params["answer_timeout"],
            ) as client:
                found: Verification = whole.verify_endpoint(
                    client,
                    subject_of(wanted, budget_of(self.params)),
                    self.suite(wanted.name, wanted.kind),
                    whole.LocalMachine(self.params["tools_path"]),
                    wanted.fingerprint,
                )
        except clients.ClientError as problem:
            raise StartFailed(f"{wanted.unit_name} cannot be verified: {problem}") from problem
        self.keep_measured(wanted, found.engine)
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

    def keep_measured(self, wanted: Deployment, engine: Mapping[str, int]) -> None:
        """Keep what the engine measured, for the next plan of the same."""
        if wanted.expected and engine:
            whole = late("verify.whole")
            text = whole.measured_text(self.state_dir, wanted.expected, engine)
            File(whole.measured_path(self.state_dir), text).write()

    def last(self, wanted: Deployment) -> Verification | None:
        """What the last verification of an instance found that passed."""
        return read_state(read(state_path(self.state_dir, wanted.name)))

    def record(self, wanted: Deployment, found: Verification) -> tuple[dict[str, Any], File]:
        """The endpoint record of a server that was verified, and its file."""
        has_key = bool(self.installed.key(wanted.name))
        record = make_record(wanted, found, has_key, self.state_dir)
        return record, File(record_path(self.etc_dir, wanted.name), record_text(record))

    def _not_due(self, wanted: Deployment, suite: list[Check]) -> Verification | None:
        """The last verification that passed; `None` where the suite is to run again."""
        last = self.last(wanted)
        return None if last is None or is_due(last, wanted.fingerprint, suite) else last

    def verified_before(self, wanted: Deployment) -> dict[str, Any] | None:
        """What was found of a server that nobody asks now.

        Returns:
            As :meth:`verify_briefly`, with nothing asked.
        """
        last = self._not_due(wanted, self.suite(wanted.name, wanted.kind))
        if last is None:
            return None
        record, file = self.record(wanted, last)
        if not file.is_right():
            return None
        return endpoint_result(shown(wanted), last, record, [], full=False, passed=True)

    def verify_briefly(self, wanted: Deployment) -> dict[str, Any] | None:
        """Verify a server on which the suite has passed before, as `vllm_verify` does.

        Returns:
            What that module returns of it; `None` where it has work: the suite is due, the answer
            is wrong, or the endpoint record has to be written.
        """
        suite = self.suite(wanted.name, wanted.kind)
        last = self._not_due(wanted, suite)
        if last is None:
            return None
        checks = verify(
            self.installed.endpoint(wanted, self.params["answer_timeout"]),
            wanted.served_model_name,
            wanted.release,
            wanted.max_model_len or last.max_model_len,
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
