# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances over several hosts: what each member is, and whether all of them belong together.

Each host is planned by itself first; the plans of all are then compared, on each host with its own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.grouping import (
    MEMBERS_OWN_FLAGS,
    MEMBERS_OWN_VARIABLES,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    quoted,
    shown,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import (
    Instance,
    Wanted,
)

PIPELINE = "pipeline-parallel-size"
# vllm 0.14.1, vllm/config/parallel.py: nnodes, node_rank, master_addr, master_port.
NEEDED_FLAGS = ("nnodes", "node-rank", "master-addr", "master-port", "headless")
# How an instance may be parallel beside its pipeline over hosts and its tensors within.
OTHER_PARALLEL = (
    PIPELINE,
    "data-parallel-size",
    "prefill-context-parallel-size",
    "distributed-executor-backend",
)


def hosts_of(wanted: Wanted) -> list[str]:
    """Return the other hosts of this host's groups, sorted."""
    return sorted({name for one in wanted.instances for name in one.hosts} - {wanted.host_name})


def plan_group(
    instance: Instance,
    wanted: Wanted,
    facts: Mapping[str, Any],
    flags: Mapping[str, Any],
    findings: Findings,
) -> dict[str, Any] | None:
    """Plan a host's part of a group.

    Args:
        instance: The instance.
        wanted: The wanted state.
        facts: What the probe found here.
        flags: The release's flags; empty where they are not known.
        findings: Receives the problems.

    Returns:
        `rank`, `port`, `address` and `members`, which have addresses once all members are planned;
        None for an instance of one host.
    """
    if not instance.hosts:
        return None
    missing = [flag for flag in NEEDED_FLAGS if flags and flag not in flags]
    if missing:
        findings.problem(
            "group-unsupported",
            instance.at("hosts"),
            f"the release has no --{missing[0]}, without which vLLM spans no hosts",
            "choose another vllm_release",
        )
    for flag in OTHER_PARALLEL:
        if flag in instance.extra_args:
            findings.problem(
                "group-unsupported",
                f"{instance.where}.extra_args.{flag}",
                f"--{flag} is set, and hosts decides how the instance is spread",
                "leave it out: there is one pipeline stage a host, and tensor_parallel_size GPUs "
                "share each layer of it",
                {f"{instance.where}.extra_args.{flag}": None},
            )
    if instance.attention_backend == "auto":
        findings.problem(
            "group-unsupported",
            instance.at("attention_backend"),
            "backends are tried on one host, and this instance spans several",
            "name the backend",
            {instance.at("attention_backend"): "TRITON_ATTN"},
        )
    _check_address(instance, wanted, facts, findings)
    return {
        "rank": instance.rank,
        "port": instance.group_port,
        "address": wanted.group_address,
        "members": [{"name": name, "address": None} for name in instance.hosts],
    }


def group_flags(group: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return vLLM's flags of a member; `master-addr` is known once all members are planned.

    vllm 0.14.1, vllm/v1/executor/multiproc_executor.py and vllm/entrypoints/cli/serve.py,
    run_headless.
    """
    if group is None:
        return {}
    flags: dict[str, Any] = {
        PIPELINE: len(group["members"]),
        "distributed-executor-backend": "mp",
        "nnodes": len(group["members"]),
        "node-rank": group["rank"],
        "master-port": group["port"] + 1,
    }
    if group["rank"]:
        flags["headless"] = True
    return flags


def group_environment(group: Mapping[str, Any] | None, accelerator: str) -> dict[str, str]:
    """Return a member's variables; the supervisor adds its address and interface at the start."""
    if group is None or accelerator != "cpu":
        return {}
    # By default each rank wants a NUMA node of its own among those of one host:
    # vllm 0.14.1, vllm/v1/worker/cpu_worker.py, _get_autobind_cpu_ids.
    return {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}


def _check_address(
    instance: Instance, wanted: Wanted, facts: Mapping[str, Any], findings: Findings
) -> None:
    given, there = wanted.group_address, fact.words(facts, "host", "addresses")
    try:
        address = ipaddress.ip_address(given)
    except ValueError:
        problem = f"{shown(given)}, by which this host is reached, is not an IP address"
    else:
        if address.is_loopback or address.is_unspecified:
            problem = f"{given} is reached by no other host"
        elif there and str(address) not in there:
            known = [one for one in there if not ipaddress.ip_address(one).is_loopback]
            problem = f"{given} is no address of this machine; it has {quoted(known)}"
        else:
            return
    findings.problem(
        "group-address",
        "vllm_group_address",
        f"{problem}, and {instance.name} spans hosts",
        "set vllm_group_address in this host's own variables to its address in the network that "
        "the members share",
    )


def copied_from(hosts: Sequence[str], missing: Mapping[str, int | None], host: str) -> str | None:
    """Return the member from which a host copies a model of the Hub, so that one alone fetches it.

    Args:
        hosts: The members, the leader first.
        missing: Bytes of the model that each has still to get; None where that is not known.
        host: The host.

    Returns:
        None for a host that has the model, or fetches it.
    """
    whole = [name for name in hosts if missing.get(name) == 0]
    source = (whole or hosts)[0]
    return None if host == source or host in whole else source


def join(plan: dict[str, Any], wanted: Wanted, findings: Findings) -> None:
    """Complete a host's plan with those of the other members of its groups.

    Args:
        plan: The host's own plan; its groups are completed.
        wanted: The wanted state, whose `members` are the plans of the others by host; None before
            they have been planned.
        findings: Receives the problems.
    """
    if wanted.members is None:
        return
    where = {one.name: one for one in wanted.instances}
    for entry in plan["instances"]:
        if entry["group"] is not None:
            _join(plan, entry, where[entry["name"]], wanted, wanted.members, findings)


def _join(
    plan: Mapping[str, Any],
    entry: dict[str, Any],
    instance: Instance,
    wanted: Wanted,
    members: Mapping[str, Any],
    findings: Findings,
) -> None:
    entries: dict[str, Mapping[str, Any]] = {wanted.host_name: entry}
    for name in instance.hosts:
        if name == wanted.host_name:
            continue
        other = fact.mapping(members, name)
        theirs = [one for one in fact.rows(other, "instances") if one.get("name") == instance.name]
        if not other:
            findings.problem(
                "group-member-missing",
                instance.at("hosts"),
                f"{name} is not in this run, or could not be probed",
                f"run over all hosts of the group: --limit {','.join(instance.hosts)}, with "
                "neither serial nor another batch",
            )
            continue
        if not theirs or theirs[0].get("group") is None:
            findings.problem(
                "group-differs",
                instance.at("hosts"),
                f"{name} has no instance {instance.name} with these hosts",
                "put the instance where all its hosts read it, such as group_vars",
            )
            continue
        entries[name] = theirs[0]
        length = fact.integer(theirs[0], "config", "max-model-len")
        differences = _differences(plan, entry, other, theirs[0])
        if instance.max_model_len not in (None, length):
            differences.append(("max_model_len", instance.max_model_len, length))
        for what, own, its in differences:
            findings.problem(
                "group-differs",
                instance.where,
                f"{what} is {shown(own)} here and {shown(its)} on {name}",
                "make it the same on all hosts of the group",
            )
    addresses = {name: one["group"]["address"] for name, one in entries.items()}
    for member in entry["group"]["members"]:
        member["address"] = addresses.get(member["name"])
    _check_addresses(addresses, findings)
    entry["config"]["master-addr"] = addresses.get(instance.hosts[0])
    lengths = [
        length
        for one in entries.values()
        for length in [fact.integer(one, "config", "max-model-len")]
        if length is not None
    ]
    if lengths and instance.max_model_len is None:
        # The member with the least memory decides for all.
        entry["config"]["max-model-len"] = min(lengths)
    leader = entries.get(instance.hosts[0])
    if leader is not None:
        entry["url"] = leader["url"]
    if not wanted.model_from:
        _share(entry, entries, wanted.host_name)


def _share(entry: dict[str, Any], entries: Mapping[str, Mapping[str, Any]], host: str) -> None:
    """Say of the model and its adapters which are copied from another member."""
    hosts = [member["name"] for member in entry["group"]["members"]]
    for source in (entry["model"], *entry["lora"]):
        if source["source"] != "hub":
            continue
        missing = {
            name: other["download_bytes"]
            for name, one in entries.items()
            for other in (one["model"], *one["lora"])
            if all(other[key] == source[key] for key in ("repo_id", "revision"))
        }
        source["copy_from"] = copied_from(hosts, missing, host)


def _differences(
    plan: Mapping[str, Any],
    entry: Mapping[str, Any],
    other: Mapping[str, Any],
    theirs: Mapping[str, Any],
) -> list[tuple[str, Any, Any]]:
    """Return what must be the same on two members and is not: its name and both values."""

    def seen(whole: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
        model, group = fact.mapping(one, "model"), fact.mapping(one, "group")
        found = {
            "vllm_release": whole.get("release"),
            "vllm_accelerator": whole.get("accelerator"),
            "the Python of the release": fact.text(whole, "runtime", "python_version"),
            "hosts": [member["name"] for member in fact.rows(group, "members")],
            "group_port": group.get("port"),
            "the model's repository": model.get("repo_id"),
            "the model's revision": model.get("revision"),
            "kind": one.get("kind"),
            "dtype": one.get("dtype"),
        }
        config, environment = fact.mapping(one, "config"), fact.mapping(one, "environment")
        found.update(
            {
                f"--{flag}": value
                for flag, value in config.items()
                if flag not in (*MEMBERS_OWN_FLAGS, "max-model-len")
            }
        )
        found.update(
            {
                f"the variable {name}": value
                for name, value in environment.items()
                if name not in MEMBERS_OWN_VARIABLES
            }
        )
        return found

    ours, its = seen(plan, entry), seen(other, theirs)
    names = [*ours, *(name for name in its if name not in ours)]
    return [
        (name, ours.get(name), its.get(name)) for name in names if ours.get(name) != its.get(name)
    ]


def _check_addresses(addresses: Mapping[str, str], findings: Findings) -> None:
    known = []
    for address in addresses.values():
        try:
            known.append(ipaddress.ip_address(address))
        except ValueError:  # told on that host
            return
    if len(set(known)) < len(known):
        problem = "two members have the same address"
    elif len({one.version for one in known}) > 1:
        problem = "some members have an IPv4 address and some an IPv6 address"
    else:
        return
    told = quoted(f"{name}: {address}" for name, address in addresses.items())
    findings.problem(
        "group-address",
        "vllm_group_address",
        f"{problem} ({told})",
        "set vllm_group_address of each to its address in the network that they share",
    )
