# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A benchmark as JSON and a self-contained HTML page with charts. Pure, but for the files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark.figures import (
    point_key,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.reports.chart import (
    COLOURS,
    chart,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.reports.page import render, write

_NONE = "\u2013"
_CHARTS = (
    ("output_throughput", True, "Output, tokens/s"),
    ("ttft_ms", True, "Time to first token (TTFT), ms"),
    ("tpot_ms", False, "Time for each further token (TPOT), ms"),
)
_POOLED_CHARTS = (
    ("request_throughput", True, "Requests/s"),
    ("total_throughput", True, "Tokens/s, all of them read"),
    ("e2el_ms", True, "Time of an answer, ms"),
)
"""Of each chart the figure, whether its axis is logarithmic, and the title."""

_COLUMNS = {
    "output tokens/s": "output_throughput",
    "requests/s": "request_throughput",
    "TTFT ms": "ttft_ms",
    "TTFT p99": "ttft_p99_ms",
    "TPOT ms": "tpot_ms",
    "TPOT p99": "tpot_p99_ms",
    "whole answer ms": "e2el_ms",
}
_POOLED_COLUMNS = {
    "requests/s": "request_throughput",
    "tokens/s": "total_throughput",
    "answer ms": "e2el_ms",
    "answer p99": "e2el_p99_ms",
}
"""The same of a model that generates nothing."""


def number(value: float | None) -> str:
    """A figure with three or four digits that mean something."""
    if value is None:
        return _NONE
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 3)}f}"


def gpu_figures(point: Mapping[str, Any]) -> list[float | None]:
    """Clocks, power, heat and memory: over all runs and GPUs, the median or the highest."""
    rows = [gpu for run in point["runs"] for gpu in run["gpus"].values()]

    def known(name: str) -> list[float]:
        return sorted(row[name] for row in rows if row.get(name) is not None)

    middles = [known(name) for name in ("sm_clock_mhz", "memory_clock_mhz", "power_watts")]
    memory = max(known("memory_used_bytes_max"), default=None)
    return [
        *(values[len(values) // 2] if values else None for values in middles),
        max(known("temperature_celsius_max"), default=None),
        None if memory is None else memory / (1 << 30),
    ]


def _shape(point: Mapping[str, Any]) -> tuple[int, int]:
    return int(point["input_tokens"]), int(point["output_tokens"])


def _lines(
    points: Sequence[Mapping[str, Any]],
    shapes: Sequence[tuple[int, int]],
    former: Mapping[tuple[int, int, int], float],
    metric: str,
) -> list[dict[str, dict[int, Any]]]:
    """A figure of every shape as `chart` takes it, with what it was in the baseline."""
    lines = []
    ordered = sorted(points, key=lambda point: int(point["concurrency"]))
    for shape in shapes:
        mine = {
            int(point["concurrency"]): point
            for point in ordered
            if _shape(point) == shape and point["figures"].get(metric)
        }
        lines.append(
            {
                "figures": {one: point["figures"][metric] for one, point in mine.items()},
                "ceiling": {
                    one: point["ceiling"][metric]
                    for one, point in mine.items()
                    if metric in (point.get("ceiling") or {})
                },
                "former": {
                    one: former[point_key(point)]
                    for one, point in mine.items()
                    if point_key(point) in former
                },
            }
        )
    return lines


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    limits = result["ceiling"]
    if limits["reason"] is None:
        speed = limits["bytes_per_second"] / 1e9
        source = "the GPU's memory clock and bus" if limits["source"] == "nvml" else "stated"
        ceiling = (
            f"{limits['weights_bytes'] / 1e9:.2f} GB of weights and "
            f"{limits['kv_cache_bytes_per_token'] / 1024:.1f} KiB a token of context, read in "
            f"every step at {speed:.0f} GB/s ({source})"
        )
    else:
        ceiling = f"none: {limits['reason']}"
    backend = result["attention_backend"]
    gpus = [
        f"{gpu['name']}, driver {gpu['driver']}, {gpu['uuid']}, "
        f"limit {number(gpu['power_limit_watts'])} W"
        for gpu in result["gpus"]
    ]
    return {
        "Model": f"{result['served_model_name']} ({result['model']})",
        "vLLM": f"{result['release']} ({result['accelerator']})",
        "Versions": ", ".join(f"{name} {value}" for name, value in result["versions"].items()),
        "GPU": "; ".join(gpus) or "none",
        "Attention backend": (
            f"planned {backend['planned'] or _NONE}, "
            f"by the engine's log {backend['engine'] or _NONE}"
        ),
        "Flags": json.dumps(result["config"]),
        "Ceiling": ceiling,
        "Measured": f"{result['measured_at']}, {result['seconds']} s, seed {result['seed']}",
    }


def json_report(result: Mapping[str, Any]) -> str:
    """The result for programs, as it is kept on the host."""
    return json.dumps(result, indent=1) + "\n"


def html_report(result: Mapping[str, Any]) -> str:
    """The result for people: one page without anything from elsewhere.

    Args:
        result: As docs/benchmark.md has it.
    """
    points = [point for point in result["points"] if point["runs"]]
    shapes = list(dict.fromkeys(_shape(point) for point in points))
    pools = bool(shapes) and not any(output for _input, output in shapes)
    columns = _POOLED_COLUMNS if pools else _COLUMNS
    comparison = result.get("comparison")
    former: dict[str, dict[tuple[int, int, int], float]] = {}
    for row in comparison["rows"] if comparison else ():
        former.setdefault(row["metric"], {})[point_key(row)] = row["before"]
    charts = [
        (title, chart(_lines(points, shapes, former.get(metric, {}), metric), log=log))
        for metric, log, title in (_POOLED_CHARTS if pools else _CHARTS)
    ]
    return render(
        "benchmark.html.j2",
        result=result,
        points=[{**point, "gpus": gpu_figures(point)} for point in points],
        shapes=shapes,
        colours=COLOURS,
        charts=[(title, drawing) for title, drawing in charts if drawing is not None],
        columns=columns,
        column_of={metric: head for head, metric in columns.items()},
        has_ceiling=any(point.get("ceiling") for point in points),
        watched=any(run["gpus"] for point in points for run in point["runs"]),
        facts=_facts(result),
        number=number,
    )


def write_reports(directory: Path, host: str, result: Mapping[str, Any]) -> Path:
    """Write the reports of an instance.

    Args:
        directory: Where; made where it is missing.
        host: The host's name in the inventory.
        result: What was measured. Its instance's name is the host's word: no path.

    Returns:
        The page.

    Raises:
        OSError: A file cannot be written.
    """
    name = f"{host}-{Path(result['instance']).name}"
    write(directory / f"{name}.json", json_report(result))
    page = directory / f"{name}.html"
    write(page, html_report(result))
    return page
