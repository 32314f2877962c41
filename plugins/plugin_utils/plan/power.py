# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The power limits of a host's GPUs, by UUID, and whether the cards take them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    quoted,
    shown,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import taken

VARIABLE = "vllm_gpu_power_limit"


def plan_power(raw: Any, facts: Mapping[str, Any], findings: Findings) -> dict[str, float]:
    """Return the limit of each card that is to have one, in watts, by UUID.

    Args:
        raw: What `vllm_gpu_power_limit` holds: watts for every card, or a mapping of UUID or index
            to watts; None or nothing for no limit.
        facts: The facts.
        findings: Receives the problems.
    """
    if raw is None or raw in ("", {}):
        return {}
    cards = {
        uuid: row
        for row in fact.rows(facts, "gpu", "gpus")
        if row.get("lost") is not True and (uuid := fact.text(row, "uuid")) is not None
    }
    if not cards:
        findings.note("unused-on-cpu", VARIABLE, "the host has no GPU whose power it could limit")
        return {}
    wanted = _named(raw, cards, findings) if isinstance(raw, Mapping) else dict.fromkeys(cards, raw)
    found: dict[str, float] = {}
    remedies: dict[str, float | None] = {}
    complaints: list[tuple[str, str, str]] = []
    for uuid, value in wanted.items():
        where = f"{VARIABLE}.{_written(raw, uuid, cards)}" if isinstance(raw, Mapping) else VARIABLE
        limit = _number(value)
        if limit is None:
            findings.problem(
                "wrong-type",
                where,
                f"{shown(value)} is no number of watts",
                "write watts, such as 280, or a mapping of each card's UUID or index to watts",
            )
            continue
        complaint = _complaint(cards[uuid], limit)
        if complaint is None:
            found[uuid] = limit
        else:
            message, remedy, fits = complaint
            complaints.append((where, message, remedy))
            remedies[uuid] = fits
    for where, message, remedy in complaints:
        findings.problem("power-limit", where, message, remedy, _settings(raw, cards, remedies))
    return found


def _named(
    raw: Mapping[Any, Any], cards: Mapping[str, Mapping[str, Any]], findings: Findings
) -> dict[str, Any]:
    """Return what is written of each card, by UUID; find the cards that the host does not have."""
    lookup = {uuid: uuid for uuid in cards}
    lookup |= {str(fact.integer(row, "index")): uuid for uuid, row in cards.items()}
    found: dict[str, Any] = {}
    for name, value in raw.items():
        uuid = lookup.get(str(name))
        if uuid is None:
            choices = quoted(f"{row.get('index')} = {one}" for one, row in cards.items())
            findings.problem(
                "gpu-unknown",
                f"{VARIABLE}.{name}",
                f"the host has no working GPU {name}",
                f"choose from {choices}",
            )
        elif uuid in found:
            findings.problem(
                "bad-value",
                f"{VARIABLE}.{name}",
                f"GPU {cards[uuid].get('index')} is named twice",
                "name every GPU once, by UUID or by index",
            )
        else:
            found[uuid] = value
    return found


def _written(raw: Mapping[Any, Any], uuid: str, cards: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what a card is called in the inventory."""
    return uuid if uuid in raw else str(fact.integer(cards[uuid], "index"))


def _number(value: Any) -> float | None:
    number = taken("number", value)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return None
    return float(number) if math.isfinite(number) and number > 0 else None


def _complaint(card: Mapping[str, Any], limit: float) -> tuple[str, str, float | None] | None:
    """Return what is wrong with a limit, what to do, and the nearest one that the card takes."""
    label = f"GPU {card.get('index')} ({fact.text(card, 'name') or 'unnamed'})"
    least, most, default = (
        _number(card.get(f"power_limit_{key}_watts")) for key in ("least", "most", "default")
    )
    if least is None or most is None:
        return (
            f"{label} does not let its power be limited",
            "leave it out of vllm_gpu_power_limit",
            None,
        )
    if least <= limit <= most:
        return None
    usual = "" if default is None else f", {default:g} W after a boot"
    near = min(max(limit, least), most)
    return (
        f"{label} takes a limit from {least:g} to {most:g} W{usual}, not {limit:g} W",
        f"set {near:g} or another number in that range",
        near,
    )


def _settings(
    raw: Any, cards: Mapping[str, Mapping[str, Any]], remedies: Mapping[str, float | None]
) -> dict[str, Any]:
    """Return the variable as it is right: without the cards that take no limit at all."""
    given = raw if isinstance(raw, Mapping) else dict.fromkeys(cards, raw)
    left = {}
    for name, value in given.items():
        uuid = _uuid(name, cards)
        if uuid not in remedies:
            left[name] = value
        elif (fits := remedies[uuid]) is not None:
            left[name] = int(fits) if fits == int(fits) else fits
    if not isinstance(raw, Mapping) and len(left) == len(cards):
        same = set(left.values())
        if len(same) == 1:
            return {VARIABLE: same.pop()}
    return {VARIABLE: left or None}


def _uuid(name: Any, cards: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the UUID of a card by what the inventory calls it."""
    for uuid, row in cards.items():
        if str(name) in (uuid, str(fact.integer(row, "index"))):
            return uuid
    return str(name)
