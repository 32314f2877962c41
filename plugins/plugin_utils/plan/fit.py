# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host can serve: each of some models planned on its own, as if nothing else were there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import ceiling
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.layout import (
    snapshot_path,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import (
    answered,
    name_of,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.planner import make_plan
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import problem_line
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.release import ReleaseData
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.report import fill, table

# What is wrong with an instance at these keys has nothing to do with the model.
_NOT_THE_MODELS = ("name", "host", "port")
# What is wrong with the host for this model's sake.
_FOR_THE_MODEL = ("memory-too-small", "disk-space")
_FIRST = "vllm_instances[0]"
# Stands for any model, where only the host counts; that nothing is known of it is no problem.
_ANY = {"name": "any", "model": "/any"}
# Stands for the commit of a model of which the collection itself tells; there is none like it.
_NO_COMMIT = "0" * 40
# What is left above it is the display's and the CUDA contexts' of other processes.
HIGHEST_UTILIZATION = 0.95
# A stream that people notice: a question and an answer of this many tokens together.
STREAM = 4096


def known_models(shipped: Mapping[str, Any], hub: str) -> dict[str, Any]:
    """Return what ships with the collection of some models, as `answered` takes what a Hub said.

    Args:
        shipped: `plan/data/candidates.yml`.
        hub: The host's cache of models.
    """
    entries: list[dict[str, Any]] = []
    models: dict[str, Any] = {}
    for repo_id, model in fact.mapping(shipped, "models").items():
        size = fact.integer(model, "weights_bytes")
        path = snapshot_path(hub, repo_id, _NO_COMMIT)
        entries.append(
            {
                "repo_id": repo_id,
                "revision": "main",
                "commit": _NO_COMMIT,
                "path": path,
                "bytes": size,
                "download_bytes": size,
                "asked": "the collection",
                "error": None,
                "base_models": [],
            }
        )
        models[path] = {
            "exists": True,
            "is_directory": True,
            "readable": True,
            "config": fact.mapping(model, "config"),
            "weights": {
                "format": "safetensors",
                "files": [{"name": "model.safetensors", "bytes": size}],
                "bytes": size,
                "missing": [],
                "incomplete": [],
            },
            "tokenizer": True,
        }
    return {"hub": entries, "models": models}


def settle(
    raw: Mapping[str, Any], facts: Mapping[str, Any], data: ReleaseData
) -> tuple[dict[str, Any], ReleaseData, list[dict[str, Any]]]:
    """Settle the release that models are planned with, and find what the host itself lacks for it.

    Args:
        raw: The wanted state without instances, its `release` a version or `newest-that-fits`.
        facts: The facts.
        data: The release's data.

    Returns:
        The wanted state with the release's version, that release's data, and the problems of the
        host and the inventory that no model is free of.
    """
    plan = make_plan({**raw, "instances": [_ANY]}, facts, data)
    release = plan["release"]
    lacks = [one for one in plan["problems"] if not one["where"].startswith("vllm_instances")]
    return {**raw, "release": release}, data.releases.get(release, data), lacks


def fit(
    raw: Mapping[str, Any],
    facts: Mapping[str, Any],
    data: ReleaseData,
    wanted: Iterable[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Plan each model alone on the host, with as few of its GPUs as it takes.

    Args:
        raw: The wanted state without instances, as `make_plan` takes it.
        facts: The facts, with what is known of the models (`answered`).
        data: The release's data.
        wanted: The models, each as keys of an instance: `model` at least.

    Returns:
        A row for each, in their order: `model`, `fits`, `gpus` (how many), `quantization`,
        `max_model_len` (the longest context, in tokens), `streams` (of 4096 tokens at once),
        `weights_bytes`, `download_bytes`, `tokens_per_second` (of one stream, at most; null where
        not known), `why` (what stands in the way, each with its remedy) and `instance` (the lines
        of the inventory).
    """
    return [
        _one({"name": name_of(str(one.get("model"))), **one}, raw, facts, data) for one in wanted
    ]


def _one(
    instance: dict[str, Any],
    raw: Mapping[str, Any],
    facts: Mapping[str, Any],
    data: ReleaseData,
) -> dict[str, Any]:
    answering = [row for row in fact.rows(facts, "gpu", "gpus") if row.get("lost") is not True]
    sizes = [size for size in (1, 2, 4, 8) if size == 1 or size <= len(answering)]
    if "tensor_parallel_size" in instance:
        sizes = [instance["tensor_parallel_size"]]
    tried = []
    for size in sizes:
        keys = instance if size == 1 else {**instance, "tensor_parallel_size": size}
        plan = make_plan({**raw, "instances": [keys]}, facts, data)
        more = _more_memory(plan["problems"])
        if more is not None and "gpu_memory_utilization" not in instance:
            keys = {**keys, "gpu_memory_utilization": more}
            plan = make_plan({**raw, "instances": [keys]}, facts, data)
        row = _row(keys, plan, facts, data)
        if row["fits"]:
            return row
        tried.append(row)
    # What stands in the way with the most GPUs is not their number.
    return tried[-1]


def _more_memory(problems: Iterable[Mapping[str, Any]]) -> float | None:
    """Return the part of the GPU's memory with which a problem's own remedy says it would do."""
    for problem in problems:
        value = fact.number(problem.get("settings"), f"{_FIRST}.gpu_memory_utilization")
        if value is not None and value <= HIGHEST_UTILIZATION:
            return value
    return None


def _row(
    instance: Mapping[str, Any],
    plan: Mapping[str, Any],
    facts: Mapping[str, Any],
    data: ReleaseData,
) -> dict[str, Any]:
    (planned,) = plan["instances"]
    why = [
        f"{problem['message']} — {problem['remedy']}"
        for problem in plan["problems"]
        if problem["code"] in _FOR_THE_MODEL
        or (
            problem["where"].startswith(_FIRST)
            and problem["where"].removeprefix(f"{_FIRST}.") not in _NOT_THE_MODELS
        )
    ]
    memory = planned["memory"]
    used = [row for row in fact.rows(facts, "gpu", "gpus") if row.get("uuid") in planned["gpus"]]
    config = fact.mapping(facts, "models", planned["model"]["path"] or "", "config")
    return {
        "model": instance["model"],
        "fits": not why and memory is not None,
        "gpus": len(planned["gpus"]) if plan["accelerator"] == "cuda" else 0,
        "quantization": fact.text(config, "quantization_config", "quant_method"),
        "max_model_len": memory["max_model_len"] if memory and not why else None,
        "streams": memory["kv_cache_tokens"] // STREAM if memory and not why else None,
        "weights_bytes": memory["weights_bytes"] if memory else None,
        "download_bytes": planned["model"]["download_bytes"],
        "tokens_per_second": _speed(planned, config, used, data) if not why else None,
        "why": why
        or (
            ["it is not known how much memory it needs; vLLM decides at start"]
            if not memory
            else []
        ),
        "instance": dict(instance),
    }


def _speed(
    planned: Mapping[str, Any],
    config: Mapping[str, Any],
    gpus: Sequence[Mapping[str, Any]],
    data: ReleaseData,
) -> float | None:
    """The most tokens a second of one stream; the memory's bandwidth is that of the data sheet."""
    sheet = fact.mapping(data.rules, "gpus", "bandwidth_gb_per_second")
    speeds = [fact.number(sheet, str(gpu.get("name"))) for gpu in gpus]
    known = [speed for speed in speeds if speed is not None]
    if not known or len(known) != len(speeds):
        return None
    tied = config.get("tie_word_embeddings") is True
    limit = ceiling.make(planned["memory"], config, tied, planned["config"], gpus, min(known) * 1e9)
    figures = ceiling.at(limit, 1, 0, 0)
    return None if figures is None else figures["output_throughput"]


def with_shipped(
    facts: Mapping[str, Any], shipped: Mapping[str, Any], hub: str, asked: Iterable[str]
) -> dict[str, Any]:
    """Return the facts with what ships of those models that nothing else is known of.

    Args:
        facts: The facts.
        shipped: `plan/data/candidates.yml`.
        hub: The host's cache of models.
        asked: Repositories that the user named, of which the Hub knows more.
    """
    known = {entry.get("repo_id") for entry in fact.rows(facts, "hub") if entry.get("commit")}
    models = fact.mapping(shipped, "models")
    left = {key: model for key, model in models.items() if key not in known | set(asked)}
    return answered(facts, known_models({"models": left}, hub))


def render_fit(
    rows: Sequence[Mapping[str, Any]], release: str, lacks: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Return the rows of `fit` as text: a table, why the others do not fit, and inventory lines.

    Args:
        rows: What `fit` returned.
        release: vLLM's version.
        lacks: What the host lacks for any model, as `settle` returns it.
    """
    lines = [f"Served by vLLM {release}, each alone on this host", ""]
    if lacks:
        lines += ["First of all, whatever the model:", ""]
        lines += [line for one in lacks for line in fill(problem_line(one), "  ", "    ")]
        lines += [""]
    fitting = [row for row in rows if row["fits"]]
    head = (
        "model",
        "quantization",
        "GPUs",
        "context",
        f"streams of {STREAM}",
        "weights",
        "disk",
        "tokens/s",
    )
    lines += table(
        [
            head,
            *(
                (
                    row["model"],
                    row["quantization"] or "-",
                    str(row["gpus"] or "-"),
                    str(row["max_model_len"]),
                    str(row["streams"]),
                    fact.gib(row["weights_bytes"]),
                    "-" if row["download_bytes"] is None else fact.gib(row["download_bytes"]),
                    f"≤ {row['tokens_per_second']:.0f}" if row["tokens_per_second"] else "-",
                )
                for row in fitting
            ),
        ]
        if fitting
        else [("nothing of these fits",)]
    )
    for row in rows:
        if not row["fits"]:
            lines += ["", f"  {row['model']} does not fit:" if row["why"] else f"  {row['model']}"]
            lines += [line for why in row["why"] for line in fill(why, "    ", "    ")]
    if fitting:
        lines += ["", "Lines for the inventory; take one, each has the whole host", ""]
        lines += [f'vllm_release: "{release}"', "vllm_instances:"]
        for row in fitting:
            keys = [f"{key}: {json.dumps(value)}" for key, value in row["instance"].items()]
            lines += [f"  - {keys[0]}", *(f"    {key}" for key in keys[1:])]
    return "\n".join(lines)


def smaller(model: str, shipped: Mapping[str, Any]) -> list[str]:
    """Return the quantized forms of a model that the collection knows, largest first.

    Args:
        model: Its repository.
        shipped: `plan/data/candidates.yml`.
    """
    models = fact.mapping(shipped, "models")
    own = model.rsplit("/", 1)[-1].lower()
    known = fact.mapping(models, model, "config")
    found = [
        repo_id
        for repo_id, other in models.items()
        if repo_id != model
        and own in repo_id.rsplit("/", 1)[-1].lower()
        and fact.mapping(other, "config", "quantization_config")
        and all(
            fact.dig(other, "config", key) == value
            for key, value in known.items()
            if key in ("hidden_size", "num_hidden_layers", "vocab_size")
        )
    ]
    return sorted(found, key=lambda one: -(fact.integer(models, one, "weights_bytes") or 0))


def say_what_would_fit(
    plan: Mapping[str, Any], raw: Mapping[str, Any], facts: Mapping[str, Any], data: ReleaseData
) -> None:
    """Add to the problem of a model that is too large which forms of it would fit, as planned.

    Args:
        plan: What `make_plan` returned; its remedies are changed.
        raw: The wanted state that it was made from.
        facts: The facts that it was made from.
        data: The release's data.
    """
    shipped = fact.mapping(data.rules, "candidates")
    for problem in plan["problems"]:
        where = str(problem["where"])
        if problem["code"] != "weights-do-not-fit" or not where.endswith("].model"):
            continue
        index = int(where[len("vllm_instances[") :].partition("]")[0])
        wanted = fact.rows(raw, "instances")[index]
        others = [
            {**{key: value for key, value in wanted.items() if key != "revision"}, "model": other}
            for other in smaller(str(wanted.get("model")), shipped)
        ]
        hub = str(raw.get("model_hub") or f"{raw.get('state_dir') or '/var/lib/vllm'}/hub")
        known = with_shipped(facts, shipped, hub, [])
        for row in fit(raw, known, data, others):
            # Alone it fits; beside the others of the inventory it must, too.
            if row["fits"] and _fits_beside(index, row["instance"], plan, raw, known, data):
                problem["remedy"] += (
                    f"; {row['model']} fits, with {row['max_model_len']} tokens of context"
                )
                way = _difference(where.removesuffix(".model"), wanted, row["instance"])
                if "settings" in problem:
                    problem.setdefault("alternatives", []).append(way)
                else:
                    problem["settings"] = way
                break


def _fits_beside(
    index: int,
    instance: Mapping[str, Any],
    plan: Mapping[str, Any],
    raw: Mapping[str, Any],
    facts: Mapping[str, Any],
    data: ReleaseData,
) -> bool:
    """Tell whether an instance can stand in another's place without a problem that was not there.

    Args:
        index: Whose place.
        instance: The keys of the one.
        plan: The plan with the other.
        raw: The wanted state with the other.
        facts: The facts.
        data: The release's data.
    """
    instances = list(raw["instances"])
    instances[index] = dict(instance)
    after = make_plan({**raw, "instances": instances}, facts, data)["problems"]
    before = {(problem["code"], problem["where"]) for problem in plan["problems"]}
    before -= {("weights-do-not-fit", f"vllm_instances[{index}].model")}
    return {(problem["code"], problem["where"]) for problem in after} <= before


def _difference(
    where: str, wanted: Mapping[str, Any], instance: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings that make one instance of another."""
    keys = [*instance, *(key for key in wanted if key not in instance)]
    return {
        f"{where}.{key}": instance.get(key) for key in keys if instance.get(key) != wanted.get(key)
    }
