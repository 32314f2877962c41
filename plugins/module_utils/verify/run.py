# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verification of an endpoint: what the suite found, and when it is due again."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import Deployment
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.environment import (
    API_KEY,
    read_environment_file,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.suite import (
    DEFAULT_QUESTIONS,
    DEFAULT_SUITE,
    SEVERITIES,
    THINKING_SECONDS,
    THINKING_TOKENS,
    Check,
    Subject,
    suite_digest,
)

SCHEMA = 1

ARGUMENTS: dict[str, dict[str, Any]] = {
    "suite": {"type": "list", "elements": "raw", "default": list(DEFAULT_SUITE)},
    "questions": {"type": "list", "elements": "dict", "default": list(DEFAULT_QUESTIONS)},
    "ability": {"type": "str", "choices": list(SEVERITIES), "default": "warning"},
    "thinking_tokens": {"type": "int", "default": THINKING_TOKENS, "no_log": False},
    "thinking_seconds": {"type": "int", "default": THINKING_SECONDS},
    "reports_dir": {"type": "str"},
    "tools_path": {"type": "path", "default": "/opt/vllm/tools"},
}
"""Parameters of every module that verifies; documented in the fragment `verification`."""


def budget_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """How long a model may think, as a module's parameters say."""
    return {key: params[key] for key in ("thinking_tokens", "thinking_seconds")}


def subject_of(deployment: Deployment, budget: Mapping[str, Any]) -> Subject:
    """What is known of an endpoint that this collection deployed.

    Args:
        deployment: What was deployed.
        budget: From `budget_of`.
    """
    return Subject(
        name=deployment.name,
        release=deployment.release,
        max_model_len=deployment.max_model_len,
        tools=deployment.config.get("enable-auto-tool-choice") is True,
        attention_backend=deployment.attention_backend,
        gpus=tuple(deployment.gpus),
        gpu_memory_utilization=deployment.config.get("gpu-memory-utilization"),
        unit=deployment.unit_name,
        adapters=deployment.adapters,
        kind=deployment.kind,
        parses_thought="reasoning-parser" in deployment.config,
        model=deployment.config.get("model"),
        overrides=_overrides(deployment.config.get("hf-overrides")),
        **budget,
    )


def _overrides(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (TypeError, ValueError):
        value = {}
    return value if isinstance(value, dict) else {}


def api_key_of(etc_dir: str, name: str) -> str | None:
    """An instance's API key, from its environment file on this machine; `None` without one."""
    return read_environment_file(read(os.path.join(etc_dir, f"{name}.env"))).get(API_KEY) or None


@dataclasses.dataclass(frozen=True)
class Verification:
    """What a run of the suite found.

    Attributes:
        at: When, in ISO 8601.
        suite: Which suite; see `suite_digest`.
        checks: The results of `Checks.run`.
        seconds: How long it took.
        model_seconds: How much of it was spent waiting for the endpoint.
        fingerprint: The deployment's; `None` for an endpoint that is not ours.
        max_model_len: What the server reported.
        gpus: The GPUs that it uses: `uuid`, `name`, `memory_total_bytes`.
        engine: What its engine measured at its start, by its log (`measured.figures`).
    """

    at: str
    suite: str
    checks: list[dict[str, Any]]
    seconds: float
    model_seconds: float
    fingerprint: str | None = None
    max_model_len: int | None = None
    gpus: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    engine: dict[str, int] = dataclasses.field(default_factory=dict)

    def failed(self, severity: str) -> list[str]:
        """The checks of a severity that failed, a line each."""
        return [
            f"{check['name']}: {check['detail']}"
            for check in self.checks
            if not check["passed"] and check["severity"] == severity
        ]

    @property
    def passed(self) -> bool:
        """Whether no check failed whose failure is an error."""
        return not self.failed("error")


def state_path(state_dir: str, name: str) -> str:
    """Where it is kept what the last verification of an instance found that passed."""
    return os.path.join(state_dir, "verified", f"{name}.json")


def failed_path(state_dir: str, name: str) -> str:
    """Where it is kept what a verification found that failed, until one passes."""
    return os.path.join(state_dir, "failed", f"{name}.json")


def state_text(verification: Verification) -> str:
    """The file of a verification."""
    value = {"schema": SCHEMA, **dataclasses.asdict(verification)}
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def read_state(text: str | None) -> Verification | None:
    """Read a verification's file; `None` without one, or when it is of another version."""
    try:
        data = json.loads(text or "")
        return Verification(**data) if data.pop("schema") == SCHEMA else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def is_due(last: Verification | None, fingerprint: str, suite: Sequence[Check]) -> bool:
    """Whether the suite must run: it has not passed with this content on this deployment."""
    return last is None or (last.fingerprint, last.suite) != (fingerprint, suite_digest(suite))


def report_of(verification: Verification) -> Mapping[str, Any]:
    """A verification as Ansible data."""
    return {**dataclasses.asdict(verification), "passed": verification.passed}


def endpoint_result(
    wanted: Mapping[str, Any],
    last: Verification | None,
    record: Mapping[str, Any] | None,
    checks: Sequence[Mapping[str, Any]],
    **outcome: bool,
) -> dict[str, Any]:
    """What a task returns of an endpoint.

    Args:
        wanted: Its `name`, `url` and `served_model_name`.
        last: The last time that its suite ran.
        record: Its endpoint record; `None` for one that this collection did not deploy.
        checks: What was asked now.
        outcome: `full`, whether that was the suite, and `passed`.
    """
    return {
        **{key: wanted[key] for key in ("name", "url", "served_model_name")},
        **outcome,
        "checks": checks,
        "verification": report_of(last) if last is not None else None,
        "record": record,
    }
