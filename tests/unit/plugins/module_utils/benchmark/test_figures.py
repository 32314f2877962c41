# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import figures, measure

# What vllm 0.14.1 saved on two CPU cores, 4 requests of 64 + 16 tokens, 2 at a time.
SAVED = json.loads((Path(__file__).parent / "saved-0.14.1.json").read_text(encoding="utf-8"))


def test_the_figures_of_a_saved_run():
    found = figures.run_figures(SAVED)
    assert found["output_throughput"] == SAVED["output_throughput"]
    assert found["ttft_ms"] == SAVED["median_ttft_ms"]
    assert found["tpot_ms"] == SAVED["median_tpot_ms"]
    assert found["e2el_p99_ms"] == SAVED["p99_e2el_ms"]
    assert None not in found.values()


@pytest.mark.parametrize("odd", [None, float("nan"), float("inf"), "12"])
def test_a_figure_that_is_none(odd):
    assert figures.run_figures({**SAVED, "median_tpot_ms": odd})["tpot_ms"] is None


def test_requests_without_an_answer_spoil_a_run():
    assert figures.run_problem(SAVED, 4) is None
    assert figures.run_problem({**SAVED, "completed": 3}, 4) == "3 of 4 requests were answered"
    assert figures.run_problem({}, 4) == "None of 4 requests were answered"


@pytest.mark.parametrize(
    ("values", "summary"),
    [
        ([10.0], {"median": 10.0, "min": 10.0, "max": 10.0, "spread_percent": 0.0}),
        ([9.0, 10.0, 12.0], {"median": 10.0, "min": 9.0, "max": 12.0, "spread_percent": 30.0}),
        ([8.0, 12.0], {"median": 10.0, "min": 8.0, "max": 12.0, "spread_percent": 40.0}),
        ([0.0, 0.0], {"median": 0.0, "min": 0.0, "max": 0.0, "spread_percent": 0.0}),
        ([9.0, None], None),
        ([], None),
    ],
)
def test_medians_with_their_spread(values, summary):
    assert figures.summarise([{"ttft_ms": value} for value in values])["ttft_ms"] == summary


def result(throughput, ttft=(100.0, 100.0, 100.0), tpot=(20.0, 20.0, 20.0), key=(1, 64, 32)):
    runs = [
        {"output_throughput": a, "ttft_ms": b, "tpot_ms": c}
        for a, b, c in zip(throughput, ttft, tpot, strict=True)
    ]
    point = {"concurrency": key[0], "input_tokens": key[1], "output_tokens": key[2]}
    return {
        "measured_at": "then",
        "release": "0.14.1",
        "model": "/m",
        "config": {"max-model-len": 4096},
        "gpus": [],
        "points": [{**point, "figures": figures.summarise(runs)}],
    }


BASE = result((50.0, 51.0, 52.0))


@pytest.mark.parametrize(
    ("now", "verdicts"),
    [
        # name: throughput, TTFT, TPOT
        (result((50.0, 51.0, 52.0)), ["same", "same", "same"]),
        (result((40.0, 41.0, 42.0)), ["worse", "same", "same"]),
        (result((60.0, 61.0, 62.0)), ["better", "same", "same"]),
        # 6 % less is within 10 %
        (result((47.0, 48.0, 49.0)), ["same", "same", "same"]),
        # the median is 14 % less, but one run was as fast as before: noise
        (result((43.0, 44.0, 51.0)), ["same", "same", "same"]),
        (result((51.0, 51.0, 51.0), ttft=(120.0, 121.0, 122.0)), ["same", "worse", "same"]),
        (result((51.0, 51.0, 51.0), tpot=(10.0, 10.0, 10.0)), ["same", "same", "better"]),
    ],
)
def test_verdicts(now, verdicts):
    compared = figures.compare(now, BASE, 10)
    assert [row["verdict"] for row in compared["rows"]] == verdicts
    assert compared["worse"] == verdicts.count("worse")


def test_a_tighter_tolerance_tells_more():
    assert figures.compare(result((47.0, 48.0, 49.0)), BASE, 5)["worse"] == 1


def test_other_loads_are_named_not_compared():
    compared = figures.compare(result((1.0, 1.0, 1.0), key=(2, 64, 32)), BASE, 10)
    assert compared["rows"] == []
    assert (compared["missing"], compared["new"]) == ([[1, 64, 32]], [[2, 64, 32]])


def test_a_figure_that_was_not_measured_is_not_compared():
    now = result((50.0, 51.0, 52.0), tpot=(None, None, None))
    assert [row["metric"] for row in figures.compare(now, BASE, 10)["rows"]] == [
        "output_throughput",
        "ttft_ms",
    ]


def test_what_else_differs():
    now = {**BASE, "release": "0.26.0", "gpus": [{"name": "NVIDIA GeForce RTX 3090"}]}
    assert figures.compare(now, BASE, 10)["differs"] == ["release", "gpus"]


def test_lines_for_a_terminal():
    compared = figures.compare(result((40.0, 41.0, 42.0)), BASE, 10)
    assert figures.comparison_lines(compared) == [
        "worse: 1 x 64+32: output 51 -> 41 tokens/s (-19.6 %)"
    ]


def test_the_headline():
    points = []
    for key, throughput in (((1, 64, 32), 50.0), ((8, 64, 32), 200.0), ((1, 900, 32), 10.0)):
        point = result((throughput,) * 3, key=key)["points"][0]
        points.append({**point, "reached_percent": None})
    found = measure.headline(points)
    assert found["single_stream"]["output_throughput"] == 50.0
    assert found["single_stream"]["input_tokens"] == 64
    assert found["highest_throughput"]["concurrency"] == 8
    assert measure.headline([]) == {"single_stream": None, "highest_throughput": None}


# What vllm 0.14.1's `vllm bench serve --backend openai-embeddings` saves.
POOLED = {
    "duration": 2.0,
    "completed": 8,
    "total_input_tokens": 512,
    "request_throughput": 4.0,
    "total_token_throughput": 256.0,
    "median_e2el_ms": 30.0,
    "p99_e2el_ms": 40.0,
}


def pooled(requests, latency):
    runs = [
        figures.run_figures({**POOLED, "request_throughput": rate, "median_e2el_ms": latency})
        for rate in requests
    ]
    point = {"concurrency": 2, "input_tokens": 64, "output_tokens": 0}
    return {**result((1.0, 1.0, 1.0)), "points": [{**point, "figures": figures.summarise(runs)}]}


def test_a_model_that_generates_nothing_is_compared_by_requests_and_latency():
    before, now = pooled((4.0, 4.1), 30.0), pooled((2.0, 2.1), 60.0)
    compared = figures.compare(now, before, 5.0)
    assert figures.comparison_lines(compared) == [
        "worse: 2 x 64: requests 4.05 -> 2.05 requests/s (-49.4 %)",
        "worse: 2 x 64: latency 30 -> 60 ms (+100 %)",
    ]
