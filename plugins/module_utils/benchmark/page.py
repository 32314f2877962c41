# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: one HTML page that needs nothing else, its plots drawn as SVG. Pure functions."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark.figures import (
    point_key,
)

_COLOURS = ("#2f6fed", "#d9480f", "#0b8f6a", "#8f3fc4", "#b5890a", "#c2255c")
_WIDTH, _HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 16, 18, 48

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --dim: #6b6b6b; }
@media (prefers-color-scheme: dark) { :root { --dim: #a0a0a0; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.sub { color: var(--dim); margin-top: .2rem; }
.plots { display: grid; gap: 1.5rem; }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); }
figure { margin: 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; }
svg text { font: 14px system-ui, sans-serif; fill: currentColor; }
.grid { stroke: var(--line); stroke-width: .7; } .axis { stroke: currentColor; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .7rem; text-align: right; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { vertical-align: bottom; }
td small { color: var(--dim); } .worse { color: #d6336c; font-weight: 600; }
.better { color: #0b8f6a; font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
ul.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; }
.key { display: inline-block; width: 1.6rem; margin-right: .4rem; vertical-align: middle; }
"""


_NONE = "\u2013"
_EXPLAINED = (
    "A load is requests at the same time \u00d7 tokens of the prompt + tokens of the answer. "
    "Small: lowest and highest run."
)


def _load(point: Mapping[str, Any]) -> str:
    return f"{point['concurrency']} \u00d7 {point['input_tokens']} + {point['output_tokens']}"


def number(value: float | None) -> str:
    """A figure with three or four digits that mean something."""
    if value is None:
        return _NONE
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 3)}f}"


def ticks(low: float, high: float, log: bool) -> list[float]:
    """Round numbers for an axis that shows everything from one value to another."""
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        steps = (1, 2, 5) if last - first <= 3 else (1,)
        found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        below = [one for one in found if one <= low]
        above = [one for one in found if one >= high]
        return [one for one in found if max(below) <= one <= min(above)]
    raw = (high - low) / 5 or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    count = math.ceil(high / step - 1e-9)
    return [round(step * index, 10) for index in range(count + 1)]


def _shape(point: Mapping[str, Any]) -> tuple[int, int]:
    return int(point["input_tokens"]), int(point["output_tokens"])


def _median(point: Mapping[str, Any], metric: str) -> Mapping[str, float] | None:
    figure: Mapping[str, float] | None = point["figures"].get(metric)
    return figure


class _Plot:
    """One plot of a figure against concurrency."""

    def __init__(self, streams: Sequence[int], values: Sequence[float], log: bool) -> None:
        self.log = log
        self.streams = sorted(set(streams))
        self.ticks = ticks(min(values) if log else 0.0, max(values), log)
        self.low, self.high = self.ticks[0], self.ticks[-1]
        self.first, self.last = math.log2(self.streams[0]), math.log2(self.streams[-1])

    def x(self, streams: int) -> float:
        """Where a concurrency is."""
        width = _WIDTH - _LEFT - _RIGHT
        if self.last == self.first:
            return _LEFT + width / 2
        inner = width - 40
        return _LEFT + 20 + inner * (math.log2(streams) - self.first) / (self.last - self.first)

    def y(self, value: float) -> float:
        """Where a value is."""
        if self.log:
            span = math.log10(self.high / self.low) or 1.0
            share = math.log10(max(value, self.low) / self.low) / span
        else:
            share = (value - self.low) / ((self.high - self.low) or 1.0)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def frame(self) -> list[str]:
        """Grid, axes and their numbers."""
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        parts = []
        for value in self.ticks:
            y = self.y(value)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            parts.append(
                f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
            )
        for streams in self.streams:
            x = self.x(streams)
            parts.append(
                f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{streams}</text>'
            )
        middle = (_LEFT + right) / 2
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
        parts.append(
            f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">'
            "requests at the same time</text>"
        )
        return parts

    def line(self, values: Sequence[tuple[int, float]], colour: str, dash: str = "") -> str:
        """Points joined by a line."""
        path = " ".join(f"{self.x(streams):.1f},{self.y(value):.1f}" for streams, value in values)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>'


def _plot(
    points: Sequence[Mapping[str, Any]],
    before: Mapping[tuple[int, int, int], Mapping[str, Any]],
    metric: str,
    log: bool,
) -> str | None:
    """The SVG of one figure; None where nothing was measured."""
    measured = [point for point in points if _median(point, metric)]
    if not measured:
        return None
    values = []
    for point in measured:
        figure = _median(point, metric) or {}
        values += [figure["min"], figure["max"]]
        if point.get("ceiling") and metric in point["ceiling"]:
            values.append(point["ceiling"][metric])
    for key in [point_key(point) for point in measured]:
        old = _median(before[key], metric) if key in before else None
        values += [old["median"]] if old else []
    plot = _Plot([point["concurrency"] for point in measured], values, log and min(values) > 0)
    parts = plot.frame()
    shapes = list(dict.fromkeys(_shape(point) for point in points))
    for index, shape in enumerate(shapes):
        colour = _COLOURS[index % len(_COLOURS)]
        mine = sorted(
            (point for point in measured if _shape(point) == shape),
            key=lambda point: int(point["concurrency"]),
        )
        limits = [
            (point["concurrency"], point["ceiling"][metric])
            for point in mine
            if point.get("ceiling") and metric in point["ceiling"]
        ]
        if limits:
            parts.append(plot.line(limits, colour, "7 4"))
            parts += [_tick(plot, streams, value, colour) for streams, value in limits]
        former = [
            (point["concurrency"], (_median(before[point_key(point)], metric) or {})["median"])
            for point in mine
            if point_key(point) in before and _median(before[point_key(point)], metric)
        ]
        if former:
            parts.append(plot.line(former, colour, "1 5"))
        parts.append(
            plot.line(
                [(p["concurrency"], (_median(p, metric) or {})["median"]) for p in mine], colour
            )
        )
        for point in mine:
            figure = _median(point, metric) or {}
            x = plot.x(point["concurrency"])
            y = plot.y(figure["median"])
            title = (
                f"{point['concurrency']} x {shape[0]}+{shape[1]}: {number(figure['median'])} "
                f"({number(figure['min'])} to {number(figure['max'])})"
            )
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{plot.y(figure["min"]):.1f}" '
                f'y2="{plot.y(figure["max"]):.1f}" stroke="{colour}" stroke-width="1.2"/>'
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}">'
                f"<title>{html.escape(title)}</title></circle>"
            )
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}</svg>'


def _tick(plot: _Plot, streams: int, value: float, colour: str) -> str:
    """A short line at the ceiling, so that it shows also where there is one point only."""
    x, y = plot.x(streams), plot.y(value)
    return (
        f'<line x1="{x - 9:.1f}" x2="{x + 9:.1f}" y1="{y:.1f}" y2="{y:.1f}" '
        f'stroke="{colour}" stroke-width="2" stroke-dasharray="4 2">'
        f"<title>ceiling {number(value)}</title></line>"
    )


def _legend(points: Sequence[Mapping[str, Any]], ceiling: bool, before: bool) -> str:
    items = []
    for index, (length, output) in enumerate(dict.fromkeys(_shape(point) for point in points)):
        colour = _COLOURS[index % len(_COLOURS)]
        items.append(
            f'<li><span class="key" style="border-top:3px solid {colour}"></span>'
            f"{length} tokens in, {output} out</li>"
        )
    grey = '<span class="key" style="border-top:3px {} #888"></span>'
    if ceiling:
        items.append(f"<li>{grey.format('dashed')}ceiling of the memory's bandwidth</li>")
    if before:
        items.append(f"<li>{grey.format('dotted')}baseline</li>")
    return f'<ul class="legend">{"".join(items)}</ul>'


def _cell(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return f"<td>{_NONE}</td>"
    return (
        f"<td>{number(figure['median'])} "
        f"<small>{number(figure['min'])}{_NONE}{number(figure['max'])}</small></td>"
    )


def _table(points: Sequence[Mapping[str, Any]], ceiling: bool) -> str:
    heads = [
        "load",
        "runs",
        "output tokens/s",
        "requests/s",
        "TTFT ms",
        "TTFT p99",
        "TPOT ms",
        "TPOT p99",
        "whole answer ms",
    ]
    metrics = (
        "output_throughput",
        "request_throughput",
        "ttft_ms",
        "ttft_p99_ms",
        "tpot_ms",
        "tpot_p99_ms",
        "e2el_ms",
    )
    if ceiling:
        heads += ["least TPOT ms", "reached"]
    watched = any(run["gpus"] for point in points for run in point["runs"])
    if watched:
        heads += ["SM MHz", "memory MHz", "W", "°C", "GPU memory GiB"]
    rows = []
    for point in points:
        cells = [f"<td>{_load(point)}</td>", f"<td>{len(point['runs'])}</td>"]
        cells += [_cell(_median(point, metric)) for metric in metrics]
        if ceiling:
            limit, reached = point.get("ceiling"), point.get("reached_percent")
            cells.append(f"<td>{number(limit['tpot_ms'] if limit else None)}</td>")
            cells.append(f"<td>{_NONE if reached is None else f'{reached:g} %'}</td>")
        if watched:
            cells += [f"<td>{text}</td>" for text in _gpu_cells(point)]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _gpu_cells(point: Mapping[str, Any]) -> list[str]:
    """Clocks, power, heat and memory: over all runs and GPUs, the median or the highest."""
    rows = [gpu for run in point["runs"] for gpu in run["gpus"].values()]

    def known(name: str) -> list[float]:
        return sorted(row[name] for row in rows if row.get(name) is not None)

    def middle(name: str) -> float | None:
        values = known(name)
        return values[len(values) // 2] if values else None

    memory = max(known("memory_used_bytes_max"), default=None)
    return [
        number(middle("sm_clock_mhz")),
        number(middle("memory_clock_mhz")),
        number(middle("power_watts")),
        number(max(known("temperature_celsius_max"), default=None)),
        number(None if memory is None else memory / (1 << 30)),
    ]


def _comparison(comparison: Mapping[str, Any]) -> str:
    names = {"output_throughput": "output tokens/s", "ttft_ms": "TTFT ms", "tpot_ms": "TPOT ms"}
    rows = [
        f"<tr><td>{_load(row)}</td>"
        f"<td>{names[row['metric']]}</td><td>{number(row['before'])}</td>"
        f"<td>{number(row['now'])}</td><td>{row['change_percent']:+g} %</td>"
        f'<td class="{row["verdict"]}">{row["verdict"]}</td></tr>'
        for row in comparison["rows"]
    ]
    differs = ", ".join(comparison["differs"])
    return (
        f"<h2>Beside the baseline of {html.escape(str(comparison['measured_at']))}</h2>"
        f"<p>Worse or better means by more than {comparison['tolerance_percent']:g} %, with no run "
        "of one among those of the other."
        + (f" Not the same in both: {html.escape(differs)}." if differs else "")
        + '</p><div class="scroll"><table><thead><tr><th>load</th><th>figure</th><th>before</th>'
        f"<th>now</th><th>change</th><th></th></tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table></div>"
    )


def _facts(result: Mapping[str, Any]) -> str:
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
    rows = {
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
    items = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in rows.items())
    return f"<h2>What was measured</h2><dl>{items}</dl>"


def page(result: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> str:
    """The report of a benchmark.

    Args:
        result: The result, as it is saved.
        baseline: The result that it was compared with, or C(None).
    """
    points = [point for point in result["points"] if point["runs"]]
    before = {point_key(point): point for point in (baseline or {}).get("points", [])}
    ceiling = any(point.get("ceiling") for point in points)
    plots = []
    for metric, log, title in (
        ("output_throughput", True, "Output, tokens/s"),
        ("ttft_ms", True, "Time to first token (TTFT), ms"),
        ("tpot_ms", False, "Time for each further token (TPOT), ms"),
    ):
        drawing = _plot(points, before, metric, log)
        if drawing is not None:
            plots.append(f"<figure><figcaption>{title}</figcaption>{drawing}</figure>")
    left_out = [f"{_load(point)}: {point['reason']}" for point in result["skipped"]]
    comparison = result.get("comparison")
    name = html.escape(result["instance"])
    made = (
        f"vLLM {result['release']}, measured {result['measured_at']} by vllm bench serve; medians "
        f"of {result['repeats']} runs, lines at the points from the lowest to the highest"
    )
    body = [
        f"<h1>{name}</h1>",
        f'<p class="sub">{html.escape(made)}</p>',
        _legend(points, ceiling, bool(before)),
        f'<div class="plots">{"".join(plots)}</div>',
        f"<h2>Figures</h2><p>{_EXPLAINED}</p>",
        _table(points, ceiling),
        "".join(f"<p>Left out: {html.escape(text)}</p>" for text in left_out),
        _comparison(comparison) if comparison else "",
        _facts(result),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}: benchmark</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )
