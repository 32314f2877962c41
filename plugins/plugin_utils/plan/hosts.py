# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about the host itself: who we are on it, what runs it, room and ports."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.space import RESERVE
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import Model
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    quoted,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.sleep import host_copy
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import (
    Instance,
    Wanted,
    bytes_of,
    free_port,
    sockets,
)


def check_host(
    facts: Mapping[str, Any], rules: Mapping[str, Any], cpu_flags: list[str], findings: Findings
) -> None:
    """Check root, distribution, processor and systemd.

    Args:
        facts: What the probe found.
        rules: `plan/data/host.yml`.
        cpu_flags: Instructions that the release's accelerator needs, as
            /proc/cpuinfo names them.
        findings: Receives the problems.
    """
    host = fact.mapping(facts, "host")
    uid = fact.integer(host, "effective_uid")
    if uid is None:
        findings.note("facts-missing", "host", "the user that tasks run as is not known")
    elif uid != 0:
        findings.problem(
            "not-root",
            "host",
            f"tasks run as user id {uid}, and packages, units and /opt need root",
            "connect as root, or set ansible_become: true",
            {"ansible_become": True},
        )
    _check_distribution(host, rules, findings)
    _check_processor(host, rules, cpu_flags, findings)
    _check_systemd(host, rules, findings)


def _check_distribution(
    host: Mapping[str, Any], rules: Mapping[str, Any], findings: Findings
) -> None:
    supported = fact.mapping(rules, "distributions")
    name = fact.text(host, "distribution")
    version = fact.text(host, "distribution_version") or ""
    if not supported:
        return
    if name is None:
        findings.note("facts-missing", "host", "the distribution is not known (/etc/os-release)")
        return
    if name in supported:
        versions = fact.words(supported, name)
        # "9.4" is 9 for the Red Hat family; "22.04" is itself.
        if not versions or version in versions or version.split(".")[0] in versions:
            return
    findings.problem(
        "unsupported-distribution",
        "host",
        f"the distribution is {name} {version}".rstrip(),
        "use one of "
        + quoted(
            f"{known} {' and '.join(fact.words(supported, known))}".rstrip() for known in supported
        ),
    )


def _check_processor(
    host: Mapping[str, Any], rules: Mapping[str, Any], cpu_flags: list[str], findings: Findings
) -> None:
    architecture = fact.text(host, "architecture")
    supported = fact.words(rules, "architectures")
    if architecture is not None and supported and architecture not in supported:
        findings.problem(
            "unsupported-architecture",
            "host",
            f"the processor is {architecture}",
            f"the locks hold wheels for {quoted(supported)}",
        )
        return
    if not isinstance(host.get("cpu_flags"), list):
        return
    missing = [flag for flag in cpu_flags if flag not in fact.words(host, "cpu_flags")]
    if missing:
        findings.problem(
            "unsupported-cpu",
            "host",
            f"the processor lacks {quoted(missing)}, which the release is compiled for",
            "use a newer processor, or let a virtual machine see its host's (cpu mode host)",
        )


def _check_systemd(host: Mapping[str, Any], rules: Mapping[str, Any], findings: Findings) -> None:
    running = host.get("systemd_running")
    version = fact.integer(host, "systemd_version")
    needed = fact.integer(rules, "systemd") or 0
    if running is False:
        findings.problem(
            "systemd-missing",
            "host",
            "process 1 is not systemd, so no unit can be started at boot",
            "use a host or container that systemd runs",
        )
    elif version is None:
        findings.note("facts-missing", "host", "systemd's version is not known")
    if version is not None and version < needed:
        findings.problem(
            "systemd-too-old",
            "host",
            f"systemd is {version} and the units need {needed}",
            "upgrade the distribution",
        )


def check_nvcc(wanted: Wanted, facts: Mapping[str, Any], findings: Findings) -> None:
    """Apply `vllm_preflight_nvcc`."""
    nvcc = fact.mapping(facts, "nvcc")
    found = nvcc.get("found")
    if not isinstance(found, bool):
        if wanted.nvcc != "any":
            findings.note("facts-missing", "vllm_preflight_nvcc", "nvcc was not looked for")
        return
    if wanted.nvcc == "present" and not found:
        findings.problem(
            "nvcc-required",
            "vllm_preflight_nvcc",
            "nvcc is not on the host, and the inventory says present",
            "install the CUDA toolkit, or set vllm_preflight_nvcc: any",
            {"vllm_preflight_nvcc": "any"},
        )
    elif wanted.nvcc == "absent" and found:
        path = fact.text(nvcc, "path") or "nvcc"
        version = fact.text(nvcc, "version")
        findings.problem(
            "nvcc-forbidden",
            "vllm_preflight_nvcc",
            f"{path}{f' ({version})' if version else ''} is on the host, "
            "and the inventory says absent",
            "remove the CUDA toolkit, or set vllm_preflight_nvcc: any",
            {"vllm_preflight_nvcc": "any"},
        )


