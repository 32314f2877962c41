# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import ceiling

# Highest memory clock (MHz) and bus (bits) as NVML gives them, the data sheet's bandwidth (GB/s).
GPUS = [
    ("RTX 3090", 9751, 384, 936),
    ("RTX 4090", 10501, 384, 1008),
    ("T4", 5001, 256, 320),
    ("V100 16 GB", 877, 4096, 898),
    ("A100 40 GB", 1215, 5120, 1555),
    ("H100 SXM", 2619, 5120, 3352),
]
AMPERE = {"memory_clock_mhz": 9751, "memory_bus_bits": 384, "mig_mode": None}
# Qwen2.5-7B-Instruct in half precision: its safetensors; 2 x 28 x 4 x 128 x 2 bytes a token.
MEMORY = {"weights_bytes": 15231233024, "kv_cache_bytes_per_token": 57344}
QWEN = {"vocab_size": 152064, "hidden_size": 3584}


@pytest.mark.parametrize(("name", "clock", "bits", "gigabytes"), GPUS)
def test_bandwidth_is_the_data_sheets(name, clock, bits, gigabytes):
    found = ceiling.bandwidth({"memory_clock_mhz": clock, "memory_bus_bits": bits})
    assert found == pytest.approx(gigabytes * 1e9, rel=0.005)


@pytest.mark.parametrize(
    "gpu",
    [
        {**AMPERE, "memory_clock_mhz": None},
        {**AMPERE, "memory_bus_bits": None},
        {**AMPERE, "mig_mode": True},
    ],
)
def test_a_gpu_that_does_not_tell(gpu):
    assert ceiling.bandwidth(gpu) is None
    assert "state the bandwidth" in ceiling.make(MEMORY, QWEN, False, {}, [gpu], None)["reason"]


def test_the_reference_host():
    # Recorded of an RTX 3090: about 14.1 GB read a token, so 66 tokens/s are the ceiling.
    found = ceiling.make(MEMORY, QWEN, False, {}, [AMPERE], None)
    assert found["weights_bytes"] == pytest.approx(14.1e9, rel=0.005)
    limit = ceiling.at(found, 1, 1, 2)
    assert limit["output_throughput"] == pytest.approx(66, abs=0.5)
    assert limit["tpot_ms"] == pytest.approx(15.1, abs=0.05)


def test_more_streams_share_the_weights_but_not_their_caches():
    found = ceiling.make(MEMORY, QWEN, False, {}, [AMPERE], None)
    one, many = ceiling.at(found, 1, 4000, 100), ceiling.at(found, 32, 4000, 100)
    cache = 31 * 4050 * 57344 / 936.096e9 * 1000
    assert many["tpot_ms"] - one["tpot_ms"] == pytest.approx(cache, abs=0.01)
    assert one["output_throughput"] < many["output_throughput"] < 32 * one["output_throughput"]


def test_a_tied_table_is_read_whole():
    found = ceiling.make(MEMORY, QWEN, True, {}, [AMPERE], None)
    assert found["weights_bytes"] == MEMORY["weights_bytes"]


def test_the_table_is_shared_by_the_gpus_of_a_group():
    halves = {**MEMORY, "weights_bytes": MEMORY["weights_bytes"] // 2}
    flags = {"tensor-parallel-size": 2}
    found = ceiling.make(halves, QWEN, False, flags, [AMPERE, AMPERE], None)
    assert found["weights_bytes"] == pytest.approx(14.1e9 / 2, rel=0.005)


def test_the_slowest_gpu_counts():
    slow = {"memory_clock_mhz": 5001, "memory_bus_bits": 256}
    found = ceiling.make(MEMORY, QWEN, False, {}, [AMPERE, slow], None)
    assert found["bytes_per_second"] == pytest.approx(320e9, rel=0.005)


def test_a_stated_bandwidth_counts_before_nvmls():
    found = ceiling.make(MEMORY, QWEN, False, {}, [AMPERE], 800e9)
    assert (found["bytes_per_second"], found["source"]) == (800e9, "stated")


@pytest.mark.parametrize(
    ("memory", "config", "flags", "gpus", "words"),
    [
        (MEMORY, QWEN, {}, [], "on a CPU"),
        (None, QWEN, {}, [AMPERE], "the size of the model"),
        (MEMORY, {**QWEN, "num_local_experts": 8}, {}, [AMPERE], "mixture of experts"),
        (MEMORY, {"text_config": {"num_experts": 64}}, {}, [AMPERE], "mixture of experts"),
        (MEMORY, {**QWEN, "vision_config": {"depth": 1}}, {}, [AMPERE], "reads only a part"),
        (MEMORY, QWEN, {"speculative-config": {"n": 1}}, [AMPERE], "speculative"),
    ],
)
def test_no_ceiling_is_claimed_where_it_is_not_known(memory, config, flags, gpus, words):
    found = ceiling.make(memory, config, False, flags, gpus, None)
    assert words in found["reason"]
    assert ceiling.at(found, 1, 1, 1) is None


def test_on_a_cpu_a_stated_bandwidth_counts():
    assert ceiling.make(MEMORY, QWEN, False, {}, [], 40e9)["reason"] is None


def test_how_close_a_run_came():
    limit = {"tpot_ms": 15.0, "output_throughput": 66.0}
    assert ceiling.reached_percent(limit, 20.0) == 75.0
    assert ceiling.reached_percent(limit, None) is None
    assert ceiling.reached_percent(None, 20.0) is None
