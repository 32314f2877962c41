# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: what will be done on a host, or every reason why not.

`make_plan` is one pure function of the wanted state, the probed facts and the release data. The
other modules of this package are its parts; none of them reads a file, a clock or the host.
`docs/plan.md` describes the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.adapters import (
    plan_adapters,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.architectures import (
    check_architecture,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.attention import (
    Situation,
    compiler_situation,
    plan_backend,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.driver import (
    check_driver,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.dtypes import (
    check_quantization,
    quantization,
    resolve_dtype,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.flags import (
    check_extra_args,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.gpus import (
    Gpu,
    Outside,
    assign_gpus,
    check_assigned,
    check_shared_memory,
    check_shares,
    demand_of,
    has_kernels,
    usable_gpus,
    users_of,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.groups import (
    PIPELINE,
    group_environment,
    group_flags,
    join,
    plan_group,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.hosts import (
    check_addresses,
    check_disks,
    check_host,
    check_nvcc,
    check_ports,
    check_ram,
    removed_instances,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.kinds import (
    POOLING,
    plan_kind,
    tool_parser,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.measured import (
    expected,
    measured,
    stands_for,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.memory import (
    AUTO,
    Need,
    Setting,
    engine_decides,
    least_memory,
    model_length,
    plan_memory,
    read_shape,
    since,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import (
    Model,
    check_model,
    describe,
    downloads_of,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.newest import (
    NEWEST,
    plan_newest,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.power import plan_power
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    quoted,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.release import (
    ReleaseData,
    accelerator_data,
    check_glibc,
    check_release,
    has_gpu,
    plan_runtime,
    resolve_accelerator,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.serving import (
    build_config,
    build_environment,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.settings import (
    check_settings,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.sharing import share_gpus
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.sleep import (
    check_sleep,
    sleep_of,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.variables import (
    check_variables,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import (
    Instance,
    Wanted,
    dashed,
    own_url,
    read_wanted,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.weights import check_weights

SCHEMA = 1


def make_plan(raw: Any, facts: Any, data: ReleaseData) -> dict[str, Any]:
    """Decide what will be done on a host, or find every reason why not.

    Args:
        raw: The wanted state: `release` (a version, or `newest-that-fits`), `accelerator`,
            `instances`, `nvcc`, `opt_dir`, `etc_dir`, `state_dir`, `model_hub`, `python`,
            `runtime_venv`, `offline`, `model_endpoint`, `has_token`, `gpu_power_limit`
            (see `plan_power`), `variables` (see `check_variables`).
        facts: What `vllm_probe` returns under `facts`, with what a Hub said (`models.answered`).
        data: The wanted release's data and the rules.

    Returns:
        The plan. With any entry in `problems` nothing may be changed. Never
        raises, whatever the arguments hold; equal arguments give equal plans.
    """
    raw = raw if isinstance(raw, Mapping) else {}
    if raw.get("release") == NEWEST and data.releases and raw.get("runtime_venv") is None:
        return plan_newest(
            data.available,
            lambda release: make_plan({**raw, "release": release}, facts, data.releases[release]),
        )
    findings = Findings()
    wanted = read_wanted(raw, findings)
    check_variables(raw.get("variables"), findings, raw.get("instances") is not None)
    check_settings(raw, [instance.name for instance in wanted.instances], findings)
    facts = facts if isinstance(facts, Mapping) else {}
    check_release(wanted, data, findings)
    accelerator = resolve_accelerator(wanted, facts, data, findings)
    rules = fact.mapping(data.rules, "host")
    removed = removed_instances(wanted, facts)
    if removed and raw.get("instances") is None:
        findings.problem(
            "missing-key",
            "vllm_instances",
            f"it is not set, and {quoted(removed)} would be removed from this host",
            "name the instances; an empty list removes all that are deployed",
        )
    for name in removed:
        findings.note(
            "instance-removed", "vllm_instances", f"{name} is deployed and no longer wanted"
        )
    check_host(
        facts,
        rules,
        fact.words(accelerator_data(data, accelerator), "cpu_flags"),
        findings,
    )
    check_nvcc(wanted, facts, findings)
    check_glibc(facts, data, accelerator, findings)
    runtime = plan_runtime(wanted, facts, data, accelerator, findings)
    models = {one.where: check_model(one, wanted, facts, findings) for one in wanted.instances}
    downloads = downloads_of(wanted, facts)
    disks = check_disks(wanted, facts, rules, runtime, downloads, findings)
    check_ports(wanted, facts, removed, findings)
    check_addresses(wanted, facts, findings)
    driver = check_driver(facts, data, findings) if accelerator == "cuda" else None
    gpu_power = plan_power(raw.get("gpu_power_limit"), facts, findings)
    gpus = usable_gpus(wanted, facts, removed, findings) if accelerator == "cuda" else []
    assigned = assign_gpus(
        wanted,
        gpus,
        lambda one, size: _divides(models[one.where], size, wanted.release, data),
        findings,
    )
    outside = Outside.read(fact.mapping(data.rules, "memory"))
    users = {uuid: names for uuid, (_gpu, names) in users_of(wanted, assigned).items()}
    host = _Host(wanted, facts, data, accelerator, runtime, gpus, users, outside)
    refused = share_gpus(
        wanted,
        assigned,
        lambda one: _need(one, host, models[one.where], assigned[one.where]),
        outside,
        findings,
    )
    check_shared_memory(wanted, assigned, outside, refused, findings)
    check_shares(wanted, assigned, findings)
    sleep = fact.mapping(data.rules, "memory", "sleep")
    check_ram(wanted, facts, rules, accelerator, models, sleep, findings)
    instances = [
        _plan_instance(one, host, models[one.where], assigned[one.where], findings)
        for one in wanted.instances
    ]
    plan = {
        "schema": SCHEMA,
        "release": wanted.release,
        "accelerator": accelerator,
        "problems": findings.problems,
        "notes": findings.notes,
        "runtime": runtime,
        "driver": driver,
        "gpu_power": gpu_power,
        "disks": disks,
        "instances": instances,
        "removed_instances": removed,
    }
    join(plan, wanted, findings)
    return plan


def _divides(model: Model | None, size: int, release: str, data: ReleaseData) -> bool:
    """Tell whether a model's heads can be split over so many GPUs, as far as is known."""
    shape = read_shape(model, fact.mapping(data.rules, "memory"), release) if model else None
    return shape is None or shape.divides(size)


@dataclass(frozen=True)
class _Host:
    """What every instance's plan looks at.

    Attributes:
        wanted: The whole wanted state.
        facts: The facts.
        data: The release's data.
        accelerator: `cuda` or `cpu`.
        runtime: The plan's runtime, or None.
        gpus: The GPUs that answer, with what the instances were promised of them.
        users: A GPU's UUID to the instances on it.
        outside: What servers hold of a GPU beside their budgets.
    """

    wanted: Wanted
    facts: Mapping[str, Any]
    data: ReleaseData
    accelerator: str
    runtime: Mapping[str, Any] | None
    gpus: list[Gpu]
    users: Mapping[str, Sequence[Instance]]
    outside: Outside


def _setting(host: _Host, gpus: list[Gpu], dtype: str | None, kind: str) -> Setting:
    return Setting(
        accelerator=host.accelerator,
        release=host.wanted.release,
        graphs_in_budget=fact.dig(host.data.release, "cuda_graph_memory_in_budget") is True,
        dtype=dtype or "float16",
        gpus=gpus,
        host=host.gpus,
        pools=kind in POOLING,
        shared=any(len(host.users.get(gpu.uuid, ())) > 1 for gpu in gpus),
    )


def _runs(host: _Host, gpus: list[Gpu]) -> Callable[[str], bool]:
    """Return a function that tells whether a release runs on an instance's GPUs, or on the CPU."""
    return lambda release: has_kernels(release, host.accelerator, gpus, host.data.accelerators)


def _with_flags(instance: Instance, flags: Mapping[str, Any]) -> Instance:
    """Return an instance as if the user had set the plan's flags; the user's own win."""
    return replace(instance, extra_args={**flags, **instance.extra_args}) if flags else instance


def _need(instance: Instance, host: _Host, model: Model | None, gpus: list[Gpu]) -> Need | None:
    """What an instance needs of its GPUs; what is wrong with it is told where it is planned."""
    rules, told = fact.mapping(host.data.rules, "dtypes"), Findings()
    architecture = check_architecture(
        instance, model, host.wanted, host.data, _runs(host, gpus), told
    )
    kinds = fact.mapping(host.data.rules, "kinds")
    served = plan_kind(instance, model, architecture, kinds, host.data.flags, told)
    dtype = resolve_dtype(instance, model, gpus, rules, told)
    lora_flags = plan_adapters(instance, model, host.wanted, host.facts, host.data.flags, told)[1]
    return least_memory(
        _with_flags(instance, {**lora_flags, **_stages(instance)}),
        model,
        _setting(host, gpus, dtype, served.kind),
        fact.mapping(host.data.rules, "memory"),
        fact.mapping(rules, "bytes"),
    )


def _plan_instance(
    instance: Instance, host: _Host, model: Model | None, gpus: list[Gpu], findings: Findings
) -> dict[str, Any]:
    rules = fact.mapping(host.data.rules, "dtypes")
    extra = check_extra_args(instance, host.data.flags, findings)
    if host.accelerator == "cpu":
        _check_cpu_keys(instance, has_gpu(host.facts), findings)
    else:
        _check_cuda_keys(instance, findings)
        check_assigned(
            instance,
            gpus,
            host.gpus,
            accelerator_data(host.data, "cuda"),
            host.data.accelerators,
            findings,
        )
    architecture = check_architecture(
        instance, model, host.wanted, host.data, _runs(host, gpus), findings
    )
    kinds = fact.mapping(host.data.rules, "kinds")
    served = plan_kind(instance, model, architecture, kinds, host.data.flags, findings)
    _choose_tool_parser(instance, tool_parser(model, kinds, host.data.flags), findings)
    dtype = resolve_dtype(instance, model, gpus, rules, findings, host.gpus)
    registry = fact.mapping(host.data.registries, host.wanted.release)
    method = quantization(instance, model)
    packages = fact.mapping(since(rules, "quantization_packages", host.wanted.release) or {})
    # What an environment of the user's own has is theirs to know.
    lacks = None if host.wanted.runtime_venv is not None else fact.text(packages, method or "")
    check_quantization(
        method,
        instance,
        model,
        gpus,
        host.gpus,
        rules,
        registry,
        dtype,
        lacks,
        findings,
    )
    adapters, lora_flags = plan_adapters(
        instance, model, host.wanted, host.facts, host.data.flags, findings
    )
    setting = _setting(host, gpus, dtype, served.kind)
    described = describe(instance, host.wanted, host.facts, model is not None)
    group = plan_group(instance, host.wanted, host.facts, host.data.flags, findings)
    path = described["path"]
    flags = {**served.flags, **lora_flags, **extra, **group_flags(group)}
    what = stands_for(
        host.wanted.release,
        host.accelerator,
        gpus,
        model,
        path,
        build_config(instance, host.accelerator, path, flags, None),
        instance.environment,
    )
    memory = plan_memory(
        _with_flags(instance, {**lora_flags, **_stages(instance)}),
        model,
        setting,
        fact.mapping(host.data.rules, "memory"),
        fact.mapping(rules, "bytes"),
        findings,
        measured(host.facts, what),
    )
    if instance.hosts and memory is not None and model is not None:
        _check_needs_hosts(instance, lora_flags, host, model, dtype, served.kind, memory, findings)
    if memory is None and model is not None:
        check_weights(
            instance,
            model,
            _setting(host, gpus, dtype, served.kind),
            dtype,
            fact.mapping(rules, "bytes"),
            findings,
        )
    backend = None
    if host.accelerator == "cuda":
        situation = _situation(instance, host, model, gpus, dtype)
        backend = plan_backend(instance, situation, gpus, host.data, findings)
    config = build_config(instance, host.accelerator, path, flags, backend)
    if engine_decides(instance, setting, fact.mapping(host.data.rules, "memory")):
        config["max-model-len"] = AUTO
    elif memory is not None and instance.max_model_len is None:
        own = model_length(model) if model is not None else None
        if own is not None and memory["max_model_len"] < own:
            config["max-model-len"] = memory["max_model_len"]
    length = config.get("max-model-len")
    uuids = [gpu.uuid for gpu in gpus]
    demand = demand_of(instance, gpus, host.users, host.outside)
    if demand is not None:
        sleep = fact.mapping(host.data.rules, "memory", "sleep")
        check_sleep(
            instance,
            host.accelerator,
            host.wanted.release,
            host.data.flags,
            served.kind,
            sleep,
            findings,
        )
        demand |= sleep_of(
            instance, gpus, model, host.users, demand["room"], host.outside, sleep, findings
        )
    return {
        "name": instance.name,
        "unit": instance.unit,
        "host": instance.host,
        "port": instance.port,
        "url": own_url(instance.host, instance.port),
        "served_model_name": instance.served_name,
        "max_model_len": None if length == AUTO else length,
        "kind": served.kind,
        "model": described,
        "lora": adapters,
        "config": config,
        "environment": {
            **group_environment(group, host.accelerator),
            **build_environment(
                instance,
                host.accelerator,
                uuids,
                fact.mapping(host.facts, "nvcc"),
                backend,
                findings,
            ),
        },
        "limits": instance.limits,
        "gpus": uuids,
        "dtype": dtype,
        "attention_backend": {
            "selected": backend["selected"] if backend is not None else None,
            "mechanism": backend["mechanism"] if backend is not None else None,
            "key": _backend_key(backend) if backend is not None else None,
            "trial": backend["trial"] if backend is not None else [],
            "candidates": backend["candidates"] if backend is not None else [],
        },
        "memory": memory,
        "expected": expected(what, memory),
        "group": group,
        "answers": instance.listens,
        "on_demand": demand,
    }


def _stages(instance: Instance) -> dict[str, Any]:
    """Return the flag by which the memory of one stage is planned, of an instance over hosts."""
    return {PIPELINE: len(instance.hosts)} if instance.hosts else {}


def _check_needs_hosts(
    instance: Instance,
    lora_flags: Mapping[str, Any],
    host: _Host,
    model: Model,
    dtype: str | None,
    kind: str,
    memory: Mapping[str, Any],
    findings: Findings,
) -> None:
    """Find that this host's GPUs hold the instance without the others; a token then crosses none.

    A host without GPUs is not judged: what such a group is for is to be tried out.
    """
    if host.accelerator != "cuda" or instance.where in {one["where"] for one in findings.problems}:
        return
    for size in sorted({instance.tensor_parallel_size, len(host.gpus)}):
        if size < instance.tensor_parallel_size:
            continue
        told = Findings()
        alone = plan_memory(
            _with_flags(replace(instance, tensor_parallel_size=size), lora_flags),
            model,
            _setting(host, host.gpus[:size], dtype, kind),
            fact.mapping(host.data.rules, "memory"),
            fact.mapping(host.data.rules, "dtypes", "bytes"),
            told,
        )
        if alone is None or told.problems or alone["max_model_len"] < memory["max_model_len"]:
            continue
        card = "GPU holds" if size == 1 else "GPUs hold"
        findings.problem(
            "group-not-needed",
            instance.at("hosts"),
            f"{size} {card} it here, with a context of {alone['max_model_len']} tokens, and every "
            "token of a group crosses the network",
            f"leave hosts out, with tensor_parallel_size: {size}; for more requests at once, serve "
            "it on each host by itself",
            {
                instance.at("hosts"): None,
                instance.at("group_port"): None,
                instance.at("tensor_parallel_size"): size,
            },
        )
        return


def _choose_tool_parser(instance: Instance, parser: str | None, findings: Findings) -> None:
    """Name the parser of the model's family where tool calling is on without one."""
    if {"enable_auto_tool_choice", "tool_call_parser"} & instance.bad:
        return
    if not instance.enable_auto_tool_choice or instance.tool_call_parser is not None:
        return
    if parser is not None:
        instance.tool_call_parser = parser
        return
    # vllm 0.14.1, vllm/entrypoints/openai/cli_args.py, validate_parsed_serve_args:
    # "Error: --enable-auto-tool-choice requires --tool-call-parser".
    findings.problem(
        "tool-calling-incomplete",
        instance.at("tool_call_parser"),
        "enable_auto_tool_choice is on, no tool_call_parser is named, and the model does not tell",
        "name the parser of the model's family, such as hermes for Qwen2.5, or leave "
        "enable_auto_tool_choice out",
        {instance.at("enable_auto_tool_choice"): None},
    )


def _backend_key(backend: Mapping[str, Any]) -> str:
    """Return the name of the flag or variable that chooses the backend."""
    if backend["mechanism"] == "flag":
        return dashed(str(backend["flag"]))
    return str(backend["environment"])


def _situation(
    instance: Instance, host: _Host, model: Model | None, gpus: list[Gpu], dtype: str | None
) -> Situation:
    shape = (
        read_shape(model, fact.mapping(host.data.rules, "memory"), host.wanted.release)
        if model is not None
        else None
    )
    compiler, compiler_note = compiler_situation(host.facts, host.runtime)
    kv_dtype = instance.extra_args.get("kv-cache-dtype")
    return Situation(
        capability=min((gpu.capability for gpu in gpus if gpu.capability), default=()),
        dtype=dtype,
        kv_cache_dtype=kv_dtype if isinstance(kv_dtype, str) else "auto",
        head_dim=shape.head_dim if shape is not None else None,
        mla=shape.mla if shape is not None else None,
        sinks=model is not None
        and model.shape_config.get("model_type")
        in fact.words(host.data.rules, "attention", "sinks_families"),
        nvcc=fact.dig(host.facts, "nvcc", "found") is True,
        compiler=compiler,
        compiler_note=compiler_note,
    )


def _check_cuda_keys(instance: Instance, findings: Findings) -> None:
    if "cpu_kvcache_space" in instance.given:
        findings.problem(
            "cpu-key-on-cuda",
            instance.at("cpu_kvcache_space"),
            "cpu_kvcache_space has no meaning with GPUs",
            "remove it; gpu_memory_utilization rules the KV cache there",
            {instance.at("cpu_kvcache_space"): None},
        )


def _check_cpu_keys(instance: Instance, has_gpu: bool, findings: Findings) -> None:
    for key, given in (
        ("gpus", "gpus" in instance.given),
        ("tensor_parallel_size", instance.tensor_parallel_size > 1),
    ):
        if given:
            findings.problem(
                "gpu-key-on-cpu",
                instance.at(key),
                f"{key} has no meaning on accelerator cpu",
                "remove it" + (", or set vllm_accelerator: cuda" if has_gpu else ""),
                {instance.at(key): None},
                [{"vllm_accelerator": "cuda"}] if has_gpu else (),
            )
    for key in ("attention_backend", "gpu_memory_utilization"):
        if key in instance.given:
            findings.note(
                "unused-on-cpu",
                instance.at(key),
                f"{key} is left out on accelerator cpu, where vLLM has one backend and "
                "cpu_kvcache_space sets the KV cache",
            )
