# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import struct

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import subject


@pytest.mark.parametrize(
    ("log", "backend"),
    [
        ("INFO [cuda.py:351] Using AttentionBackendEnum.TRITON_ATTN backend.", "TRITON_ATTN"),
        (
            "Using FLASH_ATTN attention backend out of potential backends: ('FLASH_ATTN', 'X')",
            "FLASH_ATTN",
        ),
        ("Using TRITON_ATTN backend.\nUsing FLASHINFER backend.", "FLASHINFER"),
        ("Cannot use AttentionBackendEnum.TRITON_ATTN backend on CPU.", None),
        ("backend=gloo", None),
        ("", None),
    ],
)
def test_the_backend_in_the_engines_log(log, backend):
    assert subject.backend_in_log(log) == backend


def shard(path, names):
    header = json.dumps({name: {} for name in names}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def test_the_weights_tell_whether_the_output_layer_is_the_table(tmp_path):
    shard(tmp_path / "model.safetensors", ["model.embed_tokens.weight"])
    assert subject.is_tied(str(tmp_path), {})
    shard(tmp_path / "model.safetensors", ["model.embed_tokens.weight", "lm_head.weight"])
    assert not subject.is_tied(str(tmp_path), {"tie_word_embeddings": True})


def test_so_does_the_index(tmp_path):
    index = {"weight_map": {"lm_head.weight": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not subject.is_tied(str(tmp_path), {})


@pytest.mark.parametrize(
    ("config", "tied"),
    [({}, True), ({"tie_word_embeddings": True}, True), ({"tie_word_embeddings": False}, False)],
)
def test_without_them_config_json_does(tmp_path, config, tied):
    assert subject.is_tied(str(tmp_path), config) is tied
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    assert subject.is_tied(str(tmp_path), config) is tied


def test_a_file_that_is_no_object_is_empty(tmp_path):
    (tmp_path / "a").write_text("[1]")
    (tmp_path / "b").write_text("{")
    assert subject.read_json(str(tmp_path / "a")) == {}
    assert subject.read_json(str(tmp_path / "b")) == {}
    assert subject.read_json(str(tmp_path / "c")) == {}
