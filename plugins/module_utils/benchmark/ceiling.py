# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The most that a GPU's memory lets a decoder do: every step reads the weights once. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_TOWERS = ("vision_config", "audio_config")
_TRANSFERS_PER_CLOCK = 2
"""With the clock as NVML tells it, GDDR and HBM move two bits a line and clock: 2 x 9751 MHz x
384 bit is the 936 GB/s of an RTX 3090, 2 x 2619 MHz x 5120 bit the 3.35 TB/s of an H100 SXM."""


def bandwidth(gpu: Mapping[str, Any]) -> float | None:
    """A GPU's memory bandwidth in bytes a second, from its memory clock and its bus.

    Args:
        gpu: `memory_clock_mhz`, the highest there is, and `memory_bus_bits`; `mig_mode`, since
            an instance of MIG has only part of it.
    """
    clock, bits = gpu.get("memory_clock_mhz"), gpu.get("memory_bus_bits")
    if not clock or not bits or gpu.get("mig_mode"):
        return None
    return float(_TRANSFERS_PER_CLOCK * clock * 1e6 * bits / 8)


def make(
    memory: Mapping[str, Any] | None,
    model_config: Mapping[str, Any],
    tied: bool,
    flags: Mapping[str, Any],
    gpus: Sequence[Mapping[str, Any]],
    stated: float | None,
) -> dict[str, Any]:
    """What the ceiling follows from.

    Args:
        memory: The plan's memory of the instance: `weights_bytes` and `kv_cache_bytes_per_token`,
            both of one GPU.
        model_config: The model's config.json.
        tied: Whether the output layer is the embedding table. If not, the table is in memory, but
            only a row of it is read a token.
        flags: The server's flags.
        gpus: The instance's GPUs, each as :func:`bandwidth` takes them.
        stated: Bandwidth in bytes a second of one GPU, or of a CPU's memory, as the user knows it.

    Returns:
        `bytes_per_second`, its `source` (`nvml` or `stated`), `weights_bytes` and
        `kv_cache_bytes_per_token` that a step reads; or `reason`, why there is no ceiling.
    """
    text = model_config.get("text_config")
    shape = text if isinstance(text, Mapping) else model_config
    reason = None
    speed: float | None = stated
    if speed is None and not gpus:
        reason = "on a CPU the memory's bandwidth is not known; state it"
    elif speed is None:
        known = [bandwidth(gpu) for gpu in gpus]
        speeds = [one for one in known if one is not None]
        speed = min(speeds) if len(speeds) == len(known) else None
        if speed is None:
            reason = "NVML does not tell the GPU's memory clock and bus; state the bandwidth"
    if reason is None and (memory is None or not memory.get("weights_bytes")):
        reason = "the size of the model is not known to the plan"
    if reason is None and any(shape.get(key) for key in _EXPERTS):
        reason = "of a mixture of experts a token reads only a part"
    if reason is None and any(model_config.get(key) for key in _TOWERS):
        reason = "of this model a token of text reads only a part"
    if reason is None and flags.get("speculative-config"):
        reason = "with speculative decoding a step gives more than one token"
    if reason is not None or memory is None or speed is None:
        return {"reason": reason}
    weights = int(memory["weights_bytes"])
    if not tied:
        shards = int(flags.get("tensor-parallel-size") or 1)
        table = int(shape.get("vocab_size") or 0) * int(shape.get("hidden_size") or 0) * 2
        weights -= min(table // shards, weights // 2)
    return {
        "reason": None,
        "bytes_per_second": speed,
        "source": "nvml" if stated is None else "stated",
        "weights_bytes": weights,
        "kv_cache_bytes_per_token": int(memory.get("kv_cache_bytes_per_token") or 0),
    }


def at(
    ceiling: Mapping[str, Any], concurrency: int, input_tokens: int, output_tokens: int
) -> dict[str, float] | None:
    """The ceiling of one load: a step reads the weights, and each stream's KV cache.

    Returns:
        `tpot_ms`, the least time a token, and `output_throughput`, the most tokens a second, when
        an answer is half written; `None` where there is no ceiling.
    """
    if ceiling.get("reason") is not None:
        return None
    context = input_tokens + output_tokens / 2
    cache = concurrency * context * ceiling["kv_cache_bytes_per_token"]
    seconds = (ceiling["weights_bytes"] + cache) / ceiling["bytes_per_second"]
    return {
        "tpot_ms": round(1000 * seconds, 3),
        "output_throughput": round(concurrency / seconds, 1),
    }


def reached_percent(limit: Mapping[str, float] | None, tpot_ms: float | None) -> float | None:
    """How close a run came: the least time a token as a share of the measured one."""
    if limit is None or not tpot_ms:
        return None
    return round(100 * limit["tpot_ms"] / tpot_ms, 1)
