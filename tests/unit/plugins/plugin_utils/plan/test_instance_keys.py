# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is documented of an instance's keys is what the code does with them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.modules import vllm_plan
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.planner import make_plan
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import (
    INSTANCE_KEYS,
    LIMITS,
    InRange,
    Instance,
    OneOf,
)

ROOT = Path(__file__).parents[5]
DOCUMENTED: dict[str, dict[str, Any]] = yaml.safe_load(vllm_plan.DOCUMENTATION)["options"][
    "instances"
]["suboptions"]
TYPES = {
    "text": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "list": "list",
    "mapping": "dict",
}
MODEL = "/srv/models/qwen2.5-7b-instruct"


def default_of(key: str) -> Any:
    """What an instance has without the key."""
    (field,) = (field for field in dataclasses.fields(Instance) if field.name == key)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def words(option: dict[str, Any]) -> str:
    return " ".join(option["description"])


def test_the_keys_are_documented_in_their_order():
    assert list(DOCUMENTED) == list(INSTANCE_KEYS)
    assert list(DOCUMENTED["limits"]["suboptions"]) == list(LIMITS)


@pytest.mark.parametrize("key", INSTANCE_KEYS)
def test_type_and_default(key):
    option = DOCUMENTED[key]
    assert option["type"] == TYPES[INSTANCE_KEYS[key][0]]
    required = key in ("name", "model")
    assert option.get("required", False) is required
    default = "" if required else option.get("default")
    assert (type(default), default) == (type(default_of(key)), default_of(key))


@pytest.mark.parametrize("key", INSTANCE_KEYS)
def test_range_and_choices(key):
    check = INSTANCE_KEYS[key][1]
    choices = list(check.choices) if isinstance(check, OneOf) else None
    assert DOCUMENTED[key].get("choices") == choices
    if isinstance(check, InRange):
        assert f"from {check.low} to {check.high}" in words(DOCUMENTED[key])
    else:
        assert INSTANCE_KEYS[key][0] != "integer"


def test_the_range_of_the_memory():
    check = INSTANCE_KEYS["gpu_memory_utilization"][1]
    assert "more than 0 and at most 1" in words(DOCUMENTED["gpu_memory_utilization"])
    assert [check(value) is None for value in (0, 0.001, 1, 1.001)] == [False, True, True, False]


# Key -> a value that is not its default, with what else it needs.
VALUES: dict[str, dict[str, Any]] = {
    "model": {"model": "/srv/models/another"},
    "revision": {"model": "Qwen/Qwen2.5-7B-Instruct", "revision": "0" * 40},
    "kind": {"kind": "embed"},
    "served_model_name": {"served_model_name": "qwen"},
    "host": {"host": "0.0.0.0"},
    "port": {"port": 8001},
    "gpus": {"gpus": [1]},
    "tensor_parallel_size": {"tensor_parallel_size": 2},
    "attention_backend": {"attention_backend": "FLASH_ATTN"},
    "dtype": {"dtype": "float16"},
    "max_model_len": {"max_model_len": 2048},
    "gpu_memory_utilization": {"gpu_memory_utilization": 0.9},
    "enforce_eager": {"enforce_eager": True},
    "max_num_seqs": {"max_num_seqs": 8},
    "enable_auto_tool_choice": {"enable_auto_tool_choice": True, "tool_call_parser": "hermes"},
    "tool_call_parser": {"enable_auto_tool_choice": True, "tool_call_parser": "hermes"},
    "cpu_kvcache_space": {"cpu_kvcache_space": 2},
    "lora": {"lora": {"sql": "org/sql", "law": "org/law"}},
    "on_demand": {"on_demand": True},
    "sleep_level": {"on_demand": True, "sleep_level": 1},
}


@pytest.mark.parametrize("key", VALUES)
def test_what_it_becomes(key, facts, release_data):
    """The flag or variable that changes with the key is the one that is documented."""
    cpu = key == "cpu_kvcache_space"

    def planned(**keys):
        wanted = {
            "release": "0.14.1",
            "accelerator": "cpu" if cpu else "cuda",
            "instances": [{"name": "one", "model": MODEL, **keys}],
        }
        found = facts("cpu-debian-12" if cpu else "two-3090")
        instance = make_plan(wanted, found, release_data())["instances"][0]
        flags = {f"--{flag}": value for flag, value in instance["config"].items()}
        return {**flags, **instance["environment"]}

    base = {} if key != "revision" else {"model": VALUES[key]["model"], "revision": "1" * 40}
    before, after = planned(**base), planned(**VALUES[key])
    changed = {name for name in {**before, **after} if before.get(name) != after.get(name)}
    documented = {name for name in changed if f"C({name})" in words(DOCUMENTED[key])}
    assert documented
    # What else follows: the served name from the model, the GPUs' number from the ranks, the length
    # from the room for the KV cache.
    follows = {
        "model": {"--served-model-name"},
        "cpu_kvcache_space": {"--max-model-len"},
        "tensor_parallel_size": {"CUDA_VISIBLE_DEVICES"},
        "enable_auto_tool_choice": {"--tool-call-parser"},
        "tool_call_parser": {"--enable-auto-tool-choice"},
        "sleep_level": {"--uds"},
    }
    assert changed - documented <= follows.get(key, set()), changed


def test_every_key_says_what_it_becomes():
    # What some become takes two hosts, or is a broker's: cases/groups.yml, cases/demand.yml.
    others = {"name", "environment", "extra_args", "limits", "hosts", "group_port"}
    others |= {"idle_after", "wake_timeout", "share"}
    assert set(VALUES) | others == set(INSTANCE_KEYS)


def test_the_role_documents_the_same():
    path = ROOT / "roles" / "vllm_preflight" / "meta" / "argument_specs.yml"
    specs = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    # Raw: with `list` Ansible would validate before the plan, and stop at its own first words.
    assert specs["vllm_instances"]["type"] == "raw"
    expected = yaml.safe_load(yaml.safe_dump(DOCUMENTED))
    expected["limits"]["options"] = expected["limits"].pop("suboptions")
    assert specs["vllm_instances"]["options"] == expected


def test_the_reference_pages_are_current():
    argv = [sys.executable, str(ROOT / "scripts" / "reference"), "--check"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
