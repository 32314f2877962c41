# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a model before a byte of its weights has come."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from hub.testing import Module, safetensors

from ansible_collections.compute_plane.vllm.plugins.module_utils.host import models_dir
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.listing import HEADER_GUESS

from .conftest import MODEL, TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hub import Hub

OTHER_TOKEN = "hf_AnotherKnownTokenWithoutAccess"
# Qwen/Qwen3-8B, config.json at b968826d9c46dd6066d109eabc6255188de91218.
QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"],
    "head_dim": 128,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "max_position_embeddings": 40960,
    "model_type": "qwen3",
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "torch_dtype": "bfloat16",
    "vocab_size": 151936,
}
TEMPLATE = "{% for message in messages %}<think>{% endfor %}"


@pytest.fixture
def info(hub: Hub, cache: Path, tmp_path: Path) -> Module:
    """Runs hf_model_info against the hub."""
    defaults = {"endpoint": hub.url, "cache_dir": str(cache), "models": [{"repo_id": MODEL}]}
    return Module(tmp_path, defaults, name="hf_model_info")


def add(hub: Hub, folder: Path, repo_id: str, files: dict[str, Any]) -> Any:
    """Put a model of these files on the hub; what is not bytes is written as JSON."""
    for name, content in files.items():
        path = folder / repo_id / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return hub.store.add(repo_id, folder / repo_id)


def weights(size: int, dtype: str = "BF16") -> bytes:
    return safetensors(size, bytes, dtype)


CHAT = {
    "config.json": QWEN3_8B,
    "generation_config.json": {"temperature": 0.6},
    "tokenizer_config.json": {
        "model_max_length": 131072,
        "chat_template": TEMPLATE,
        "added_tokens_decoder": {"0": {"content": "<s>"}},
    },
    "tokenizer.json": {},
    "README.md": b"# Model",
    "model.safetensors": weights(300_000),
    "pytorch_model.bin": b"x" * 300_000,
    "original/consolidated.00.pth": b"x" * 10,
}
SHARDED = {
    **{name: content for name, content in CHAT.items() if name != "model.safetensors"},
    "model-00001-of-00002.safetensors": weights(300_000),
    "model-00002-of-00002.safetensors": weights(200_000, "F32"),
    "model.safetensors.index.json": {
        "weight_map": {
            "a": "model-00001-of-00002.safetensors",
            "b": "model-00002-of-00002.safetensors",
        }
    },
}
EMBEDDING = {
    "config.json": {"model_type": "bert", "architectures": ["BertModel"]},
    "modules.json": [{"idx": 1, "path": "1_Pooling"}],
    "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
    "2_Dense/config.json": {"in_features": 1},
    "2_Dense/model.safetensors": weights(120_000),
    "vocab.txt": b"[PAD]",
    "model.safetensors": weights(210_000),
    "onnx/model.onnx": b"x",
}
STRAY = {**SHARDED, "extra.safetensors": weights(170_000)}
MISTRAL = {
    **{name: content for name, content in CHAT.items() if name != "tokenizer.json"},
    "params.json": {"dim": 1},
    "consolidated.safetensors": weights(160_000),
    "tekken.json": {},
    "chat_template.jinja": b"{{ bos_token }}",
}
PICKLED = {
    "config.json": {"model_type": "opt"},
    "vocab.json": {},
    "merges.txt": b"",
    "pytorch_model.bin": b"x" * 250_000,
    "training_args.bin": b"x",
}


