# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which loads a benchmark runs: a sweep given as data becomes a list of points. Pure functions."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.numbers import number_in

LONGEST = "longest"
MARGIN = 16
"""Tokens of the context left free by `longest`: a prompt of random tokens can grow a little when
the server reads its text again."""
LEAST_PROMPTS = 4
PROMPTS_PER_STREAM = 2
LEAST_SECONDS = 10.0
"""How long a run lasts at least where the sweep does not state its requests: on a fast GPU a small
model answers all of them in one second, and such runs lie 50 % apart."""
WARM_UP_TOKENS = 16
LOAD = ("concurrency", "input_tokens", "output_tokens")
_KEYS = (*LOAD, "prompts")
_PREFILL_SHARE = 20
"""For the estimate of time left: how many tokens of a prompt cost about as much as one token of the
answer. The estimate is replaced by measured durations as they come."""


class SweepError(Exception):
    """A sweep cannot be read; the message has a line for each thing that is wrong."""


@dataclasses.dataclass(frozen=True)
class Point:
    """One load.

    Attributes:
        concurrency: Requests under way at the same time.
        input_tokens: Length of each prompt.
        output_tokens: Length of each answer; 0 where none is generated.
        prompts: Requests of one run.
        stated: Whether the sweep says how many those are.
    """

    concurrency: int
    input_tokens: int
    output_tokens: int
    prompts: int
    stated: bool = dataclasses.field(default=False, compare=False)

    @property
    def label(self) -> str:
        """As a person would name it."""
        streams = "1 stream" if self.concurrency == 1 else f"{self.concurrency} streams"
        out = f", {self.output_tokens} out" if self.output_tokens else ""
        return f"{streams}, {self.input_tokens} in{out}"

    def warm_up(self) -> Point:
        """A short run of the same shape, whose figures are thrown away."""
        return dataclasses.replace(
            self,
            prompts=self.concurrency,
            output_tokens=min(self.output_tokens, WARM_UP_TOKENS),
        )

    def long_enough(self, seconds: float) -> Point:
        """The same load with so many requests that a run lasts :data:`LEAST_SECONDS`.

        Args:
            seconds: How long a run lasted.
        """
        if self.stated or seconds >= LEAST_SECONDS:
            return self
        waves = math.ceil(self.prompts / self.concurrency * LEAST_SECONDS / max(seconds, 0.01))
        return dataclasses.replace(self, prompts=waves * self.concurrency)


def _numbers(where: str, value: Any, words: Sequence[str], problems: list[str]) -> list[Any]:
    """One value or a list of values, each a positive whole number or one of some words."""
    values = [number_in(one) for one in (value if isinstance(value, (list, tuple)) else [value])]
    for one in values:
        whole = isinstance(one, int) and not isinstance(one, bool) and one >= 1
        if not whole and one not in words:
            allowed = "".join(f" or {word}" for word in words)
            problems.append(f"{where}: {one!r} is not a whole number of 1 or more{allowed}")
    if not values:
        problems.append(f"{where}: the list is empty")
    return values


