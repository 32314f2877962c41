# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop that measures: warm-up, rounds over all points, figures and GPUs of each run."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import (
    ceiling,
    client,
    figures,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark.sweep import (
    Point,
    schedule,
    seconds_left,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.numbers import human_seconds
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    Endpoint,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import Deployment

Tell = Callable[[Point, int, int, "float | None"], None]
"""Called before each run with its point, its number, how many there are, and the seconds left."""


def progress_text(point: Point, number: int, count: int, left: float | None) -> str:
    """What is shown of a run under way."""
    text = f"run {number} of {count}: {point.label}"
    return text if left is None else f"{text}; about {human_seconds(left)} left"


def context_length(now: Deployment, key: str | None) -> int | None:
    """A server's context length, in tokens; `None` where it tells none.

    Raises:
        EndpointError: It does not answer.
    """
    for model in Endpoint(now.url, key, 30.0).models():
        if model.get("id") == now.served_model_name:
            length = model.get("max_model_len")
            return length if isinstance(length, int) else None
    return None


def new_seed() -> int:
    """A seed for prompts that no earlier benchmark has asked, since servers keep their KV cache."""
    return random.SystemRandom().randrange(1 << 30)


def measure(
    runner: client.BenchClient,
    watch: client.GpuWatch,
    now: Deployment,
    points: Sequence[Point],
    params: Mapping[str, Any],
    *,
    seed: int,
    limits: Mapping[str, Any],
    tell: Tell,
) -> list[dict[str, Any]]:
    """Measure a server.

    Args:
        runner: vLLM's client.
        watch: The reader of the GPUs.
        now: What serves.
        points: The loads.
        params: The module's `repeats`, runs of each beside the warm-up; `time_limit`, seconds
            after which no further run is begun; `run_timeout`, seconds that one run may take.
        seed: Every run takes another one, from this one on.
        limits: What `ceiling.make` returned.
        tell: Told of each run.

    Returns:
        For each point its load, its `runs`, their `figures`, its `ceiling` and how much of it
        was `reached_percent`. A point for which there was no time has no runs and no figures.

    Raises:
        BenchClientError: A run failed, or requests of it were not answered.
    """
    points = list(points)
    flags = now.config
    time_limit = params["time_limit"]

    def run(point: Point, seed: int) -> Mapping[str, Any]:
        argv = client.run_argv(now.url, now.served_model_name, flags, point, seed, now.kind)
        return _run(runner, point, argv, params["run_timeout"])

    order = schedule(points, params["repeats"])
    began = time.monotonic()
    durations: dict[tuple[int, int], float] = {}
    runs: list[list[dict[str, Any]]] = [[] for _point in points]
    for number, (turn, index) in enumerate(order):
        left = seconds_left(points, order[number:], durations)
        spent = time.monotonic() - began
        # One whole round is made of what fits; a warm-up alone is of no use.
        if spent > time_limit:
            break
        point = points[index] if turn else points[index].warm_up()
        tell(point, number + 1, len(order), None if left is None else min(left, time_limit - spent))
        at, clock = time.time(), time.monotonic()
        saved = run(point, seed + number)
        longer = point.long_enough(float(saved["duration"]))
        if turn == 1 and longer != point:
            points[index] = point = longer
            at, clock = time.time(), time.monotonic()
            # With a seed of its own: the server keeps what it has seen.
            saved = run(point, seed + len(order) + index)
        durations[turn, index] = time.monotonic() - clock
        if turn:
            end = time.time()
            gpus = watch.between(at, end)
            # The client's own start and end are no part of what the tokens took.
            busy = watch.between(max(at, end - float(saved["duration"])), end)
            for uuid, seen in gpus.items():
                seen["power_watts_mean"] = busy.get(uuid, {}).get("power_watts_mean")
            runs[index].append(
                {
                    "seconds": round(float(saved["duration"]), 3),
                    "input_tokens": saved.get("total_input_tokens"),
                    "output_tokens": saved.get("total_output_tokens"),
                    "figures": figures.run_figures(saved),
                    "gpus": gpus,
                }
            )
    return [_point_result(point, made, limits) for point, made in zip(points, runs)]


def _run(
    runner: client.BenchClient, point: Point, arguments: list[str], run_timeout: float
) -> Mapping[str, Any]:
    try:
        saved = runner.run(arguments, run_timeout)
    except client.BenchClientError as error:
        raise client.BenchClientError(f"{point.label}: {error}") from error
    problem = figures.run_problem(saved, point.prompts)
    if problem is not None:
        raise client.BenchClientError(f"{point.label}: {problem}")
    return saved


def _point_result(
    point: Point, runs: list[dict[str, Any]], limits: Mapping[str, Any]
) -> dict[str, Any]:
    summary = figures.summarise([run["figures"] for run in runs])
    limit = ceiling.at(limits, point.concurrency, point.input_tokens, point.output_tokens)
    tpot = summary["tpot_ms"]
    return {
        "concurrency": point.concurrency,
        "input_tokens": point.input_tokens,
        "output_tokens": point.output_tokens,
        "prompts": point.prompts,
        "runs": runs,
        "figures": summary,
        "ceiling": limit,
        "reached_percent": ceiling.reached_percent(limit, tpot["median"] if tpot else None),
    }


GENERATED = ("output_throughput", "ttft_ms", "tpot_ms")
POOLED = ("request_throughput", "total_throughput", "e2el_ms")
"""The figures that an endpoint is known by; the first is the one of which the most is best."""


def _most(point: Mapping[str, Any]) -> str:
    return (GENERATED if point["output_tokens"] else POOLED)[0]


def headline(points: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any] | None]:
    """The two figures that an endpoint is known by.

    Returns:
        `single_stream`, the first load with one request at a time, and `highest_throughput`, the
        load with the most output tokens a second: load, `output_throughput` (tokens/s),
        `ttft_ms`, `tpot_ms`, `reached_percent`; `None` where none was measured. Of a model that
        generates nothing they have `request_throughput` (requests/s), `total_throughput`
        (tokens/s, which are all read) and `e2el_ms` instead, and the most is the most requests.
    """
    measured = [point for point in points if point["figures"][_most(point)]]

    def short(point: Mapping[str, Any]) -> dict[str, Any]:
        result = {
            key: point[key]
            for key in ("concurrency", "input_tokens", "output_tokens", "reached_percent")
        }
        for name in GENERATED if point["output_tokens"] else POOLED:
            figure = point["figures"][name]
            result[name] = None if figure is None else figure["median"]
        return result

    single = [point for point in measured if point["concurrency"] == 1]
    best = max(measured, key=lambda point: point["figures"][_most(point)]["median"], default=None)
    return {
        "single_stream": short(single[0]) if single else None,
        "highest_throughput": short(best) if best is not None else None,
    }
