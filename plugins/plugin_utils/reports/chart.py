# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where everything in a chart of a benchmark is; `templates/chart.svg.j2` draws it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

COLOURS = ("#2f6fed", "#d9480f", "#0b8f6a", "#8f3fc4", "#b5890a", "#c2255c")
_WIDTH, _HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 16, 18, 48
_INSET = 20
"""Units that the first and the last point are away from the frame."""


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


class _Axes:
    """Where a concurrency and a value are, in units of the drawing."""

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
            return round(_LEFT + width / 2, 1)
        share = (math.log2(streams) - self.first) / (self.last - self.first)
        return round(_LEFT + _INSET + (width - 2 * _INSET) * share, 1)

    def y(self, value: float) -> float:
        """Where a value is."""
        if self.log:
            span = math.log10(self.high / self.low) or 1.0
            share = math.log10(max(value, self.low) / self.low) / span
        else:
            share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    def path(self, values: Mapping[int, float]) -> list[tuple[float, float]]:
        """Where the points of a line are."""
        return [(self.x(streams), self.y(value)) for streams, value in values.items()]


def chart(lines: Sequence[Mapping[str, Mapping[int, Any]]], *, log: bool) -> dict[str, Any] | None:
    """A figure against concurrency, one line a shape of load.

    Args:
        lines: Of each shape, by concurrency and in its order, `figures` (`median`, `min`,
            `max`), `ceiling` and `former` (values). A shape of which nothing was
            measured is empty.
        log: Whether the values' axis is logarithmic, where all of them allow it.

    Returns:
        Grid, axes and lines in units of the drawing, as the template takes them; `None` where
        nothing was measured.
    """
    values = [
        value
        for line in lines
        for value in (
            *(figure[name] for figure in line["figures"].values() for name in ("min", "max")),
            *line["ceiling"].values(),
            *line["former"].values(),
        )
    ]
    if not values:
        return None
    streams = [one for line in lines for one in line["figures"]]
    axes = _Axes(streams, values, log and min(values) > 0)
    drawn = []
    for index, line in enumerate(lines):
        figures, limits = line["figures"], line["ceiling"]
        medians = {one: figure["median"] for one, figure in figures.items()}
        drawn.append(
            {
                "colour": COLOURS[index % len(COLOURS)],
                "ceiling": axes.path(limits),
                "ceiling_ticks": [
                    {"x": axes.x(one), "y": axes.y(value), "value": value}
                    for one, value in limits.items()
                ],
                "former": axes.path(line["former"]),
                "medians": axes.path(medians),
                "points": [
                    {
                        "x": axes.x(one),
                        "y": axes.y(figure["median"]),
                        "low": axes.y(figure["min"]),
                        "high": axes.y(figure["max"]),
                        "concurrency": one,
                        "figure": figure,
                    }
                    for one, figure in figures.items()
                ],
            }
        )
    return {
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "right": _WIDTH - _RIGHT,
        "bottom": _HEIGHT - _BOTTOM,
        "rows": [{"y": axes.y(value), "label": f"{value:g}"} for value in axes.ticks],
        "columns": [{"x": axes.x(one), "label": one} for one in axes.streams],
        "lines": drawn,
    }
