# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as text: what was found, what will be done, what is wrong, what is worth knowing."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.release import python_shown

WIDTH = 80


def render(plan: Mapping[str, Any], facts: Any) -> str:
    """Return the report of a plan.

    Args:
        plan: What `planner.make_plan` returned.
        facts: The facts it was made from.

    Returns:
        Text of at most 80 columns where no single word is longer.
    """
    sections = [
        ("Found", _found(facts if isinstance(facts, Mapping) else {})),
        ("Will be done" if not plan["problems"] else "Would be done", _done(plan)),
        ("Wrong", _wrong(plan["problems"])),
        ("Worth knowing", _known(plan["notes"])),
    ]
    lines: list[str] = []
    for title, body in sections:
        if body:
            lines += [title, "-" * len(title), *body, ""]
    if plan["problems"]:
        count = len(plan["problems"])
        lines.append(f"{count} problem{'s' if count > 1 else ''}: nothing will be changed.")
    else:
        lines.append("No problems.")
    return "\n".join(lines)


def fill(text: str, first: str = "  ", rest: str = "  ") -> list[str]:
    """Wrap `text` to the report's width with the given indents."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first.rstrip()]


def table(rows: Iterable[Sequence[str]], indent: str = "  ") -> list[str]:
    """Align rows of cells; the last cell wraps under itself."""
    cells = [list(row) for row in rows]
    if not cells:
        return []
    widths = [max(len(row[index]) for row in cells) for index in range(len(cells[0]) - 1)]
    lines: list[str] = []
    for row in cells:
        head = indent + "".join(
            f"{cell.ljust(width)}  " for cell, width in zip(row[:-1], widths, strict=False)
        )
        lines += fill(row[-1], head, " " * len(head)) if row[-1] else [head.rstrip()]
    return lines


def _found(facts: Mapping[str, Any]) -> list[str]:
    host = fact.mapping(facts, "host")
    rows = []
    system = " ".join(
        str(part)
        for part in (
            host.get("distribution"),
            host.get("distribution_version"),
            host.get("architecture"),
        )
        if part
    )
    kernel, systemd = fact.text(host, "kernel"), fact.integer(host, "systemd_version")
    rows.append(
        (
            "Host",
            ", ".join(
                part
                for part in (
                    fact.text(host, "hostname") or "?",
                    system,
                    f"kernel {kernel}" if kernel else "",
                    f"systemd {systemd}" if systemd is not None else "",
                    f"glibc {host.get('glibc')}" if host.get("glibc") else "",
                )
                if part
            ),
        )
    )
    memory = fact.integer(host, "memory_total_bytes")
    if memory is not None:
        available = fact.integer(host, "memory_available_bytes")
        rows.append(
            (
                "Memory",
                f"{fact.gib(memory)}, {host.get('cpu_count') or '?'} CPUs"
                + (f", {fact.gib(available)} available" if available is not None else ""),
            )
        )
    pythons = [python_shown(row) for row in fact.rows(facts, "pythons")]
    rows.append(("Python", ", ".join(pythons) or "none"))
    rows += _found_gpus(facts)
    nvcc = fact.mapping(facts, "nvcc")
    compiler = fact.text(nvcc, "c_compiler", "path")
    rows.append(
        (
            "Compilers",
            f"nvcc {nvcc.get('version') or nvcc.get('path')}"
            if nvcc.get("found") is True
            else "no nvcc (not needed)",
        )
    )
    rows[-1] = (
        "Compilers",
        f"{rows[-1][1]}, {compiler or 'no C compiler yet'}",
    )
    mounts = {
        str(row.get("mount")): f"{row.get('mount')} {fact.gib(row['free_bytes'])} free"
        for row in map(fact.mapping, fact.mapping(facts, "mounts").values())
        if fact.integer(row, "free_bytes") is not None
    }
    if mounts:
        rows.append(("Disk", ", ".join(mounts[mount] for mount in sorted(mounts))))
    return table(rows)


def _found_gpus(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    gpu = fact.mapping(facts, "gpu")
    rows: list[tuple[str, str]] = []
    driver = fact.mapping(gpu, "driver")
    if driver.get("version"):
        cuda = fact.text(driver, "cuda_version")
        rows.append(("Driver", f"{driver['version']}{f' (CUDA {cuda})' if cuda else ''}"))
    for row in fact.rows(gpu, "gpus"):
        if row.get("lost") is True:
            rows.append((f"GPU {row.get('index')}", f"lost: {row.get('error') or 'no answer'}"))
            continue
        total = fact.integer(row, "memory_total_bytes")
        free = fact.integer(row, "memory_free_bytes")
        memory = f"{fact.gib(free)} of {fact.gib(total)} free" if total and free is not None else ""
        capability = fact.text(row, "compute_capability")
        rows.append(
            (
                f"GPU {row.get('index')}",
                ", ".join(
                    part
                    for part in (
                        str(row.get("name") or "?"),
                        f"compute capability {capability}" if capability else "",
                        memory,
                        fact.text(row, "uuid") or "",
                    )
                    if part
                ),
            )
        )
    return rows


def _group(group: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if group is None:
        return []
    hosts = ", ".join(
        f"{member['name']}{f' ({address})' if (address := member['address']) else ''}"
        for member in group["members"]
    )
    return [("  Hosts", f"{hosts}; rank {group['rank']} is this one")]


def _done(plan: Mapping[str, Any]) -> list[str]:
    rows: list[tuple[str, str]] = []
    runtime = plan["runtime"]
    rows.append(("Release", f"vLLM {plan['release'] or '?'} on {plan['accelerator']}"))
    if runtime is not None:
        if not runtime["managed"]:
            size = ", not ours: verified, never changed"
        elif runtime["proved"]:
            size = ", already there and proved"
        else:
            size = "".join(
                f", {runtime[key] / 1e9:.1f} GB {what}"
                for key, what in (
                    ("download_bytes", "to download"),
                    ("installed_bytes", "installed"),
                )
                if runtime[key]
            )
        rows.append(("Venv", f"{runtime['venv']} with {runtime['python']}{size}"))
        if not runtime["proved"]:
            rows += [
                (
                    f"Disk {row['mount']}",
                    f"{row['needed_bytes'] / 1e9:.1f} GB of {row['free_bytes'] / 1e9:.1f} GB free",
                )
                for row in plan["disks"]
            ]
        if runtime["os_packages_missing"]:
            rows.append(("Packages", ", ".join(runtime["os_packages_missing"])))
    driver = plan["driver"]
    if driver is not None:
        how = {
            "native": f"runs it natively (from {driver['native']})",
            "minor-version": f"runs it by minor-version compatibility (natively "
            f"from {driver['native']})",
            "too-old": f"cannot run it (from {driver['minimum']})",
        }
        rows.append(
            (
                "CUDA",
                f"{driver['build']}; driver {driver['version']} {how[driver['compatibility']]}",
            )
        )
    lines = table(rows)
    for instance in plan["instances"]:
        lines.append("")
        model = instance["model"]
        source = model["path"] if model["source"] == "local" else model["repo_id"] or "?"
        at = model["commit"] or model["revision"]
        if at:
            source += f" at {at[:12]}"
        if model["download_bytes"]:
            how_it_comes = f"copy from {model['copy_from']}" if model["copy_from"] else "download"
            source += f", {model['download_bytes'] / 1e9:.1f} GB to {how_it_comes}"
        lines += table(
            [
                ("Instance", f"{instance['name'] or '?'} ({instance['unit']})"),
                ("  Model", f"{source}, served as {instance['served_model_name'] or '?'}"),
                *_group(instance["group"]),
                (
                    "  Listens",
                    f"{instance['host']}:{instance['port']}, {instance['url']}"
                    if instance["answers"]
                    else f"on {instance['group']['members'][0]['name']}: {instance['url']}",
                ),
                *(("  GPU", uuid) for uuid in instance["gpus"]),
            ]
        )
        if instance["gpus"]:
            lines += _attention(instance["attention_backend"])
        lines += _memory(instance)
    if plan["removed_instances"]:
        lines += ["", *table([("Removed", ", ".join(plan["removed_instances"]))])]
    return lines


def _attention(backend: Mapping[str, Any]) -> list[str]:
    """Return the table of attention backends, the selected one marked."""
    if not backend["candidates"]:
        return []
    rows = [
        (
            ">" if row["name"] == backend["selected"] else "",
            row["name"],
            "works" if row["works"] else "no",
            row["reason"],
        )
        for row in backend["candidates"]
    ]
    lines = ["", "    Attention backends (> is used)", *table(rows, "    ")]
    if backend["trial"]:
        lines += fill(
            f"Tried at start, in this order: {', '.join(backend['trial'])}", "    ", "    "
        )
    return lines


def _memory(instance: Mapping[str, Any]) -> list[str]:
    """Return the table of an instance's memory, for each of its GPUs."""
    memory = instance["memory"]
    if memory is None:
        return []
    rows: list[tuple[str, str, str]] = []
    if memory["budget_bytes"] is not None:
        share = memory["budget_bytes"] / memory["gpu_memory_bytes"]
        rows += [
            ("available", fact.gib(memory["available_bytes"]), "free, or held by our own units"),
            (
                "budget",
                fact.gib(memory["budget_bytes"]),
                f"{share:.2f} of {fact.gib(memory['gpu_memory_bytes'])}",
            ),
        ]
    rows.append(("weights", fact.gib(memory["weights_bytes"]), instance["dtype"] or ""))
    if memory["overhead_bytes"]:
        how = "measured" if memory["measured"] is not None else "estimated"
        rows.append(("activations", fact.gib(memory["overhead_bytes"]), how))
    if memory["cuda_graph_bytes"]:
        inside = "inside" if memory["cuda_graph_in_budget"] else "outside"
        rows.append(
            ("CUDA graphs", fact.gib(memory["cuda_graph_bytes"]), f"estimated, {inside} the budget")
        )
    later = memory["kv_cache_tokens_compiled"]
    more = f", {later} once its code is compiled" if later > memory["kv_cache_tokens"] else ""
    rows.append(
        (
            "KV cache",
            fact.gib(memory["kv_cache_bytes"]),
            f"{memory['kv_cache_tokens']} tokens of {memory['kv_cache_bytes_per_token']} bytes"
            + more,
        )
    )
    width = max(len(row[1]) for row in rows)
    lines = ["", "    Memory" + (" of each GPU" if len(instance["gpus"]) > 1 else "")]
    lines += table([(name, size.rjust(width), why) for name, size, why in rows], "    ")
    lines += _measured_before(memory)
    if memory["max_model_len"] and memory["concurrency"] >= 1:
        lines += fill(
            f"Context of {memory['max_model_len']} tokens, {memory['concurrency']:.1f} such "
            "requests at once",
            "    ",
            "    ",
        )
    return lines


def _measured_before(memory: Mapping[str, Any]) -> list[str]:
    """Return what an engine measured of the same before, beside what is estimated."""
    measured, estimated = memory["measured"], memory["predicted"]
    tokens = measured.get("kv_cache_tokens") if measured is not None else None
    if measured is None or tokens is None:
        return []
    return fill(
        f"vLLM measured {tokens} tokens of KV cache on {str(measured['at'])[:10]} with these "
        f"flags; the estimate says {estimated['kv_cache_tokens']}",
        "    ",
        "    ",
    )


def _wrong(problems: Sequence[Mapping[str, str]]) -> list[str]:
    lines: list[str] = []
    for index, problem in enumerate(problems, 1):
        head = f"{index:>3}. "
        indent = " " * len(head)
        lines += fill(f"{problem['where']}: {problem['message']}", head, indent)
        lines += fill(f"Remedy: {problem['remedy']}", indent, indent + "        ")
    return lines


def _known(notes: Sequence[Mapping[str, str]]) -> list[str]:
    lines: list[str] = []
    for note in notes:
        lines += fill(f"{note['where']}: {note['message']}", "  - ", "    ")
    return lines
