# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Number formats: which one vLLM will serve with, and whether GPU and model can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.gpus import (
    Gpu,
    other_gpus,
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
    host: Sequence[Gpu] = (),
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
        host: All GPUs of the host, for the remedy.

    Returns:
        `float16`, `bfloat16` or `float32`; None when only the model tells.
    """
    lowest = _lowest(rules)
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
        instead = other_gpus(instance, gpus, list(host), lambda one: one.capability >= lowest)
        findings.problem(
            "dtype-unsupported",
            where,
            f"bfloat16 needs compute capability {shown_capability(lowest)} and {weak.label} has "
            f"{shown_capability(weak.capability)}",
            "set dtype: "
            + (other := "float32" if not_half else "float16")
            + (f", or set gpus: {instead}" if instead else ""),
            {where: other},
            [{instance.at("gpus"): instead}] if instead else (),
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


def _lowest(rules: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the lowest compute capability that computes in bfloat16."""
    return fact.version_tuple(fact.text(rules, "bfloat16_capability") or "8.0")


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
    model: Model | None,
    gpus: list[Gpu],
    host: list[Gpu],
    rules: Mapping[str, Any],
    registry: Mapping[str, Any],
    dtype: str | None,
    lacks: str | None,
    findings: Findings,
) -> None:
    """Refuse a quantization that cannot run: by the release, its packages, or a GPU's capability.

    Args:
        method: As `quantization` returns it.
        instance: The instance.
        model: Its model, where it is known.
        gpus: Its GPUs; empty on accelerator cpu.
        host: All GPUs of the host.
        rules: `plan/data/dtypes.yml`.
        registry: The release's models.yml.
        dtype: The serving format, or None when not known.
        lacks: What it needs and the release's environment has not, or None.
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
    if lacks is not None:
        findings.problem(
            "quantization-not-installed",
            instance.at("model"),
            f"{method} needs {lacks}, which is in none of the release's locks",
            "use the model quantized otherwise (AWQ, GPTQ, FP8), or serve with an environment of "
            f"your own that has vLLM and {lacks} (vllm_runtime_venv)",
        )
    # Which kernels a CPU has for them is not told by the registry.
    marlin = not gpus or _for_marlin(model)
    needed = fact.version_tuple(fact.text(known, method) or "0")
    beyond = [gpu for gpu in gpus if gpu.capability and gpu.capability < needed]
    if not beyond:
        _check_format(method, instance, gpus, rules, registry, dtype, marlin, findings)
    for gpu in beyond:
        remedy, settings = _other_quantization(instance, model, gpu, known)
        ways = [settings] if settings else []
        instead = other_gpus(instance, gpus, host, lambda one: one.capability >= needed)
        if instead:
            remedy = f"set gpus: {instead}, or {remedy}"
            ways.insert(0, {instance.at("gpus"): instead})
        findings.problem(
            "quantization-unsupported",
            instance.at("model"),
            f"{method} needs compute capability {shown_capability(needed)} and {gpu.label} has "
            f"{shown_capability(gpu.capability)}",
            remedy,
            alternatives=ways,
        )


# What most models are published in, the fastest first.
_COMMON = ("compressed-tensors", "awq", "gptq")


def _other_quantization(
    instance: Instance, model: Model | None, gpu: Gpu, known: Mapping[str, Any]
) -> tuple[str, dict[str, Any] | None]:
    """What helps a GPU that a quantization is beyond."""
    if "quantization" in instance.extra_args and quantization(None, model) is None:
        return "leave quantization out of extra_args", {
            f"{instance.where}.extra_args.quantization": None
        }
    usable = [
        one
        for one in _COMMON
        if gpu.capability >= fact.version_tuple(fact.text(known, one) or "999")
    ]
    such = f", such as {usable[0]}," if usable else ""
    return f"use another quantization of the model{such} or a newer GPU", None


def _for_marlin(model: Model | None) -> bool:
    """Tell whether vLLM computes with a model's AWQ or GPTQ weights by Marlin's kernels.

    vllm 0.14.1, vllm/model_executor/layers/quantization: is_awq_marlin_compatible,
    is_gptq_marlin_compatible, and utils/marlin_utils.py. What else needs them is not asked.
    """
    config: Mapping[str, Any] = {}
    for one in (model.config, model.shape_config) if model is not None else ():
        config = config or fact.mapping(one, "quantization_config")
    bits, group = fact.integer(config, "bits"), fact.integer(config, "group_size")
    if group not in (-1, 32, 64, 128):
        return False
    if config.get("quant_method") == "awq":
        return bits == 4 and config.get("zero_point") is True
    return bits in (4, 8) and config.get("sym") is True and config.get("desc_act") is not None


def _check_format(
    method: str,
    instance: Instance,
    gpus: list[Gpu],
    rules: Mapping[str, Any],
    registry: Mapping[str, Any],
    dtype: str | None,
    marlin: bool,
    findings: Findings,
) -> None:
    """Refuse a number format that a quantization does not compute in.

    vllm 0.14.1 and 0.26.0, vllm/config/vllm.py, _get_quantization_config.
    """
    formats = fact.mapping(registry, "quantization_dtypes")
    usable = fact.words(formats, method)
    if usable and instance.extra_args.get("quantization") is None and marlin:
        # vLLM itself takes the method of the same weights with Marlin's kernels.
        usable = usable + fact.words(formats, f"{method}_marlin")
    if dtype is None or not usable or dtype in usable:
        return
    weak = any(gpu.capability and gpu.capability < _lowest(rules) for gpu in gpus)
    formats_here = ("float16", "float32") if weak else ("bfloat16", "float16", "float32")
    best = next((one for one in formats_here if one in usable), None)
    findings.problem(
        "dtype-unsupported",
        instance.at("dtype"),
        f"{method} computes in {quoted(usable)} and not in {dtype}",
        f"set dtype: {best}" if best else "use another quantization of the model, or another GPU",
        {instance.at("dtype"): best} if best else None,
    )
