# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import html.parser
import json
import re

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import (
    ceiling,
    figures,
    measure,
    run,
    sweep,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.reports import benchmark, chart

VOID = {"meta"}
GPU = {
    "uuid": "GPU-1",
    "name": "NVIDIA GeForce RTX 3090",
    "driver": "590.48.01",
    "memory_clock_mhz": 9751,
    "memory_bus_bits": 384,
    "power_limit_watts": 350.0,
    "mig_mode": None,
}
READING = {
    "sm_clock_mhz": 1905,
    "memory_clock_mhz": 9501,
    "power_watts": 338.4,
    "temperature_celsius_max": 71,
    "memory_used_bytes_max": 22 << 30,
}


class Reader(html.parser.HTMLParser):
    """Sees that every tag is closed in order, and gathers tags and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def result(tpot=20.0, gpu=True, name="one"):
    memory = {"weights_bytes": 14 * 10**9, "kv_cache_bytes_per_token": 57344}
    gpus = [GPU] if gpu else []
    limits = ceiling.make(memory, {}, True, {}, gpus, None)
    points, skipped = sweep.expand(
        [
            {"concurrency": [1, 4], "input_tokens": 512, "output_tokens": 128},
            {"concurrency": 1, "input_tokens": "longest", "output_tokens": 64},
            {"concurrency": 1, "input_tokens": 9000, "output_tokens": 64},
        ],
        4096,
    )
    measured = []
    for point in points:
        runs = [
            {
                "seconds": 1.0,
                "input_tokens": 1,
                "output_tokens": 1,
                "gpus": {"GPU-1": READING} if gpu else {},
                "figures": figures.run_figures(
                    {
                        "output_throughput": 1000 / tpot * point.concurrency,
                        "median_ttft_ms": 100.0 + turn,
                        "median_tpot_ms": tpot + turn / 10,
                    }
                ),
            }
            for turn in range(3)
        ]
        measured.append(measure._point_result(point, runs, limits))
    return {
        "schema": 1,
        "instance": name,
        "measured_at": "2026-11-23T01:26:41+00:00",
        "seconds": 12.5,
        "served_model_name": "m",
        "model": "/m",
        "release": "0.14.1",
        "accelerator": "cuda" if gpu else "cpu",
        "versions": {"vllm": "0.14.1"},
        "config": {"model": "/m"},
        "attention_backend": {"planned": "TRITON_ATTN", "engine": None},
        "gpus": gpus,
        "repeats": 3,
        "seed": 1,
        "ceiling": limits,
        "points": measured,
        "skipped": skipped,
        "comparison": None,
    }


def test_a_page_is_whole_and_needs_nothing_else():
    text = benchmark.html_report(result())
    read = Reader(text)
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    assert [tag for tag, _ in read.tags].count("svg") == 3
    assert "ceiling of the memory's bandwidth" in read.text
    assert "14.00 GB of weights" in read.text
    assert "936 GB/s (the GPU's memory clock and bus)" in read.text
    assert "1 × 9000 + 64: 9064 tokens are more than the context of 4096" in read.text  # noqa: RUF001
    assert "1,905" in read.text
    assert "22.0" in read.text


def test_every_measured_load_is_drawn_and_so_is_its_ceiling():
    read = Reader(benchmark.html_report(result()))
    # 3 loads in 3 plots; the time to the first token has no ceiling.
    assert len([1 for tag, _ in read.tags if tag == "circle"]) == 9
    assert read.text.count("ceiling ") == 6 + 1
    for tag, attributes in read.tags:
        if tag == "circle":
            assert 0 < float(attributes["cx"]) < 640
            assert 0 < float(attributes["cy"]) < 340


def test_without_a_gpu_no_ceiling_is_drawn():
    read = Reader(benchmark.html_report(result(gpu=False)))
    assert "on a CPU the memory's bandwidth is not known" in read.text
    assert "reached" not in read.text
    assert "memory MHz" not in read.text


def test_the_baseline_stands_beside():
    now, before = result(tpot=30.0), result()
    now["comparison"] = figures.compare(now, before, 10)
    read = Reader(benchmark.html_report(now))
    assert "baseline" in read.text
    lines = [attributes.get("stroke-dasharray") for tag, attributes in read.tags]
    assert lines.count("1 5") == 3 * 2  # two shapes in three charts
    marked = [tag for tag, attributes in read.tags if attributes.get("class") == "worse"]
    assert marked == ["td"] * 2 * len(now["points"])


def test_whatever_a_host_says_is_text_and_no_markup():
    evil = "</style><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
    said = {
        **result(name=evil),
        **dict.fromkeys(("release", "served_model_name", "model", "accelerator"), evil),
        "measured_at": evil,
        "versions": {evil: evil},
        "config": {evil: evil},
        "attention_backend": {"planned": evil, "engine": evil},
        "gpus": [{**GPU, "name": evil, "driver": evil, "uuid": evil}],
    }
    said["skipped"] = [{**one, "reason": evil} for one in said["skipped"]]
    said["comparison"] = figures.compare(said, {**result(), "measured_at": evil}, 10)
    text = benchmark.html_report(said)
    tags = {tag for tag, _attributes in Reader(text).tags}
    assert not tags & {"script", "img", "link", "iframe", "object", "a"}
    assert text.count("</style>") == 1
    assert "default-src 'none'" in text


def test_reports_are_named_after_host_and_instance_and_stay_in_their_folder(tmp_path):
    page = benchmark.write_reports(tmp_path / "new", "gpu1", result(name="qwen2.5-7b"))
    assert page == tmp_path / "new" / "gpu1-qwen2.5-7b.html"
    assert json.loads(page.with_suffix(".json").read_text())["instance"] == "qwen2.5-7b"
    assert benchmark.write_reports(tmp_path, "gpu1", result(name="/../../x")).parent == tmp_path


@pytest.mark.parametrize(
    ("low", "high", "log", "values"),
    [
        (0.0, 29.0, False, [0, 10, 20, 30]),
        (0.0, 0.9, False, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (45.0, 846.0, True, [20, 50, 100, 200, 500, 1000]),
        (1.0, 1.0, True, [1]),
        (0.5, 20000.0, True, [0.1, 1, 10, 100, 1000, 10000, 100000]),
    ],
)
def test_axes_have_round_numbers_and_hold_everything(low, high, log, values):
    assert chart.ticks(low, high, log) == pytest.approx(values)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\u2013"),
        (0.0, "0"),
        (0.0531, "0.053"),
        (1.256, "1.26"),
        (45.21, "45.2"),
        (338.4, "338"),
        (10569.0, "10,569"),
    ],
)
def test_numbers_are_short(value, text):
    assert benchmark.number(value) == text


def test_the_page_of_a_model_that_generates_nothing():
    runs = [
        {
            "seconds": 2.0,
            "input_tokens": 512,
            "output_tokens": None,
            "gpus": {},
            "figures": figures.run_figures(
                {
                    "request_throughput": 4.0 * streams,
                    "total_token_throughput": 256.0 * streams,
                    "median_e2el_ms": 30.0,
                    "p99_e2el_ms": 41.0,
                }
            ),
        }
        for streams in (1, 2)
    ]
    limits = {"reason": "none"}
    points = [
        measure._point_result(sweep.Point(streams, 64, 0, 4), [runs[streams - 1]], limits)
        for streams in (1, 2)
    ]
    told = measure.headline(points)
    assert told["single_stream"] == {
        "concurrency": 1,
        "input_tokens": 64,
        "output_tokens": 0,
        "reached_percent": None,
        "request_throughput": 4.0,
        "total_throughput": 256.0,
        "e2el_ms": 30.0,
    }
    assert told["highest_throughput"]["request_throughput"] == 8.0
    assert run.point_line(points[1]) == (
        "2 x 64: 8.0 requests/s (spread 0 %), 512 tokens/s, latency 30.0 ms"
    )
    page = Reader(
        benchmark.html_report(
            {**result(gpu=False), "ceiling": limits, "points": points, "skipped": []}
        )
    )
    assert "Requests/s" in page.text
    assert "Time of an answer, ms" in page.text
    for word in ("TTFT", "TPOT", "output tokens/s", " out"):
        assert word not in page.text, word
