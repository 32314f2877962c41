# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The LoRA adapters that an instance serves beside its model: do they belong to it, what they need.

What vLLM loads of an adapter: vllm 0.14.1, vllm/lora/peft_helper.py and vllm/lora/lora_model.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.errors import said_by
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.names import (
    repo_id_problem,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.flags import whole_number
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import (
    Model,
    describe,
    hub_entry,
    model_path,
    refused,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    quoted,
    shown,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import (
    Adapter,
    Instance,
    Wanted,
)

_CONFIG = "adapter_config.json"

# vllm 0.14.1, vllm/config/lora.py: max_lora_rank and max_loras where they are not given.
_DEFAULT_RANK = 16
_DEFAULT_SLOTS = 1


def plan_adapters(
    instance: Instance,
    model: Model | None,
    wanted: Wanted,
    facts: Mapping[str, Any],
    flags: Mapping[str, Any],
    findings: Findings,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Check an instance's adapters and decide how vLLM is told about them.

    Args:
        instance: The instance.
        model: Its model, where it is known.
        wanted: The whole wanted state.
        facts: The facts.
        flags: The release's flags, for the ranks that it has kernels for.
        findings: Receives what is wrong, and what is not known yet.

    Returns:
        The adapters as the plan shows them (name, source, repo_id, revision, path), and vLLM's
        flags for them except `lora-modules`, which takes the directories that the model role finds.
    """
    if not instance.lora:
        return [], {}
    for flag in {"enable-lora", "no-enable-lora", "lora-modules"} & set(instance.extra_args):
        findings.problem(
            "flag-has-own-key",
            f"{instance.where}.extra_args.{flag}",
            f"--{flag} is what the instance's key lora sets",
            "name the adapters in lora, and leave the flag out",
            {f"{instance.where}.extra_args.{flag}": None},
        )
    rows, ranks = [], []
    for adapter in instance.lora.values():
        path = model_path(adapter, wanted, facts)
        found = fact.mapping(facts, "models", path) if path is not None else {}
        config = fact.mapping(found, "documents", _CONFIG)
        rows.append({"name": adapter.name, **describe(adapter, wanted, facts, bool(config))})
        entry = hub_entry(adapter, facts)
        if refused(adapter, wanted, entry, findings):
            continue
        if not config and not found and not adapter.local:
            findings.note(
                "adapter-not-on-host",
                adapter.where,
                f"{adapter.model} is not on the host yet, so its base and rank are not known"
                + (f" ({said_by(error)})" if (error := fact.mapping(entry, "error")) else ""),
            )
        elif not config:
            findings.problem(
                "adapter-unusable",
                adapter.where,
                f"{adapter.model} holds no {_CONFIG} that can be read",
                "name a repository or directory that PEFT's save_pretrained made",
            )
        else:
            _check_config(adapter, config, findings)
            _check_base(adapter, instance, model, found, findings)
            ranks.append(fact.integer(config, "r") or 0)
    return rows, _flags(instance, ranks, flags, findings)


def _check_config(adapter: Adapter, config: Mapping[str, Any], findings: Findings) -> None:
    complaints = []
    if config.get("peft_type", "LORA") != "LORA":
        complaints.append(f"it is of the type {shown(config['peft_type'])}")
    if (fact.integer(config, "r") or 0) < 1:
        complaints.append(f"its rank r is {shown(config.get('r'))}")
    if config.get("use_dora") is True:
        complaints.append("it uses DoRA")
    if config.get("modules_to_save"):
        complaints.append(f"it brings whole modules ({shown(config['modules_to_save'])})")
    if config.get("bias", "none") != "none":
        complaints.append(f"it trains biases ({shown(config['bias'])})")
    for complaint in complaints:
        findings.problem(
            "adapter-unusable",
            adapter.where,
            f"vLLM does not load {adapter.model}: {complaint}",
            "merge it into the model with PEFT's merge_and_unload, and serve the result as a model",
        )


def _widths(model: Model) -> dict[str, tuple[int | None, int | None]]:
    """What goes into and comes out of each projection of a decoder; None where not known."""
    config = model.shape_config
    hidden = fact.integer(config, "hidden_size")
    inner = fact.integer(config, "intermediate_size")
    heads = fact.integer(config, "num_attention_heads")
    pairs = fact.integer(config, "num_key_value_heads") or heads
    head = fact.integer(config, "head_dim")
    if head is None and hidden and heads:
        head = hidden // heads
    query = heads * head if heads and head else None
    key = pairs * head if pairs and head else None
    return {
        "q_proj": (hidden, query),
        "k_proj": (hidden, key),
        "v_proj": (hidden, key),
        "o_proj": (query, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }


def _check_base(
    adapter: Adapter,
    instance: Instance,
    model: Model | None,
    found: Mapping[str, Any],
    findings: Findings,
) -> None:
    """Compare the adapter's matrices with the model's, and the base that it names."""
    base = fact.text(found, "documents", _CONFIG, "base_model_name_or_path")
    remedy = "serve it with its base, or take an adapter of this model"
    settings: dict[str, Any] = {}
    if base and repo_id_problem(base) is None and base != instance.model:
        remedy = f"set model: {base}, which is its base, or take an adapter of this model"
        settings = {instance.at("model"): base}
        settings |= {instance.at("revision"): None} if instance.revision is not None else {}
    # Heads as wide as these formulas say; others (MLA, several widths) are vLLM's to compare.
    widths = _widths(model) if model is not None and "experts" not in str(model.config) else {}
    layers = fact.integer(model.shape_config, "num_hidden_layers") if model is not None else None
    deepest = fact.integer(found, "adapter", "layers")
    if layers is not None and deepest is not None and deepest > layers:
        findings.problem(
            "adapter-of-another-model",
            adapter.where,
            f"{adapter.model} changes {deepest} layers, and {instance.model} has {layers}",
            remedy,
            settings,
        )
        return
    for module, shape in sorted(fact.mapping(found, "adapter", "shapes").items()):
        if module not in widths or not isinstance(shape, (list, tuple)) or len(shape) != 2:
            continue
        wrong = [
            f"{theirs} {way} where the model has {ours}"
            for way, theirs, ours in zip(("in", "out"), shape, widths[module], strict=True)
            if theirs is not None and ours is not None and theirs != ours
        ]
        if wrong:
            findings.problem(
                "adapter-of-another-model",
                adapter.where,
                f"{adapter.model} is not of {instance.model}: its {module} has {', '.join(wrong)}",
                remedy,
                settings,
            )
            return
    if base and not instance.local and not base.startswith("/") and base != instance.model:
        findings.note(
            "adapter-base-differs",
            adapter.where,
            f"{adapter.model} names {base} as its base; its matrices fit {instance.model}"
            if fact.mapping(found, "adapter", "shapes")
            else f"{adapter.model} names {base} as its base, not {instance.model}",
        )


def _flags(
    instance: Instance, ranks: list[int], flags: Mapping[str, Any], findings: Findings
) -> dict[str, Any]:
    """Return vLLM's flags: the lowest rank that it has kernels for, a slot for each adapter."""
    rendered: dict[str, Any] = {"enable-lora": True}
    needed = max(ranks, default=0)
    choices = [one for one in flags.get("max-lora-rank", {}).get("choices") or [] if one > 0]
    given = whole_number(instance.extra_args.get("max-lora-rank"))
    fitting = [one for one in sorted(choices) if one >= max(needed, _DEFAULT_RANK)]
    if choices and not fitting:
        findings.problem(
            "adapter-unusable",
            instance.at("lora"),
            f"an adapter has rank {needed}, and this release serves ranks up to {max(choices)}",
            "merge it into the model with PEFT's merge_and_unload, or train it with a lower rank",
        )
    elif given is not None and given < needed:
        findings.problem(
            "flag-value",
            f"{instance.where}.extra_args.max-lora-rank",
            f"max_lora_rank is {given}, and an adapter has rank {needed}",
            f"leave it out; {quoted(str(one) for one in fitting[:1])} is taken then"
            if fitting
            else "leave it out",
            {f"{instance.where}.extra_args.max-lora-rank": None},
        )
    elif fitting and fitting[0] > _DEFAULT_RANK:
        rendered["max-lora-rank"] = fitting[0]
    if len(instance.lora) > _DEFAULT_SLOTS:
        # With fewer, requests of different adapters wait for each other.
        rendered["max-loras"] = len(instance.lora)
    return rendered
