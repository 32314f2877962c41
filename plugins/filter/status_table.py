# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The instances of all hosts as one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.numbers import human_seconds

DOCUMENTATION = r"""
name: status_table
author: compute_plane.vllm contributors (@compute-plane)
version_added: 0.1.0
short_description: The instances of all hosts as one table
description:
  - Makes a table, one line an instance, of what M(compute_plane.vllm.vllm_status) returned on each
    host; below it the evidence, the remedy and the end of the log of each that does not serve.
options:
  _input:
    description: Results of M(compute_plane.vllm.vllm_status), by host.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: One table
  ansible.builtin.debug:
    msg: "{{ {inventory_hostname: status.instances} | compute_plane.vllm.status_table }}"
"""

RETURN = r"""
_value:
  description: The table.
  type: str
"""

HEADER = ("HOST", "INSTANCE", "STATE", "SINCE", "REQUESTS", "MEMORY", "GPU", "VLLM", "ADDRESS")
NOTHING = "-"


def gibibytes(count: int | None) -> str:
    """Bytes as memory is sold."""
    return NOTHING if count is None else f"{count / (1 << 30):.1f} GiB"


def row(host: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    percent = "" if one["percent"] is None or one["serves"] else f" {one['percent']} %"
    requests = NOTHING
    if one["running"] is not None:
        requests = f"{one['running']}+{one['waiting'] or 0}"
    is_there = one["pid"] is not None
    return (
        host,
        one["name"],
        one["state"] + percent,
        human_seconds(one["age_seconds"]) if is_there and one["age_seconds"] else NOTHING,
        requests,
        gibibytes(one["memory_bytes"]) if is_there else NOTHING,
        gibibytes(one["gpu_bytes"]) if is_there else NOTHING,
        one["release"] or NOTHING,
        one["url"] or member(one),
    )


def member(one: Mapping[str, Any]) -> str:
    """What an instance without an address is to another host."""
    group = one.get("group")
    if not group or not group["rank"]:
        return NOTHING
    return f"member of {group['leader'] or one['name']}, rank {group['rank']}"


def details(host: str, one: Mapping[str, Any]) -> list[str]:
    """What is to be known of an instance that does not serve."""
    lines = ["", f"{host} {one['name']}: {one['state']}: {one['summary']}"]
    lines += [f"  - {line}" for line in one["evidence"]]
    if one["remedy"]:
        lines.append(f"  remedy: {one['remedy']}")
    if one["log"]:
        lines.append("  the end of its log:")
        lines += [f"    {line}" for line in one["log"]]
    return lines


def figure(name: str, engine: Mapping[str, Mapping[str, Any]]) -> str | None:
    """One figure that the engine measured, and in brackets what was predicted of it."""
    now, before = engine["measured"].get(name), engine["predicted"].get(name)
    if now is None:
        return None
    is_size = name.endswith("_bytes")
    words = [gibibytes(value) if is_size else f"{value:,}" for value in (now, before or 0)]
    if not before:
        return words[0]
    return f"{words[0]} (predicted {words[1]}, {(now / before - 1) * 100:+.1f} %)"


ENGINE = {"weights_bytes": "weights", "kv_cache_tokens": "KV tokens", "max_model_len": "context"}


def measured(host: str, one: Mapping[str, Any]) -> list[str]:
    """What the engine of an instance has measured, beside what the plan predicted."""
    engine = one.get("engine")
    if not engine:
        return []
    told = [(words, figure(name, engine)) for name, words in ENGINE.items()]
    said = "; ".join(f"{words} {text}" for words, text in told if text is not None)
    return [f"{host} {one['name']}: {said}"] if said else []


def status_table(instances: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Make the table.

    Args:
        instances: Each host's instances, as `compute_plane.vllm.vllm_status` returns them.
    """
    rows = [row(host, one) for host, several in sorted(instances.items()) for one in several]
    if not rows:
        return "No vLLM instance is deployed on: " + (", ".join(sorted(instances)) or "no host")
    widths = [max(len(line[column]) for line in (HEADER, *rows)) for column in range(len(HEADER))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (HEADER, *rows)
    ]
    told = [
        line
        for host, several in sorted(instances.items())
        for one in several
        for line in measured(host, one)
    ]
    lines += ["", "Measured by the engine at its start:", *told] if told else []
    for host, several in sorted(instances.items()):
        if not several:
            lines.append(f"{host} has none.")
        for one in several:
            if not one["serves"]:
                lines += details(host, one)
    return "\n".join(lines)


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"status_table": status_table}
