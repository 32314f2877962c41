# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Number formats: which one vLLM will serve with, and whether GPU and model can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.gpus import (
    Gpu,
    shown_capability,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import Model
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    quoted,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import Instance

# One quant_method, three methods of vLLM's: override_quantization_method in vllm 0.26.0,
# vllm/model_executor/layers/quantization/modelopt.py.
_MODELOPT = {
    "nvfp4": "modelopt_fp4",
    "mxfp8": "modelopt_mxfp8",
    "mixed_precision": "modelopt_mixed",
}

_SAME = {"half": "float16", "float": "float32"}


def resolve_dtype(
    instance: Instance,
    model: Model | None,
    gpus: list[Gpu],
    rules: Mapping[str, Any],
    findings: Findings,
) -> str | None:
    """Return the number format that weights and activations will have.

    Follows vllm 0.14.1's `_resolve_auto_dtype` and `check_if_supports_dtype`
    (vllm/config/model.py, vllm/platforms/cuda.py).

    Args:
        instance: The instance.
        model: Its model, where it is on the host.
        gpus: Its GPUs; empty on accelerator cpu.
        rules: `plan/data/dtypes.yml`.
        findings: Receives a format that cannot work, and notes of a fallback.

    Returns:
        `float16`, `bfloat16` or `float32`; None when only the model tells.
    """
    lowest = fact.version_tuple(fact.text(rules, "bfloat16_capability") or "8.0")
    weak = next((gpu for gpu in gpus if gpu.capability and gpu.capability < lowest), None)
    family = model.shape_config.get("model_type") if model is not None else None
    not_half = isinstance(family, str) and family in fact.words(rules, "not_in_float16")
    where = instance.at("dtype")
    wanted = _SAME.get(instance.dtype, instance.dtype)
    if wanted == "float16" and not_half:
        findings.problem(
            "dtype-unsupported",
            where,
            f"vLLM refuses float16 for {family} models, which are numerically unstable in it",
            "set dtype: " + (other := "float32" if weak else "bfloat16"),
            {where: other},
        )
        return wanted
    if wanted == "bfloat16" and weak is not None:
        findings.problem(
            "dtype-unsupported",
            where,
            f"bfloat16 needs compute capability {shown_capability(lowest)} and {weak.label} has "
            f"{shown_capability(weak.capability)}",
            "set dtype: " + (other := "float32" if not_half else "float16"),
            {where: other},
        )
        return wanted
    if wanted != "auto":
        return wanted
    if model is None:
        return None
    stored = stored_dtype(model) or "float32"
    usable = ["bfloat16", "float16", "float32"]
    if weak is not None:
        usable.remove("bfloat16")
    if not_half:
        usable.remove("float16")
    if stored == "float32":
        stored = usable[0]
    if stored in usable:
        return stored
    findings.note(
        "dtype-fallback",
        where,
        f"the model is stored in {stored}, which {weak.label if weak else 'this host'} does not "
        f"compute; vLLM falls back to {usable[0]}",
    )
    return usable[0]


def stored_dtype(model: Model) -> str | None:
    """Return the format that config.json names for the weights, or None."""
    for config in (model.config, model.shape_config):
        for key in ("dtype", "torch_dtype"):
            value = fact.text(config, key)
            if value is not None:
                return _SAME.get(value, value).replace("torch.", "")
    return None


def quantization(instance: Instance | None, model: Model | None) -> str | None:
    """Return the quantization method in vLLM's words, or None for a plain model.

    Args:
        instance: The instance, whose flag comes first; None asks the model alone.
        model: Its model, where it is on the host.
    """
    given = instance.extra_args.get("quantization") if instance is not None else None
    if isinstance(given, str):
        return given
    if model is None:
        return None
    for config in (model.config, model.shape_config):
        for key in ("quantization_config", "compression_config"):
            method = fact.text(config, key, "quant_method")
            # ModelOpt's own file has them one level down: _normalize_quantization_config in
            # vllm 0.14.1, vllm/transformers_utils/model_arch_config_convertor.py.
            nested = fact.text(config, key, "quantization", "quant_algo")
            if method is None and fact.text(config, key, "producer", "name") == "modelopt":
                method = "modelopt"
            if method is not None:
                algorithm = (fact.text(config, key, "quant_algo") or nested or "").lower()
                name = method.lower().replace("compressed_tensors", "compressed-tensors")
                return _MODELOPT.get(algorithm, name) if name == "modelopt" else name
    return None


def check_quantization(
    method: str | None,
    instance: Instance,
    gpus: list[Gpu],
    registry: Mapping[str, Any],
    dtype: str | None,
    findings: Findings,
) -> None:
    """Refuse a quantization that the release does not know, or a GPU's capability does not reach.

    Args:
        method: As `quantization` returns it.
        instance: The instance.
        gpus: Its GPUs; empty on accelerator cpu.
        registry: The release's models.yml.
        dtype: The serving format, or None when not known.
        findings: Receives the problem.
    """
    known = fact.mapping(registry, "quantizations")
    if method is None or not known:
        return
    method = fact.text(registry, "quantization_aliases", method) or method
    if method not in known:
        findings.problem(
            "quantization-unsupported",
            instance.at("model"),
            f"the release has no quantization method {method}",
            f"use the model quantized with one that it has: {quoted(sorted(known))}",
        )
        return
    _check_format(method, instance, registry, dtype, findings)
    needed = fact.text(known, method)
    if needed is None:
        return
    for gpu in gpus:
        if gpu.capability and gpu.capability < fact.version_tuple(needed):
            findings.problem(
                "quantization-unsupported",
                instance.at("model"),
                f"{method} needs compute capability {needed} and {gpu.label} has "
                f"{shown_capability(gpu.capability)}",
                "use another quantization of the model, such as gptq, or a newer GPU",
            )


def _check_format(
    method: str,
    instance: Instance,
    registry: Mapping[str, Any],
    dtype: str | None,
    findings: Findings,
) -> None:
    """Refuse a number format that a quantization does not compute in.

    vllm 0.14.1 and 0.26.0, vllm/config/vllm.py, _get_quantization_config.
    """
    formats = fact.mapping(registry, "quantization_dtypes")
    usable = fact.words(formats, method)
    if instance.extra_args.get("quantization") is None:
        # vLLM itself takes the method of the same weights with Marlin's kernels.
        usable = usable + fact.words(formats, f"{method}_marlin") if usable else usable
    if dtype is None or not usable or dtype in usable:
        return
    best = next((one for one in ("bfloat16", "float16", "float32") if one in usable), usable[0])
    findings.problem(
        "dtype-unsupported",
        instance.at("dtype"),
        f"{method} computes in {quoted(usable)} and not in {dtype}",
        f"set dtype: {best}",
        {instance.at("dtype"): best},
    )
