# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPUs an instance uses, by UUID, and whether they can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    quoted,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import (
    Instance,
    Wanted,
)

# Utilizations are written with a few decimals; their sum is compared with this slack.
EPSILON = 1e-9


@dataclass
class Gpu:
    """One GPU that answers.

    Attributes:
        index: NVML's index, which follows the PCI bus.
        capability: Compute capability, (8, 6); empty when not known.
        total: Bytes that CUDA reports: the utilization is a share of them. NVML's total also has
            what the driver keeps for itself.
        available: Bytes that are free, or will be when our own instances have
            stopped.
        committed: Sum of the utilizations of the instances put on it so far.
        holders: Processes of others that hold its memory, largest first.
    """

    index: int
    uuid: str
    name: str
    capability: tuple[int, ...]
    total: int
    available: int
    row: Mapping[str, Any]
    committed: float = 0.0
    holders: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"GPU {self.index} ({self.name})"


def usable_gpus(
    wanted: Wanted, facts: Mapping[str, Any], removed: list[str], findings: Findings
) -> list[Gpu]:
    """Return the GPUs that answer with a UUID and their memory, by index.

    Memory that our own units hold counts as available: they are stopped
    before they start anew, or for good.
    """
    ours = {one.unit for one in wanted.instances} | {f"vllm@{name}.service" for name in removed}
    found: dict[str, Gpu] = {}
    for row in fact.rows(facts, "gpu", "gpus"):
        uuid, index = fact.text(row, "uuid"), fact.integer(row, "index")
        total, free = (
            fact.integer(row, "memory_total_bytes"),
            fact.integer(row, "memory_free_bytes"),
        )
        if row.get("lost") is True or uuid is None or index is None or uuid in found:
            continue
        name = fact.text(row, "name") or "unnamed"
        if total is None or total <= 0 or free is None:
            findings.note("facts-missing", "host", f"GPU {index} does not tell its memory")
            continue
        own, holders = 0, []
        for process in fact.rows(row, "processes"):
            if fact.text(process, "unit") in ours:
                own += max(0, fact.integer(process, "memory_used_bytes") or 0)
            else:
                holders.append(process)
        holders.sort(
            key=lambda one: (
                -(fact.integer(one, "memory_used_bytes") or 0),
                fact.integer(one, "pid") or 0,
            )
        )
        found[uuid] = Gpu(
            index=index,
            uuid=uuid,
            name=name,
            capability=fact.version_tuple(fact.text(row, "compute_capability") or ""),
            total=_cuda_total(row, total),
            available=max(0, min(_cuda_total(row, total), free + own)),
            row=row,
            holders=holders,
        )
    return sorted(found.values(), key=lambda gpu: (gpu.index, gpu.uuid))


# The largest share of NVML's total that a driver was seen to keep: 2.8 % of a T4's 16 GiB with
# error correction, 1.9 % of a GeForce RTX 4090's 24 GiB, 1.7 % of an RTX 3090's, 0.7 % of an
# H100's 80 GB (docs/facts.md; vllm-project/vllm#10517).
_DRIVER_SHARE = 0.028


def _cuda_total(row: Mapping[str, Any], total: int) -> int:
    """Return what CUDA reports as a GPU's memory, in bytes.

    vLLM asks CUDA (torch.cuda.mem_get_info: vllm 0.14.1, vllm/utils/mem_utils.py,
    MemorySnapshot). Where the probe could not, NVML's total is taken without what it says the
    driver keeps, or without the largest share that was seen.
    """
    found = fact.integer(row, "cuda_memory_total_bytes")
    if found is not None and 0 < found <= total:
        return found
    reserved = fact.integer(row, "memory_reserved_bytes")
    if reserved is not None and 0 <= reserved < total:
        return total - reserved
    return int(total * (1 - _DRIVER_SHARE))


def world_size(instance: Instance) -> int:
    """Return how many GPUs an instance needs: its tensor, pipeline and data parallel sizes."""
    size = instance.tensor_parallel_size
    for flag in ("pipeline-parallel-size", "data-parallel-size"):
        size *= max(1, fact.integer(instance.extra_args, flag) or 1)
    return size


