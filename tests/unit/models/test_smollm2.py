# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the small test model's conversion that need no model."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import smollm2
from hypothesis import given
from hypothesis import strategies as st

# What the GGUF file of SmolLM2-135M-Instruct says, as read with gguf.GGUFReader.
METADATA = {
    "general.architecture": "llama",
    "llama.attention.head_count": 9,
    "llama.attention.head_count_kv": 3,
    "llama.attention.layer_norm_rms_epsilon": 9.999999747378752e-06,
    "llama.block_count": 30,
    "llama.context_length": 8192,
    "llama.embedding_length": 576,
    "llama.feed_forward_length": 1536,
    "llama.rope.freq_base": 100000.0,
    "llama.vocab_size": 49152,
    "tokenizer.chat_template": "{{ messages }}",
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.padding_token_id": 2,
    "tokenizer.ggml.tokens": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "tokenizer.ggml.unknown_token_id": 0,
}


@pytest.mark.parametrize(
    ("gguf", "huggingface"),
    [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output_norm.weight", "model.norm.weight"),
        ("output.weight", "lm_head.weight"),
        ("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"),
        ("blk.29.attn_output.weight", "model.layers.29.self_attn.o_proj.weight"),
        ("blk.7.attn_norm.weight", "model.layers.7.input_layernorm.weight"),
        ("blk.7.ffn_norm.weight", "model.layers.7.post_attention_layernorm.weight"),
        ("blk.12.ffn_down.weight", "model.layers.12.mlp.down_proj.weight"),
    ],
)
def test_names_of_weights(gguf, huggingface):
    assert smollm2.huggingface_name(gguf) == huggingface


@pytest.mark.parametrize(
    "name", ["rope_freqs.weight", "blk.0.attn_q.bias", "blk.0.ffn_gate_exps.weight", ""]
)
def test_weight_that_llama_does_not_have(name):
    with pytest.raises(smollm2.ModelError, match="does not have"):
        smollm2.huggingface_name(name)


