# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host can serve, over the machines of the fixtures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.action.vllm_fit import read_models
from ansible_collections.compute_plane.vllm.plugins.action.vllm_plan import answer
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.fit import (
    fit,
    render_fit,
    settle,
    with_shipped,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import name_of
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.planner import make_plan

ROOT = Path(__file__).parents[5]
HUB = "/var/lib/vllm/hub"

QWEN7, QWEN7_AWQ = "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct-AWQ"
QWEN72_AWQ, LLAMA70_AWQ = (
    "Qwen/Qwen2.5-72B-Instruct-AWQ",
    "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4",
)
LLAMA8_GPTQ = "hugging-quants/Meta-Llama-3.1-8B-Instruct-GPTQ-INT4"
QWEN32_AWQ, QWEN8_FP8, TINY = (
    "Qwen/Qwen3-32B-AWQ",
    "Qwen/Qwen3-8B-FP8",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
)

# Machine -> which of these fit, on how many of its GPUs; what people with such cards report.
EXPECTED: dict[str, dict[str, int | None]] = {
    "ac-3090": {QWEN7: 1, QWEN7_AWQ: 1, QWEN32_AWQ: 1, QWEN72_AWQ: None, TINY: 1},
    "rtx-4090": {QWEN7: 1, QWEN8_FP8: 1, QWEN32_AWQ: 1, LLAMA70_AWQ: None},
    "two-3090": {QWEN7: 1, QWEN32_AWQ: 1, LLAMA70_AWQ: 2, QWEN72_AWQ: 2},
    "t4": {QWEN7: None, QWEN7_AWQ: 1, QWEN32_AWQ: None, TINY: 1},
    "rtx-3060": {QWEN7: None, QWEN7_AWQ: 1, QWEN32_AWQ: None, TINY: 1},
    "rtx-5090": {QWEN7: 1, QWEN32_AWQ: 1, LLAMA70_AWQ: None},
}


@pytest.fixture
def fitted(facts: Any, release_data: Any) -> Any:
    def of(machine: str, wanted: list[Any], release: str = "0.26.0", **raw: Any) -> Any:
        data = release_data(release)
        found = with_shipped(facts(machine), data.rules["candidates"], HUB, [])
        return fit({"release": release, "accelerator": "cuda", **raw}, found, data, wanted)

    return of


@pytest.mark.parametrize("machine", EXPECTED)
def test_what_fits(machine: str, fitted: Any) -> None:
    rows = fitted(machine, [{"model": model} for model in EXPECTED[machine]])
    assert {row["model"]: row["gpus"] if row["fits"] else None for row in rows} == EXPECTED[machine]
    for row in rows:
        assert bool(row["why"]) is not row["fits"]
        if row["fits"]:
            assert row["max_model_len"] > 0
            assert row["streams"] >= 0


@pytest.mark.parametrize("release", ["0.14.1", "0.26.0", "newest-that-fits"])
@pytest.mark.parametrize("machine", EXPECTED)
def test_the_lines_for_the_inventory_are_planned_without_a_problem(
    machine: str, release: str, facts: Any, release_data: Any
) -> None:
    """Every model that ships: the printed lines, read as an inventory, on the same host."""
    data = release_data(release)
    shipped = data.rules["candidates"]
    found = with_shipped(facts(machine), shipped, HUB, [])
    settled, its_data, lacks = settle({"release": release, "accelerator": "auto"}, found, data)
    rows = fit(settled, found, its_data, [{"model": model} for model in shipped["models"]])
    assert any(row["fits"] for row in rows)
    assert lacks == []
    text = render_fit(rows, settled["release"], lacks)
    lines = yaml.safe_load(text[text.index('\nvllm_release: "') :])
    fitting = {row["model"]: row for row in rows if row["fits"]}
    assert [one["model"] for one in lines["vllm_instances"]] == list(fitting)
    for instance in lines["vllm_instances"]:
        plan = make_plan(
            {"release": lines["vllm_release"], "instances": [instance]},
            found,
            release_data(lines["vllm_release"]),
        )
        assert plan["problems"] == []
        told, (planned,) = fitting[instance["model"]], plan["instances"]
        assert planned["memory"]["max_model_len"] == told["max_model_len"]
        assert len(planned["gpus"]) == told["gpus"]
        assert told["download_bytes"] == shipped["models"][told["model"]]["weights_bytes"]
        for column in (told["model"], fact.gib(told["download_bytes"])):
            assert column in text


@pytest.mark.parametrize(
    ("machine", "newest"),
    [
        # 7.0: kernels end with 0.14.1; 535: no driver for CUDA 13.
        ("v100", "0.14.1"),
        ("driver-535", "0.14.1"),
        # Python 3.12 of Ubuntu 24.04 and driver 580 or newer.
        ("ac-3090", "0.33.0"),
        ("t4", "0.33.0"),
    ],
)
def test_the_newest_release_that_fits_is_taken(
    machine: str, newest: str, facts: Any, release_data: Any
) -> None:
    data = release_data("newest-that-fits")
    found = with_shipped(facts(machine), data.rules["candidates"], HUB, [])
    settled, its_data, lacks = settle({"release": "newest-that-fits"}, found, data)
    assert (settled["release"], lacks) == (newest, [])
    (row,) = fit(settled, found, its_data, [{"model": TINY}])
    assert row["fits"], row["why"]
    assert f'vllm_release: "{newest}"' in render_fit([row], newest)


def test_what_the_host_lacks_is_told_first(facts: Any, release_data: Any) -> None:
    data = release_data("0.26.0")
    found = with_shipped(facts("driver-535"), data.rules["candidates"], HUB, [])
    settled, its_data, lacks = settle({"release": "0.26.0"}, found, data)
    assert [one["code"] for one in lacks] == ["driver-too-old"]
    rows = fit(settled, found, its_data, [{"model": TINY}])
    lines = render_fit(rows, "0.26.0", lacks).splitlines()
    assert lines[2] == "First of all, whatever the model:"
    assert "580" in lines[4]


def test_more_of_the_memory_is_taken_where_that_is_all_it_needs(fitted: Any) -> None:
    (row,) = fitted("two-3090", [{"model": QWEN72_AWQ}])
    assert 0.85 < row["instance"]["gpu_memory_utilization"] <= 0.95
    assert row["instance"]["tensor_parallel_size"] == 2


def test_the_ceiling_is_the_bandwidth_over_what_a_step_reads(fitted: Any) -> None:
    (row,) = fitted("ac-3090", [{"model": QWEN7}])
    # 7.62 G parameters without the embedding's 152064 x 3584, in two bytes; 936 GB/s.
    read = (7615616512 - 152064 * 3584) * 2
    assert row["tokens_per_second"] == pytest.approx(936e9 / read, rel=0.01)


def test_a_users_own_keys_count(fitted: Any) -> None:
    plain, eight = fitted(
        "rtx-4090", [{"model": QWEN7}, {"model": QWEN7, "extra_args": {"kv_cache_dtype": "fp8"}}]
    )
    assert eight["streams"] > 1.8 * plain["streams"]
    assert eight["instance"]["extra_args"] == {"kv_cache_dtype": "fp8"}


def test_a_model_of_which_nothing_is_known(fitted: Any) -> None:
    (row,) = fitted("ac-3090", [{"model": "org/unknown"}])
    assert not row["fits"]
    assert row["max_model_len"] is None
    assert "not known" in row["why"][0]


def test_what_is_wrong_with_the_host_is_not_the_models(fitted: Any, facts: Any) -> None:
    (row,) = fitted("ac-3090", [{"model": QWEN7}], python="/usr/bin/python9")
    assert row["fits"]


def test_on_a_cpu_the_hosts_memory_counts(fitted: Any) -> None:
    large, small = fitted(
        "cpu-debian-12", [{"model": QWEN72_AWQ}, {"model": TINY}], accelerator="cpu"
    )
    assert not large["fits"]
    assert "of memory" in large["why"][0]
    assert small["fits"]
    assert small["gpus"] == 0


def test_the_report(fitted: Any) -> None:
    text = render_fit(fitted("t4", [{"model": QWEN7}, {"model": QWEN7_AWQ}]), "0.26.0")
    lines = text.splitlines()
    assert lines[0] == "Served by vLLM 0.26.0, each alone on this host"
    assert f"  {QWEN7} does not fit:" in lines
    assert yaml.safe_load(text[text.index("vllm_instances:") :]) == {
        "vllm_instances": [{"name": "qwen2.5-7b-instruct-awq", "model": QWEN7_AWQ}]
    }


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Qwen/Qwen3-8B-AWQ", "qwen3-8b-awq"),
        ("/srv/models/My Model/", "my-model"),
        ("org/_x_", "x"),
        ("/", "model"),
    ],
)
def test_names(model: str, name: str) -> None:
    assert name_of(model) == name