def check_ports(
    wanted: Wanted, facts: Mapping[str, Any], removed: list[str], findings: Findings
) -> None:
    """Find listeners on the instances' ports that are not the instances themselves.

    A port that another instance of ours holds and gives up in this run (it is
    removed, or moves to another port) is only worth knowing.
    """
    listening = fact.rows(facts, "ports")
    by_unit = {one.unit: one for one in wanted.instances if "name" not in one.bad}
    in_use = {fact.integer(one, "port") or 0 for one in listening}
    for instance in wanted.instances:
        for mine in sockets(instance, wanted.group_address):
            for row in listening:
                address, port = fact.text(row, "address"), fact.integer(row, "port")
                if port is None or address is None or not mine.meets(address, port):
                    continue
                unit = _unit_of(row, facts)
                if unit == instance.unit:
                    continue
                # systemd holds a broker's ports, too, and of one inode the first process is named.
                held = (instance.broker, "init.scope", None)
                known = fact.mapping(facts, "deployed", "instances").get(instance.name) or {}
                if instance.on_demand and unit in held and known.get("port") == port:
                    continue
                other = by_unit.get(unit or "")
                kept = sockets(other, wanted.group_address) if other is not None else []
                moves = other is not None and not any(one.meets(address, port) for one in kept)
                goes = unit in [f"vllm@{name}.service" for name in removed]
                if moves or goes:
                    findings.note(
                        "port-moves",
                        instance.at(mine.key),
                        f"{unit} holds port {port} and gives it up in this run",
                    )
                    continue
                free = free_port(wanted.instances, mine, in_use)
                findings.problem(
                    "port-in-use",
                    instance.at(mine.key),
                    f"{_holder(row, unit, facts)} listens on {mine._replace(address=address)}",
                    f"stop it, or set {mine.key}: {free}",
                    {instance.at(mine.key): free},
                )


def check_addresses(wanted: Wanted, facts: Mapping[str, Any], findings: Findings) -> None:
    """Find instances that would listen on an address that the host does not have.

    A name may resolve to any address, and is not asked here.
    """
    there = fact.words(facts, "host", "addresses")
    if not there:
        return
    for instance in wanted.instances:
        if "host" in instance.bad or not instance.listens:
            continue
        try:
            address = ipaddress.ip_address(instance.host)
        except ValueError:
            continue
        if address.is_unspecified or address.is_loopback or str(address) in there:
            continue
        known = [one for one in there if not ipaddress.ip_address(one).is_link_local]
        findings.problem(
            "host-not-here",
            instance.at("host"),
            f"{instance.host} is no address of this machine; it has {quoted(known)}",
            "use one of these, 127.0.0.1 for this machine only, or 0.0.0.0 for all of them",
            {instance.at("host"): "127.0.0.1"},
            [{instance.at("host"): one} for one in ("0.0.0.0", *known)],  # noqa: S104
        )


def _unit_of(row: Mapping[str, Any], facts: Mapping[str, Any]) -> str | None:
    """Return the unit that listens.

    Where this user may not see which process does, it is the instance of ours that runs, has this
    port and is of the user who made the socket, if there is one.
    """
    if fact.integer(row, "pid") is not None:
        return fact.text(row, "unit")
    for one in fact.mapping(facts, "deployed", "instances").values():
        users = {fact.text(row, "user"), fact.text(one, "user")} - {None}
        running = fact.text(one, "active_state") not in (None, "inactive", "failed")
        if running and len(users) < 2 and fact.integer(one, "port") == fact.integer(row, "port"):
            return fact.text(one, "unit")
    return None


