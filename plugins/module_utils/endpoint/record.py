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
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import File, read
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.urls import url_of
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import Deployment
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.run import Verification

SCHEMA = 1
STATES = ("starting", "verified", "failed")


def record_path(etc_dir: str, name: str) -> str:
    """Where an instance's record is."""
    return os.path.join(etc_dir, f"{name}.endpoint.json")


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


def record_text(record: Mapping[str, Any]) -> str:
    """The file of a record."""
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _read_record(text: str | None) -> dict[str, Any] | None:
    try:
        record = json.loads(text or "")
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def with_state(text: str | None, state: str) -> str | None:
    """The file of a record whose state alone has changed; `None` where there is no record."""
    record = _read_record(text)
    return None if record is None else record_text({**record, "state": state})


def publish_state(etc_dir: str, name: str, state: str) -> bool:
    """Say in an instance's record, where it has one, how it is; returns whether that was new."""
    path = record_path(etc_dir, name)
    text = with_state(read(path), state)
    if text is None:
        return False
    file = File(path, text)
    if file.is_right():
        return False
    file.write()
    return True


def with_public_url(
    record: Mapping[str, Any], url: str | None, address: str | None
) -> dict[str, Any]:
    """The record as others need it: with the address under which they reach the endpoint.

    Args:
        record: The record.
        url: The address that somebody chose; `None` for none.
        address: The host's, for an endpoint that listens on all addresses, which none could ask.
    """
    if url is None and address and record.get("listen_host") in ("0.0.0.0", "::"):  # noqa: S104
        own = urlsplit(str(record["url"]))
        url = url_of(address, own.port, own.scheme)
    if url is None:
        return {**record}
    url = url.rstrip("/")
    return {**record, "url": url, "openai_base_url": f"{url}/v1"}


def with_benchmark(text: str | None, result: str) -> dict[str, Any] | None:
    """A record that holds a new benchmark's figures.

    Args:
        text: The file of the record.
        result: The benchmark's result.

    Returns:
        `None` where there is no record.
    """
    record = _read_record(text)
    if record is None:
        return None
    return {**record, "benchmark": benchmark_figures(result, str(record.get("fingerprint")))}
