# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every plan, whatever the inventory and the host say."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.planner import make_plan
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    NOTES,
    PROBLEMS,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.report import render
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import INSTANCE_KEYS

MACHINES = [
    "ac-3090",
    "ac-3090-nvcc",
    "cpu-debian-12",
    "desktop-3gb-used",
    "driver-535",
    "h100",
    "lost-gpu",
    "mismatch",
    "no-driver",
    "orphan-enginecore",
    "rtx-4090",
    "t4",
    "two-3090",
    "v100",
]
MODEL = "/srv/models/qwen2.5-7b-instruct"
GIB = 1024**3

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["auto", "cuda", "0.14.1", MODEL, "Qwen/Qwen2.5-7B-Instruct", "8.6", "/"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8) | st.sampled_from(sorted(INSTANCE_KEYS)), inner)
    ),
    max_leaves=8,
)

instances = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(INSTANCE_KEYS, anything),
        "name": st.sampled_from(["one", "two", "three"]) | anything,
        "model": st.sampled_from([MODEL, "Qwen/Qwen2.5-7B-Instruct"]) | anything,
        "port": st.integers(7999, 8002) | anything,
        "extra_args": st.dictionaries(
            st.sampled_from(
                ["kv_cache_dtype", "seed", "quantization", "pipeline_parallel_size", "model"]
            )
            | st.text(max_size=8),
            anything,
        )
        | anything,
        "surprise": anything,
    },
)