def assign_gpus(wanted: Wanted, gpus: list[Gpu], findings: Findings) -> dict[str, list[Gpu]]:
    """Give every instance its GPUs.

    Instances that name GPUs come first. Every other one then gets, in the
    inventory's order, the GPUs with the least memory promised so far, lowest
    index first; what other processes hold at this moment does not matter, so
    the same inventory gives the same GPUs tomorrow.

    Returns:
        Instance's `where` to its GPUs in rank order; empty where that failed.
    """
    chosen: dict[str, list[Gpu]] = {one.where: [] for one in wanted.instances}
    for instance in wanted.instances:
        if instance.gpus is not None:
            chosen[instance.where] = _named(instance, gpus, findings)
            _commit(instance, chosen[instance.where])
    for instance in wanted.instances:
        if instance.gpus is not None or "gpus" in instance.bad:
            continue
        needed = world_size(instance)
        if needed > len(gpus):
            if gpus:
                _too_few(instance, needed, gpus, findings)
            continue
        ranked = sorted(gpus, key=lambda gpu: (round(gpu.committed, 9), gpu.index))
        chosen[instance.where] = sorted(ranked[:needed], key=lambda gpu: gpu.index)
        _commit(instance, chosen[instance.where])
    return chosen


def _commit(instance: Instance, gpus: list[Gpu]) -> None:
    for gpu in gpus:
        gpu.committed += instance.gpu_memory_utilization


def _too_few(instance: Instance, needed: int, gpus: list[Gpu], findings: Findings) -> None:
    where = instance.at("tensor_parallel_size")
    others = needed // instance.tensor_parallel_size
    if others > 1:
        fits = len(gpus) // others
        flags = quoted(
            flag
            for flag in ("pipeline-parallel-size", "data-parallel-size")
            if (fact.integer(instance.extra_args, flag) or 1) > 1
        )
        remedy = f"remove {flags} from extra_args"
        if fits:
            remedy = f"set tensor_parallel_size: {fits}, or {remedy}"
    else:
        # As many as there are may not divide the heads; the next plan says so.
        fits = len(gpus)
        remedy = f"set tensor_parallel_size: {fits}"
    findings.problem(
        "gpu-count",
        where,
        f"the instance needs {needed} GPUs and the host has {len(gpus)}",
        remedy,
        {where: fits} if fits else None,
    )


def _named(instance: Instance, gpus: list[Gpu], findings: Findings) -> list[Gpu]:
    where = instance.at("gpus")
    by_uuid = {gpu.uuid: gpu for gpu in gpus}
    by_index = {gpu.index: gpu for gpu in gpus}
    found: list[Gpu] = []
    for name in instance.gpus or []:
        gpu = by_index.get(name) if isinstance(name, int) else by_uuid.get(name)
        if gpu is None:
            if gpus:
                findings.problem(
                    "gpu-unknown",
                    where,
                    f"the host has no working GPU {name}",
                    "choose from " + quoted(f"{one.index} = {one.uuid}" for one in gpus),
                )
        elif gpu in found:
            findings.problem(
                "bad-value", where, f"{gpu.label} is named twice", "name every GPU once"
            )
        else:
            found.append(gpu)
    needed = world_size(instance)
    if len(found) == len(instance.gpus or []) and len(found) != needed:
        findings.problem(
            "gpu-count",
            where,
            f"{len(found)} GPUs are named and the instance uses {needed}",
            f"set tensor_parallel_size: {len(found)}, or name {needed}",
            {instance.at("tensor_parallel_size"): len(found)}
            if needed == instance.tensor_parallel_size
            else None,
        )
    return found


