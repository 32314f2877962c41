# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import struct

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.host import models_dir
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.fake_host import (
    FakeHost,
    Sparse,
)


def safetensors(length=16, *, cut=0):
    """A safetensors file with one tensor of so many bytes, the last `cut` of them lacking."""
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "w": {"dtype": "U8", "shape": [length], "data_offsets": [0, length]},
        }
    ).encode()
    whole = struct.pack("<Q", len(header)) + header + b"\0" * length
    return whole[: len(whole) - cut]


def read(files, **more):
    return models_dir.read_one(FakeHost({f"/m/{k}": v for k, v in files.items()}, **more), "/m")


def index(*names):
    return json.dumps({"metadata": {}, "weight_map": {f"layer.{n}": n for n in names}})


def test_one_file():
    facts = read(
        {
            "config.json": '{"model_type": "llama"}',
            "model.safetensors": safetensors(),
            "tokenizer.json": "{}",
        }
    )
    size = len(safetensors())
    assert facts == {
        "exists": True,
        "is_directory": True,
        "readable": True,
        "config": {"model_type": "llama"},
        "config_error": None,
        "names": ["config.json", "model.safetensors", "tokenizer.json"],
        "documents": {},
        "chat_template": None,
        "weights": {
            "format": "safetensors",
            "files": [{"name": "model.safetensors", "bytes": size}],
            "bytes": size,
            "parameters": {"U8": 16},
            "missing": [],
            "incomplete": [],
        },
        "tokenizer": True,
        "adapter": None,
    }


def test_parameters_are_counted_by_format_over_all_files():
    def file(**tensors):
        entries = {
            name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]}
            for name, (dtype, shape) in tensors.items()
        }
        text = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
        return struct.pack("<Q", len(text)) + text

    files = {
        "a.safetensors": file(w=("BF16", [3, 4]), scale=("F32", [])),
        "b.safetensors": file(w=("I32", [5]), v=("BF16", [0, 7])),
    }
    assert read(files)["weights"]["parameters"] == {"BF16": 12, "F32": 1, "I32": 5}
    assert read({**files, "c.safetensors": "x"})["weights"]["parameters"] is None
    assert read({"pytorch_model.bin": "x"})["weights"]["parameters"] is None


DECODER = {"0": {"content": "<s>"}}


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({}, None),
        ({"tokenizer_config.json": "{}"}, None),
        ({"tokenizer_config.json": json.dumps({"chat_template": "in"})}, "in"),
        (
            {
                "tokenizer_config.json": json.dumps({"chat_template": "in"}),
                "chat_template.jinja": "own",
            },
            "own",
        ),
        ({"chat_template.json": json.dumps({"chat_template": "json"})}, "json"),
        (
            {
                "tokenizer_config.json": json.dumps(
                    {
                        "chat_template": [
                            {"name": "tool_use", "template": "t"},
                            {"name": "default", "template": "d"},
                        ]
                    }
                )
            },
            "d",
        ),
        ({"tokenizer_config.json": json.dumps({"chat_template": 7})}, None),
        ({"tokenizer_config.json": "not JSON"}, None),
    ],
)
def test_the_chat_template(files, template):
    facts = read(files)
    assert facts["chat_template"] == template
    assert "chat_template.json" not in facts["documents"]
    assert "chat_template" not in facts["documents"].get("tokenizer_config.json", {})


def test_documents_beside_the_configuration():
    files = {
        "config.json": "{}",
        "generation_config.json": '{"temperature": 0.6}',
        "tokenizer_config.json": json.dumps(
            {"model_max_length": 512, "added_tokens_decoder": DECODER}
        ),
        "modules.json": '[{"path": "1_Pooling"}]',
        "1_Pooling/config.json": '{"pooling_mode_cls_token": true}',
        "adapter_config.json": "{",
    }
    facts = read(files)
    assert facts["documents"] == {
        "generation_config.json": {"temperature": 0.6},
        "tokenizer_config.json": {"model_max_length": 512},
        "modules.json": [{"path": "1_Pooling"}],
        "1_Pooling/config.json": {"pooling_mode_cls_token": True},
    }
    assert "adapter_config.json" in facts["names"]


