# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import tuning
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy import deployment
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import FINGERPRINT

INSTANCE = {"name": "a", "model": "/m", "enforce_eager": True, "extra_args": {"seed": 1}}


@pytest.mark.parametrize(
    ("raw", "accelerator", "space"),
    [
        # What the inventory has comes first, whether it is in the list or not.
        ({"enforce_eager": [False]}, "cuda", {"enforce_eager": [True, False]}),
        ({"enforce_eager": [False, True]}, "cuda", {"enforce_eager": [True, False]}),
        ({"max_num_seqs": [64, 256]}, "cuda", {"max_num_seqs": [None, 64, 256]}),
        (
            {"gpu_memory_utilization": [0.85, 0.92]},
            "cuda",
            {"gpu_memory_utilization": [0.85, 0.92]},
        ),
        (
            {"attention_backend": "working"},
            "cuda",
            {"attention_backend": ["TRITON_ATTN", "FLASH_ATTN"]},
        ),
        (
            {"attention_backend": ["FLASH_ATTN"]},
            "cuda",
            {"attention_backend": ["TRITON_ATTN", "FLASH_ATTN"]},
        ),
        # What means nothing on the accelerator is left out.
        (
            {"attention_backend": "working", "cpu_kvcache_space": [2], "max_num_seqs": [1]},
            "cpu",
            {"cpu_kvcache_space": [1, 2], "max_num_seqs": [None, 1]},
        ),
        (
            {"cpu_kvcache_space": [2], "max_num_seqs": [1]},
            "cuda",
            {"max_num_seqs": [None, 1]},
        ),
        ({"gpu_power_limit": [280, 350]}, "cuda", {"gpu_power_limit": [None, 280, 350]}),
        ({"gpu_power_limit": [280], "max_num_seqs": [1]}, "cpu", {"max_num_seqs": [None, 1]}),
        ({"extra_args": [{"seed": 2}]}, "cuda", {"extra_args": [{"seed": 1}, {"seed": 2}]}),
    ],
)
def test_a_space(raw, accelerator, space):
    backends = ["FLASH_ATTN", "TRITON_ATTN"] if accelerator == "cuda" else []
    assert tuning.read_space(raw, INSTANCE, accelerator, backends) == space


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({}, "not a mapping"),
        ([1], "not a mapping"),
        ({"port": [1]}, "space.port: cannot be tried"),
        ({"max_num_seqs": 5}, "space.max_num_seqs: 5 is not a list"),
        ({"max_num_seqs": []}, "space.max_num_seqs: [] is not a list"),
        ({"extra_args": [1]}, "each value is a mapping"),
        ({"max_num_seqs": list(range(600))}, "are more than 500"),
    ],
)
def test_a_space_that_is_none(raw, words):
    with pytest.raises(tuning.SpaceError, match=words.replace("[", r"\[")):
        tuning.read_space(raw, INSTANCE, "cuda", [])


def test_choices_begin_with_the_inventorys():
    space = {"enforce_eager": [True, False], "max_num_seqs": [None, 64]}
    assert tuning.choices(space)[0] == {"enforce_eager": True, "max_num_seqs": None}
    assert len(tuning.choices(space)) == 4
    assert tuning.most_starts(space) == 2


def test_an_instance_with_a_choice():
    # A power limit is the host's.
    choice = {"enforce_eager": False, "max_num_seqs": None, "extra_args": {"x": 2}}
    choice["gpu_power_limit"] = 280
    assert tuning.changed_instance({**INSTANCE, "max_num_seqs": 5}, choice) == {
        "name": "a",
        "model": "/m",
        "enforce_eager": False,
        "extra_args": {"seed": 1, "x": 2},
    }


def walked(space, costs, impossible=(), margin=3.0):
    """Walk a space whose choices cost what `costs` says; returns the way and the end."""
    possible = [tuning.key(choice) for choice in tuning.choices(space)]
    possible = [key for key in possible if key not in {tuning.key(one) for one in impossible}]
    scores, way = {}, []
    while True:
        best, choice = tuning.walk(space, possible, scores, margin)
        if choice is None:
            return way, best
        assert tuning.key(choice) not in scores
        way.append(tuple(choice.values()))
        scores[tuning.key(choice)] = costs[tuple(choice.values())]