@pytest.mark.parametrize("counts", [True, False], ids=["hub", "mirror"])
@pytest.mark.parametrize(
    "files",
    [CHAT, SHARDED, STRAY, EMBEDDING, MISTRAL, PICKLED],
    ids=["chat", "sharded", "stray", "embedding", "mistral", "pickled"],
)
def test_what_the_hub_says_is_what_is_there_later(
    files: dict[str, Any],
    counts: bool,
    hub: Hub,
    info: Module,
    run: Module,
    tmp_path: Path,
) -> None:
    hub.counts = counts
    repository = add(hub, tmp_path / "models", "org/name", files)
    before = info(models=[{"repo_id": "org/name"}])
    assert not before.get("failed"), before
    (entry,) = before["hub"]
    assert entry["commit"] == repository.resolve("main")
    assert entry["error"] is None
    # Nothing but small files came.
    large = {name for name, text in files.items() if isinstance(text, bytes) and len(text) > 99_999}
    assert large
    assert all(hub.sent(name) <= HEADER_GUESS for name in large)
    if counts and files not in (STRAY, MISTRAL):  # of which the Hub counts something else
        assert not any(hub.sent(name) for name in large)

    brought = run(repo_id="org/name")
    assert brought["commit"] == entry["commit"]
    assert brought["path"] == entry["path"]
    assert brought["bytes"] == entry["bytes"] == entry["download_bytes"]
    assert before["models"] == {entry["path"]: models_dir.read_one(Host(), entry["path"])}

    hub.clear_log()
    after = info(models=[{"repo_id": "org/name"}])
    assert after["models"] == before["models"]
    assert after["hub"] == [{**entry, "download_bytes": 0, "asked": None}]
    assert hub.log == []


def test_a_chat_model_is_told_whole(hub: Hub, info: Module, tmp_path: Path) -> None:
    add(hub, tmp_path / "models", "org/chat", SHARDED).card = {"base_model": "org/base"}
    told = info(models=[{"repo_id": "org/chat"}])
    (row,) = told["models"].values()
    assert row["config"] == QWEN3_8B
    assert row["chat_template"] == TEMPLATE
    assert row["documents"] == {
        "generation_config.json": {"temperature": 0.6},
        "tokenizer_config.json": {"model_max_length": 131072},
    }
    assert row["weights"]["bytes"] == 500_000
    assert row["weights"]["parameters"] == {"BF16": 149_932, "F32": 49_966}
    assert told["hub"][0]["base_models"] == ["org/base"]
    # The index is not needed where the shards are one whole set.
    assert hub.sent("model.safetensors.index.json") == 0
    assert sum(request.sent for request in hub.log if request.route == "content") < 3000


def test_what_is_there_in_part_is_not_to_be_fetched(
    hub: Hub, info: Module, run: Module, tmp_path: Path
) -> None:
    first = add(hub, tmp_path / "first", "org/name", SHARDED)
    run(repo_id="org/name")
    changed = {**SHARDED, "model-00002-of-00002.safetensors": weights(200_000, "BF16")}
    first.push(write(tmp_path / "second", changed), "next")
    (entry,) = info(models=[{"repo_id": "org/name", "revision": "next"}])["hub"]
    assert entry["download_bytes"] == 200_000
    assert entry["bytes"] > 500_000


