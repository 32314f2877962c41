# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPUs an instance uses, by UUID, and whether they can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

    @property
    def reads_others(self) -> bool:
        """Whether it may read another GPU's memory directly; where that is not known it may."""
        peers = fact.rows(self.row, "peers")
        return not peers or any(peer.get("p2p") is not False for peer in peers)


@dataclass(frozen=True)
class Outside:
    """What a server holds of a GPU beside its budget.

    Attributes:
        context: Bytes of a process's CUDA context.
        direct: Bytes of a tensor parallel group's communicators where its GPUs read each other's
            memory.
        through_host: The same where they do not.
    """

    context: int
    direct: int
    through_host: int

    @classmethod
    def read(cls, rules: Mapping[str, Any]) -> Outside:
        """Return what `plan/data/memory.yml` says of it."""
        communicators = fact.mapping(rules, "communicators")
        return cls(
            fact.integer(rules, "context") or 0,
            fact.integer(communicators, "direct") or 0,
            fact.integer(communicators, "through_host") or 0,
        )

    def of(self, instance: Instance, gpu: Gpu) -> int:
        """Return the bytes that an instance holds of one of its GPUs."""
        if instance.tensor_parallel_size < 2:
            return self.context
        return self.context + (self.direct if gpu.reads_others else self.through_host)


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


def assign_gpus(
    wanted: Wanted,
    gpus: list[Gpu],
    divides: Callable[[Instance, int], bool],
    findings: Findings,
) -> dict[str, list[Gpu]]:
    """Give every instance its GPUs.

    Instances that name GPUs come first. Every other one then gets, in the
    inventory's order, the GPUs with the least memory promised so far, lowest
    index first; what other processes hold at this moment does not matter, so
    the same inventory gives the same GPUs tomorrow.

    Args:
        wanted: The wanted state.
        gpus: The GPUs that answer; what is promised of them is counted up.
        divides: Whether an instance's model can be split over so many GPUs, as far as is known.
        findings: Receives the problems.

    Returns:
        Instance's `where` to its GPUs in rank order; empty where that failed.
    """
    chosen: dict[str, list[Gpu]] = {one.where: [] for one in wanted.instances}
    for instance in wanted.instances:
        if instance.gpus is not None:
            chosen[instance.where] = _named(instance, gpus, divides, findings)
            _commit(instance, chosen[instance.where])
    for instance in wanted.instances:
        if instance.gpus is not None or "gpus" in instance.bad:
            continue
        needed = world_size(instance)
        shared = _of_share(instance, wanted, chosen)
        if shared is not None and len(shared) == needed:
            chosen[instance.where] = shared
            continue
        if needed > len(gpus):
            if gpus:
                _too_few(instance, needed, gpus, divides, findings)
            continue
        ranked = sorted(gpus, key=lambda gpu: (round(gpu.committed, 9), gpu.index))
        chosen[instance.where] = sorted(ranked[:needed], key=lambda gpu: gpu.index)
        _commit(instance, chosen[instance.where])
    return chosen


def _of_share(
    instance: Instance, wanted: Wanted, chosen: Mapping[str, list[Gpu]]
) -> list[Gpu] | None:
    """Return the GPUs of the first of an instance's share that has some; None for none."""
    for other in wanted.instances:
        if instance.on_demand and other.place == instance.place and chosen[other.where]:
            return chosen[other.where]
    return None


def at_once(instances: list[Instance]) -> list[Instance]:
    """Return those of some instances that count together: of each share the largest."""
    largest: dict[str, Instance] = {}
    for one in instances:
        other = largest.setdefault(one.place, one)
        if one.gpu_memory_utilization > other.gpu_memory_utilization:
            largest[one.place] = one
    return list(largest.values())


def check_shares(wanted: Wanted, assigned: Mapping[str, list[Gpu]], findings: Findings) -> None:
    """Check that the instances of each share are on the same GPUs."""
    first: dict[str, Instance] = {}
    for instance in wanted.instances:
        if not instance.on_demand or not assigned.get(instance.where):
            continue
        other = first.setdefault(instance.place, instance)
        here, there = assigned[instance.where], assigned[other.where]
        if not {gpu.uuid for gpu in here} & {gpu.uuid for gpu in there}:
            findings.problem(
                "share-apart",
                instance.at("share"),
                f"{instance.name} is on {quoted(gpu.label for gpu in here)} and "
                f"{other.name} on {quoted(gpu.label for gpu in there)}",
                "name the same gpus for all of a share, or give it a share of its own",
                {instance.at("share"): None},
            )