SPACE = {"a": [0, 1], "b": [0, 1, 2]}


@pytest.mark.parametrize(
    ("costs", "way", "best"),
    [
        # Nothing is better: the inventory's stays.
        (
            {(0, 0): 10, (1, 0): 11, (0, 1): 12, (0, 2): 13},
            [(0, 0), (1, 0), (0, 1), (0, 2)],
            (0, 0),
        ),
        # The second setting is varied from the best of the first.
        (
            {(0, 0): 10, (1, 0): 5, (1, 1): 6, (1, 2): 4},
            [(0, 0), (1, 0), (1, 1), (1, 2)],
            (1, 2),
        ),
        # Better by less than the margin is not better.
        (
            {(0, 0): 10, (1, 0): 9.8, (0, 1): 9.71, (0, 2): 11},
            [(0, 0), (1, 0), (0, 1), (0, 2)],
            (0, 0),
        ),
        # What failed is never the best.
        (
            {(0, 0): 10, (1, 0): None, (0, 1): None, (0, 2): 5},
            [(0, 0), (1, 0), (0, 1), (0, 2)],
            (0, 2),
        ),
    ],
)
def test_a_walk(costs, way, best):
    assert walked(SPACE, costs) == (way, dict(zip(SPACE, best, strict=True)))


def test_what_the_plan_refuses_is_not_tried():
    costs = {(0, 0): 10, (0, 1): 12, (0, 2): 9}
    way, best = walked(SPACE, costs, impossible=[{"a": 1, "b": 0}])
    assert way == [(0, 0), (0, 1), (0, 2)]
    assert best == {"a": 0, "b": 2}


def run(seconds, tokens, **watts):
    gpus = {uuid: {"power_watts_mean": value} for uuid, value in watts.items()}
    return {"seconds": seconds, "output_tokens": tokens, "gpus": gpus}


def point(streams, throughput, whole, *runs):
    figures = {"output_throughput": {"median": throughput}, "e2el_ms": {"median": whole}}
    return {"concurrency": streams, "figures": figures, "runs": runs}


def test_scores_of_the_goals():
    measured = {
        "ready_seconds": 40.5,
        "points": [point(16, 800.0, 9000.0), point(1, 60.0, 2000.0)],
    }
    assert tuning.score(measured, "latency") == 2000.0
    assert tuning.score(measured, "throughput") == 1 / 800
    assert tuning.score(measured, "startup") == 40.5


def test_without_a_figure_there_is_no_score():
    figures = {"output_throughput": None, "e2el_ms": None}
    nothing = {"concurrency": 1, "figures": figures, "runs": []}
    for goal in tuning.GOALS:
        assert tuning.score({"ready_seconds": None, "points": [nothing]}, goal) is None


@pytest.mark.parametrize(
    ("runs", "joules"),
    [
        pytest.param([run(10.0, 1000, a=300.0)], 3.0, id="watts by seconds by tokens"),
        pytest.param([run(10.0, 1000, a=300.0, b=200.0)], 5.0, id="all cards"),
        pytest.param(
            [run(10, 1000, a=300.0), run(10, 1000, a=100.0), run(10, 1000, a=200.0)],
            2.0,
            id="the median of the runs",
        ),
        pytest.param([run(10.0, 1000, a=300.0, b=None)], None, id="a card that does not tell"),
        pytest.param([run(10.0, 1000)], None, id="no card"),
        pytest.param([run(10.0, 0, a=300.0)], None, id="no tokens"),
        pytest.param([], None, id="no run"),
    ],
)
def test_the_energy_of_a_token(runs, joules):
    found = tuning.joules_a_token(point(16, 100.0, 1.0, *runs))
    assert found == (None if joules is None else pytest.approx(joules))
    # The load with the most streams counts.
    measured = {"points": [point(16, 100.0, 1.0, *runs), point(1, 10.0, 1.0, run(1.0, 1, a=9.0))]}
    assert tuning.score(measured, "tokens_per_joule") == found


