# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine measured before refines the next plan, and changes nothing that runs."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.measured import with_row
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.planner import make_plan

GIB = 1 << 30
QWEN7 = "/srv/models/qwen2.5-7b-instruct"
LLAMA8 = "/srv/models/small"


@pytest.fixture
def host(facts: Any, release_data: Any) -> Host:
    return Host(facts, release_data)


class Host:
    """An RTX 3090 that is planned, and measured, again and again."""

    def __init__(self, facts: Any, release_data: Any) -> None:
        self.release_data = release_data
        self.facts = facts("ac-3090")
        small = self.facts["models"][QWEN7]
        self.facts["models"][LLAMA8] = {
            **small,
            "config": {
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "hidden_size": 4096,
                "intermediate_size": 14336,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "max_position_embeddings": 131072,
                "vocab_size": 128256,
                "torch_dtype": "bfloat16",
            },
            "weights": {**small["weights"], "parameters": {"BF16": 8030261248}},
        }
        self.facts["models"][LLAMA8]["weights"]["bytes"] = 16060522496

    def plan(self, release: str = "0.26.0", more: Any = (), **keys: Any) -> dict[str, Any]:
        instance = {"name": "m", "model": LLAMA8, **keys}
        raw = {"release": release, "accelerator": "cuda", "instances": [instance, *more]}
        return make_plan(raw, self.facts, self.release_data(release))

    def one(self, release: str = "0.26.0", **keys: Any) -> dict[str, Any]:
        plan = self.plan(release, **keys)
        assert plan["problems"] == []
        first: dict[str, Any] = plan["instances"][0]
        return first

    def measure(self, instance: dict[str, Any], cache: float) -> None:
        """Keep that the engine found so many GiB for its KV cache."""
        engine = {"kv_cache_bytes": round(cache * GIB), "weights_bytes": 15 * GIB}
        rows = self.facts["deployed"]["measured"]
        expected = instance["expected"]
        self.facts["deployed"]["measured"] = with_row(rows, expected, engine, "2026-11-29")


def test_the_next_plan_has_what_was_measured_beside_what_was_predicted(host: Host) -> None:
    first = host.one()
    assert first["memory"]["measured"] is None
    assert first["expected"]["predicted"] == first["memory"]["predicted"]
    host.measure(first, 3.0)
    second = host.one()
    assert second["memory"]["kv_cache_bytes"] / GIB == pytest.approx(3.0, abs=0.01)
    assert second["memory"]["weights_bytes"] == 15 * GIB
    assert second["memory"]["measured"]["kv_cache_bytes"] == 3 * GIB
    assert second["memory"]["predicted"] == first["memory"]["predicted"]
    assert (second["config"], second["expected"]) == (first["config"], first["expected"])


def test_it_counts_for_another_share_and_another_length_too(host: Host) -> None:
    host.measure(host.one(), 3.0)
    total = host.one()["memory"]["gpu_memory_bytes"]
    memory = host.one(gpu_memory_utilization=0.9, max_model_len=8192)["memory"]
    assert memory["kv_cache_bytes"] / GIB == pytest.approx(3.0 + 0.05 * total / GIB, abs=0.01)


@pytest.mark.parametrize(
    "keys",
    [
        {"model": QWEN7},
        {"enforce_eager": True},
        {"dtype": "float16"},
        {"max_num_seqs": 64},
        {"extra_args": {"max_num_batched_tokens": 8192}},
        {"environment": {"VLLM_USE_V2_MODEL_RUNNER": "0"}},
        {"release": "0.14.1"},
    ],
)
def test_it_counts_for_nothing_else(host: Host, keys: dict[str, Any]) -> None:
    host.measure(host.one(), 3.0)
    assert host.one(**keys)["memory"]["measured"] is None


def test_what_serves_all_the_same_is_not_refused(host: Host) -> None:
    """One request of it fits what was measured, although the estimate says that it does not."""
    estimate = host.one()["memory"]["max_model_len_fits"]
    longer = estimate + 4096
    codes = [one["code"] for one in host.plan(max_model_len=longer)["problems"]]
    assert codes == ["max-model-len-too-long"]
    host.measure(host.one(), (longer * 131072 + GIB // 100) / GIB)
    assert host.plan(max_model_len=longer)["problems"] == []


def test_what_was_seen_not_to_fit_is_refused(host: Host) -> None:
    assert host.plan(max_model_len=20480)["problems"] == []
    host.measure(host.one(), 2.0)
    codes = [one["code"] for one in host.plan(max_model_len=20480)["problems"]]
    assert codes == ["max-model-len-too-long"]


@pytest.mark.parametrize("cache", [3.5, 9.0])
def test_a_length_that_the_plan_has_written_stays_where_it_fits(host: Host, cache: float) -> None:
    first = host.one("0.14.1")
    assert isinstance(first["config"]["max-model-len"], int)
    host.measure(first, cache)
    second = host.one("0.14.1")
    assert second["config"] == first["config"]
    assert second["memory"]["measured"] is not None


def test_a_length_whose_start_failed_is_made_shorter_once(host: Host) -> None:
    first = host.one("0.14.1")
    host.measure(first, 1.0)
    second = host.one("0.14.1")
    assert 4096 < second["config"]["max-model-len"] < 1.0 * GIB / 131072
    # It then serves, and a later start, which finds its code compiled, has more room.
    host.measure(second, 1.7)
    assert host.one("0.14.1")["config"] == second["config"]


def test_no_share_of_a_gpu_follows_it(host: Host) -> None:
    more = [{"name": "n", "model": QWEN7, "port": 8001, "gpu_memory_utilization": 0.3}]
    keys: dict[str, Any] = {"release": "0.32.0", "more": more, "model": LLAMA8}
    keys["extra_args"] = {"quantization": "fp8"}
    first = host.plan(**keys)["instances"][0]
    host.measure(first, 0.7)
    second = host.plan(**keys)["instances"][0]
    share = "gpu-memory-utilization"
    assert second["config"][share] == first["config"][share]


def test_nothing_is_kept_of_a_model_that_is_not_known(host: Host) -> None:
    speculative = '{"method": "eagle", "model": "/srv/models/draft"}'
    assert host.one(extra_args={"speculative_config": speculative})["expected"] is None
