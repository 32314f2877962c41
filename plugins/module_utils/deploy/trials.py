# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which attention backend an instance with `attention_backend: auto` gets. Pure functions.

The plan knows which backends can work and their order; whether one does is seen when a server with
it answers. What was seen is kept for the host, so that it is tried once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

SCHEMA = 1

NOT_THE_BACKENDS = frozenset(
    {
        "bad_configuration",
        "bad_environment",
        "bad_model_path",
        "batched_tokens",
        "chat_template",
        "cpu_instruction",
        "cpu_kv_cache_too_large",
        "cuda_compat",
        "custom_code",
        "damaged_weights",
        "disk_full",
        "driver_mismatch",
        "driver_state",
        "driver_too_old",
        "fabric_manager",
        "gguf_not_supported",
        "glibc_too_old",
        "gpu_lost",
        "gpu_memory_error",
        "gpu_memory_taken",
        "gpu_needs_reset",
        "gpu_overheated",
        "harmony_vocabulary",
        "heads_not_divisible",
        "host_not_here",
        "hub_transfer",
        "lfs_pointer",
        "load_format",
        "lora_not_loaded",
        "lora_rank",
        "max_model_len_too_large",
        "mig_device",
        "model_access",
        "model_inspection_failed",
        "model_not_supported",
        "no_gpu",
        "port_in_use",
        "quantization_deprecated",
        "quantization_mismatch",
        "quantization_not_supported",
        "rendezvous_port",
        "speculative_config",
        "storage_failed",
        "tls_files",
        "too_few_gpus",
        "transformers_too_new",
        "transformers_too_old",
        "unknown_flag",
        "unknown_parser",
        "weights_do_not_fit",
        "weights_do_not_match",
        "wrong_runner",
    }
)
"""Causes of a failed start (`supervisor/causes.py`) that are there with every backend."""


def key_of(instance: Mapping[str, Any], release: str) -> str:
    """What a trial's outcome holds for: another release, card or model is tried anew."""
    gpus = instance["environment"].get("CUDA_VISIBLE_DEVICES", "")
    return " ".join([release, str(gpus) or "cpu", str(instance["config"].get("model"))])


def with_backend(instance: Mapping[str, Any], backend: str) -> dict[str, Any]:
    """The instance with an attention backend, chosen by the release's one mechanism."""
    attention = instance["attention"]
    place = "config" if attention["mechanism"] == "flag" else "environment"
    return {**instance, place: {**instance[place], attention["key"]: backend}}


def candidates(
    instance: Mapping[str, Any], recorded: Mapping[str, Any] | None
) -> list[tuple[str, dict[str, Any]]]:
    """The instance with each backend that is still to be tried, the next one first.

    Args:
        instance: The instance; `attention` has `mechanism`, `key` and `trial`, the order.
        recorded: The outcome of a former trial, or `None`.

    Returns:
        Backend and instance; empty where nothing is to be tried.
    """
    trial = (instance.get("attention") or {}).get("trial") or []
    if recorded is not None and recorded["backend"] in trial:
        trial = [recorded["backend"]]
    return [(backend, with_backend(instance, backend)) for backend in trial]


def read_trials(text: str | None) -> dict[str, dict[str, Any]]:
    """The outcomes that are kept, by :func:`key_of`; none where the file is not readable."""
    try:
        data = json.loads(text or "")
        outcomes: dict[str, dict[str, Any]] = data["trials"] if data["schema"] == SCHEMA else {}
        return {key: one for key, one in outcomes.items() if isinstance(one["backend"], str)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def trials_text(outcomes: Mapping[str, Mapping[str, Any]]) -> str:
    """The file of the outcomes."""
    return json.dumps({"schema": SCHEMA, "trials": outcomes}, indent=2, sort_keys=True) + "\n"


def no_backend(tried: Sequence[Mapping[str, Any]], count: int) -> str:
    """That none works, and what became of each that was tried.

    Args:
        tried: The outcomes, in order.
        count: How many there were to try.
    """
    first = "no attention backend works:"
    if len(tried) < count:
        first = "the start failed for a reason that no other attention backend changes:"
    return "\n".join([first, *(f"{one['backend']}: {one['outcome']}" for one in tried)])