def test_all_that_is_wrong_with_the_list_is_said() -> None:
    models, problems = read_models(["org/a", 5, {"name": "x"}, {"model": "org/b", "port": 8001}])
    assert models == [
        {"name": "a", "model": "org/a"},
        {"name": "b", "model": "org/b", "port": 8001},
    ]
    assert [problem.split(":")[0] for problem in problems] == ["models[1]", "models[2]"]
    assert read_models("org/a")[1]


def test_the_list_is_what_its_script_makes() -> None:
    argv = [sys.executable, str(ROOT / "scripts" / "candidates"), "--check"]
    assert subprocess.run(argv, check=False).returncode == 0


@pytest.mark.parametrize(
    ("machine", "model", "named"),
    [
        ("t4", QWEN7, QWEN7_AWQ),
        ("rtx-3060", QWEN7, QWEN7_AWQ),
        ("t4", "meta-llama/Llama-3.1-8B-Instruct", LLAMA8_GPTQ),
        ("ac-3090", QWEN72_AWQ, None),
    ],
)
def test_a_refusal_names_a_form_of_the_model_that_would_fit(
    machine: str, model: str, named: str | None, facts: Any, release_data: Any
) -> None:
    data = release_data("0.26.0")
    found = with_shipped(facts(machine), data.rules["candidates"], HUB, [])
    raw = {
        "release": "0.26.0",
        "accelerator": "cuda",
        "instances": [{"name": "other", "model": TINY}, {"name": "m", "model": model, "gpus": [0]}],
    }
    raw["instances"][0]["port"] = 8001
    raw["instances"][0]["gpu_memory_utilization"] = 0.14
    raw["instances"][1]["gpu_memory_utilization"] = 0.85
    result = answer(raw, found, data, fail=False)
    (problem,) = [one for one in result["problems"] if one["code"] == "weights-do-not-fit"]
    assert problem["where"] == "vllm_instances[1].model"
    if named is None:
        assert " fits, with " not in problem["remedy"]
    else:
        assert f"; {named} fits, with " in problem["remedy"]
        ways = [problem["settings"], *problem.get("alternatives", [])]
        assert ways[-1] == {"vllm_instances[1].model": named}
        raw["instances"][1]["model"] = named
        after = make_plan(raw, found, data)["problems"]
        assert "weights-do-not-fit" not in {one["code"] for one in after}
    assert problem["remedy"] in result["msg"]