@pytest.mark.parametrize(
    "name", ["vocab.txt", "spiece.model", "sentencepiece.bpe.model", "qwen.tiktoken"]
)
def test_other_tokenizers(name):
    assert read({name: "x"})["tokenizer"] is True


def test_the_index_counts():
    facts = read(
        {
            "model.safetensors.index.json": index(
                "a.safetensors", "b.safetensors", "c.safetensors"
            ),
            "a.safetensors": safetensors(),
            "c.safetensors": safetensors(cut=1),
            "stray.safetensors": safetensors(1000),
        }
    )["weights"]
    assert [entry["name"] for entry in facts["files"]] == ["a.safetensors", "c.safetensors"]
    assert facts["missing"] == ["b.safetensors"]
    assert facts["incomplete"] == ["c.safetensors"]
    assert facts["bytes"] == 2 * len(safetensors()) - 1


def test_a_link_into_the_hub_cache():
    blob = "/hub/models--a--b/blobs/123"
    host = FakeHost(
        {blob: safetensors()},
        links={
            "/m/model.safetensors": blob,
            "/m/config.json": "/hub/models--a--b/blobs/gone",
            "/m/other.safetensors": "../hub/models--a--b/blobs/gone",
        },
    )
    facts = models_dir.read_one(host, "/m")
    assert facts["weights"]["files"] == [{"name": "model.safetensors", "bytes": len(safetensors())}]
    assert facts["weights"]["missing"] == ["other.safetensors"]
    assert facts["config_error"] == "cannot be read"


def test_a_snapshot_that_is_itself_a_link():
    host = FakeHost({"/hub/s/model.safetensors": safetensors()}, links={"/m": "/hub/s"})
    assert models_dir.read_one(host, "/m")["weights"]["format"] == "safetensors"


@pytest.mark.parametrize(
    ("names", "format_", "files"),
    [
        (["pytorch_model.bin"], "pytorch", ["pytorch_model.bin"]),
        (["pytorch_model.bin", "training_args.bin"], "pytorch", ["pytorch_model.bin"]),
        (["training_args.bin"], None, []),
        (["m-Q4_K_M.gguf"], "gguf", ["m-Q4_K_M.gguf"]),
        (["model.pt", "optimizer.pt"], "pytorch", ["model.pt"]),
        (["README.md"], None, []),
        ([], None, []),
    ],
)
def test_format(names, format_, files):
    facts = models_dir.weights(FakeHost({f"/m/{name}": "x" for name in names}), "/m", names)
    assert facts["format"] == format_
    assert [entry["name"] for entry in facts["files"]] == files
    assert facts["bytes"] == len(files)


def test_safetensors_are_preferred():
    facts = read({"model.safetensors": safetensors(), "pytorch_model.bin": "x"})["weights"]
    assert facts["format"] == "safetensors"


def test_pytorch_index():
    facts = read(
        {
            "pytorch_model.bin.index.json": index("a.bin", "b.bin"),
            "a.bin": "xx",
            "config.json": "{}",
        }
    )["weights"]
    assert (facts["format"], facts["bytes"], facts["missing"]) == ("pytorch", 2, ["b.bin"])


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}', "null", '"x"']
)
def test_an_index_that_is_none(text):
    assert models_dir.shards_of(text) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 0),
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"{",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 8) + b'{"a": 1}',
        b"<html>\n<title>an error page saved as a model</title>",
    ],
)
def test_no_safetensors_file(content):
    facts = read({"model.safetensors": content})["weights"]
    assert facts["incomplete"] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "not JSON: "),
        ("[1]", "not a JSON object but a list"),
        ("", "not JSON: "),
        ('"x"', "not a JSON object but a str"),
    ],
)
def test_a_configuration_that_is_none(text, error):
    facts = read({"config.json": text})
    assert facts["config"] is None
    assert facts["config_error"].startswith(error)


def test_no_configuration():
    facts = read({"model.safetensors": safetensors()})
    assert (facts["config"], facts["config_error"]) == (None, None)