def _holder(row: Mapping[str, Any], unit: str | None, facts: Mapping[str, Any]) -> str:
    process, pid = fact.text(row, "process"), fact.integer(row, "pid")
    if pid is None and unit is None:
        user, uid = fact.text(row, "user"), fact.integer(facts, "host", "effective_uid")
        return (f"a process of {user}" if user else "another process") + (
            f", which user id {uid} may not look into," if uid else ""
        )
    name = unit or process or "another process"
    detail = [text for text in (process if unit else None, f"PID {pid}" if pid else None) if text]
    return f"{name} ({', '.join(detail)})" if detail else name


def removed_instances(wanted: Wanted, facts: Mapping[str, Any]) -> list[str]:
    """Return the deployed instances that the inventory no longer names."""
    names = {instance.name for instance in wanted.instances}
    return sorted(
        str(name) for name in fact.mapping(facts, "deployed", "instances") if name not in names
    )


def directories(wanted: Wanted) -> list[str]:
    """Return where something is written on the host, sorted."""
    paths = {wanted.opt_dir, wanted.etc_dir, wanted.state_dir}
    if any(not instance.local for instance in wanted.instances):
        paths.add(wanted.hub)
    return sorted(paths)


def check_disks(
    wanted: Wanted,
    facts: Mapping[str, Any],
    rules: Mapping[str, Any],
    runtime: Mapping[str, Any] | None,
    downloads: Mapping[str, int],
    findings: Findings,
) -> list[dict[str, Any]]:
    """Sum up what each file system must take and compare it with its room.

    The venv and uv's cache share their bytes by hard links on one file system,
    so a release counts once; a proved venv needs nothing more. Of models
    counts what is not in the cache yet.

    Args:
        wanted: The wanted state.
        facts: What the probe found.
        rules: `plan/data/host.yml`.
        runtime: The plan's runtime, or None.
        downloads: Bytes of models that are still to be fetched, by model.
        findings: Receives the problems.

    Returns:
        One row a mount: `mount`, `needed_bytes`, `free_bytes`, `for`.
    """
    needs: list[tuple[str, int, str]] = []
    install = 0
    if runtime is not None and not runtime["proved"]:
        install = int(runtime["installed_bytes"])
        slack = fact.integer(rules, "bytes", "opt_slack") or 0
        needs.append((wanted.opt_dir, install + slack, "the release's venv"))
    cache = (fact.integer(rules, "bytes", "cache") or 0) * len(wanted.instances)
    if cache:
        needs.append((wanted.state_dir, cache, "caches of the instances"))
    if downloads:
        # What hf_model leaves free.
        needs.append((wanted.hub, sum(downloads.values()) + RESERVE, "models to fetch"))
    mounts: dict[str, dict[str, Any]] = {}
    for path, needed, purpose in needs:
        row = fact.mapping(facts, "mounts", path)
        mount, free = fact.text(row, "mount"), fact.integer(row, "free_bytes")
        if mount is None or free is None:
            findings.note("facts-missing", "host", f"the room at {path} is not known")
            continue
        entry = mounts.setdefault(
            mount, {"mount": mount, "needed_bytes": 0, "free_bytes": free, "for": []}
        )
        entry["needed_bytes"] += needed
        entry["for"].append(f"{purpose} ({path})")
    for entry in mounts.values():
        if entry["needed_bytes"] > entry["free_bytes"]:
            findings.problem(
                "disk-space",
                "host",
                f"{entry['mount']} has {fact.gib(entry['free_bytes'])} free and "
                f"{fact.gib(entry['needed_bytes'])} are needed for {quoted(entry['for'])}",
                "free room there, or mount a larger file system at one of these directories",
            )
    for path in directories(wanted):
        row = fact.mapping(facts, "mounts", path)
        if row.get("read_only") is True:
            findings.problem(
                "disk-read-only",
                "host",
                f"{path} is on {fact.text(row, 'mount')}, which is mounted read-only",
                "mount it read-write; a file system that turned read-only has errors (dmesg)",
            )
    if "noexec" in fact.words(facts, "mounts", wanted.opt_dir, "options"):
        findings.problem(
            "disk-noexec",
            "host",
            f"{wanted.opt_dir} is on a file system that is mounted noexec",
            "mount it exec, or mount another file system there",
        )
    return [mounts[mount] for mount in sorted(mounts)]


