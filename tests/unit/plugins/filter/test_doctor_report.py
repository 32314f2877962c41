# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""doctor_report: five faults, each with planted secrets, of which none is in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.filter.doctor_report import FilterModule
from ansible_collections.compute_plane.vllm.plugins.module_utils.status.diagnose import diagnose

ROOT = Path(__file__).parents[4]
FACTS = json.loads((ROOT / "tests/fixtures/facts/two-3090.json").read_text())
PLANTED = ["k-planted-one", "hf_plantedplantedplanted", "planted-pass", "lab7", "alice"]
FAULTS = [
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 GiB",
    "OSError: [Errno 28] No space left on device",
    "RuntimeError: No CUDA GPUs are available",
    "ValueError: LoRA rank 64 is greater than max_lora_rank 16.",
    "OSError: [Errno 98] Address already in use",
]
report = FilterModule().filters()["doctor_report"]


def status(fault: str) -> dict[str, Any]:
    log = [
        "Aug 17 18:42:18 lab7 vllm[8052]: non-default args: {'api_key': ['k-planted-one']}",
        "HF_TOKEN=hf_plantedplantedplanted http://alice:planted-pass@lab7:3128",
        "Traceback (most recent call last):",
        '  File "/home/alice/v/x.py", line 1, in main',
        fault,
    ]
    found = diagnose(log)
    return {
        "name": "chat",
        "state": "crashed",
        "unit": "vllm@chat.service",
        "log": log,
        **{name: found[name] for name in ("cause", "summary", "evidence", "remedy")},
    }


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_user_pastes(fault: str) -> None:
    facts = {**FACTS, "host": {**FACTS["host"], "hostname": "lab7.example.org"}}
    plan = {"facts": facts, "report": "lab7: vllm_instances[0] environment HF_TOKEN=k-planted-one"}
    found = {"lab7": {"plan": plan, "status": {"instances": [status(fault)]}}}
    private = [{"vllm_service_api_keys": {"chat": ["k-planted-one"]}}]
    made = report(found, private=private, users=["alice"], versions={"ansible-core": "2.19"})
    document = json.dumps(made["document"])
    for secret in PLANTED:
        assert secret not in made["text"]
        assert secret not in document
    assert fault in made["text"]
    assert made["document"]["hosts"]["host 1"]["instances"][0]["telling"]
    assert "chat: crashed" in made["text"]
    facts_told = made["text"].split("## Facts\n", 1)[1].split("\n\n# Versions")[0]
    assert yaml.safe_load(facts_told)["host"]["distribution"] == FACTS["host"]["distribution"]


def test_a_log_of_somebody_else() -> None:
    made = report(
        {"log": {"diagnosis": diagnose(["Traceback (most recent call last):", FAULTS[0]])}}
    )
    assert "## The log: gpu_out_of_memory" in made["text"]
    assert made["document"]["hosts"]["host 1"]["diagnosis"]["remedy"]


def test_a_host_of_which_nothing_is_known() -> None:
    made = report({"lab7": {"plan": {"failed": True, "msg": "lab7 cannot be reached"}}})
    assert "HOST cannot be reached" in made["text"]