@pytest.mark.parametrize(
    ("names", "tokenizer"),
    [
        (["tokenizer.json"], True),
        (["tokenizer.model"], True),
        (["tekken.json"], True),
        (["vocab.json", "merges.txt"], True),
        (["vocab.json"], False),
        (["tokenizer_config.json"], False),
        ([], False),
    ],
)
def test_tokenizer(names, tokenizer):
    assert read({**dict.fromkeys(names, "{}"), "x": ""})["tokenizer"] is tokenizer


def test_not_there():
    facts = models_dir.read_one(FakeHost(), "/m")
    assert (facts["exists"], facts["is_directory"], facts["readable"]) == (False, False, False)
    assert facts["weights"]["format"] is None


def test_a_file():
    facts = models_dir.read_one(FakeHost({"/m": "x"}), "/m")
    assert (facts["exists"], facts["is_directory"], facts["readable"]) == (True, False, False)


def test_unreadable():
    facts = read({"config.json": "{}"}, unreadable=["/m"])
    assert (facts["exists"], facts["is_directory"], facts["readable"]) == (True, True, False)
    assert facts["config"] is None


def test_big_files_are_not_read():
    header = json.dumps({"w": {"data_offsets": [0, 10**12]}}).encode()
    head = struct.pack("<Q", len(header)) + header
    facts = read({"model.safetensors": Sparse(head, len(head) + 10**12)})["weights"]
    assert facts["incomplete"] == []
    assert facts["bytes"] == len(head) + 10**12


def test_on_this_machine(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "1").write_bytes(safetensors(4096))
    model = tmp_path / "snapshots" / "main"
    model.mkdir(parents=True)
    (model / "model.safetensors").symlink_to("../../blobs/1")
    (model / "cut.safetensors").write_bytes(safetensors(4096, cut=96))
    (model / "gone.safetensors").symlink_to("../../blobs/2")
    (model / "config.json").write_text('{"hidden_size": 8}')
    facts = models_dir.read(Host(), [str(model)])[str(model)]
    assert facts["config"] == {"hidden_size": 8}
    assert facts["weights"]["missing"] == ["gone.safetensors"]
    assert facts["weights"]["incomplete"] == ["cut.safetensors"]


def lora(tensors: dict[str, list[int]]) -> bytes:
    """A safetensors file with a header alone, as PEFT names its tensors."""
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            **{
                f"base_model.model.model.{name}.weight": {
                    "dtype": "F32",
                    "shape": shape,
                    "data_offsets": [0, 0],
                }
                for name, shape in tensors.items()
            },
        }
    ).encode()
    return struct.pack("<Q", len(header)) + header


def test_an_adapters_matrices_are_read_from_its_header() -> None:
    files = {
        "/m/adapter_config.json": '{"peft_type": "LORA", "r": 8}',
        "/m/adapter_model.safetensors": lora(
            {
                "layers.0.self_attn.q_proj.lora_A": [8, 576],
                "layers.29.self_attn.q_proj.lora_B": [576, 8],
                "layers.3.mlp.down_proj.lora_A": [8, 1536],
                "lm_head.lora_A": [8, 576],
                "layers.31.self_attn.q_proj.lora_magnitude_vector": [576],
            }
        ),
    }
    found = models_dir.read_one(FakeHost(files), "/m")
    assert found["documents"]["adapter_config.json"] == {"peft_type": "LORA", "r": 8}
    assert found["adapter"] == {
        "layers": 30,
        "shapes": {"down_proj": [1536, None], "lm_head": [576, None], "q_proj": [576, 576]},
    }


def test_an_adapter_that_cannot_be_read() -> None:
    files = {"/m/adapter_config.json": "{", "/m/adapter_model.safetensors": b"12345678{"}
    nothing = {"layers": None, "shapes": {}}
    assert models_dir.read_one(FakeHost(files), "/m")["adapter"] == nothing
    assert models_dir.read_one(FakeHost({"/m/config.json": "{}"}), "/m")["adapter"] is None
