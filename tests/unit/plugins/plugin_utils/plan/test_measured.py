# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan's memory beside what vLLM 0.26.0 measured on real GPUs: benchmarks/results/gpu/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.planner import make_plan

ROOT = Path(__file__).parents[5]
MEASURED = json.loads((ROOT / "benchmarks/results/gpu/2026-11-29-h200-x2.json").read_text())
GIB = 1 << 30
QWEN7 = "/srv/models/qwen2.5-7b-instruct"

KEYS = {
    "gpu-memory-utilization": "gpu_memory_utilization",
    "max-model-len": "max_model_len",
    "max-num-seqs": "max_num_seqs",
    "enforce-eager": "enforce_eager",
    "dtype": "dtype",
    "attention-backend": "attention_backend",
    "tensor-parallel-size": "tensor_parallel_size",
}
# What tests/gpu sets beside the inventory's keys, and what the model role sets.
OURS = ("served-model-name", "load-format")
ROWS = sorted(name for name, row in MEASURED.items() if "engine" in row["result"])
# A start that found all its code compiled, which takes less than one that has to compile it.
COMPILED = ("profile",)
# A process's CUDA context, as the plan counts it, lies outside of what the server budgets.
CONTEXT = 471859200


def planned(row: str, facts: Any, release_data: Any) -> dict[str, Any]:
    """The plan's memory for what a step of tests/gpu served."""
    instance: dict[str, Any] = {"name": "m", "model": QWEN7, "extra_args": {}}
    for flag, value in MEASURED[row]["result"]["config"].items():
        if flag in KEYS:
            instance[KEYS[flag]] = value
        elif flag not in OURS:
            instance["extra_args"][flag] = value
    machine = facts("two-h200-real")
    machine["models"] = facts("ac-3090")["models"]
    raw = {"release": "0.26.0", "accelerator": "cuda", "instances": [instance]}
    memory: dict[str, Any] = make_plan(raw, machine, release_data("0.26.0"))["instances"][0][
        "memory"
    ]
    return memory


def test_every_server_that_was_measured_is_here() -> None:
    assert len(ROWS) == 12


@pytest.mark.parametrize("row", ROWS)
def test_weights_within_2_and_tokens_within_3_percent(
    row: str, facts: Any, release_data: Any
) -> None:
    memory = planned(row, facts, release_data)
    engine = MEASURED[row]["result"]["engine"]
    tokens = memory["kv_cache_tokens_compiled" if row in COMPILED else "kv_cache_tokens"]
    assert memory["weights_bytes"] / GIB == pytest.approx(engine["used_weights_gib"], rel=0.02)
    assert tokens == pytest.approx(engine["kv_cache_tokens"], rel=0.03)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if "memory_used_bytes" in MEASURED[row]["result"]]
)
def test_all_of_a_server_within_3_percent(row: str, facts: Any, release_data: Any) -> None:
    """What NVML saw in use while it served: its budget, its CUDA graphs and its context."""
    used = MEASURED[row]["result"]["memory_used_bytes"]
    memory = planned(row, facts, release_data)
    outside = 0 if memory["cuda_graph_in_budget"] else memory["cuda_graph_bytes"]
    assert memory["budget_bytes"] + outside + CONTEXT == pytest.approx(used, rel=0.03)


@pytest.mark.parametrize("row", ROWS)
def test_graphs_count_where_the_engine_took_them_off_its_budget(
    row: str, facts: Any, release_data: Any
) -> None:
    """Only the older of 0.26.0's two runners estimates them, and says so in its log."""
    engine = MEASURED[row]["result"]["engine"]
    memory = planned(row, facts, release_data)
    assert memory["cuda_graph_in_budget"] == ("graph_estimate_gib" in engine)
