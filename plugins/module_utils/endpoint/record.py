# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoint record: what a person, a program and another system need to know of an endpoint.

Its JSON schema is docs/endpoint-record.schema.json. Everything in it comes from the deployment that
was proved, what its verification saw, and what was measured of it. Pure, but for the files.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import Deployment
from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.published import (
    publish_state,
    read_record,
    record_path,
    record_text,
    with_public_url,
    with_state,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.run import Verification

SCHEMA = 1
__all__ = [
    "benchmark_figures",
    "benchmark_path",
    "make_record",
    "publish_state",
    "record_path",
    "record_text",
    "with_benchmark",
    "with_public_url",
    "with_state",
]
"""All of a record, also what is written in `published.py`."""


def benchmark_path(state_dir: str, name: str) -> str:
    """Where an instance's last benchmark is."""
    return os.path.join(state_dir, "benchmarks", f"{name}.json")


def benchmark_figures(text: str | None, fingerprint: str) -> dict[str, Any] | None:
    """What a record holds of a benchmark: when, and the two figures that it is known by.

    Args:
        text: The benchmark's result, docs/benchmark.md; `None` where there is none.
        fingerprint: The configuration whose figures are wanted.

    Returns:
        `None` where nothing was measured, or something else: figures belong to their flags.
    """
    try:
        result = json.loads(text or "")
        if result["fingerprint"] != fingerprint:
            return None
        summary = result["summary"]
        return {
            "at": result["measured_at"],
            "single_stream": summary["single_stream"],
            "highest_throughput": summary["highest_throughput"],
        }
    except (LookupError, TypeError, ValueError):
        return None


def make_record(
    deployment: Deployment, verification: Verification, key_required: bool, state_dir: str
) -> dict[str, Any]:
    """The record of an endpoint.

    Args:
        deployment: What is deployed.
        verification: What its last full verification found.
        key_required: Whether requests need an API key.
        state_dir: Where its last benchmark is kept.
    """
    measured = read(benchmark_path(state_dir, deployment.name))
    seen = [c["answer"] for c in verification.checks if c["check"] == "attention_backend"]
    figures: dict[str, Any] = {}
    for check in verification.checks:
        figures.update(check["figures"])
    return {
        "schema": SCHEMA,
        "instance": deployment.name,
        "host": socket.gethostname(),
        "state": "verified" if verification.passed else "failed",
        "listen_host": deployment.host,
        "url": deployment.url,
        "openai_base_url": f"{deployment.url}/v1",
        "api_key_required": key_required,
        "served_model_name": deployment.served_model_name,
        # A chat model's record stays what it was.
        **({"kind": deployment.kind} if deployment.kind != "chat" else {}),
        **({"adapters": list(deployment.adapters)} if deployment.adapters else {}),
        "model": {
            "path": deployment.config.get("model"),
            "repo_id": deployment.repository,
            "revision": deployment.revision,
        },
        "max_model_len": deployment.max_model_len or verification.max_model_len,
        "release": deployment.release,
        "accelerator": deployment.accelerator,
        "gpus": verification.gpus,
        "attention_backend": {
            "planned": deployment.attention_backend,
            "seen": (seen[0] or None) if seen else None,
        },
        "unit": deployment.unit_name,
        "fingerprint": deployment.fingerprint,
        "verification": {
            "at": verification.at,
            "suite": verification.suite,
            "checks": {check["name"]: check["outcome"] for check in verification.checks},
        },
        "measured": figures,
        "benchmark": benchmark_figures(measured, deployment.fingerprint),
    }


def with_benchmark(text: str | None, result: str) -> dict[str, Any] | None:
    """A record that holds a new benchmark's figures.

    Args:
        text: The file of the record.
        result: The benchmark's result.

    Returns:
        `None` where there is no record.
    """
    record = read_record(text)
    if record is None:
        return None
    return {**record, "benchmark": benchmark_figures(result, str(record.get("fingerprint")))}