def demand_of(
    instance: Instance,
    gpus: list[Gpu],
    users: Mapping[str, Sequence[Instance]],
    outside: Outside,
) -> dict[str, Any] | None:
    """Return what the broker of an instance on demand is told; None for any other.

    `size` is what it takes of each resource while it is awake, `room` what there is for its share.
    Without GPUs one of a share is awake at a time: a server there computes on all cores.

    Args:
        instance: The instance.
        gpus: Its GPUs.
        users: A GPU's UUID to the instances on it.
        outside: What servers hold beside their budgets.
    """
    if not instance.on_demand:
        return None
    size, room = {"cpu": 1}, {"cpu": 1}
    if gpus:
        size = {gpu.uuid: budget(gpu, instance) + outside.of(instance, gpu) for gpu in gpus}
        room = {}
        for gpu in gpus:
            others = [one for one in users[gpu.uuid] if one.place != instance.place]
            taken = sum(budget(gpu, one) + outside.of(one, gpu) for one in at_once(others))
            room[gpu.uuid] = gpu.total + outside.context - taken
    return {
        "share": instance.share or instance.name,
        "idle_after": instance.idle_after,
        "wake_timeout": instance.wake_timeout,
        "size": size,
        "room": room,
    }


def _commit(instance: Instance, gpus: list[Gpu]) -> None:
    for gpu in gpus:
        gpu.committed += instance.gpu_memory_utilization


