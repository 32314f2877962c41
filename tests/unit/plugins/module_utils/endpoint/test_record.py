# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a deployment, against its published schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import (
    Common,
    Deployment,
    deployment,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.environment import (
    environment_file,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.record import (
    benchmark_figures,
    benchmark_path,
    make_record,
    record_text,
    with_benchmark,
    with_state,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.run import (
    Verification,
    api_key_of,
    is_due,
    read_state,
    state_text,
    subject_of,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.suite import (
    read_suite,
    suite_digest,
)

SCHEMA = json.loads((Path(__file__).parents[5] / "docs/endpoint-record.schema.json").read_text())
COMMIT = "a09a35458c702b33eeacc393d103063234e8bc28"
SNAPSHOT = f"/var/lib/vllm/hub/models--Qwen--Qwen2.5-7B-Instruct/snapshots/{COMMIT}"
GPU = {"uuid": "GPU-1", "name": "NVIDIA GeForce RTX 3090", "memory_total_bytes": 24 << 30}


def result(check: str, outcome: str, severity: str = "error", **more: Any) -> dict[str, Any]:
    return {
        "name": check,
        "check": check,
        "severity": severity,
        "outcome": outcome,
        "passed": outcome != "failed",
        "detail": "",
        "question": "",
        "answer": "",
        "figures": {},
        **more,
    }


CUDA = {
    "model": SNAPSHOT,
    "max-model-len": 4096,
    "gpu-memory-utilization": 0.85,
    "attention-backend": "TRITON_ATTN",
    "enable-auto-tool-choice": True,
}


def deployed(config: dict[str, Any], environment: dict[str, str]) -> Deployment:
    wanted = {
        "name": "qwen",
        "repository": "Qwen/Qwen2.5-7B-Instruct" if config["model"] == SNAPSHOT else None,
        "revision": COMMIT if config["model"] == SNAPSHOT else None,
        "venv": "/opt/vllm/releases/0.14.1-cuda-0",
        "config": config,
        "environment": environment,
        "url": "http://127.0.0.1:8000",
        "served_model_name": "Qwen/Qwen2.5-7B-Instruct",
    }
    accelerator = "cuda" if config["model"] == SNAPSHOT else "cpu"
    return deployment(wanted, Common("0.14.1", "[Unit]\n", "/opt/supervisor/0", accelerator), [])


def verification(*checks: dict[str, Any]) -> Verification:
    return Verification(
        at="2026-11-23T01:00:00+00:00",
        suite="0" * 16,
        checks=list(checks),
        seconds=3.0,
        model_seconds=2.9,
        fingerprint="f",
        max_model_len=32768,
        gpus=[GPU],
    )


def test_a_record_of_a_gpu_deployment() -> None:
    checks = [
        result("streaming", "passed", figures={"ttft_seconds": 0.03}),
        result("attention_backend", "passed", answer="TRITON_ATTN"),
        result("chinese", "failed", "warning"),
    ]
    now = deployed(CUDA, {"CUDA_VISIBLE_DEVICES": "GPU-1"})
    record = make_record(now, verification(*checks), key_required=True, state_dir="/none")
    jsonschema.validate(record, SCHEMA)
    assert record["state"] == "verified"
    assert record["model"] == {
        "path": SNAPSHOT,
        "repo_id": "Qwen/Qwen2.5-7B-Instruct",
        "revision": COMMIT,
    }
    assert record["openai_base_url"] == "http://127.0.0.1:8000/v1"
    assert record["attention_backend"] == {"planned": "TRITON_ATTN", "seen": "TRITON_ATTN"}
    assert (record["accelerator"], record["gpus"]) == ("cuda", [GPU])
    assert record["measured"] == {"ttft_seconds": 0.03}
    assert record["max_model_len"] == 4096


def test_a_record_of_a_cpu_deployment() -> None:
    now = deployed({"model": "/srv/models/m"}, {"VLLM_CPU_KVCACHE_SPACE": "1"})
    record = make_record(
        now, verification(result("health", "failed")), key_required=False, state_dir="/none"
    )
    jsonschema.validate(record, SCHEMA)
    assert (record["state"], record["accelerator"]) == ("failed", "cpu")
    assert record["model"] == {"path": "/srv/models/m", "repo_id": None, "revision": None}
    assert record["max_model_len"] == 32768


def test_the_schema_refuses_what_is_none() -> None:
    record = make_record(deployed(CUDA, {}), verification(), key_required=False, state_dir="/none")
    for wrong in ({"state": "fine"}, {"url": "127.0.0.1"}, {"surprise": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**record, **wrong}, SCHEMA)


def test_what_is_known_of_a_deployment() -> None:
    budget = {"thinking_tokens": 8192, "thinking_seconds": 900}
    subject = subject_of(deployed(CUDA, {"CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2"}), budget)
    assert (subject.thinking_tokens, subject.thinking_seconds) == (8192, 900)
    assert subject.gpus == ("GPU-1", "GPU-2")
    assert subject.tools is True
    assert subject.gpu_memory_utilization == 0.85
    assert subject.unit == "vllm@qwen.service"
    older = deployed({"model": "/m"}, {"VLLM_ATTENTION_BACKEND": "TRITON_ATTN"})
    assert subject_of(older, budget).attention_backend == "TRITON_ATTN"


def test_another_state_changes_nothing_else() -> None:
    text = record_text(
        make_record(deployed(CUDA, {}), verification(), key_required=False, state_dir="/none")
    )
    changed = with_state(text, "starting")
    assert changed is not None
    assert json.loads(changed) == {**json.loads(text), "state": "starting"}
    assert with_state(None, "failed") is None
    assert with_state("[]", "failed") is None


LOAD = {
    "concurrency": 1,
    "input_tokens": 512,
    "output_tokens": 128,
    "reached_percent": 71.5,
    "output_throughput": 52.1,
    "ttft_ms": 88.0,
    "tpot_ms": None,
}


def benchmark(fingerprint: str, **more: Any) -> str:
    """A benchmark's result, as far as a record takes from it."""
    result = {
        "fingerprint": fingerprint,
        "measured_at": "2026-11-23T02:00:00+00:00",
        "summary": {"single_stream": LOAD, "highest_throughput": None},
        "points": [],
        **more,
    }
    return json.dumps(result)


FIGURES = {
    "at": "2026-11-23T02:00:00+00:00",
    "single_stream": LOAD,
    "highest_throughput": None,
}


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        (benchmark("f"), FIGURES),
        (benchmark("another"), None),
        (benchmark("f", summary=None), None),
        (benchmark("f", summary={}), None),
        (None, None),
        ("", None),
        ("{", None),
        ("[]", None),
        ("{}", None),
    ],
)
def test_figures_belong_to_the_configuration_they_were_measured_with(
    text: str | None, figures: dict[str, Any] | None
) -> None:
    assert benchmark_figures(text, "f") == figures


def test_a_record_has_the_figures_of_what_is_deployed(tmp_path: Path) -> None:
    one, other = deployed(CUDA, {}), deployed({**CUDA, "max-model-len": 2048}, {})
    (tmp_path / "benchmarks").mkdir()
    Path(benchmark_path(str(tmp_path), "qwen")).write_text(benchmark(one.fingerprint))

    def record(deployment: Deployment) -> dict[str, Any]:
        made = make_record(deployment, verification(), False, str(tmp_path))
        jsonschema.validate(made, SCHEMA)
        return made

    assert record(one)["benchmark"] == FIGURES
    assert record(other)["benchmark"] is None
    assert record(one)["benchmark"] == FIGURES  # who goes back has them again


def test_a_benchmark_is_put_into_the_record_that_there_is() -> None:
    now = deployed(CUDA, {})
    text = record_text(make_record(now, verification(), False, "/none"))
    changed = with_benchmark(text, benchmark(now.fingerprint))
    assert changed == {**json.loads(text), "benchmark": FIGURES}
    later = with_benchmark(record_text(changed), benchmark("another"))
    assert later is not None
    assert later["benchmark"] is None
    assert with_benchmark(None, benchmark("f")) is None


def test_a_verification_is_kept_and_due_again_when_something_is_another() -> None:
    suite = read_suite(["health", "models"], [], "warning", "qwen")
    found = Verification(**{**verification().__dict__, "suite": suite_digest(suite)})
    kept = read_state(state_text(found))
    assert kept == found
    assert not is_due(kept, "f", suite)
    assert is_due(kept, "another", suite)
    assert is_due(kept, "f", read_suite(["health"], [], "warning", "qwen"))
    assert is_due(None, "f", suite)
    for text in (None, "", "{", "[]", '{"schema": 2}', '{"schema": 1, "at": 1}'):
        assert read_state(text) is None


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("VLLM_API_KEY=abc\n", "abc"),
        ('OTHER=1\nVLLM_API_KEY="a b"\n', "a b"),
        ("VLLM_API_KEY=\n", None),
        ("# VLLM_API_KEY=abc\n", None),
        # As it is written where it has characters that systemd would take for its own.
        (environment_file("vllm@m.service", {"VLLM_API_KEY": 'a$b"c\\d`e'}), 'a$b"c\\d`e'),
    ],
)
def test_the_key_is_in_the_environment_file(tmp_path: Path, text: str, key: str | None) -> None:
    (tmp_path / "m.env").write_text(text)
    assert api_key_of(str(tmp_path), "m") == key
    assert api_key_of(str(tmp_path), "other") is None


def test_the_figures_of_a_model_that_generates_nothing_are_others() -> None:
    load = {"concurrency": 4, "input_tokens": 64, "output_tokens": 0, "reached_percent": None}
    pooled = {**load, "request_throughput": 90.1, "total_throughput": 5766.4, "e2el_ms": 44.0}
    made = make_record(deployed(CUDA, {}), verification(), key_required=False, state_dir="/none")
    figures = {"at": FIGURES["at"], "single_stream": None, "highest_throughput": pooled}
    jsonschema.validate({**made, "benchmark": figures}, SCHEMA)
    for wrong in (load, {**pooled, "e2el_ms": "fast"}, {**pooled, **LOAD}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**made, "benchmark": {**figures, "single_stream": wrong}}, SCHEMA)
