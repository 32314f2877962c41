# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verification of an endpoint: run the suite, keep what it found, tell when it is due again."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
    Check,
    Subject,
    suite_digest,
)

if TYPE_CHECKING:
    from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.checks import Machine
    from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.client import Client

# What only a run of the suite needs is imported there: a run that changes nothing has to compile
# every module that it imports.

SCHEMA = 1

ARGUMENTS: dict[str, dict[str, Any]] = {
    "suite": {"type": "list", "elements": "raw", "default": list(DEFAULT_SUITE)},
    "questions": {"type": "list", "elements": "dict", "default": list(DEFAULT_QUESTIONS)},
    "ability": {"type": "str", "choices": list(SEVERITIES), "default": "warning"},
    "reports_dir": {"type": "str"},
    "tools_path": {"type": "path", "default": "/opt/vllm/tools"},
}
"""Parameters of every module that verifies; documented in the fragment `verification`."""


class LocalMachine:
    """This machine, for the checks that look at it.

    Args:
        tools: The virtual environment that has pynvml.
    """

    def __init__(self, tools: str) -> None:
        self.tools = tools

    def gpus(self) -> list[dict[str, Any]]:
        """The GPUs as `gpu_info` returns them."""
        from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu.gpus import Gpus
        from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host

        found: list[dict[str, Any]] = Gpus(Host(), self.tools).result()["gpus"]
        return found

    def model_file(self, path: str) -> Any:
        """A JSON file of a model; `None` where there is none."""
        try:
            return json.loads(read(path) or "null")
        except ValueError:
            return None

    def journal(self, unit: str, pattern: str) -> list[str]:
        """The lines of a unit's present run that match a pattern, oldest first."""
        show = _output("systemctl", "show", "--property", "InvocationID", "--value", unit).strip()
        if not show:
            return []
        return _output(
            *("journalctl", "--no-pager", "--quiet", "--output", "cat", "--grep", pattern),
            f"_SYSTEMD_INVOCATION_ID={show}",
        ).splitlines()


def _output(*argv: str) -> str:
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60
    )
    return done.stdout.decode("utf-8", "replace")


def subject_of(deployment: Deployment) -> Subject:
    """What is known of an endpoint that this collection deployed."""
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
    """

    at: str
    suite: str
    checks: list[dict[str, Any]]
    seconds: float
    model_seconds: float
    fingerprint: str | None = None
    max_model_len: int | None = None
    gpus: list[dict[str, Any]] = dataclasses.field(default_factory=list)

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


def verify_endpoint(
    client: Client,
    subject: Subject,
    suite: Sequence[Check],
    machine: Machine | None,
    fingerprint: str | None = None,
) -> Verification:
    """Run all checks of an endpoint, also when one fails.

    Args:
        client: The endpoint.
        subject: What is known of it.
        suite: The checks.
        machine: Where it runs; `None` when that is elsewhere.
        fingerprint: The deployment's.
    """
    from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.checks import Checks

    began = datetime.datetime.now(datetime.timezone.utc)
    checks = Checks(client, subject, machine)
    results = [checks.run(check) for check in suite]
    gpus = machine.gpus() if machine is not None and subject.gpus else []
    ended = datetime.datetime.now(datetime.timezone.utc)
    return Verification(
        at=began.replace(microsecond=0).isoformat(),
        suite=suite_digest(suite),
        checks=results,
        seconds=round((ended - began).total_seconds(), 3),
        model_seconds=round(client.model_seconds, 3),
        fingerprint=fingerprint,
        max_model_len=checks.length,
        gpus=[
            {key: gpu[key] for key in ("uuid", "name", "memory_total_bytes")}
            for gpu in gpus
            if gpu["uuid"] in subject.gpus
        ],
    )


def unusable(client: Client, suite: Sequence[Check], problem: str) -> Verification:
    """What is found of an endpoint that cannot be asked at all: one failed check.

    Args:
        client: The endpoint.
        suite: The checks that it would have been asked.
        problem: Why not.
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    seconds = round(client.model_seconds, 3)
    check = {
        "name": "models",
        "check": "models",
        "severity": "error",
        "outcome": "failed",
        "passed": False,
        "detail": f"{client.url} cannot be verified: {problem}; nothing more was asked",
        "question": "/v1/models",
        "answer": "",
        "figures": {},
        "seconds": seconds,
        "model_seconds": seconds,
        "tries": 1,
    }
    at = now.replace(microsecond=0).isoformat()
    return Verification(at, suite_digest(suite), [check], seconds, seconds)


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