def to_gguf(weight, heads):
    """Transformers' order to GGUF's, row by row: rows i and i + d/2 become neighbours."""
    size = len(weight) // heads
    rows = []
    for head in range(heads):
        for i in range(size // 2):
            rows.append(weight[head * size + i])
            rows.append(weight[head * size + size // 2 + i])
    return np.array(rows)


@given(heads=st.integers(1, 9), pairs=st.integers(1, 32), columns=st.integers(1, 5))
def test_unpermute_undoes_the_permutation(heads, pairs, columns):
    weight = np.arange(heads * 2 * pairs * columns).reshape(heads * 2 * pairs, columns)
    assert np.array_equal(smollm2.unpermute(to_gguf(weight, heads), heads), weight)


def test_unpermute_by_hand():
    assert smollm2.unpermute(np.array([0, 1, 2, 3, 10, 11, 12, 13]), 2).tolist() == [
        *(0, 2, 1, 3),
        *(10, 12, 11, 13),
    ]


def rotate_neighbours(vector, angles):
    """Rotary embedding as Llama's own code does it: pairs (0, 1), (2, 3), and so on."""
    turned = (vector[0::2] + 1j * vector[1::2]) * np.exp(1j * angles)
    return np.stack([turned.real, turned.imag], axis=-1).ravel()


def rotate_halves(vector, angles):
    """Rotary embedding as transformers does it: pairs (0, d/2), (1, d/2 + 1), and so on."""
    first, second = np.split(vector, 2)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin])


def test_attention_is_the_same_in_both_orders():
    random = np.random.default_rng(7)
    size, hidden = 8, 16
    angles = 100000.0 ** -np.arange(0, 1, 2 / size)
    query, key = random.normal(size=(2, size, hidden))
    x, y = random.normal(size=(2, hidden))

    in_gguf = rotate_neighbours(query @ x, 3 * angles) @ rotate_neighbours(key @ y, 11 * angles)
    query, key = smollm2.unpermute(query, 1), smollm2.unpermute(key, 1)
    in_transformers = rotate_halves(query @ x, 3 * angles) @ rotate_halves(key @ y, 11 * angles)

    assert in_transformers == pytest.approx(in_gguf)


@pytest.mark.parametrize(("rows", "heads"), [(9, 3), (8, 3), (4, 0)])
def test_unpermute_refuses_heads_that_do_not_fit(rows, heads):
    with pytest.raises(smollm2.ModelError, match=f"{rows} rows cannot be split into {heads} heads"):
        smollm2.unpermute(np.zeros((rows, 2)), heads)


def test_model_config():
    # The published config.json of SmolLM2-135M-Instruct, less what transformers never reads.
    assert smollm2.model_config(METADATA, tied=True) == {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 576,
        "initializer_range": 0.02,
        "intermediate_size": 1536,
        "max_position_embeddings": 8192,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": 9,
        "num_hidden_layers": 30,
        "num_key_value_heads": 3,
        "pad_token_id": 2,
        "rms_norm_eps": 1e-05,
        "rope_theta": 100000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": 49152,
    }


def test_model_config_of_another_architecture():
    with pytest.raises(smollm2.ModelError, match="'qwen2' model"):
        smollm2.model_config(METADATA | {"general.architecture": "qwen2"}, tied=True)


def test_tokenizer_and_generation_config():
    settings = smollm2.tokenizer_config(METADATA)
    assert settings["bos_token"] == "<|im_start|>"
    assert settings["eos_token"] == settings["pad_token"] == "<|im_end|>"
    assert settings["unk_token"] == "<|endoftext|>"
    assert settings["model_max_length"] == 8192
    assert settings["chat_template"] == "{{ messages }}"
    assert smollm2.generation_config(METADATA) == {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }


def test_shapes_add_up_to_the_published_size():
    shapes = smollm2.expected_shapes(smollm2.model_config(METADATA, tied=True))
    assert len(shapes) == 272  # as many tensors as the GGUF file holds
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 134_515_008
    assert shapes["model.layers.29.self_attn.k_proj.weight"] == (192, 576)


def test_untied_output_layer_is_a_weight_of_its_own():
    config = smollm2.model_config(METADATA, tied=False)
    assert smollm2.expected_shapes(config)["lm_head.weight"] == (49152, 576)


def test_check_shapes_names_every_difference():
    config = smollm2.model_config(METADATA, tied=True)
    shapes = smollm2.expected_shapes(config)
    smollm2.check_shapes(config, shapes)

    del shapes["model.norm.weight"]
    shapes["model.layers.0.mlp.up_proj.weight"] = (576, 1536)
    shapes["lm_head.weight"] = (49152, 576)
    with pytest.raises(smollm2.ModelError) as caught:
        smollm2.check_shapes(config, shapes)
    assert str(caught.value).splitlines()[1:] == [
        "  lm_head.weight: expected no such weight, found (49152, 576)",
        "  model.layers.0.mlp.up_proj.weight: expected (1536, 576), found (576, 1536)",
        "  model.norm.weight: expected (576,), found none",
    ]


@pytest.fixture
def made(tmp_path):
    """A directory with its record, as if it had been made."""
    directory = tmp_path / "models" / "model"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(bytes(range(256)))
    record = directory.with_name("model.json")
    content = {"recipe": smollm2.recipe(), "files": smollm2.file_hashes(directory)}
    record.write_text(json.dumps(content))
    return directory, record


def flip_a_bit(directory, record):
    content = bytearray((directory / "model.safetensors").read_bytes())
    content[100] ^= 1
    (directory / "model.safetensors").write_bytes(content)


DAMAGE = {
    "bit": flip_a_bit,
    "missing file": lambda directory, record: (directory / "config.json").unlink(),
    "extra file": lambda directory, record: (directory / "pytorch_model.bin").touch(),
    "no record": lambda directory, record: record.unlink(),
    "torn record": lambda directory, record: os.truncate(record, 20),
    "other recipe": lambda directory, record: record.write_text(
        record.read_text().replace(smollm2.recipe(), "0" * 64)
    ),
    "no directory": lambda directory, record: directory.rename(directory.with_name("away")),
}


def test_undamaged_model_is_current(made):
    assert smollm2.is_current(*made)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_noticed(made, damage):
    DAMAGE[damage](*made)
    assert not smollm2.is_current(*made)


def fake_conversion(monkeypatch, *, fail):
    """Stand in for the programs that `ensure` starts; only the conversion writes anything."""

    def run(*command):
        if "--convert" in command:
            (command[-1] / "config.json").write_text('{"new": true}')
            if fail:
                raise smollm2.ModelError("killed half way")

    monkeypatch.setattr(smollm2, "_run", run)


def test_ensure_leaves_a_current_model_alone(made, monkeypatch):
    monkeypatch.setattr(smollm2, "_run", lambda *command: pytest.fail(f"started {command}"))
    smollm2.ensure(made[0])


def test_ensure_replaces_a_damaged_model(made, monkeypatch):
    directory, record = made
    flip_a_bit(directory, record)
    fake_conversion(monkeypatch, fail=False)
    smollm2.ensure(directory)
    assert (directory / "config.json").read_text() == '{"new": true}'
    assert smollm2.is_current(directory, record)
    assert {path.name for path in directory.parent.iterdir()} == {"model", "model.json"}


def test_failed_conversion_leaves_what_was_there(made, monkeypatch):
    directory, record = made
    flip_a_bit(directory, record)
    before = smollm2.file_hashes(directory)
    fake_conversion(monkeypatch, fail=True)
    with pytest.raises(smollm2.ModelError, match="half way"):
        smollm2.ensure(directory)
    assert smollm2.file_hashes(directory) == before
    assert not smollm2.is_current(directory, record)
    assert {path.name for path in directory.parent.iterdir()} == {"model", "model.json"}


def test_the_model_lives_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    expected = tmp_path / "compute_plane.vllm" / "models" / "SmolLM2-135M-Instruct"
    assert smollm2.default_directory() == expected
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert smollm2.default_directory().is_relative_to(tmp_path / ".cache")