wanted = st.fixed_dictionaries(
    {},
    optional={
        "release": st.sampled_from(["0.14.1", "0.26.0"]) | anything,
        "accelerator": st.sampled_from(["auto", "cuda", "cpu"]) | anything,
        "instances": st.lists(instances | anything, max_size=4) | anything,
        "nvcc": st.sampled_from(["any", "absent", "present"]) | anything,
        "opt_dir": anything,
        "state_dir": anything,
        "python": anything,
        "offline": st.booleans() | anything,
        "variables": anything,
    },
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of everything inside a JSON value."""
    found = [path] if path else []
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        found += places(item, (*path, key))
    return found


@st.composite
def damaged(draw: st.DrawFn, value: Any) -> Any:
    """Return a JSON value with up to four of its parts replaced or removed."""
    result = copy.deepcopy(value)
    for _ in range(draw(st.integers(0, 4))):
        known = places(result)
        if not known:
            break
        *path, last = draw(st.sampled_from(known))
        parent = result
        for key in path:
            parent = parent[key]
        if draw(st.booleans()) and isinstance(parent, dict):
            del parent[last]
        else:
            parent[last] = draw(anything)
    return result


@settings(max_examples=80)
@given(data=st.data())
def test_a_plan_never_raises_and_is_the_same_for_the_same_input(data, facts, release_data):
    raw = data.draw(wanted | anything)
    found = data.draw(damaged(facts(data.draw(st.sampled_from(MACHINES)))) | anything)
    release = raw.get("release") if isinstance(raw, dict) else None
    known = release if release in ("0.14.1", "0.26.0") else "0.0.0"
    known_data = release_data(known)
    before = copy.deepcopy((raw, found))

    plan = make_plan(raw, found, known_data)

    assert repr((raw, found)) == repr(before), "the plan changed its arguments"
    assert make_plan(*before, known_data) == plan
    assert render(plan, found) == render(plan, before[1])
    assert json.loads(json.dumps(plan)) == plan
    assert {problem["code"] for problem in plan["problems"]} <= set(PROBLEMS)
    assert {note["code"] for note in plan["notes"]} <= set(NOTES)
    for entry in [*plan["problems"], *plan["notes"]]:
        texts = [text for key, text in entry.items() if key not in ("settings", "alternatives")]
        assert all("\n" not in text and text.strip() for text in texts)


@settings(max_examples=30)
@given(data=st.data())
def test_damaged_release_data_never_raises(data, facts, release_data):
    intact = release_data("0.14.1")
    broken = dataclasses.replace(
        intact,
        release=data.draw(damaged(dict(intact.release))),
        flags=data.draw(st.just({}) | st.just(intact.flags)),
        locks=data.draw(st.just({}) | st.just(intact.locks)),
    )
    raw = {
        "release": "0.14.1",
        "instances": [{"name": "one", "model": MODEL, "extra_args": {"seed": 1}}],
    }
    found = facts(data.draw(st.sampled_from(MACHINES)))
    plan = make_plan(raw, found, broken)
    render(plan, found)
    json.dumps(plan)


@st.composite
def busy_machines(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return GPUs with some of their memory held, and instances that want them."""
    gpus = []
    for index in range(draw(st.integers(1, 4))):
        total = draw(st.integers(8, 96)) * GIB
        own = draw(st.integers(0, total // 2))
        other = draw(st.integers(0, total // 2))
        gpus.append(
            {
                "index": index,
                "uuid": f"GPU-00000000-0000-4000-8000-00000000000{index}",
                "name": "GPU",
                "compute_capability": "8.6",
                "memory_total_bytes": total,
                "cuda_memory_total_bytes": total,
                "memory_used_bytes": own + other,
                "memory_free_bytes": total - own - other,
                "lost": False,
                "processes": [
                    {"pid": 1, "name": "x", "unit": "vllm@i0.service", "memory_used_bytes": own},
                    {"pid": 2, "name": "y", "unit": None, "memory_used_bytes": other},
                ],
            }
        )
    count = draw(st.integers(1, 5))
    utilization = st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.3, 0.45, 0.5, 0.85, 0.9, 1.0])
    wants = []
    for index in range(count):
        one: dict[str, Any] = {
            "name": f"i{index}",
            "model": "org/model",
            "revision": "0" * 40,
            "port": 8000 + index,
            "gpu_memory_utilization": draw(utilization),
            "tensor_parallel_size": draw(st.sampled_from([1, 1, 1, 2])),
        }
        if draw(st.booleans()):
            size = one["tensor_parallel_size"]
            picks = st.lists(
                st.integers(0, len(gpus) - 1), min_size=size, max_size=size, unique=True
            )
            if len(gpus) >= size:
                one["gpus"] = draw(picks)
        wants.append(one)
    return gpus, wants


@settings(max_examples=100)
@given(machine=busy_machines())
def test_a_plan_without_problems_never_overcommits_a_gpu(machine, facts, release_data):
    gpus, wants = machine
    found = facts("ac-3090")
    found["gpu"]["gpus"] = gpus
    found["host"]["memory_total_bytes"] = 1024 * GIB
    plan = make_plan({"release": "0.14.1", "instances": wants}, found, release_data())
    over = {"gpu-overcommitted", "gpu-memory-in-use", "gpu-count"}
    assert {problem["code"] for problem in plan["problems"]} <= over
    if plan["problems"]:
        return
    for gpu in gpus:
        users = [
            want
            for want, planned in zip(wants, plan["instances"], strict=True)
            if gpu["uuid"] in planned["gpus"]
        ]
        claimed = sum(
            math.ceil(gpu["memory_total_bytes"] * want["gpu_memory_utilization"]) for want in users
        )
        ours = gpu["processes"][0]["memory_used_bytes"]
        assert claimed <= gpu["memory_free_bytes"] + ours
        assert sum(want["gpu_memory_utilization"] for want in users) <= 1 + 1e-9
    for want, planned in zip(wants, plan["instances"], strict=True):
        assert len(set(planned["gpus"])) == want["tensor_parallel_size"]
        visible = planned["environment"]["CUDA_VISIBLE_DEVICES"]
        assert visible.split(",") == planned["gpus"]


@pytest.mark.parametrize("used", [1.0, 0.5])
def test_overcommitment_is_seen_at_all(used, facts, release_data):
    """The property above is not empty: the same machine with more instances has problems."""
    wants = [
        {"name": f"i{n}", "model": "org/model", "port": 8000 + n, "gpu_memory_utilization": used}
        for n in range(3)
    ]
    plan = make_plan({"release": "0.14.1", "instances": wants}, facts("ac-3090"), release_data())
    assert "gpu-overcommitted" in {problem["code"] for problem in plan["problems"]}


PUBLIC = yaml.safe_load(
    (Path(__file__).parents[4] / "fixtures" / "plan" / "models.yml").read_text(encoding="utf-8")
)


@settings(max_examples=60)
@given(machine=busy_machines(), data=st.data())
def test_a_divided_gpu_is_never_overcommitted_and_each_plan_fits(
    machine, data, facts, release_data
):
    gpus, wants = machine
    found = facts("ac-3090")
    found["host"]["memory_total_bytes"] = 1024 * GIB
    found["gpu"]["gpus"] = gpus
    for gpu in gpus:
        gpu["memory_free_bytes"], gpu["processes"] = gpu["memory_total_bytes"], []
    for name, known in PUBLIC.items():
        model = copy.deepcopy(found["models"][MODEL])
        model |= {"config": known["config"]}
        model["weights"]["bytes"] = known["weights_bytes"]
        found["models"][f"/srv/models/{name}"] = model
    for want in wants:
        want["model"] = "/srv/models/" + data.draw(st.sampled_from(sorted(PUBLIC)))
        del want["revision"]
        if data.draw(st.booleans()):
            del want["gpu_memory_utilization"]
    release = data.draw(st.sampled_from(["0.14.1", "0.26.0"]))
    raw = {"release": release, "instances": wants}
    plan = make_plan(raw, found, release_data(release))
    shared = {note["where"] for note in plan["notes"] if note["code"] == "gpu-shared"}
    shares = [one["config"]["gpu-memory-utilization"] for one in plan["instances"]]
    for index, (want, share) in enumerate(zip(wants, shares, strict=True)):
        where = f"vllm_instances[{index}].gpu_memory_utilization"
        if where not in shared:
            assert share == want.get("gpu_memory_utilization", 0.85)
            continue
        assert "gpu_memory_utilization" not in want
        # What an instance needs it gets, above the default share too; what it only can use, below.
        assert share == round(share, 3) < 1
        own = [one for one in plan["problems"] if f"[{index}]." in one["where"]]
        assert not {one["code"] for one in own} & {"weights-do-not-fit", "max-model-len-too-long"}
        assert not plan["instances"][index]["memory"]["budget_bytes"] <= sum(
            plan["instances"][index]["memory"][key] for key in ("weights_bytes", "overhead_bytes")
        )
    for gpu in gpus:
        users = [
            (f"vllm_instances[{index}].gpu_memory_utilization", shares[index])
            for index, one in enumerate(plan["instances"])
            if gpu["uuid"] in one["gpus"]
        ]
        if any(where in shared for where, _share in users):
            claimed = sum(math.ceil(gpu["memory_total_bytes"] * share) for _where, share in users)
            # A context each, and CUDA graphs where the release does not count them.
            beside = len(users) * (471859200 + (805306368 if release == "0.14.1" else 0))
            assert claimed + beside <= gpu["memory_total_bytes"] + len(users)
