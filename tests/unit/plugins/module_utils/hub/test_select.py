# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is fetched of a repository: the table of vLLM's default loader, and the user's patterns."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.select import (
    RepoFile,
    SelectionError,
    matches,
    needs_index,
    select,
)

QWEN = [
    ".gitattributes",
    "LICENSE",
    "README.md",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
]
INDEX = {
    "weight_map": {
        "a": "model-00001-of-00002.safetensors",
        "b": "model-00002-of-00002.safetensors",
    }
}


def files(paths: list[str]) -> list[RepoFile]:
    return [RepoFile(path, 1, f"etag of {path}", None) for path in paths]


def chosen(paths: list[str], **options: Any) -> list[str]:
    return [file.path for file in select(files(paths), **options).files]


TABLE: dict[str, tuple[list[str], dict[str, Any], list[str], str | None]] = {
    "shards by the index": (
        QWEN,
        {"index": INDEX},
        [path for path in QWEN if path not in (".gitattributes", "LICENSE", "README.md")],
        "safetensors",
    ),
    "safetensors that the index does not name stay": (
        [*QWEN, "model.safetensors", "mtp.safetensors"],
        {"index": INDEX},
        [path for path in QWEN if path not in (".gitattributes", "LICENSE", "README.md")],
        "safetensors",
    ),
    "no bin, h5, gguf, onnx beside safetensors": (
        [
            "config.json",
            "flax_model.msgpack",
            "model.safetensors",
            "model.gguf",
            "onnx/model.onnx",
            "onnx/config.json",
            "openvino/config.json",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "tf_model.h5",
        ],
        {},
        ["config.json", "model.safetensors"],
        "safetensors",
    ),
    "bin only where there is nothing better": (
        [
            "config.json",
            "optimizer.pt",
            "pytorch_model-00001-of-00002.bin",
            "pytorch_model-00002-of-00002.bin",
            "pytorch_model.bin.index.json",
            "rust_model.ot",
            "training_args.bin",
        ],
        {},
        [
            "config.json",
            "pytorch_model-00001-of-00002.bin",
            "pytorch_model-00002-of-00002.bin",
            "pytorch_model.bin.index.json",
        ],
        "pytorch",
    ),
    "pt only where there is no bin": (
        ["config.json", "model.pt", "scheduler.pt"],
        {},
        ["config.json", "model.pt"],
        "pytorch",
    ),
    "original/ is left out, safetensors too": (
        [
            "config.json",
            "model.safetensors",
            "original/consolidated.safetensors",
            "original/params.json",
            "original/tokenizer.model",
        ],
        {},
        ["config.json", "model.safetensors"],
        "safetensors",
    ),
    "Mistral's own format comes first": (
        [
            "config.json",
            "consolidated.safetensors",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "params.json",
            "tekken.json",
            "tokenizer.model.v3",
        ],
        {},
        ["config.json", "consolidated.safetensors", "params.json", "tekken.json"],
        "mistral",
    ),
    "Mistral's shards with their index": (
        [
            "consolidated-00001-of-00002.safetensors",
            "consolidated-00002-of-00002.safetensors",
            "consolidated.safetensors.index.json",
            "params.json",
        ],
        {},
        [
            "consolidated-00001-of-00002.safetensors",
            "consolidated-00002-of-00002.safetensors",
            "consolidated.safetensors.index.json",
            "params.json",
        ],
        "mistral",
    ),
    "weights below the top are not loaded": (
        ["checkpoint-10/config.json", "checkpoint-10/model.safetensors", "model.safetensors"],
        {},
        ["model.safetensors"],
        "safetensors",
    ),
    "dense layers of an embedding model": (
        [
            "1_Pooling/config.json",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "2_Dense/pytorch_model.bin",
            "config.json",
            "model.safetensors",
            "modules.json",
        ],
        {},
        [
            "1_Pooling/config.json",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "config.json",
            "model.safetensors",
            "modules.json",
        ],
        "safetensors",
    ),
    "tokenizers and chat templates": (
        [
            "additional_chat_templates/tool.jinja",
            "chat_template.jinja",
            "model.safetensors",
            "qwen.tiktoken",
            "spiece.model",
            "vocab.txt",
        ],
        {},
        [
            "additional_chat_templates/tool.jinja",
            "chat_template.jinja",
            "model.safetensors",
            "qwen.tiktoken",
            "spiece.model",
            "vocab.txt",
        ],
        "safetensors",
    ),
    "Python only when asked": (
        ["config.json", "model.safetensors", "modeling_x.py"],
        {"trust_remote_code": True},
        ["config.json", "model.safetensors", "modeling_x.py"],
        "safetensors",
    ),
    "no Python otherwise": (
        ["config.json", "model.safetensors", "modeling_x.py"],
        {},
        ["config.json", "model.safetensors"],
        "safetensors",
    ),
    "ignore_patterns beside the default": (
        ["config.json", "model.safetensors", "vocab.json"],
        {"ignore": ["vocab.*"]},
        ["config.json", "model.safetensors"],
        "safetensors",
    ),
    "ignoring one format leaves the next": (
        ["config.json", "model.safetensors", "pytorch_model.bin"],
        {"ignore": ["*.safetensors"]},
        ["config.json", "pytorch_model.bin"],
        "pytorch",
    ),
    "allow_patterns instead of the default": (
        ["a.Q4_K_M.gguf", "a.Q8_0.gguf", "config.json", "sub/a.Q4_K_M.gguf"],
        {"allow": ["*Q4_K_M.gguf"]},
        ["a.Q4_K_M.gguf", "sub/a.Q4_K_M.gguf"],
        None,
    ),
    "a pattern that ends with a slash": (
        ["config.json", "sub/a.json", "sub/b/c.json"],
        {"allow": ["sub/"], "ignore": ["sub/b/"]},
        ["sub/a.json"],
        None,
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_selection(case: str) -> None:
    paths, options, expected, weights = TABLE[case]
    result = select(files(paths), **options)
    assert [file.path for file in result.files] == expected
    assert result.weights == weights


@pytest.mark.parametrize(
    ("paths", "options", "text"),
    [
        (["a.gguf", "b.gguf"], {}, "it has a.gguf, b.gguf. Choose another repository, or name"),
        (["config.json"], {}, "no weights that vLLM loads by default"),
        (["config.json"], {"allow": ["*.bin"]}, "none of the repository's 1 files matches"),
        (
            ["a.bin"],
            {"allow": ["*.bin"], "ignore": ["a*"]},
            "matches allow_patterns *.bin without ignore_patterns a*. It holds: a.bin",
        ),
        (
            ["model-00001-of-00002.safetensors", "model.safetensors.index.json"],
            {"index": INDEX},
            "the repository lacks; its upload is incomplete: model-00002-of-00002.safetensors",
        ),
        (QWEN, {"index": INDEX, "ignore": ["*-00002-*"]}, "ignore_patterns leaves out"),
        (QWEN, {"index": {}}, "has no weight_map"),
        (QWEN, {"index": {"weight_map": {"a": 1}}}, "has no weight_map"),
        (QWEN, {"index": []}, "has no weight_map"),
        ([f"{i}.gguf" for i in range(20)], {}, "7.gguf and 12 more"),
    ],
)
def test_what_cannot_be_served_is_an_error(
    paths: list[str], options: dict[str, Any], text: str
) -> None:
    with pytest.raises(SelectionError) as error:
        select(files(paths), **options)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("paths", "allow", "expected"),
    [
        (QWEN, None, True),
        (QWEN, ["*.json"], False),
        (["model.safetensors"], None, False),
        ([*QWEN, "consolidated.safetensors"], None, False),
        (["sub/model.safetensors.index.json"], None, False),
    ],
)
def test_when_the_index_is_needed(
    paths: list[str], allow: list[str] | None, expected: bool
) -> None:
    assert needs_index(files(paths), allow) is expected


@given(
    st.lists(st.sampled_from([*QWEN, "original/a.json", "x.bin", "m.py", "sub/y.json"])),
    st.lists(st.sampled_from(["*.json", "*", "sub/", "model*"]), max_size=2),
    st.lists(st.sampled_from(["*.json", "vocab*", "sub/"]), max_size=2),
)
def test_nothing_ignored_and_nothing_else_is_chosen(
    paths: list[str], allow: list[str], ignore: list[str]
) -> None:
    paths = sorted(set(paths))
    try:
        result = chosen(paths, allow=allow, ignore=ignore, index=INDEX)
    except SelectionError:
        return
    assert result == sorted(set(result))
    assert set(result) <= set(paths)
    assert not [path for path in result if matches(path, ignore)]
    if allow:
        assert result == [p for p in paths if matches(p, allow) and not matches(p, ignore)]


def test_patterns_are_those_of_fnmatch() -> None:
    for path in QWEN:
        assert matches(path, ["*.json"]) is fnmatch.fnmatch(path, "*.json")
    assert not matches("config.json", [])