def check_assigned(
    instance: Instance,
    gpus: list[Gpu],
    host: list[Gpu],
    limits: Mapping[str, Any],
    others: Mapping[str, Mapping[str, Any]],
    findings: Findings,
) -> None:
    """Check an instance's GPUs against the release, and warn of what is unusual.

    Args:
        instance: The instance.
        gpus: Its GPUs.
        host: All GPUs of the host.
        limits: The release's data of the accelerator: the lowest compute capability, and the
            highest.
        others: Release to the same data of it, for each that the collection has.
        findings: Receives the problems.
    """
    for gpu in gpus:
        if not gpu.capability:
            findings.note(
                "facts-missing", "host", f"{gpu.label} does not tell its compute capability"
            )
        elif (bound := _outside(gpu, limits)) is not None:
            code, said = bound
            remedy, settings = _other_release(gpu, others)
            findings.problem(
                code,
                instance.where,
                f"{gpu.label} has compute capability {shown_capability(gpu.capability)} and the "
                f"release's kernels {said}",
                remedy,
                settings,
            )
        if gpu.row.get("mig_mode") is True:
            free = [
                other.index
                for other in host
                if other.row.get("mig_mode") is not True and other.committed <= 0
            ][: len(gpus)]
            enough = len(free) == len(gpus)
            findings.problem(
                "gpu-mig",
                instance.where,
                f"{gpu.label} is split into MIG devices, which this plan does not cover",
                f"set gpus: {free}, which are not split"
                if enough
                else "where this machine owns the GPU, end what uses it and merge it again: "
                f"nvidia-smi -i {gpu.index} -mig 0",
                {instance.at("gpus"): free} if enough else None,
            )
        if gpu.row.get("display_active") is True:
            findings.note(
                "gpu-display",
                instance.where,
                f"a display runs on {gpu.label}, so its free memory changes with what is open",
            )
    if len({gpu.name for gpu in gpus}) > 1:
        findings.note(
            "gpu-mixed",
            instance.where,
            f"the GPUs differ ({quoted(gpu.name for gpu in gpus)}); the slowest and smallest "
            "one sets the pace",
        )


def _outside(gpu: Gpu, limits: Mapping[str, Any]) -> tuple[str, str] | None:
    """Tell that a release's kernels begin above a GPU's capability, or end below it."""
    lowest = fact.text(limits, "compute_capability")
    highest = fact.text(limits, "compute_capability_highest")
    if lowest and gpu.capability < fact.version_tuple(lowest):
        return "compute-capability-too-low", f"begin at {lowest}"
    if highest and gpu.capability > fact.version_tuple(highest):
        return "compute-capability-too-high", f"end at {highest}"
    return None


def _other_release(
    gpu: Gpu, others: Mapping[str, Mapping[str, Any]]
) -> tuple[str, dict[str, Any] | None]:
    """What helps a GPU that a release has no kernels for: a release that has, or another GPU."""
    fitting = [
        release for release, limits in others.items() if limits and _outside(gpu, limits) is None
    ]
    if fitting:
        return (
            f"set vllm_release: {fitting[-1]}, which has kernels for it",
            {"vllm_release": fitting[-1]},
        )
    return "no release that the collection has supports this GPU; use another", None


def shown_capability(capability: tuple[int, ...]) -> str:
    """Return a compute capability as NVIDIA writes it: `8.6`."""
    return ".".join(map(str, capability))


def users_of(
    wanted: Wanted, assigned: Mapping[str, list[Gpu]]
) -> dict[str, tuple[Gpu, list[Instance]]]:
    """Return each GPU that is used, by UUID, with its instances in the inventory's order."""
    users: dict[str, tuple[Gpu, list[Instance]]] = {}
    for instance in wanted.instances:
        for gpu in assigned.get(instance.where, []):
            users.setdefault(gpu.uuid, (gpu, []))[1].append(instance)
    return users


def _together(gpu: Gpu, instances: list[Instance], context: int) -> int:
    """Return the bytes that instances claim of a GPU, with the CUDA contexts beside them."""
    return sum(budget(gpu, one) for one in instances) + context * (len(instances) - 1)


def over_limit(gpu: Gpu, instances: list[Instance], context: int) -> bool:
    """Whether several instances claim more of a GPU than it has."""
    total = sum(one.gpu_memory_utilization for one in instances)
    needed = _together(gpu, instances, context)
    return len(instances) > 1 and (total > 1 + EPSILON or needed > gpu.total)