def check_ram(
    wanted: Wanted,
    facts: Mapping[str, Any],
    rules: Mapping[str, Any],
    accelerator: str,
    models: Mapping[str, Model | None],
    sleep: Mapping[str, Any],
    findings: Findings,
) -> None:
    """Compare the host's memory with what all instances hold together.

    On `cpu` an instance holds its weights, its KV cache and one server
    process; with GPUs only one server process a rank (weights are mapped from
    their files while they are copied to the GPU), and where it sleeps at level 1
    a copy of its weights. Models whose size is not known count as nothing: the
    plan never invents a size.
    """
    process = fact.integer(rules, "bytes", "process") or 0
    total = fact.integer(facts, "host", "memory_total_bytes")
    available = fact.integer(facts, "host", "memory_available_bytes")
    if not wanted.instances or total is None:
        return
    places: dict[str, int] = {}
    for instance in wanted.instances:
        if accelerator == "cpu":
            model = models.get(instance.where)
            weights = model.weights_bytes if model is not None else None
            stage = (weights or 0) // max(1, len(instance.hosts))
            own = process + instance.cpu_kvcache_space * fact.GIB + stage
        else:
            own = process * instance.tensor_parallel_size
            own += host_copy(instance, models.get(instance.where), sleep)
        # Of a share one is awake at a time where it is that for which there is room; one that
        # sleeps is there as well.
        place = instance.where if instance.sleep_level else instance.place
        places[place] = max(own, places.get(place, 0))
        limit = bytes_of(instance.limits.get("memory_max", "infinity"), total)
        if limit is not None and limit < own:
            where, enough = instance.at("limits.memory_max"), f"{-(-own // fact.GIB)}G"
            remedy = f"set memory_max: {enough} or more, or leave it out"
            ways: list[dict[str, Any]] = [{where: enough}, {where: None}]
            if accelerator == "cpu" and (less := _less_cache([instance], own - limit)):
                remedy += f"; or set {_shown_cache([instance], less)}"
                ways.append(less)
            findings.problem(
                "limit-too-small",
                where,
                f"the instance may use {fact.gib(limit)} of memory and needs about {fact.gib(own)}",
                remedy,
                alternatives=ways,
            )
    needed = sum(places.values())
    if needed > total:
        less = _less_cache(wanted.instances, needed - total) if accelerator == "cpu" else {}
        copies = {
            one.at("sleep_level"): copy
            for one in wanted.instances
            if (copy := host_copy(one, models.get(one.where), sleep))
        }
        without_copies = needed - sum(copies.values())
        stops = bool(copies) and without_copies <= total
        findings.problem(
            "memory-too-small",
            "host",
            f"the host has {fact.gib(total)} of memory and the instances need about "
            f"{fact.gib(needed)}"
            + (
                f", of which up to {fact.gib(sum(copies.values()))} are copies of weights while "
                "they sleep"
                if copies
                else ""
            ),
            (f"set {_shown_cache(wanted.instances, less)}, or " if less else "")
            + ("set sleep_level: 0 where it is 1, or " if stops else "")
            + "serve a smaller model"
            + (" or fewer of them" if len(wanted.instances) > 1 else ""),
            dict.fromkeys(copies, 0) if stops else less,
        )
    elif available is not None and needed > available and not _running(facts):
        findings.note(
            "memory-low",
            "host",
            f"{fact.gib(available)} of memory are available now and the instances need about "
            f"{fact.gib(needed)}",
        )


def _less_cache(instances: list[Instance], excess: int) -> dict[str, int]:
    """Return the sizes of KV caches that free so many bytes, the largest lowered first.

    Empty where that cannot be had with 1 GiB for each.
    """
    sizes = {one.at("cpu_kvcache_space"): one.cpu_kvcache_space for one in instances}
    wanted = dict(sizes)
    for _step in range(-(-excess // fact.GIB)):
        largest = max(wanted, key=lambda where: wanted[where])
        if wanted[largest] <= 1:
            return {}
        wanted[largest] -= 1
    return {where: size for where, size in wanted.items() if size != sizes[where]}


def _shown_cache(instances: list[Instance], sizes: Mapping[str, int]) -> str:
    if len(instances) == 1:
        return f"cpu_kvcache_space: {next(iter(sizes.values()))}"
    return quoted(
        f"cpu_kvcache_space: {sizes[where]} on {one.name or one.where}"
        for one in instances
        if (where := one.at("cpu_kvcache_space")) in sizes
    )


def _running(facts: Mapping[str, Any]) -> bool:
    """Tell whether an instance of ours runs, which then holds memory that it gives back."""
    return any(
        fact.text(row, "active_state") == "active"
        for row in fact.mapping(facts, "deployed", "instances").values()
    )
