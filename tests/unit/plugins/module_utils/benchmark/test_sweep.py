# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import sweep
from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark.sweep import Point


@pytest.mark.parametrize(
    ("row", "points"),
    [
        (
            {"concurrency": 1, "input_tokens": 10, "output_tokens": 5},
            [Point(1, 10, 5, 4)],
        ),
        (
            {"concurrency": [1, 2, 8], "input_tokens": 10, "output_tokens": 5},
            [Point(1, 10, 5, 4), Point(2, 10, 5, 4), Point(8, 10, 5, 16)],
        ),
        (
            {"concurrency": [1, 2], "input_tokens": [10, 20], "output_tokens": 5},
            [Point(1, 10, 5, 4), Point(2, 10, 5, 4), Point(1, 20, 5, 4), Point(2, 20, 5, 4)],
        ),
        (
            {"concurrency": 1, "input_tokens": "longest", "output_tokens": 100},
            [Point(1, 1000 - 100 - 16, 100, 4)],
        ),
        (
            {"concurrency": 4, "input_tokens": 10, "output_tokens": 5, "prompts": 9},
            [Point(4, 10, 5, 9)],
        ),
        # A run has at least as many requests as are to be under way at once.
        (
            {"concurrency": 4, "input_tokens": 10, "output_tokens": 5, "prompts": 2},
            [Point(4, 10, 5, 4)],
        ),
        # As a template gives them before ansible-core 2.19.
        (
            {"concurrency": ["1", 2], "input_tokens": "10", "output_tokens": "5", "prompts": "9"},
            [Point(1, 10, 5, 9), Point(2, 10, 5, 9)],
        ),
        # The context may be used up to the last token.
        (
            {"concurrency": 1, "input_tokens": 990, "output_tokens": 10},
            [Point(1, 990, 10, 4)],
        ),
    ],
)
def test_a_row_becomes_points(row, points):
    assert sweep.expand([row], 1000) == (points, [])


def test_a_load_named_twice_is_run_once():
    row = {"concurrency": [1, 1], "input_tokens": 10, "output_tokens": 5}
    assert sweep.expand([row, row], None)[0] == [Point(1, 10, 5, 4)]


@pytest.mark.parametrize(
    ("row", "length", "reason"),
    [
        (
            {"concurrency": 1, "input_tokens": 990, "output_tokens": 11},
            1000,
            "1001 tokens are more than the context of 1000",
        ),
        (
            {"concurrency": 1, "input_tokens": "longest", "output_tokens": 990},
            1000,
            "990 tokens of answer fill the context of 1000",
        ),
        (
            {"concurrency": 1, "input_tokens": "longest", "output_tokens": 5},
            None,
            "the server does not tell its context length",
        ),
    ],
)
def test_what_the_context_does_not_hold_is_left_out(row, length, reason):
    assert sweep.expand([row], length) == ([], [{**row, "reason": reason}])


def test_everything_wrong_is_said_at_once():
    wrong = [
        {"concurrency": 0, "input_tokens": "long", "output_tokens": []},
        {"concurency": 1, "input_tokens": True, "output_tokens": 5},
        "x",
        {"concurrency": 1, "input_tokens": 1, "output_tokens": 1, "prompts": [1]},
    ]
    with pytest.raises(sweep.SweepError) as error:
        sweep.expand(wrong, None)
    assert str(error.value).splitlines() == [
        "sweep[0].concurrency: 0 is not a whole number of 1 or more",
        "sweep[0].input_tokens: 'long' is not a whole number of 1 or more or longest",
        "sweep[0].output_tokens: the list is empty",
        f"sweep[1].concurency: there is no such key; there are {', '.join(sweep._KEYS)}",
        "sweep[1].concurrency: is missing",
        "sweep[1].input_tokens: True is not a whole number of 1 or more or longest",
        "sweep[2]: 'x' is not a mapping",
        "sweep[3].prompts: is a list; it is one number",
    ]


@pytest.mark.parametrize("empty", [[], {}, None, "x"])
def test_no_sweep_is_an_error(empty):
    with pytest.raises(sweep.SweepError):
        sweep.expand(empty, None)


def test_rounds_go_over_all_points_each_warmed_up_once():
    points = [Point(1, 1, 1, 1), Point(2, 1, 1, 2)]
    assert sweep.schedule(points, 2) == [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1)]


def test_a_warm_up_has_the_shape_and_is_short():
    assert Point(8, 512, 128, 16).warm_up() == Point(8, 512, 16, 8)
    assert Point(1, 512, 4, 4).warm_up() == Point(1, 512, 4, 1)


@pytest.mark.parametrize(
    ("point", "seconds", "prompts"),
    [
        (Point(1, 512, 128, 4), 10.0, 4),
        (Point(1, 512, 128, 4), 25.0, 4),
        (Point(1, 512, 128, 4), 1.0, 40),
        (Point(1, 512, 128, 4), 3.0, 14),
        (Point(8, 512, 128, 16), 0.75, 216),
        (Point(8, 512, 128, 16, stated=True), 0.75, 16),
        (Point(4, 512, 128, 4), 0.0, 4000),
    ],
)
def test_a_run_has_requests_for_ten_seconds(point, seconds, prompts):
    assert point.long_enough(seconds).prompts == prompts


def test_nothing_measured_no_estimate():
    assert sweep.seconds_left([Point(1, 20, 10, 1)], [(1, 0)], {}) is None


def test_what_was_measured_counts_as_it_was():
    points = [Point(1, 20, 10, 1)]
    assert sweep.seconds_left(points, [(2, 0), (3, 0)], {(0, 0): 50.0, (1, 0): 7.0}) == 14.0


def test_what_was_not_measured_is_estimated_by_its_size():
    # 10 steps and a prompt of one more: 11 for the first, twice 11 for the second.
    points = [Point(1, 20, 10, 1), Point(1, 20, 10, 2)]
    assert sweep.seconds_left(points, [(1, 1)], {(1, 0): 11.0}) == pytest.approx(22.0)


def test_nothing_is_generated_and_the_whole_context_is_the_prompts():
    row = {"concurrency": [1, 2], "input_tokens": ["longest", 64], "output_tokens": [8, 128]}
    points, skipped = sweep.expand([row], 256, generates=False)
    assert points == [Point(streams, length, 0, 4) for length in (240, 64) for streams in (1, 2)]
    assert skipped == []
    assert points[0].label == "1 stream, 240 in"
