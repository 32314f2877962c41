# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an instance on demand can sleep (vLLM's sleep mode), and what it holds while it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.gpus import (
    Gpu,
    Outside,
    budget,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.memory import since
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import Model
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    quoted,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import Instance

FLAG = "enable-sleep-mode"
KEY = "sleep_level"


def host_copy(instance: Instance, model: Model | None, rules: Mapping[str, Any]) -> int:
    """Return the bytes of the host's memory that the weights take of one that sleeps at level 1.

    They stay taken from its first sleep to its server's end. 0 where the model's size is not known.

    Args:
        instance: The instance.
        model: Its model.
        rules: `sleep` of `plan/data/memory.yml`.
    """
    weights = model.weights_bytes if model is not None and instance.sleep_level == 1 else None
    return (weights or 0) * (fact.integer(rules, "host_bytes_per_byte") or 1)


def check_sleep(
    instance: Instance,
    accelerator: str,
    release: str,
    flags: Mapping[str, Any],
    kind: str,
    rules: Mapping[str, Any],
    findings: Findings,
) -> None:
    """Refuse what cannot sleep, or what would not be found to be another after it.

    Args:
        instance: The instance.
        accelerator: `cuda` or `cpu`.
        release: The release.
        flags: The release's flags; empty when there is no data.
        kind: What is served.
        rules: `sleep` of `plan/data/memory.yml`.
        findings: Receives the problems.
    """
    if not instance.sleep_level:
        return

    def refuse(why: str, remedy: str, level: int = 0) -> None:
        where = instance.at(KEY)
        findings.problem("sleep-unsupported", where, why, remedy, {where: level})

    stop = "set sleep_level: 0, which stops and starts its server"
    if accelerator == "cpu":
        refuse("a server on the CPU cannot sleep: vLLM refuses enable_sleep_mode there", stop)
        return
    if flags and FLAG not in flags:
        refuse(f"vLLM {release} has no --{FLAG}", stop)
    elif since(rules, "frees_weights", release) is not True:
        refuse(
            f"vLLM {release} gives back its KV cache while it sleeps, and not its weights",
            f"{stop}, or take a newer vllm_release",
        )
    for flag in (FLAG, f"no-{FLAG}", "root-path"):
        if flag in instance.extra_args:
            where = f"{instance.where}.extra_args.{flag}"
            findings.problem(
                "sleep-unsupported",
                where,
                "with a root path it cannot be told which paths are public"
                if flag == "root-path"
                else f"--{flag} is what sleep_level sets",
                "leave it out",
                {where: None},
            )
    if instance.sleep_level != 2:
        return
    blind = {
        "adapters' weights are not read again": bool(instance.lora)
        or "enable-lora" in instance.extra_args,
        "a draft model's weights are not read again": "speculative-config" in instance.extra_args,
        "its text does not tell whether images are read as before": kind == "multimodal",
    }
    for why in (why for why, applies in blind.items() if applies):
        refuse(f"after sleep at level 2 {why}", "set sleep_level: 1", 1)


def sleep_of(
    instance: Instance,
    gpus: Sequence[Gpu],
    model: Model | None,
    users: Mapping[str, Sequence[Instance]],
    room: Mapping[str, int],
    outside: Outside,
    rules: Mapping[str, Any],
    findings: Findings,
) -> dict[str, Any]:
    """Return what is told of an instance that sleeps; nothing of one that is stopped.

    `asleep` is what it still holds of each resource, `sleep_memory` the host's memory.

    Args:
        instance: The instance.
        gpus: Its GPUs.
        model: Its model.
        users: A GPU's UUID to the instances on it.
        room: A GPU's UUID to the bytes that there are for the share.
        outside: What servers hold beside their budgets.
        rules: `sleep` of `plan/data/memory.yml`.
        findings: Receives the problem where no other of the share fits beside that.
    """
    if not instance.sleep_level or not gpus:
        return {}
    held = fact.integer(rules, "gpu_bytes") or 0
    others = {
        one.where: one
        for gpu in gpus
        for one in users.get(gpu.uuid, ())
        if one.place == instance.place and one is not instance
    }
    fitting = [
        one
        for one in others.values()
        if all(
            budget(gpu, one) + outside.of(one, gpu) + held <= room[gpu.uuid]
            for gpu in gpus
            if one in users.get(gpu.uuid, ())
        )
    ]
    if others and not fitting:
        smallest = min(gpus, key=lambda gpu: (gpu.total, gpu.index))
        beside = max(outside.of(one, smallest) for one in others.values())
        # Two decimals, rounded down, is the precision people write.
        fits = int((room[smallest.uuid] - beside - held) / smallest.total * 100) / 100
        settings = {one.at("gpu_memory_utilization"): fits for one in others.values()}
        names = quoted(one.name or one.where for one in others.values())
        lower = (
            f"set gpu_memory_utilization: {fits:.2f} or less on {names}, or " if fits > 0 else ""
        )
        findings.problem(
            "sleep-unsupported",
            instance.at(KEY),
            f"while it sleeps {instance.name} still holds {fact.gib(held)} of {smallest.label}, "
            f"and beside that no other of its share fits: {names}",
            f"{lower}set sleep_level: 0",
            {instance.at(KEY): 0},
            [settings] if lower else [],
        )
    return {
        KEY: instance.sleep_level,
        "asleep": {gpu.uuid: held for gpu in gpus},
        "sleep_memory": host_copy(instance, model, rules),
    }