def write(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


def test_the_recorded_commit_stays_when_the_branch_moves(
    hub: Hub, info: Module, run: Module, tmp_path: Path
) -> None:
    repository = add(hub, tmp_path / "first", "org/name", CHAT)
    planned = info(models=[{"repo_id": "org/name"}])["hub"][0]["commit"]
    moved = repository.push(write(tmp_path / "second", SHARDED))
    # What was planned is what is fetched, and is recorded.
    assert run(repo_id="org/name", commit=planned)["commit"] == planned
    assert info(models=[{"repo_id": "org/name"}])["hub"][0]["commit"] == planned
    assert run(repo_id="org/name", commit=moved)["commit"] == planned
    assert run(repo_id="org/name", update=True)["commit"] == moved
    assert info(models=[{"repo_id": "org/name"}])["hub"][0]["commit"] == moved


@pytest.mark.parametrize(
    ("setting", "asked", "token", "code", "status"),
    [
        ({"gated": True}, {}, None, "gated", 401),
        ({"gated": True}, {}, OTHER_TOKEN, "gated", 403),
        ({"private": True}, {}, None, "repository", 401),
        ({"private": True}, {}, OTHER_TOKEN, "repository", 404),
        ({}, {}, "hf_Unknown", "token", 401),
        ({}, {"repo_id": "acme/tinny"}, None, "repository", 401),
        ({}, {"revision": "v9"}, None, "revision", 404),
        ({}, {"revision": "0" * 40}, None, "revision", 404),
    ],
)
def test_refusals(
    setting: dict[str, bool],
    asked: dict[str, str],
    token: str | None,
    code: str,
    status: int,
    hub: Hub,
    info: Module,
) -> None:
    hub.store.tokens.add(OTHER_TOKEN)
    for name, value in setting.items():
        setattr(hub.store.repositories[MODEL], name, value)
    told = info(models=[{"repo_id": MODEL, **asked}], token=token)
    assert not told.get("failed"), told
    assert (told["hub"][0]["error"]["code"], told["hub"][0]["error"]["status"]) == (code, status)
    assert told["models"] == {}
    assert hub.sent() == 0
    if token:
        assert token not in told["stdout"]


def test_a_token_opens_what_is_gated_and_goes_nowhere_else(hub: Hub, info: Module) -> None:
    repository = hub.store.repositories[MODEL]
    repository.gated = True
    repository.readers.add(TOKEN)
    hub.counts = False  # so that headers are asked for, which the CDN sends
    told = info(token=TOKEN)
    assert told["hub"][0]["error"] is None
    assert {request.token for request in hub.log if request.server == "hub"} == {"known"}
    assert {request.token for request in hub.log if request.server == "cdn"} == {"none"}
    assert TOKEN not in told["stdout"] + told["stderr"]


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_time_is_bounded_whoever_does_not_answer(silent: str, info: Module) -> None:
    began = time.monotonic()
    info.defaults["timeout"] = 2
    told = info(endpoint=silent, models=[{"repo_id": f"org/n{i}"} for i in range(20)])
    assert time.monotonic() - began < 20
    assert [entry["error"]["code"] for entry in told["hub"]] == ["network"] * 20
    assert "no answer within 2 s" in told["hub"][0]["error"]["message"]


def test_a_slow_hub_is_given_up_on(hub: Hub, info: Module) -> None:
    hub.faults.order("stall", route="info", seconds=60)
    began = time.monotonic()
    info.defaults["timeout"] = 2
    told = info()
    assert time.monotonic() - began < 30
    assert told["hub"][0]["error"]["code"] == "network"


def test_no_network_is_told_at_once(info: Module) -> None:
    told = info(endpoint="http://127.0.0.1:9")
    assert told["hub"][0]["error"]["code"] == "network"
    assert "refused" in told["hub"][0]["error"]["message"]


@pytest.mark.parametrize(("status", "code"), [(500, "server"), (429, "rate"), (404, "endpoint")])
def test_a_hub_in_trouble(status: int, code: str, hub: Hub, info: Module) -> None:
    hub.faults.order("status", route="info", status=status)
    assert info()["hub"][0]["error"]["code"] == code


def test_many_models_are_asked_side_by_side(hub: Hub, info: Module, tmp_path: Path) -> None:
    names = [f"org/n{number}" for number in range(6)]
    for name in names:
        add(hub, tmp_path / "models", name, CHAT)
    told = info(models=[{"repo_id": name} for name in [*names, "org/none"]])
    assert [entry["repo_id"] for entry in told["hub"]] == [*names, "org/none"]
    assert [bool(entry["error"]) for entry in told["hub"]] == [False] * 6 + [True]


@pytest.mark.parametrize(
    "arguments",
    [
        {"models": [{"repo_id": "name"}]},
        {"models": [{"repo_id": MODEL, "revision": "a b"}]},
        {"endpoint": "hub.example"},
        {"cache_dir": "hub"},
    ],
)
def test_wrong_parameters(arguments: dict[str, Any], info: Module) -> None:
    assert info(**arguments)["failed"] is True
