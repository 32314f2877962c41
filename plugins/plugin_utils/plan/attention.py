# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attention backends: which work on this host with this release, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.gpus import (
    Gpu,
    shown_capability,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    closest,
    quoted,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.release import ReleaseData
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import (
    DEFAULT_BACKEND,
    Instance,
)

AUTO = "AUTO"


@dataclass(frozen=True)
class Situation:
    """What a backend's requirements are compared with.

    Attributes:
        capability: The lowest compute capability among the GPUs; empty: not known.
        dtype: The serving format, or None when not known.
        kv_cache_dtype: vLLM's --kv-cache-dtype, `auto` by default.
        head_dim: Size of an attention head, or None when not known.
        mla: Whether the model uses multi-head latent attention; None: not known.
        sinks: Whether the model's attention has sinks.
        nvcc: Whether the CUDA compiler is on the host.
        compiler: Why Triton can not compile its launcher, or None when it can.
        compiler_note: What the runtime role installs for it, or None.
    """

    capability: tuple[int, ...] = ()
    dtype: str | None = None
    kv_cache_dtype: str = "auto"
    head_dim: int | None = None
    mla: bool | None = None
    sinks: bool = False
    nvcc: bool = False
    compiler: str | None = None
    compiler_note: str | None = None


def compiler_situation(
    facts: Mapping[str, Any], runtime: Mapping[str, Any] | None
) -> tuple[str | None, str | None]:
    """Tell whether the service will find a C compiler and Python.h.

    Triton compiles a launcher at run time: triton 3.5.1,
    triton/runtime/build.py; vllm-project/vllm#27890, #2997.

    Returns:
        Why not (None when it will), and what is still to be installed (or None).
    """
    lacking = []
    if not fact.text(facts, "nvcc", "c_compiler", "path"):
        lacking.append("a C compiler")
    python = runtime["python"] if runtime is not None else None
    headers = [
        fact.text(row, "headers")
        for row in fact.rows(facts, "pythons")
        if fact.text(row, "path") == python
    ]
    if python is not None and not any(headers):
        lacking.append("Python.h")
    if not lacking:
        return None, None
    text = " and ".join(lacking)
    if runtime is not None and runtime["os_packages_missing"]:
        return None, f"the runtime role installs {text}"
    return f"the service finds no {text.replace('a C compiler', 'C compiler')}", None


def plan_backend(
    instance: Instance,
    situation: Situation,
    gpus: list[Gpu],
    data: ReleaseData,
    findings: Findings,
) -> dict[str, Any]:
    """Judge every backend and choose the instance's.

    Returns:
        `selected` (None where the wanted one cannot work), `wanted`,
        `mechanism`, `flag`, `environment`, `trial` (for `auto`: the order of a
        timed trial, else empty) and `candidates`.
    """
    rules = fact.mapping(data.rules, "attention")
    release = fact.mapping(data.release, "attention_backend")
    known = fact.words(release, "known")
    wanted = instance.attention_backend.upper()
    default = DEFAULT_BACKEND
    if situation.mla and "attention_backend" not in instance.given:
        default = wanted = fact.text(rules, "mla_default") or wanted
        findings.note(
            "backend-mla",
            instance.at("attention_backend"),
            f"the model uses multi-head latent attention, so {wanted} is taken",
        )
    names = fact.words(rules, "table")
    names += [name for name in (wanted, default) if name not in names and name != AUTO]
    order = _order(situation, rules)
    if situation.mla:
        names += [name for name in order if name not in names]
    candidates = []
    for name in names:
        works, reason = judge(name, situation, data) if gpus else (False, "no GPU answers")
        candidates.append({"name": name, "works": works, "reason": reason})
    verdicts = {row["name"]: row for row in candidates}
    trial = [name for name in order if verdicts.get(name, {}).get("works")]
    selected: str | None = default if wanted == AUTO else wanted
    if wanted == AUTO and gpus and not verdicts[str(selected)]["works"]:
        selected = trial[0] if trial else None
    where = instance.at("attention_backend")
    if wanted != AUTO and known and wanted not in known:
        near = closest(wanted, known)
        about = fact.text(rules, "backends", wanted, "about")
        findings.problem(
            "backend-unknown",
            where,
            f"this release has no attention backend {wanted}{f' ({about})' if about else ''}",
            (f"did you mean {near}? " if near else "") + _choose(trial),
            {where: trial[0]} if trial else None,
        )
        selected = None
    elif selected is None:
        findings.problem(
            "backend-unusable",
            where,
            "no attention backend works on this host",
            "see the report's table of backends for what each one lacks",
        )
    elif not verdicts[selected]["works"] and gpus:
        findings.problem(
            "backend-unusable",
            where,
            f"{selected} does not work here: {verdicts[selected]['reason']}",
            _choose(trial),
            {where: trial[0]} if trial else None,
        )
    else:
        rule = _rule(
            fact.mapping(rules, "backends", selected), str(fact.dig(data.release, "release"))
        )
        for text in _cautions(rule, situation.capability):
            findings.note("backend-caution", where, f"{selected}: {text}")
    return {
        "selected": selected,
        "wanted": wanted,
        "mechanism": fact.text(release, "mechanism") or "flag",
        "flag": fact.text(release, "flag") or "attention_backend",
        "environment": fact.text(release, "environment") or "VLLM_ATTENTION_BACKEND",
        "trial": trial if wanted == AUTO else [],
        "candidates": candidates,
    }


