# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several models on one GPU: its memory divided by what each of them needs.

Only what the inventory leaves open is divided, and only where the default share of each would be
more than the GPU has. What others hold of the GPU at this moment does not count, so the same
inventory gives the same configuration tomorrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.gpus import (
    Gpu,
    Outside,
    over_limit,
    users_of,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.memory import Need
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    quoted,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import (
    DEFAULT_UTILIZATION,
    Instance,
    Wanted,
)

KEY = "gpu_memory_utilization"
# Shares are written in thousandths: of 24 GiB one is 25 MB.
_PARTS = 1000
_DEFAULT = round(DEFAULT_UTILIZATION * _PARTS)


@dataclass
class _Card:
    """A GPU and who is on it.

    Attributes:
        gpu: The GPU.
        users: The instances on it, in the inventory's order.
        limit: Thousandths that all of them together may have.
        usual: Thousandths up to which what nobody needs is handed out.
    """

    gpu: Gpu
    users: list[Instance]
    limit: Fraction
    usual: Fraction


def share_gpus(
    wanted: Wanted,
    assigned: Mapping[str, list[Gpu]],
    need_of: Callable[[Instance], Need | None],
    outside: Outside,
    findings: Findings,
) -> set[str]:
    """Give a share to each instance that has none of its own and cannot have the default one.

    Each gets what it needs. What is left, up to the default share of the GPU, goes to those that
    can use more, in proportion to the KV cache of one request, so that each gets room for as many.

    Args:
        wanted: The wanted state; its instances' `gpu_memory_utilization` is set.
        assigned: Instance's `where` to its GPUs; their `committed` follows.
        need_of: Returns what an instance needs on each of its GPUs, None where that is not known.
        outside: What servers hold beside their budgets.
        findings: Receives what each got, or that they cannot fit.

    Returns:
        UUIDs of the GPUs whose instances were refused here.
    """
    users = users_of(wanted, assigned)
    contested = {
        uuid
        for uuid, (gpu, these) in users.items()
        # Beside a share it is the user's to divide.
        if over_limit(gpu, these, outside) and not any(one.on_demand for one in these)
    }
    if not contested:
        return set()
    needs = {one.where: need_of(one) for one in wanted.instances if assigned.get(one.where)}
    # One that nothing is known of may need anything; the GPU is then the user's to divide.
    known = {
        uuid
        for uuid in contested
        if all(needs[one.where] is not None for one in users[uuid][1] if _is_open(one))
    }
    opened = [
        one
        for one in wanted.instances
        if _is_open(one)
        and (on := {gpu.uuid for gpu in assigned.get(one.where, [])})
        and on & known
        and not on & contested - known
    ]
    refused: set[str] = set()
    for group in _groups(opened, assigned):
        on = {gpu.uuid for one in group for gpu in assigned[one.where]}
        cards = [_card(*users[uuid], needs, outside) for uuid in sorted(on)]
        refused |= _divide(group, cards, assigned, needs, findings)
    return refused


def _is_open(instance: Instance) -> bool:
    return KEY not in instance.given and KEY not in instance.bad


def _groups(instances: list[Instance], assigned: Mapping[str, list[Gpu]]) -> list[list[Instance]]:
    """Return those together that share a GPU, directly or through others."""
    groups: list[tuple[set[str], list[Instance]]] = []
    for one in instances:
        uuids, members = {gpu.uuid for gpu in assigned[one.where]}, [one]
        for group in [group for group in groups if group[0] & uuids]:
            groups.remove(group)
            uuids, members = uuids | group[0], group[1] + members
        groups.append((uuids, members))
    return [members for _uuids, members in groups]


def _card(
    gpu: Gpu, users: list[Instance], needs: Mapping[str, Need | None], outside: Outside
) -> _Card:
    beside = sum(
        outside.of(one, gpu) + (need.outside if (need := needs[one.where]) is not None else 0)
        for one in users
    )
    limit = Fraction(max(0, gpu.total - beside) * _PARTS, gpu.total)
    return _Card(gpu, users, limit, min(limit, Fraction(_DEFAULT)))


def _least(gpus: list[Gpu], need: Need | None) -> int:
    """Return the thousandths of its GPUs that an instance with these needs."""
    smallest = min(gpu.total for gpu in gpus)
    return -(-(need.total if need is not None else 0) * _PARTS // smallest)


def _divide(
    group: list[Instance],
    cards: list[_Card],
    assigned: Mapping[str, list[Gpu]],
    needs: Mapping[str, Need | None],
    findings: Findings,
) -> set[str]:
    """Divide the GPUs of some instances among them, or refuse them; returns the GPUs refused."""
    least = {one.where: _least(assigned[one.where], needs[one.where]) for one in group}
    shares: dict[str, Fraction] = {where: Fraction(parts) for where, parts in least.items()}

    def taken(card: _Card) -> Fraction:
        return sum(
            (shares.get(one.where, _parts(one)) for one in card.users),
            start=Fraction(0),
        )

    full = [card for card in cards if taken(card) > card.limit]
    if full:
        told: set[tuple[str, ...]] = set()
        for card in full:
            names = tuple(one.where for one in card.users)
            if names not in told:
                told.add(names)
                _refuse(card, least, assigned, needs, findings)
        return {card.gpu.uuid for card in cards}
    growing = {
        one.where: Fraction(need.request, min(gpu.total for gpu in assigned[one.where]))
        for one in group
        if (need := needs[one.where]) is not None and need.grows and need.request > 0
    }
    while growing:
        steps = [
            (card.usual - taken(card)) / rate
            for card in cards
            if (rate := sum(growing.get(one.where, Fraction(0)) for one in card.users))
        ]
        step = max(Fraction(0), min(steps))
        for where, rate in growing.items():
            shares[where] += rate * step
        for card in cards:
            if taken(card) >= card.usual:
                for one in card.users:
                    growing.pop(one.where, None)
    for one in group:
        share = int(shares[one.where]) / _PARTS
        for gpu in assigned[one.where]:
            gpu.committed += share - one.gpu_memory_utilization
        one.gpu_memory_utilization = share
    for one in group:
        _tell(one, cards, assigned[one.where], needs[one.where], findings)
    return set()


def _parts(instance: Instance) -> Fraction:
    return Fraction(str(instance.gpu_memory_utilization)) * _PARTS


def _tell(
    instance: Instance,
    cards: list[_Card],
    gpus: list[Gpu],
    need: Need | None,
    findings: Findings,
) -> None:
    uuids = {gpu.uuid for gpu in gpus}
    others = {
        one.where: one.name or one.where
        for card in cards
        if card.gpu.uuid in uuids
        for one in card.users
        if one is not instance
    }
    smallest = min(gpus, key=lambda gpu: (gpu.total, gpu.index))
    size = int(instance.gpu_memory_utilization * smallest.total)
    findings.note(
        "gpu-shared",
        instance.at(KEY),
        f"{instance.name or instance.where} shares {quoted(gpu.label for gpu in gpus)} with "
        f"{quoted(others.values())} and gets {instance.gpu_memory_utilization:.3f} "
        f"({fact.gib(size)}; {_said(need)})",
    )


def _said(need: Need | None) -> str:
    if need is None:
        return "it is not known what it needs"
    parts = {"weights": need.weights, "activations": need.activations}
    parts |= {"CUDA graphs": need.graphs, "margin": need.margin, "KV cache": need.cache}
    # What would be written 0.0 GiB is left out.
    used = [f"{what} {fact.gib(size)}" for what, size in parts.items() if size >= fact.GIB // 20]
    return f"it needs {fact.gib(need.total)}: {', '.join(used)}"


def _refuse(
    card: _Card,
    least: Mapping[str, int],
    assigned: Mapping[str, list[Gpu]],
    needs: Mapping[str, Need | None],
    findings: Findings,
) -> None:
    gpu = card.gpu
    said = []
    for one in card.users:
        name = one.name or one.where
        if one.where in least:
            said.append(f"{name} ({_said(needs[one.where])})")
        else:
            said.append(f"{name} ({one.gpu_memory_utilization:g} is set)")
    room = int(card.limit * gpu.total / _PARTS)
    remedy, settings = _remedy(card, least, assigned, needs)
    findings.problem(
        "gpu-too-small-for-all",
        card.users[-1].at(KEY),
        f"{gpu.label} has {fact.gib(room)} for {'; '.join(said)}",
        remedy,
        settings,
    )


def _remedy(
    card: _Card,
    least: Mapping[str, int],
    assigned: Mapping[str, list[Gpu]],
    needs: Mapping[str, Need | None],
) -> tuple[str, dict[str, Any] | None]:
    """What makes room: less for the one whose share the user has set, where it needs less."""
    needed = sum(
        (Fraction(least.get(one.where, 0)) or _parts(one) for one in card.users), start=Fraction(0)
    )
    excess = needed - card.limit
    for one in card.users:
        need = needs[one.where]
        if one.where in least or need is None:
            continue
        # Two decimals are the precision that people write.
        lower = int((_parts(one) - excess) / 10) * 10
        if lower >= max(1, _least(assigned[one.where], need)):
            value = lower / _PARTS
            where = one.at(KEY)
            name = one.name or one.where
            return f"set gpu_memory_utilization: {value:g} on {name}", {where: value}
    fewer = "serve fewer of them on this GPU (gpus names another), a smaller or quantized model"
    return f"{fewer}, or set a shorter max_model_len", None
