# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: one pure function of the wanted state, the facts and the release data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.module_utils.plan.flags import check_extra_args
from ansible_collections.compute_plane.vllm.plugins.module_utils.plan.hosts import (
    check_disks,
    check_host,
    check_nvcc,
    check_ports,
    check_ram,
    removed_instances,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.plan.models import (
    check_model,
    model_path,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.plan.problems import Findings
from ansible_collections.compute_plane.vllm.plugins.module_utils.plan.release import (
    ReleaseData,
    check_glibc,
    check_release,
    plan_runtime,
    resolve_accelerator,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.plan.serving import (
    build_config,
    build_environment,
    default_served_name,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.plan.wanted import (
    Instance,
    Wanted,
    read_wanted,
    url_of,
)

SCHEMA = 1


def make_plan(raw: Any, facts: Any, data: ReleaseData) -> dict[str, Any]:
    """Decide what will be done on a host, or find every reason why not.

    Args:
        raw: The wanted state: `release`, `accelerator`, `instances`, `nvcc`,
            `opt_dir`, `etc_dir`, `state_dir`, `python`.
        facts: What `vllm_probe` returns under `facts`.
        data: The wanted release's data and the rules.

    Returns:
        The plan. With any entry in `problems` nothing may be changed. Never
        raises, whatever the arguments hold; equal arguments give equal plans.
    """
    findings = Findings()
    wanted = read_wanted(raw if isinstance(raw, Mapping) else {}, findings)
    facts = facts if isinstance(facts, Mapping) else {}
    check_release(wanted, data, findings)
    accelerator = resolve_accelerator(wanted, facts, data, findings)
    rules = fact.mapping(data.rules, "host")
    removed = removed_instances(wanted, facts)
    for name in removed:
        findings.note(
            "instance-removed", "vllm_instances", f"{name} is deployed and no longer wanted"
        )
    check_host(facts, rules, accelerator, findings)
    check_nvcc(wanted, facts, findings)
    check_glibc(facts, data, accelerator, findings)
    runtime = plan_runtime(wanted, facts, data, accelerator, findings)
    disks = check_disks(wanted, facts, rules, runtime, findings)
    check_ports(wanted, facts, removed, findings)
    models = {one.where: check_model(one, wanted, facts, findings) for one in wanted.instances}
    check_ram(wanted, facts, rules, accelerator, models, findings)
    instances = [
        _plan_instance(one, wanted, facts, data, accelerator, findings) for one in wanted.instances
    ]
    return {
        "schema": SCHEMA,
        "release": wanted.release,
        "accelerator": accelerator,
        "problems": findings.problems,
        "notes": findings.notes,
        "runtime": runtime,
        "disks": disks,
        "instances": instances,
        "removed_instances": removed,
    }


def _plan_instance(
    instance: Instance,
    wanted: Wanted,
    facts: Mapping[str, Any],
    data: ReleaseData,
    accelerator: str,
    findings: Findings,
) -> dict[str, Any]:
    extra = check_extra_args(instance, data.flags, findings)
    backend = None
    gpus: list[str] = []
    if accelerator == "cpu":
        _check_cpu_keys(instance, findings)
    elif "cpu_kvcache_space" in instance.given:
        findings.problem(
            "cpu-key-on-cuda",
            instance.at("cpu_kvcache_space"),
            "cpu_kvcache_space has no meaning with GPUs",
            "remove it; gpu_memory_utilization rules the KV cache there",
        )
    path = model_path(instance, wanted)
    return {
        "name": instance.name,
        "unit": instance.unit,
        "host": instance.host,
        "port": instance.port,
        "url": url_of(instance.host, instance.port),
        "served_model_name": default_served_name(instance),
        "model": {
            "source": "local" if instance.local else "hub",
            "repo_id": None if instance.local else instance.model or None,
            "revision": None if instance.local else instance.revision,
            "path": path,
        },
        "config": build_config(instance, accelerator, path, extra, backend),
        "environment": build_environment(
            instance,
            accelerator,
            gpus,
            fact.dig(facts, "nvcc", "found") is True,
            backend,
            findings,
        ),
        "gpus": gpus,
        "attention_backend": {"selected": None, "mechanism": None, "candidates": []},
        "memory": None,
    }


def _check_cpu_keys(instance: Instance, findings: Findings) -> None:
    for key, given in (
        ("gpus", "gpus" in instance.given),
        ("tensor_parallel_size", instance.tensor_parallel_size > 1),
    ):
        if given:
            findings.problem(
                "gpu-key-on-cpu",
                instance.at(key),
                f"{key} has no meaning on accelerator cpu",
                "remove it, or set vllm_accelerator: cuda",
            )
    for key in ("attention_backend", "gpu_memory_utilization"):
        if key in instance.given:
            findings.note(
                "unused-on-cpu",
                instance.at(key),
                f"{key} is left out on accelerator cpu, where vLLM has one backend and "
                "cpu_kvcache_space sets the KV cache",
            )
