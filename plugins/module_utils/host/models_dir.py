# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a local model directory holds: configuration, weights, tokenizer; and what it lacks."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host

# Either a tokenizer of its own (tokenizer.json), SentencePiece's, tiktoken's, Mistral's, or BPE's
# two files: what transformers and vLLM look for.
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tiktoken.model", "tekken.json")
_INDEXES = {
    "safetensors": "model.safetensors.index.json",
    "pytorch": "pytorch_model.bin.index.json",
}
_SUFFIXES = (("safetensors", ".safetensors"), ("pytorch", ".bin"), ("gguf", ".gguf"))
# Files that end in .bin beside the weights and are none (training state).
_NOT_WEIGHTS = ("training_args.bin", "optimizer.bin", "scheduler.bin")
# A chat template alone: transformers' and older ones (transformers 4.57, utils/hub.py and
# tokenization_utils_base.py: CHAT_TEMPLATE_FILE, LEGACY_PROCESSOR_CHAT_TEMPLATE_FILE).
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_TEMPLATE_LIMIT = 65536  # characters of a template that the facts carry
_HEADER_LIMIT = 100_000_000  # the safetensors library's own limit for a header's length, in bytes


def parse_config(text: str) -> tuple[dict[str, Any] | None, str | None]:
    """Reads config.json.

    Returns:
        The configuration and None, or None and what is wrong with it.
    """
    try:
        config = json.loads(text)
    except ValueError as error:
        return None, f"not JSON: {error}"
    if not isinstance(config, dict):
        return None, f"not a JSON object but a {type(config).__name__}"
    return config, None


def shards_of(index: str) -> list[str]:
    """File names that an index (`weight_map`) refers to, sorted; [] when it cannot be read."""
    try:
        weight_map = json.loads(index)["weight_map"]
        return sorted({name for name in weight_map.values() if isinstance(name, str)})
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def safetensors_length(host: Host, path: str) -> int | None:
    """How long a safetensors file has to be, from its own header.

    The format: 8 bytes of header length, a JSON header with each tensor's extent, the tensors
    (https://huggingface.co/docs/safetensors/index#format).

    Returns:
        Bytes; None when the file has no such header.
    """
    start = host.read_bytes(path, 8)
    if start is None or len(start) < 8:
        return None
    length = struct.unpack("<Q", start)[0]
    if not 0 < length <= _HEADER_LIMIT:
        return None
    try:
        header = json.loads(host.read_bytes(path, length, offset=8) or b"")
        ends = [
            entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"
        ]
        return 8 + int(length) + int(max(ends, default=0))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None


def weights(host: Host, directory: str, names: list[str]) -> dict[str, Any]:
    """Reads the weights of a model directory; links into a Hub cache are followed.

    Args:
        host: The machine.
        directory: The model's directory.
        names: What the directory lists.

    Returns:
        format ("safetensors", "pytorch", "gguf" or None; the first that is there, as vLLM
        prefers), files [{name, bytes}], bytes (their sum), missing (shards that the index names
        or that links lead to and that are absent), incomplete (safetensors files that are not as
        long as their header says).
    """
    present = set(names)
    for format_, suffix in _SUFFIXES:
        index = _INDEXES.get(format_)
        listed = [name for name in names if name.endswith(suffix) and name not in _NOT_WEIGHTS]
        shards = []
        if index in present:
            shards = shards_of(host.read_text(f"{directory}/{index}") or "")
        wanted = shards or listed
        if not wanted:
            continue
        sizes = {name: host.size(f"{directory}/{name}") for name in wanted}
        files = [{"name": name, "bytes": size} for name, size in sizes.items() if size is not None]
        incomplete = []
        if format_ == "safetensors":
            incomplete = [
                entry["name"]
                for entry in files
                if safetensors_length(host, f"{directory}/{entry['name']}") != entry["bytes"]
            ]
        return {
            "format": format_,
            "files": files,
            "bytes": sum(size for size in sizes.values() if size is not None),
            "missing": [name for name, size in sizes.items() if size is None],
            "incomplete": incomplete,
        }
    return {"format": None, "files": [], "bytes": 0, "missing": [], "incomplete": []}


def chat_template(host: Host, directory: str, present: set[str]) -> str | None:
    """Reads the chat template of a model directory, as transformers finds it.

    Args:
        host: The machine.
        directory: The model's directory.
        present: The names of its files.

    Returns:
        The template's text, at most `_TEMPLATE_LIMIT` characters of it; "" where the tokenizer
        has none; None where there is no tokenizer_config.json, which alone says that there is none.
    """
    if _TEMPLATES[0] in present:
        return (host.read_text(f"{directory}/{_TEMPLATES[0]}") or "")[:_TEMPLATE_LIMIT]
    for name in (_TEMPLATES[1], "tokenizer_config.json"):
        if name not in present:
            continue
        content, _error = parse_config(host.read_text(f"{directory}/{name}") or "")
        found = (content or {}).get("chat_template")
        if isinstance(found, list):  # several by name: [{"name": …, "template": …}]
            named = {row.get("name"): row.get("template") for row in found if isinstance(row, dict)}
            found = named.get("default") or next(iter(named.values()), None)
        if isinstance(found, str) and found:
            return found[:_TEMPLATE_LIMIT]
    return "" if "tokenizer_config.json" in present else None


def sentence_transformers(host: Host, directory: str, present: set[str]) -> list[str] | None:
    """Reads which modules Sentence Transformers has for a model, such as Pooling and Normalize.

    Returns:
        The last parts of their types' names in order; None where there is no modules.json.
    """
    if "modules.json" not in present:
        return None
    try:
        rows = json.loads(host.read_text(f"{directory}/modules.json") or "")
        return [str(row["type"]).rpartition(".")[2] for row in rows]
    except (ValueError, KeyError, TypeError):
        return []


def read_one(host: Host, directory: str) -> dict[str, Any]:
    """Reads one entry of `facts.models`.

    Args:
        host: The machine.
        directory: Absolute path of the model's directory.

    Returns:
        exists, is_directory, readable, config, config_error, weights (see `weights`), tokenizer;
        and where the files say so chat_template and sentence_transformers, see the functions of
        these names.
    """
    exists = host.exists(directory)
    is_directory = host.is_dir(directory)
    readable = is_directory and host.can_read(directory)
    names = host.listdir(directory) if readable else []
    config, config_error = None, None
    if "config.json" in names:
        text = host.read_text(f"{directory}/config.json")
        if text is None:
            config_error = "cannot be read"
        else:
            config, config_error = parse_config(text)
    present = {name for name in names if host.is_file(f"{directory}/{name}")}
    more = {
        "chat_template": chat_template(host, directory, present),
        "sentence_transformers": sentence_transformers(host, directory, present),
    }
    return {
        "exists": exists,
        "is_directory": is_directory,
        "readable": readable,
        "config": config,
        "config_error": config_error,
        "weights": weights(host, directory, names),
        "tokenizer": bool(present.intersection(_TOKENIZERS))
        or {"vocab.json", "merges.txt"} <= present,
        **{key: value for key, value in more.items() if value is not None},
    }


def read(host: Host, directories: Sequence[str]) -> dict[str, Any]:
    """Reads `facts.models`; see `read_one`."""
    return {directory: read_one(host, directory) for directory in directories}