def _too_few(
    instance: Instance,
    needed: int,
    gpus: list[Gpu],
    divides: Callable[[Instance, int], bool],
    findings: Findings,
) -> None:
    where = instance.at("tensor_parallel_size")
    others = needed // instance.tensor_parallel_size
    most = range(len(gpus) // others, 0, -1)
    fits = next((size for size in most if divides(instance, size)), 0)
    words = [f"set tensor_parallel_size: {fits}"] if fits else []
    ways: list[dict[str, Any]] = [{where: fits}] if fits else []
    if others > 1:
        text, settings = _without_others(instance, len(gpus))
        words.append(text)
        ways.append(settings)
    findings.problem(
        "gpu-count",
        where,
        f"the instance needs {needed} GPUs and the host has {len(gpus)}",
        ", or ".join(words),
        alternatives=ways,
    )


def _named(
    instance: Instance,
    gpus: list[Gpu],
    divides: Callable[[Instance, int], bool],
    findings: Findings,
) -> list[Gpu]:
    where = instance.at("gpus")
    lookup: dict[str | int, Gpu] = {gpu.uuid: gpu for gpu in gpus}
    lookup |= {gpu.index: gpu for gpu in gpus}
    named = instance.gpus or []
    found: list[Gpu] = []
    for name in named:
        gpu = lookup.get(name)
        if gpu is None:
            if gpus:
                others = _in_place(instance, gpus, lookup)
                findings.problem(
                    "gpu-unknown",
                    where,
                    f"the host has no working GPU {name}",
                    (f"set gpus: {others}, or " if others else "")
                    + "choose from "
                    + quoted(f"{one.index} = {one.uuid}" for one in gpus),
                    {where: others} if others else None,
                )
        elif gpu in found:
            once: dict[str, str | int] = {}
            for one in named:
                if one in lookup:
                    once.setdefault(lookup[one].uuid, one)
            findings.problem(
                "bad-value",
                where,
                f"{gpu.label} is named twice",
                "name every GPU once",
                {where: list(once.values())},
            )
        else:
            found.append(gpu)
    needed = world_size(instance)
    if len(found) == len(named) and len(found) != needed:
        remedy, ways = _count(instance, found, needed, gpus, divides)
        findings.problem(
            "gpu-count",
            where,
            f"{len(found)} GPUs are named and the instance uses {needed}",
            remedy,
            alternatives=ways,
        )
    return found


def _count(
    instance: Instance,
    found: list[Gpu],
    needed: int,
    gpus: list[Gpu],
    divides: Callable[[Instance, int], bool],
) -> tuple[str, list[dict[str, Any]]]:
    """What makes the named GPUs as many as the instance uses: another size, or other GPUs."""
    words: list[str] = []
    ways: list[dict[str, Any]] = []
    others = needed // instance.tensor_parallel_size
    size = len(found) // others
    if len(found) % others == 0 and divides(instance, size):
        words.append(f"set tensor_parallel_size: {size}")
        ways.append({instance.at("tensor_parallel_size"): size})
    if needed <= len(gpus):
        chosen = [gpu.index for gpu in [*found, *(gpu for gpu in gpus if gpu not in found)]]
        words.append(f"set gpus: {chosen[:needed]}")
        ways.append({instance.at("gpus"): chosen[:needed]})
    size = next((one for one in range(size, 0, -1) if divides(instance, one)), 0)
    if not ways and size:
        chosen = [gpu.index for gpu in found[: size * others]]
        words.append(f"set tensor_parallel_size: {size} and gpus: {chosen}")
        ways.append({instance.at("tensor_parallel_size"): size, instance.at("gpus"): chosen})
    elif not ways:
        text, settings = _without_others(instance, len(found))
        words.append(text)
        ways.append(settings)
    return ", or ".join(words), ways


def _without_others(instance: Instance, gpus: int) -> tuple[str, dict[str, Any]]:
    """What makes tensor parallel size alone say how many GPUs are used, and no more than some."""
    flags = [
        flag
        for flag in ("pipeline-parallel-size", "data-parallel-size")
        if (fact.integer(instance.extra_args, flag) or 1) > 1
    ]
    text = f"remove {quoted(flags)} from extra_args"
    size = min(instance.tensor_parallel_size, gpus)
    if size != instance.tensor_parallel_size:
        text += f" and set tensor_parallel_size: {size}"
    left: dict[str, Any] = {f"{instance.where}.extra_args.{flag}": None for flag in flags}
    return text, {**left, instance.at("tensor_parallel_size"): size}


def _in_place(
    instance: Instance, gpus: list[Gpu], lookup: Mapping[str | int, Gpu]
) -> list[str | int]:
    """Return the named GPUs with others in place of those that the host does not have."""
    used = {lookup[name].uuid for name in instance.gpus or [] if name in lookup}
    free = [gpu.index for gpu in gpus if gpu.uuid not in used]
    chosen = [
        name if name in lookup else free.pop(0) if free else None for name in instance.gpus or []
    ]
    return [name for name in chosen if name is not None] if None not in chosen else []


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
        others: Release to its data of each accelerator, for each that the collection has.
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
            ways = [settings] if settings else []
            inside = other_gpus(instance, gpus, host, lambda other: _outside(other, limits) is None)
            if inside:
                remedy = f"set gpus: {inside}" + (f", or {remedy}" if settings else "")
                ways.insert(0, {instance.at("gpus"): inside})
            findings.problem(
                code,
                instance.where,
                f"{gpu.label} has compute capability {shown_capability(gpu.capability)} and the "
                f"release's kernels {said}",
                remedy,
                alternatives=ways,
            )
        if gpu.row.get("mig_mode") is True:
            whole = other_gpus(
                instance, gpus, host, lambda other: other.row.get("mig_mode") is not True
            )
            findings.problem(
                "gpu-mig",
                instance.where,
                f"{gpu.label} is split into MIG devices, which this plan does not cover",
                f"set gpus: {whole}, which are not split"
                if whole
                else "where this machine owns the GPU, end what uses it and merge it again: "
                f"nvidia-smi -i {gpu.index} -mig 0",
                {instance.at("gpus"): whole} if whole else None,
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


def other_gpus(
    instance: Instance, gpus: list[Gpu], host: list[Gpu], works: Callable[[Gpu], bool]
) -> list[int]:
    """Return GPUs that an instance could use in place of its own, by index.

    Args:
        instance: The instance.
        gpus: Its GPUs.
        host: All GPUs of the host; those that other instances use are left to them.
        works: Whether a GPU is good for it.

    Returns:
        As many as it has; empty where there are not so many.
    """
    own = {gpu.uuid for gpu in gpus}
    free = [
        gpu.index
        for gpu in host
        if works(gpu)
        and gpu.committed - (instance.gpu_memory_utilization if gpu.uuid in own else 0) <= EPSILON
    ]
    return free[: len(gpus)] if len(free) >= len(gpus) else []


def has_kernels(
    release: str,
    accelerator: str,
    gpus: list[Gpu],
    releases: Mapping[str, Mapping[str, Any]],
) -> bool:
    """Tell whether a release is locked for an accelerator, and has kernels for some GPUs.

    Args:
        release: The release.
        accelerator: `cuda` or `cpu`.
        gpus: The GPUs; one whose capability is not known counts as one that it has kernels for.
        releases: Release to its data of each accelerator.
    """
    limits = fact.mapping(releases.get(release), accelerator)
    return bool(limits) and not any(
        gpu.capability and _outside(gpu, limits) is not None for gpu in gpus
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
        release
        for release, data in others.items()
        if (limits := fact.mapping(data, "cuda")) and _outside(gpu, limits) is None
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


def _beside(gpu: Gpu, instances: list[Instance], outside: Outside) -> int:
    """Return the bytes that instances hold beside their budgets and the first one's context."""
    return sum(outside.of(one, gpu) for one in instances) - outside.context


def _together(gpu: Gpu, instances: list[Instance], outside: Outside) -> int:
    """Return the bytes that instances hold of a GPU."""
    return sum(budget(gpu, one) for one in instances) + _beside(gpu, instances, outside)


def over_limit(gpu: Gpu, instances: list[Instance], outside: Outside) -> bool:
    """Whether instances claim more of a GPU than it has."""
    instances = at_once(instances)
    total = sum(one.gpu_memory_utilization for one in instances)
    return total > 1 + EPSILON or _together(gpu, instances, outside) > gpu.total


def check_shared_memory(
    wanted: Wanted,
    assigned: Mapping[str, list[Gpu]],
    outside: Outside,
    refused: set[str],
    findings: Findings,
) -> None:
    """Check that the instances on one GPU fit it together.

    vLLM starts an instance only where free memory >= total x utilization
    (vllm 0.14.1, vllm/v1/worker/utils.py, request_memory). For several, the
    sum counts, every process but one adds its own CUDA context, and each of a tensor parallel group
    its communicators.

    Args:
        wanted: The wanted state.
        assigned: Instance's `where` to its GPUs.
        outside: What servers hold beside their budgets.
        refused: UUIDs of GPUs whose instances were refused already.
        findings: Receives the problems.
    """
    for uuid, (gpu, users) in users_of(wanted, assigned).items():
        if uuid in refused:
            continue
        instances = at_once(users)
        needed = _together(gpu, instances, outside)
        last = instances[-1]
        where = last.at("gpu_memory_utilization")
        total = sum(one.gpu_memory_utilization for one in instances)
        if over_limit(gpu, instances, outside):
            share = _share(gpu, min(gpu.total, gpu.available), instances, outside)
            beside = fact.gib(_beside(gpu, instances, outside))
            alone = len(instances) == 1
            findings.problem(
                "gpu-overcommitted",
                where,
                f"{quoted(one.name or one.where for one in instances)} "
                f"{'takes' if alone else 'together take'} {total:.2f} of {gpu.label}, and {beside} "
                f"beside that for {'NCCL' if alone else 'CUDA contexts and NCCL'}",
                f"let {'it' if alone else 'their sum'} be at most "
                f"{share * len(instances) / 100:.2f}"
                f"{'' if alone else f', such as {share / 100:.2f} each'}, or name other gpus",
                {one.at("gpu_memory_utilization"): share / 100 for one in instances},
            )
        elif needed > gpu.available:
            _in_use(gpu, instances, needed, outside, where, findings)
        elif gpu.available - needed < gpu.total * 0.02:
            findings.note(
                "gpu-memory-tight",
                where,
                f"{gpu.label} has {fact.gib(gpu.available)} free and {fact.gib(needed)} are "
                f"needed; a little more use by "
                f"{_holders(gpu, 2) if gpu.holders else 'anything'} would keep vLLM from starting",
            )


def _share(gpu: Gpu, memory: int, instances: list[Instance], outside: Outside) -> int:
    """Return the hundredths of a GPU that each of some instances can have of a memory."""
    left = memory - _beside(gpu, instances, outside)
    # Two decimals, rounded down, is the precision people write.
    return max(0, int(left / gpu.total * 100) // len(instances))


def budget(gpu: Gpu, instance: Instance) -> int:
    """Return the bytes an instance claims of a GPU: ceil(total x utilization)."""
    return int(-(-gpu.total * instance.gpu_memory_utilization // 1))


def _in_use(
    gpu: Gpu,
    instances: list[Instance],
    needed: int,
    outside: Outside,
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
    fits = _share(gpu, gpu.available, instances, outside) / 100
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