def expand(
    sweep: Any, max_model_len: int | None, *, generates: bool = True
) -> tuple[list[Point], list[dict[str, Any]]]:
    """The points of a sweep.

    Args:
        sweep: A list of mappings with `concurrency`, `input_tokens` and `output_tokens`, each
            one number or a list of numbers, all combinations of which are meant;
            `input_tokens` may be `longest`, what the context holds beside the answer. `prompts`
            is the number of requests in a run: by default twice the concurrency, at least 4, and
            as many as a run of :data:`LEAST_SECONDS` needs.
        max_model_len: The server's context length in tokens; `None` when it is not known.
        generates: Whether the model generates anything; else `output_tokens` counts as 0.

    Returns:
        The points, each once, in order; and those left out, as mappings with `reason`.

    Raises:
        SweepError: The sweep is not of that form.
    """
    problems: list[str] = []
    rows: list[tuple[list[Any], list[Any], list[Any], Any]] = []
    if not isinstance(sweep, (list, tuple)) or not sweep:
        raise SweepError("the sweep is not a list of loads, each with concurrency and lengths")
    for index, row in enumerate(sweep):
        where = f"sweep[{index}]"
        if not isinstance(row, Mapping):
            problems.append(f"{where}: {row!r} is not a mapping")
            continue
        problems += [
            f"{where}.{key}: there is no such key; there are {', '.join(_KEYS)}"
            for key in row
            if key not in _KEYS
        ]
        problems += [f"{where}.{key}: is missing" for key in LOAD if key not in row]
        concurrencies = _numbers(f"{where}.concurrency", row.get("concurrency", 1), (), problems)
        inputs = _numbers(f"{where}.input_tokens", row.get("input_tokens", 1), (LONGEST,), problems)
        outputs = _numbers(f"{where}.output_tokens", row.get("output_tokens", 1), (), problems)
        outputs = outputs if generates else [0]
        prompts = _numbers(f"{where}.prompts", row.get("prompts", 1), (), problems)
        if isinstance(row.get("prompts"), (list, tuple)):
            problems.append(f"{where}.prompts: is a list; it is one number")
        rows.append((concurrencies, inputs, outputs, prompts[0] if row.get("prompts") else None))
    if problems:
        raise SweepError("\n".join(problems))
    points: list[Point] = []
    skipped: list[dict[str, Any]] = []
    for concurrencies, inputs, outputs, prompts in rows:
        # Concurrency runs fastest: one shape after the other, as the page draws them.
        for wanted, output, streams in itertools.product(inputs, outputs, concurrencies):
            asked = {"concurrency": streams, "input_tokens": wanted, "output_tokens": output}
            length, reason = wanted, None
            if length == LONGEST and max_model_len is None:
                reason = "the server does not tell its context length"
            elif length == LONGEST:
                length = (max_model_len or 0) - output - MARGIN
                if length < 1:
                    reason = f"{output} tokens of answer fill the context of {max_model_len}"
            elif max_model_len is not None and length + output > max_model_len:
                reason = f"{length + output} tokens are more than the context of {max_model_len}"
            if reason is not None:
                skipped.append({**asked, "reason": reason})
                continue
            count = prompts or max(LEAST_PROMPTS, PROMPTS_PER_STREAM * streams)
            point = Point(streams, length, output, max(count, streams), prompts is not None)
            if point not in points:
                points.append(point)
    return points, skipped


def schedule(points: Sequence[Point], repeats: int) -> list[tuple[int, int]]:
    """In which order runs are made: round after round over all points.

    A machine that grows slower in the course of a sweep thus shows as spread in every point, not
    as a slow last point.

    Returns:
        Pairs of round (0 is the warm-up, directly before the point's first run) and index of point.
    """
    order = []
    for turn in range(1, repeats + 1):
        for index in range(len(points)):
            if turn == 1:
                order.append((0, index))
            order.append((turn, index))
    return order


def work(point: Point) -> float:
    """How much a run is, in steps of one stream; only the ratio between points is of use."""
    steps = point.output_tokens + point.input_tokens / _PREFILL_SHARE
    return math.ceil(point.prompts / point.concurrency) * steps


def seconds_left(
    points: Sequence[Point],
    todo: Iterable[tuple[int, int]],
    done: Mapping[tuple[int, int], float],
) -> float | None:
    """Estimate how long the remaining runs take.

    Args:
        points: The points.
        todo: The runs that are left, as :func:`schedule` names them.
        done: Seconds of the runs that were made.

    Returns:
        Seconds; `None` before anything was measured.
    """
    if not done:
        return None

    def size(turn: int, index: int) -> float:
        return work(points[index] if turn else points[index].warm_up())

    rate = sum(done.values()) / sum(size(*one) for one in done)
    seconds = 0.0
    for turn, index in todo:
        same = [done[one] for one in done if one[1] == index and (one[0] == 0) == (turn == 0)]
        seconds += same[-1] if same else rate * size(turn, index)
    return seconds
