# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a local model directory holds: configuration, weights, tokenizer; and what it lacks."""

from __future__ import annotations

import json
import re
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


def _safetensors_header(host: Host, path: str) -> tuple[int, dict[str, Any]] | None:
    """A safetensors file's header: its length in bytes, and each tensor's entry.

    The format: 8 bytes of header length, a JSON header with each tensor's extent, the tensors
    (https://huggingface.co/docs/safetensors/index#format).

    Returns:
        None when the file has no such header.
    """
    start = host.read_bytes(path, 8)
    if start is None or len(start) < 8:
        return None
    length = struct.unpack("<Q", start)[0]
    if not 0 < length <= _HEADER_LIMIT:
        return None
    try:
        header = json.loads(host.read_bytes(path, length, offset=8) or b"")
    except ValueError:
        return None
    if not isinstance(header, dict):
        return None
    return int(length), {name: one for name, one in header.items() if name != "__metadata__"}


def safetensors_length(host: Host, path: str) -> int | None:
    """How long a safetensors file has to be, from its own header.

    Returns:
        Bytes; None when the file has no such header.
    """
    found = _safetensors_header(host, path)
    if found is None:
        return None
    length, tensors = found
    try:
        return (
            8 + length + int(max((one["data_offsets"][1] for one in tensors.values()), default=0))
        )
    except (ValueError, KeyError, TypeError, IndexError):
        return None


_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
# PEFT's names: base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight
_LORA = re.compile(
    r"(?:.*\.layers\.(?P<layer>[0-9]+)\.)?.*?(?P<module>[A-Za-z0-9_]+)\.lora_(?P<half>[AB])\."
)


def adapter(host: Host, directory: str, names: list[str]) -> dict[str, Any] | None:
    """Reads a directory that holds a LoRA adapter, as PEFT saves one.

    Args:
        host: The machine.
        directory: The adapter's directory.
        names: What the directory lists.

    Returns:
        config (adapter_config.json; None when it cannot be read), layers (how many of the model's
        it reaches into; None when its matrices cannot be read), shapes (module to its width in and
        out); None for a directory without an adapter.
    """
    if _ADAPTER_CONFIG not in names:
        return None
    config, _ = parse_config(host.read_text(f"{directory}/{_ADAPTER_CONFIG}") or "")
    found = _safetensors_header(host, f"{directory}/{_ADAPTER_WEIGHTS}")
    layers, halves = 0, {}
    for name, tensor in (found[1] if found is not None else {}).items():
        match = _LORA.match(name)
        shape = tensor.get("shape") if isinstance(tensor, dict) else None
        if match is None or not isinstance(shape, list) or len(shape) != 2:
            continue
        layers = max(layers, int(match["layer"] or -1) + 1)
        # lora_A is rank by in, lora_B is out by rank.
        halves[match["module"], match["half"]] = shape[1] if match["half"] == "A" else shape[0]
    return {
        "config": config,
        "layers": layers or None,
        "shapes": {
            module: [halves.get((module, "A")), halves.get((module, "B"))]
            for module in sorted({module for module, _ in halves})
        },
    }


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


def read_one(host: Host, directory: str) -> dict[str, Any]:
    """Reads one entry of `facts.models`.

    Args:
        host: The machine.
        directory: Absolute path of the model's directory.

    Returns:
        exists, is_directory, readable, config, config_error, weights (see `weights`), tokenizer,
        adapter (see `adapter`).
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
    return {
        "exists": exists,
        "is_directory": is_directory,
        "readable": readable,
        "config": config,
        "config_error": config_error,
        "weights": weights(host, directory, names),
        "tokenizer": bool(present.intersection(_TOKENIZERS))
        or {"vocab.json", "merges.txt"} <= present,
        "adapter": adapter(host, directory, names),
    }


def read(host: Host, directories: Sequence[str]) -> dict[str, Any]:
    """Reads `facts.models`; see `read_one`."""
    return {directory: read_one(host, directory) for directory in directories}
