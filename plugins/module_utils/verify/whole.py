# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of the whole suite, taken late (`common/late.py`): hardly any run of a module has one."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.measured import (
    LINES,
    figures,
    read_rows,
    rows_text,
    with_row,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import nvidia_smi
from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu.gpus import Gpus
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.checks import (
    Checks,
    Machine,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.client import Client
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.run import Verification
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.suite import (
    Check,
    Subject,
    suite_digest,
)


class LocalMachine:
    """This machine, for the checks that look at it.

    Args:
        tools: The virtual environment that has pynvml.
    """

    def __init__(self, tools: str) -> None:
        self.tools = tools

    def gpus(self) -> list[dict[str, Any]]:
        """The GPUs as `gpu_info` returns them."""
        found: list[dict[str, Any]] = Gpus(Host(), lambda: nvidia_smi, self.tools).result()["gpus"]
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
        engine=engine_figures(machine, subject.unit),
    )


def engine_figures(machine: Machine | None, unit: str | None) -> dict[str, int]:
    """What the engine of a unit's present run measured; nothing where its log is elsewhere."""
    return figures(machine.journal(unit, LINES)) if machine is not None and unit else {}


def measured_path(state_dir: str) -> str:
    """Where it is kept what engines measured on this host."""
    return os.path.join(state_dir, "measured.json")


def measured_text(state_dir: str, expected: Mapping[str, Any], engine: Mapping[str, int]) -> str:
    """The file of what engines measured, with what one measured now.

    Args:
        state_dir: Where it is kept.
        expected: The deployment's.
        engine: Of :func:`engine_figures`; not empty.
    """
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0).isoformat()
    rows = read_rows(read(measured_path(state_dir)))
    return rows_text(with_row(rows, expected, engine, now))


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
