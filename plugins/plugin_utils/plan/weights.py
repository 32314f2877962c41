# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether weights fit a GPU at all, where nothing more can be planned of a model's memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.dtypes import (
    quantization,
    stored_dtype,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.flags import whole_number
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.gpus import budget
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.memory import (
    Setting,
    room_for,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import Model
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import Findings
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import Instance


def least_weights(
    instance: Instance, model: Model, gpus: int, dtype: str | None, sizes: Mapping[str, Any]
) -> int | None:
    """Return the least bytes of weights that one GPU will hold, or None where that is not known.

    Args:
        instance: The instance.
        model: Its model.
        gpus: How many GPUs share it.
        dtype: The serving format.
        sizes: Format to bytes, from `plan/data/dtypes.yml`.
    """
    total = model.weights_bytes
    extra = instance.extra_args
    if total is None or extra.get("load-format") == "dummy" or "hf-overrides" in extra:
        return None
    stored = fact.integer(sizes, stored_dtype(model) or "")
    served = fact.integer(sizes, dtype or "")
    own = quantization(instance, model)
    if own is not None and "quantization" in extra and not _is_quantized(model):
        return None  # quantized while it is loaded
    if own is None and stored and served and served < stored:
        total = total * served // stored
    offload = fact.number(extra, "cpu-offload-gb")
    if offload is not None and offload > 0:
        total -= int(offload * fact.GIB) * gpus
    data_parallel = max(1, whole_number(extra.get("data-parallel-size")) or 1)
    return max(0, total) * data_parallel // max(1, gpus)


def _is_quantized(model: Model) -> bool:
    return any(
        fact.mapping(config, key)
        for config in (model.config, model.shape_config)
        for key in ("quantization_config", "compression_config")
    )


def check_weights(
    instance: Instance,
    model: Model,
    setting: Setting,
    dtype: str | None,
    sizes: Mapping[str, Any],
    findings: Findings,
) -> None:
    """Refuse weights that are larger than their part of the GPUs, whatever the rest needs.

    Args:
        instance: The instance.
        model: Its model.
        setting: Its GPUs, and the host's; none on accelerator cpu, where the host's memory is
            checked instead.
        dtype: The serving format.
        sizes: Format to bytes, from `plan/data/dtypes.yml`.
        findings: Receives the problem.
    """
    gpus = setting.gpus
    if not gpus:
        return
    least = least_weights(instance, model, len(gpus), dtype, sizes)
    smallest = min(gpus, key=lambda gpu: (gpu.total, gpu.index))
    if least is None or least < budget(smallest, instance):
        return
    remedy, settings = room_for(instance, least, least, smallest, setting, None)
    findings.problem(
        "weights-do-not-fit",
        instance.at("model"),
        f"the weights alone ({fact.gib(least)} for each GPU) are more than the "
        f"{fact.gib(budget(smallest, instance))} that the instance may take of {smallest.label}",
        remedy,
        settings,
    )