def check_shared_memory(
    wanted: Wanted,
    assigned: Mapping[str, list[Gpu]],
    context: int,
    refused: set[str],
    findings: Findings,
) -> None:
    """Check that the instances on one GPU fit it together.

    vLLM starts an instance only where free memory >= total x utilization
    (vllm 0.14.1, vllm/v1/worker/utils.py, request_memory). For several, the
    sum counts, and every process but one adds its own CUDA context.

    Args:
        wanted: The wanted state.
        assigned: Instance's `where` to its GPUs.
        context: Bytes of one CUDA context.
        refused: UUIDs of GPUs whose instances were refused already.
        findings: Receives the problems.
    """
    for uuid, (gpu, instances) in users_of(wanted, assigned).items():
        if uuid in refused:
            continue
        needed = _together(gpu, instances, context)
        last = instances[-1]
        where = last.at("gpu_memory_utilization")
        total = sum(one.gpu_memory_utilization for one in instances)
        if over_limit(gpu, instances, context):
            share = _share(gpu, min(gpu.total, gpu.available), len(instances), context)
            findings.problem(
                "gpu-overcommitted",
                where,
                f"{quoted(one.name or one.where for one in instances)} together take "
                f"{total:.2f} of {gpu.label} and {len(instances) - 1} more CUDA context",
                f"let their sum be at most {share * len(instances) / 100:.2f}, such as "
                f"{share / 100:.2f} each, or name other gpus",
                {one.at("gpu_memory_utilization"): share / 100 for one in instances},
            )
        elif needed > gpu.available:
            _in_use(gpu, instances, needed, context, where, findings)
        elif gpu.available - needed < gpu.total * 0.02:
            findings.note(
                "gpu-memory-tight",
                where,
                f"{gpu.label} has {fact.gib(gpu.available)} free and {fact.gib(needed)} are "
                f"needed; a little more use by "
                f"{_holders(gpu, 2) if gpu.holders else 'anything'} would keep vLLM from starting",
            )


def _share(gpu: Gpu, memory: int, instances: int, context: int) -> int:
    """Return the hundredths of a GPU that each of some instances can have of a memory."""
    # Two decimals, rounded down, is the precision people write.
    return max(0, int((memory - context * (instances - 1)) / gpu.total * 100) // instances)


def budget(gpu: Gpu, instance: Instance) -> int:
    """Return the bytes an instance claims of a GPU: ceil(total x utilization)."""
    return int(-(-gpu.total * instance.gpu_memory_utilization // 1))


def _in_use(
    gpu: Gpu,
    instances: list[Instance],
    needed: int,
    context: int,
    where: str,
    findings: Findings,
) -> None:
    # Of a killed server the engine may live on: vllm-project/vllm#55510, #47266.
    # It then belongs to no service, but to nothing or to a login session.
    orphans = [
        one
        for one in gpu.holders
        if not (fact.text(one, "unit") or "").endswith(".service")
        and "EngineCore" in (fact.text(one, "name") or "")
    ]
    fits = _share(gpu, gpu.available, len(instances), context) / 100
    settings: dict[str, Any] = {}
    if orphans:
        pids = quoted(fact.integer(one, "pid") for one in orphans)
        remedy = f"it is left of a server that was killed; end it: kill {pids}"
    else:
        remedy = "end what holds the memory"
        # Less than half of what was wanted would hardly serve the same model.
        if fits >= 0.5 * instances[-1].gpu_memory_utilization:
            remedy += f", or set gpu_memory_utilization: {fits:.2f}"
            remedy += " on each of them" if len(instances) > 1 else ""
            settings = {one.at("gpu_memory_utilization"): fits for one in instances}
    held = _holders(gpu, 3)
    findings.problem(
        "gpu-memory-in-use",
        where,
        f"{gpu.label} has {fact.gib(gpu.available)} free and {fact.gib(needed)} are needed "
        f"({' + '.join(f'{one.gpu_memory_utilization:g}' for one in instances)} of "
        f"{fact.gib(gpu.total)}); held by {held}",
        remedy,
        settings,
    )


def _holders(gpu: Gpu, limit: int) -> str:
    shown = []
    for one in gpu.holders[:limit]:
        used = fact.integer(one, "memory_used_bytes")
        owner = fact.text(one, "unit") or fact.text(one, "owner")
        shown.append(
            f"{fact.text(one, 'name') or 'a process'} (PID {one.get('pid')}"
            f"{f', {owner}' if owner else ''}"
            f"{f', {fact.gib(used)}' if used is not None else ''})"
        )
    more = len(gpu.holders) - limit
    if more > 0:
        shown.append(f"{more} more")
    return quoted(shown) if shown else "processes that the driver does not name"