def _choose(trial: list[str]) -> str:
    return f"choose one that works: {quoted(trial)}" if trial else "see the report's table"


def _order(situation: Situation, rules: Mapping[str, Any]) -> list[str]:
    """Return vLLM's own order of preference for this GPU and model."""
    if situation.mla:
        return fact.words(rules, "order", "mla")
    major = str(situation.capability[0]) if situation.capability else ""
    return fact.words(rules, "order", major) or fact.words(rules, "order", "default")


def judge(name: str, situation: Situation, data: ReleaseData) -> tuple[bool, str]:
    """Tell whether a backend works, and why or why not, as one readable reason.

    Args:
        name: The backend's name in vLLM's enumeration.
        situation: Host, GPU and model.
        data: The release's known names and the rules.
    """
    rules = fact.mapping(data.rules, "attention")
    known = fact.words(data.release, "attention_backend", "known")
    release = fact.text(data.release, "release") or ""
    rule = _rule(fact.mapping(rules, "backends", name), release)
    about = fact.text(rule, "about")
    if known and name not in known:
        return False, f"not in vLLM {release}" + (f": {about}" if about else "")
    for prefix, text in fact.mapping(rules, "foreign").items():
        if name.startswith(str(prefix)):
            return False, str(text)
    never = fact.text(rule, "never")
    if never is not None:
        return False, never
    if not rule:
        return True, "in the release; nothing further is known here of what it needs"
    obstacles = _obstacles(rule, situation)
    if obstacles:
        return False, "; ".join(obstacles)
    reasons = [about] if about else []
    if rule.get("needs") == "c_compiler" and situation.compiler_note:
        reasons.append(situation.compiler_note)
    reasons += _cautions(rule, situation.capability)
    return True, "; ".join(reasons)


def _cautions(rule: Mapping[str, Any], capability: tuple[int, ...]) -> list[str]:
    """Return what was recorded of a backend that works, for GPUs like this one."""
    found = []
    for row in fact.rows(rule, "cautions"):
        at, below, text = fact.text(row, "at"), fact.text(row, "below"), fact.text(row, "text")
        here = capability and (
            (at is not None and capability == fact.version_tuple(at))
            or (below is not None and capability < fact.version_tuple(below))
        )
        if here and text is not None:
            found.append(text)
    return found


def _rule(rule: Mapping[str, Any], release: str) -> Mapping[str, Any]:
    """Apply a backend's changes up to a release."""
    merged = dict(rule)
    changes = fact.mapping(rule, "changes")
    for since in sorted(changes, key=fact.version_tuple):
        if fact.version_tuple(since) <= fact.version_tuple(release):
            merged.update(fact.mapping(changes, since))
    return merged


def _obstacles(rule: Mapping[str, Any], situation: Situation) -> list[str]:
    found = []
    mla = rule.get("mla") is True
    if situation.mla is not None and mla != situation.mla:
        found.append(
            "the model does not use multi-head latent attention"
            if mla
            else "the model uses multi-head latent attention"
        )
    found += _range("compute capability", situation.capability, fact.mapping(rule, "capability"))
    if rule.get("needs") == "nvcc" and not situation.nvcc:
        found.append("compiles its kernels at run time with nvcc, which is not on the host")
    if rule.get("needs") == "c_compiler" and situation.compiler is not None:
        found.append(situation.compiler)
    dtypes = fact.words(rule, "dtypes")
    if situation.dtype is not None and dtypes and situation.dtype not in dtypes:
        found.append(f"does not compute in {situation.dtype}")
    if situation.kv_cache_dtype.startswith("fp8"):
        limits = fact.mapping(rule, "fp8_kv")
        if limits.get("never") is True:
            found.append("has no fp8 KV cache")
        else:
            found += _range("an fp8 KV cache: compute capability", situation.capability, limits)
    if situation.sinks:
        limits = fact.mapping(rule, "sinks")
        if limits.get("never") is True:
            found.append("does not compute the attention sinks of this model")
        else:
            found += _range("attention sinks: compute capability", situation.capability, limits)
    if not mla:
        found += _head(situation.head_dim, fact.mapping(rule, "head_size"))
    return found


def _range(what: str, capability: tuple[int, ...], limits: Mapping[str, Any]) -> list[str]:
    if not capability:
        return []
    present = shown_capability(capability)
    minimum, maximum = fact.text(limits, "minimum"), fact.text(limits, "maximum")
    if minimum is not None and capability < fact.version_tuple(minimum):
        return [f"{what} is {present}, and at least {minimum} is needed"]
    if maximum is not None and capability > fact.version_tuple(maximum):
        return [f"{what} is {present}, and at most {maximum} works"]
    return []


def _head(size: int | None, limits: Mapping[str, Any]) -> list[str]:
    if size is None:
        return []
    multiple = fact.integer(limits, "multiple_of")
    minimum, maximum = fact.integer(limits, "minimum"), fact.integer(limits, "maximum")
    choices = limits.get("one_of")
    if (
        (multiple and size % multiple)
        or (minimum is not None and size < minimum)
        or (maximum is not None and size > maximum)
        or (isinstance(choices, list) and size not in choices)
    ):
        return [f"does not support heads of {size}"]
    return []
