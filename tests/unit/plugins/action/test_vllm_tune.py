# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.compute_plane.vllm.plugins.action import vllm_tune
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.release_data import (
    default_releases_dir,
    load_release_data,
)

FACTS = Path(__file__).parents[3] / "fixtures" / "facts"
MODEL = "/srv/models/qwen2.5-7b-instruct"
SPACE = {
    "enforce_eager": [False, True],
    "attention_backend": "working",
    "max_num_seqs": [64, 100000],
    "gpu_memory_utilization": [0.5, 0.92],
}


def facts_of(host):
    return json.loads((FACTS / f"{host}.json").read_text(encoding="utf-8"))


def candidates(
    name="", space=SPACE, instances=None, facts="ac-3090", goal="latency", power=None, **more
):
    facts = facts_of(facts)
    wanted = {
        **vllm_tune._WANTED,
        **more,
        "gpu_power_limit": power,
        "instances": instances
        or [{"name": "one", "model": MODEL, "max_model_len": 4096, "enforce_eager": True}],
    }
    data = load_release_data(default_releases_dir(), "0.14.1")
    return vllm_tune.candidates(wanted, facts, data, name, space, goal)


def rows(planned, **choice):
    return [
        row
        for row in planned["candidates"]
        if all(row["choice"][name] == value for name, value in choice.items())
    ]


def test_every_combination_is_planned_as_an_instance():
    planned = candidates()
    assert planned["accelerator"] == "cuda"
    assert planned["space"]["enforce_eager"] == [True, False]
    assert planned["space"]["attention_backend"][0] == "TRITON_ATTN"
    assert "FLASH_ATTN" in planned["space"]["attention_backend"]
    assert "FLASHINFER" not in planned["space"]["attention_backend"]  # there is no nvcc
    count = 1
    for values in planned["space"].values():
        count *= len(values)
    assert len(planned["candidates"]) == count
    first = planned["candidates"][0]
    assert first["problems"] == []
    assert first["instance"]["config"]["enforce-eager"] is True
    graphs = rows(planned, enforce_eager=False, attention_backend="FLASH_ATTN", max_num_seqs=64)
    config = graphs[0]["instance"]["config"]
    assert "enforce-eager" not in config
    assert (config["attention-backend"], config["max-num-seqs"]) == ("FLASH_ATTN", 64)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"max_num_seqs": 100000}, "max_num_seqs"),
        ({"gpu_memory_utilization": 0.5}, "gpu_memory_utilization"),
    ],
)
def test_what_the_plan_refuses_has_its_reason_and_no_plan(choice, words):
    refused = rows(candidates(), **choice)
    assert refused
    for row in refused:
        assert row["instance"] is None
        assert any(words in problem for problem in row["problems"])


def test_the_present_plan_must_be_good():
    with pytest.raises(vllm_tune.WrongTask, match="max_model_len"):
        candidates(instances=[{"name": "one", "model": MODEL, "max_model_len": 4096000}])


def test_which_of_several_instances_must_be_said():
    two = [
        {"name": "one", "model": MODEL, "gpu_memory_utilization": 0.85},
        {"name": "two", "model": MODEL, "port": 8001},
    ]
    with pytest.raises(vllm_tune.WrongTask, match="one, two"):
        candidates(instances=two)
    with pytest.raises(vllm_tune.WrongTask, match="one, two"):
        candidates("three", instances=two)


def test_a_space_that_is_none():
    with pytest.raises(vllm_tune.WrongTask, match="cannot be tried"):
        candidates(space={"port": [8001]})


def test_power_limits_of_the_instances_cards():
    planned = candidates(
        space={"gpu_power_limit": [250, 280, 1000]},
        instances=[{"name": "one", "model": MODEL, "max_model_len": 4096, "gpus": [0]}],
        facts="two-3090",
        power={1: 300},
    )
    first, second = (row["uuid"] for row in facts_of("two-3090")["gpu"]["gpus"])
    limits = {row["choice"]["gpu_power_limit"]: row["gpu_power"] for row in planned["candidates"]}
    assert limits[None] == {second: 300.0}
    assert limits[280] == {first: 280.0, second: 300.0}
    refused = rows(planned, gpu_power_limit=1000)[0]
    assert "takes a limit from" in refused["problems"][0]
    # The server goes on: nothing of it is another.
    assert len({json.dumps(row["instance"]) for row in rows(planned)[:3]}) == 1


def test_energy_is_measured_on_gpus_alone():
    with pytest.raises(vllm_tune.WrongTask, match="tokens_per_joule needs a GPU"):
        candidates(
            goal="tokens_per_joule",
            space={"max_num_seqs": [1]},
            instances=[{"name": "one", "model": MODEL, "max_model_len": 4096}],
            accelerator="cpu",
        )


def test_the_inventory_with_a_choice_made():
    wanted = {"instances": [{"name": "one"}, {"name": "two", "enforce_eager": True}]}
    changed = vllm_tune.with_choice(wanted, "two", {"enforce_eager": False})
    assert changed == [{"name": "one"}, {"name": "two", "enforce_eager": False}]
    assert wanted["instances"][1]["enforce_eager"] is True


def test_a_backend_that_is_found_on_the_host_is_kept_unless_another_is_tried():
    auto = [{"name": "one", "model": MODEL, "max_model_len": 4096, "attention_backend": "auto"}]
    planned = candidates(instances=auto, space={"attention_backend": ["FLASH_ATTN"]})
    assert planned["space"] == {"attention_backend": ["auto", "FLASH_ATTN"]}
    assert [row["keeps_backend"] for row in planned["candidates"]] == [True, False]
