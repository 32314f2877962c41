# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an earlier version deployed of a chat model is what the plan says today: nothing restarts.

The records in tests/fixtures/proved were written before there were kinds of models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy import deployment as d
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.planner import make_plan

FIXTURES = Path(__file__).parents[4] / "fixtures" / "proved"
INSTANCES = json.loads((FIXTURES / "instances.json").read_text(encoding="utf-8"))
RECORD = json.loads((FIXTURES / "schema-1-cpu.json").read_text(encoding="utf-8"))
MODEL = "/srv/models/SmolLM2-135M-Instruct"
SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
    "torch_dtype": "float16",
    "vocab_size": 49152,
}
TEMPLATE = "{% for message in messages %}{{ '<|im_start|>' + message['content'] }}{% endfor %}"


@pytest.mark.parametrize(
    ("which", "place", "length"), [("cpu", "current", 1024), ("cpu-before", "previous", 2048)]
)
def test_a_plain_chat_model_is_deployed_as_before_there_were_kinds(
    facts: Any, release_data: Any, which: str, place: str, length: int
) -> None:
    found = facts("cpu-debian-12")
    found["models"][MODEL] = {
        "exists": True,
        "is_directory": True,
        "readable": True,
        "config": SMOLLM2,
        "config_error": None,
        "chat_template": TEMPLATE,
        "documents": {},
        "weights": {
            "format": "safetensors",
            "files": [{"name": "model.safetensors", "bytes": 269060280}],
            "bytes": 269060280,
            "missing": [],
            "incomplete": [],
        },
        "tokenizer": True,
    }
    instance = {
        "name": "smollm2-135m-instruct",
        "model": MODEL,
        "host": "10.77.0.11",
        "dtype": "float16",
        "max_model_len": length,
        "enforce_eager": True,
    }
    wanted = {"release": "0.14.1", "accelerator": "cpu", "instances": [instance]}
    plan = make_plan(wanted, found, release_data())
    assert plan["problems"] == []
    (planned,) = plan["instances"]
    assert planned["kind"] == "chat"
    for key in ("config", "environment", "limits", "url", "unit", "served_model_name"):
        assert planned[key] == INSTANCES[which][key], key
    # As the service module is given it, the kind that was found with it.
    old = RECORD[place]
    common = d.Common("0.14.1", old["unit"], "/opt/vllm/supervisor/1ca099a79892", "cpu")
    now = d.deployment({**planned, "venv": old["venv"]}, common, [])
    assert now.fingerprint == old["fingerprint"]
    assert (now.config_text, now.drop_in_text) == (old["config"], old["drop_in"])
