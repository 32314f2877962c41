# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model is asked for, found from the model, and the flags with which vLLM serves it so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.architectures import (
    Architecture,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import Model
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import Findings
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import Instance

POOLING = ("embed", "rerank", "classify")
_CLASSIFIERS = ("classify", "rerank")


@dataclass(frozen=True)
class Served:
    """How a model is served.

    Attributes:
        kind: One of `wanted.KINDS` but `auto`.
        flags: vLLM's flags that this needs, without those that vLLM chooses by itself.
    """

    kind: str
    flags: Mapping[str, Any] = field(default_factory=dict)


def plan_kind(
    instance: Instance,
    model: Model | None,
    architecture: Architecture | None,
    rules: Mapping[str, Any],
    flags: Mapping[str, Mapping[str, Any]],
    findings: Findings,
) -> Served:
    """Find what a model is, and with which flags vLLM serves it as that or as what is wanted.

    Args:
        instance: The instance. What its extra_args set is not set a second time.
        model: The model; None while it is not known.
        architecture: What the release serves it as; None while that is not known.
        rules: kinds.yml.
        flags: The release's flags, with the parsers that it has.
        findings: Receives a kind that the model cannot be.
    """
    family = _family(fact.rows(rules, "reasoning"), model)
    found = _kind_of(instance, model, architecture, family, rules)
    kind = found if instance.kind == "auto" else instance.kind
    complaint = _impossible(kind, instance, model, architecture)
    if complaint is not None:
        findings.problem(
            "kind-impossible",
            instance.at("kind"),
            complaint,
            f"leave kind out; it is {found}",
            {instance.at("kind"): None},
        )
        return Served(found)
    wanted: dict[str, Any] = {}
    if kind in POOLING:
        wanted = _pooling(kind, model, architecture, rules)
    elif _pools(model, architecture):
        wanted = {"runner": "generate"}
    parser = fact.text(family, "reasoning_parser")
    if parser is not None and kind in ("reasoning", "multimodal"):
        wanted["reasoning-parser"] = parser
    given = {flag.partition(".")[0] for flag in instance.extra_args}
    chosen = {
        flag: value
        for flag, value in wanted.items()
        if flag not in given and _knows(flags, flag, value)
    }
    return Served(kind, chosen)


def tool_parser(
    model: Model | None, rules: Mapping[str, Any], flags: Mapping[str, Mapping[str, Any]]
) -> str | None:
    """The tool-call parser of a model's family that the release has; None where none is known."""
    found = fact.text(_family(fact.rows(rules, "tools"), model), "tool_call_parser")
    return found if found is not None and _knows(flags, "tool-call-parser", found) else None


def _knows(flags: Mapping[str, Mapping[str, Any]], flag: str, value: Any) -> bool:
    known = fact.words(flags, flag, "registered") or fact.words(flags, flag, "choices")
    return not known or value in known


def _family(rows: list[Mapping[str, Any]], model: Model | None) -> Mapping[str, Any]:
    if model is None:
        return {}
    kind = model.config.get("model_type")
    template = model.chat_template or ""
    for row in rows:
        types = fact.words(row, "model_types")
        if types and kind not in types:
            continue
        if not all(word in template for word in fact.words(row, "template")):
            continue
        if any(word in template for word in fact.words(row, "absent")):
            continue
        return row
    return {}


def _pools(model: Model | None, architecture: Architecture | None) -> bool:
    """Whether vLLM takes it for a pooling model by itself.

    vllm 0.14.1, vllm/config/model.py, `_get_default_runner_type`: what Sentence Transformers has a
    Pooling module for first, then what the registry and the architecture's name say.
    """
    if model is not None and "Pooling" in (model.sentence_transformers or ()):
        return True
    if architecture is None:
        return False
    if architecture.runner is not None:
        return architecture.runner == "pooling"
    return "pooling" in architecture.abilities


def _labels(model: Model | None) -> int:
    """How many labels a classifier has: `num_labels`, or what transformers keeps it as."""
    config = model.config if model is not None else {}
    count = fact.integer(config, "num_labels")
    names = fact.mapping(config, "id2label")
    # transformers, PretrainedConfig: without id2label there are two.
    return count if count is not None else len(names) or 2


def _kind_of(
    instance: Instance,
    model: Model | None,
    architecture: Architecture | None,
    family: Mapping[str, Any],
    rules: Mapping[str, Any],
) -> str:
    runner, convert = (instance.extra_args.get(flag) for flag in ("runner", "convert"))
    abilities = architecture.abilities if architecture is not None else ()
    if convert == "classify" and runner != "generate":
        return "rerank" if _labels(model) == 1 else "classify"
    if runner == "pooling" or (runner != "generate" and _pools(model, architecture)):
        names = fact.words(model.config, "architectures") if model is not None else []
        classifies = any("Classification" in name for name in names)
        if (
            "score" in abilities
            or classifies
            or (architecture and architecture.convert == "classify")
        ):
            return "rerank" if _labels(model) == 1 or "Ranking" in str(names) else "classify"
        return "embed"
    if "transcription_only" in abilities:
        return "transcribe"
    if "multimodal" in abilities:
        return "multimodal"
    if family.get("default") is True or "reasoning-parser" in instance.extra_args:
        return "reasoning"
    own = model is not None and model.config.get("model_type") in fact.words(rules, "own_templates")
    mistral = instance.extra_args.get("tokenizer-mode") == "mistral"
    given = own or mistral or "chat-template" in instance.extra_args
    return "base" if model is not None and model.chat_template == "" and not given else "chat"


def _impossible(
    kind: str, instance: Instance, model: Model | None, architecture: Architecture | None
) -> str | None:
    if architecture is None or model is None or kind == "auto":
        return None
    abilities, name = architecture.abilities, architecture.name
    if not abilities:  # transformers' classes, and those that the registry cannot look at
        return None
    if kind == "transcribe" and "transcription" not in abilities:
        return f"{name} does not transcribe speech"
    if kind == "multimodal" and "multimodal" not in abilities:
        return f"{name} reads no pictures"
    if kind in ("chat", "base", "reasoning") and "generate" not in abilities:
        return f"{name} generates no text"
    # A generator with one head for classes has to say which weights are that head.
    overrides = "hf-overrides" in {flag.partition(".")[0] for flag in instance.extra_args}
    if kind == "classify" and "score" not in abilities and not overrides:
        names = fact.words(model.config, "architectures")
        if not any("Classification" in one for one in names) and "num_labels" not in model.config:
            return f"{name} has no labels"
    return None


def _pooling(
    kind: str, model: Model | None, architecture: Architecture | None, rules: Mapping[str, Any]
) -> dict[str, Any]:
    """The flags by which a model pools as wanted; none where vLLM chooses the same."""
    by_itself = _pools(model, architecture)
    if kind == "rerank" and model is not None and not by_itself:
        names = set(fact.words(model.config, "architectures"))
        for row in fact.rows(rules, "rerankers"):
            if names & set(fact.words(row, "architectures")):
                overrides = json.dumps(fact.mapping(row, "overrides"))
                return {"runner": "pooling", "hf-overrides": overrides}
    if by_itself or (architecture is None and model is None):
        return {} if by_itself else {"runner": "pooling"}
    return {"runner": "pooling", "convert": "classify" if kind in _CLASSIFIERS else "embed"}
