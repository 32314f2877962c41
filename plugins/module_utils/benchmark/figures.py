# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of a benchmark: medians over its runs, and the comparison with a baseline. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

METRICS: dict[str, tuple[str, str]] = {
    "output_throughput": ("output_throughput", "higher"),
    "total_throughput": ("total_token_throughput", "higher"),
    "request_throughput": ("request_throughput", "higher"),
    "ttft_ms": ("median_ttft_ms", "lower"),
    "ttft_p99_ms": ("p99_ttft_ms", "lower"),
    "tpot_ms": ("median_tpot_ms", "lower"),
    "tpot_p99_ms": ("p99_tpot_ms", "lower"),
    "itl_ms": ("median_itl_ms", "lower"),
    "e2el_ms": ("median_e2el_ms", "lower"),
    "e2el_p99_ms": ("p99_e2el_ms", "lower"),
}
"""Our name of a figure: its key in the file that `vllm bench serve` saves, and which way is
better. vllm 0.14.1, vllm/benchmarks/serve.py."""

COMPARED = ("output_throughput", "ttft_ms", "tpot_ms")
"""What a regression is looked for in."""

COMPARED_POOLING = ("request_throughput", "e2el_ms")
"""The same of a model that generates nothing."""

CONTEXT = ("release", "model", "config", "gpus")
"""What a person must know to differ between two benchmarks that are compared."""


def run_figures(saved: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures of one run, from the file that `vllm bench serve` saves.

    A figure that there is not, such as the time between tokens of answers of one token, is `None`.
    """
    figures: dict[str, float | None] = {}
    for name, (key, _better) in METRICS.items():
        value = saved.get(key)
        number = isinstance(value, (int, float)) and math.isfinite(value)
        figures[name] = float(saved[key]) if number else None
    return figures


def run_problem(saved: Mapping[str, Any], prompts: int) -> str | None:
    """Why a run's figures cannot be used; `None` when all its requests were answered."""
    completed = saved.get("completed")
    if completed != prompts:
        return f"{completed} of {prompts} requests were answered"
    return None


def summarise(runs: Sequence[Mapping[str, float | None]]) -> dict[str, dict[str, float] | None]:
    """Medians of a point's runs.

    Returns:
        For each figure `median`, `min`, `max` and `spread_percent`, which is max less min as a
        share of the median; `None` for a figure that some run does not have.
    """
    summary: dict[str, dict[str, float] | None] = {}
    for name in METRICS:
        values = [run.get(name) for run in runs]
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            summary[name] = None
            continue
        median = statistics.median(known)
        low, high = min(known), max(known)
        summary[name] = {
            "median": round(median, 3),
            "min": round(low, 3),
            "max": round(high, 3),
            "spread_percent": round(100 * (high - low) / median, 1) if median else 0.0,
        }
    return summary


def load_text(point: Mapping[str, Any]) -> str:
    """A load in short: requests at a time, tokens of the prompt, tokens of the answer."""
    answer = f"+{point['output_tokens']}" if point["output_tokens"] else ""
    return f"{point['concurrency']} x {point['input_tokens']}{answer}"


def point_key(point: Mapping[str, Any]) -> tuple[int, int, int]:
    """What makes two measured points the same load."""
    return int(point["concurrency"]), int(point["input_tokens"]), int(point["output_tokens"])


def compare(
    now: Mapping[str, Any], baseline: Mapping[str, Any], tolerance: float
) -> dict[str, Any]:
    """Compare a benchmark with an earlier one.

    A figure is `worse` when its median is worse by more than the tolerance and no run of one
    benchmark lies among those of the other; noise alone does not do that.

    Args:
        now: The result of a benchmark.
        baseline: An earlier one.
        tolerance: Percent.

    Returns:
        `rows`, one for each figure of each load in both; `worse`, how many; `missing` and
        `new`, the loads that only one of them has; `differs`, what else is not the same in both.
    """
    before = {point_key(point): point for point in baseline["points"]}
    after = {point_key(point): point for point in now["points"]}
    rows = []
    for key in [key for key in after if key in before]:
        for metric in COMPARED if key[2] else COMPARED_POOLING:
            old, new = before[key]["figures"].get(metric), after[key]["figures"].get(metric)
            if old is None or new is None or not old["median"]:
                continue
            change = 100 * (new["median"] - old["median"]) / old["median"]
            loss = -change if METRICS[metric][1] == "higher" else change
            apart = new["min"] > old["max"] or new["max"] < old["min"]
            verdict = "same"
            if abs(loss) > tolerance and apart:
                verdict = "worse" if loss > 0 else "better"
            rows.append(
                {
                    "concurrency": key[0],
                    "input_tokens": key[1],
                    "output_tokens": key[2],
                    "metric": metric,
                    "before": old["median"],
                    "now": new["median"],
                    "change_percent": round(change, 1),
                    "verdict": verdict,
                }
            )
    return {
        "measured_at": baseline.get("measured_at"),
        "tolerance_percent": tolerance,
        "rows": rows,
        "worse": sum(row["verdict"] == "worse" for row in rows),
        "missing": [list(key) for key in before if key not in after],
        "new": [list(key) for key in after if key not in before],
        "differs": [name for name in CONTEXT if _context(now, name) != _context(baseline, name)],
    }


def _context(result: Mapping[str, Any], name: str) -> Any:
    if name == "gpus":
        return [gpu.get("name") for gpu in result.get("gpus") or []]
    return result.get(name)


def comparison_lines(comparison: Mapping[str, Any]) -> list[str]:
    """What a comparison says, for a terminal: everything that is not the same."""
    units = {"output_throughput": "tokens/s", "request_throughput": "requests/s"}
    names = {
        "output_throughput": "output",
        "request_throughput": "requests",
        "ttft_ms": "TTFT",
        "tpot_ms": "TPOT",
        "e2el_ms": "latency",
    }
    return [
        f"{row['verdict']}: {load_text(row)}: "
        f"{names[row['metric']]} {row['before']:g} -> {row['now']:g} "
        f"{units.get(row['metric'], 'ms')} ({row['change_percent']:+g} %)"
        for row in comparison["rows"]
        if row["verdict"] != "same"
    ]