def test_what_less_power_costs():
    now = {"points": [point(1, 10.0, 1.0), point(16, 400.0, 1.0, run(10.0, 4000, a=350.0))]}
    less = {"points": [point(1, 10.0, 1.0), point(16, 380.0, 1.0, run(10.0, 3800, a=250.0))]}
    assert tuning.cost(now, less) == (
        "33.0 % more tokens per joule and 5.0 % fewer tokens a second, beside what serves now"
    )
    assert tuning.cost(now, {"points": [point(16, 380.0, 1.0, run(10.0, 3800))]}) is None
    assert tuning.cost(now, {"points": []}) is None
    # As the score has it, of loads with as many streams the last one counts.
    first = point(16, 1.0, 1.0, run(10.0, 10, a=1.0))
    assert "33.0 % more" in str(tuning.cost(now, {"points": [first, *less["points"]]}))


def test_lines_for_the_inventory():
    before = {"enforce_eager": True, "max_num_seqs": 64, "dtype": "auto", "extra_args": {}}
    before["gpu_power_limit"] = None
    best = {
        "gpu_power_limit": 280,
        "enforce_eager": False,
        "max_num_seqs": None,
        "dtype": "auto",
        "extra_args": {"max-num-batched-tokens": 4096},
    }
    assert tuning.inventory_lines(best, before) == [
        "enforce_eager: false",
        "# remove max_num_seqs",
        'extra_args: {"max-num-batched-tokens": 4096}',
    ]
    assert tuning.inventory_lines(before, before) == []


def test_a_name_for_people():
    choice = {"enforce_eager": False, "attention_backend": "TRITON_ATTN", "max_num_seqs": None}
    assert (
        tuning.label(choice)
        == "enforce_eager false, attention_backend TRITON_ATTN, max_num_seqs default"
    )
    assert tuning.label({"gpu_power_limit": 280}) == "gpu_power_limit 280"
    assert tuning.label({"gpu_power_limit": None}) == "gpu_power_limit as it is"


def former():
    config = {"model": "/m", "port": 8000, "max-model-len": 4096, "enforce-eager": True}
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "OWN": 'a "b" % c'}
    wanted = {
        "name": "a",
        "venv": "/opt/v",
        "config": config,
        "environment": environment,
        "url": "http://127.0.0.1:8000",
        "served_model_name": "a",
    }
    common = deployment.Common(release="0.14.1", unit="[Service]\n", supervisor="/opt/s")
    return deployment.deployment(wanted, common, []), config, environment


def test_what_is_deployed_is_told_from_what_is_not():
    one, config, environment = former()
    assert tuning.is_deployed(one, config, environment)
    assert not tuning.is_deployed(one, {**config, "port": 8001}, environment)
    assert not tuning.is_deployed(one, config, {**environment, "VLLM_CPU_KVCACHE_SPACE": "2"})


def test_a_variant_is_what_is_deployed_but_for_flags_and_variables():
    one, config, environment = former()
    flags = {"model": "/m", "port": 8000, "max-num-seqs": 64}
    after = {"VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1"}
    other = tuning.variant(one, environment, flags, after)
    assert tuning.is_deployed(other, flags, after)
    assert other.fingerprint != one.fingerprint
    assert f"{FINGERPRINT}={other.fingerprint}" in other.drop_in_text
    assert one.fingerprint not in other.drop_in_text
    assert "OWN=" not in other.drop_in_text
    assert other.max_model_len is None
    changed = set(one.drop_in_text.splitlines()) ^ set(other.drop_in_text.splitlines())
    assert all(line.startswith("Environment=") for line in changed)
    assert len(changed) == 5  # the fingerprint and the KV cache before and after, OWN
    back = tuning.variant(other, after, config, environment)
    assert dataclasses.replace(back, fingerprint=one.fingerprint) == one
    assert tuning.is_deployed(back, config, environment)


def test_equal_variants_are_equal():
    one, config, environment = former()
    assert tuning.variant(one, environment, config, {}) == tuning.variant(
        one, environment, config, {}
    )
