# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a local model directory holds: configuration, weights, tokenizer; and what it lacks."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host

# Either a tokenizer of its own (tokenizer.json), SentencePiece's, tiktoken's, Mistral's,
# WordPiece's, or BPE's two files: what transformers and vLLM look for.
_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "tiktoken.model",
    "tekken.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
)

DOCUMENTS = (
    "generation_config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "modules.json",
    "1_Pooling/config.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "adapter_config.json",
    "params.json",
)
"""JSON beside config.json that says what a model is, by its path in the model's directory."""

TEMPLATES = ("chat_template.jinja", "chat_template.json")
"""Chat templates in files of their own; the first that is there counts, before that of
tokenizer_config.json: `PreTrainedTokenizerBase._from_pretrained` of transformers 4.57
(src/transformers/tokenization_utils_base.py)."""

DOCUMENT_LIMIT = 4 << 20
"""Bytes from which on a document is not read: none of those that people publish comes near."""

# Of tokenizer_config.json: the template is told on its own, the tokens are many and nobody asks.
_NOT_TOLD = ("added_tokens_decoder", "chat_template")
_INDEXES = {
    "safetensors": "model.safetensors.index.json",
    "pytorch": "pytorch_model.bin.index.json",
}
_SUFFIXES = (
    ("safetensors", ".safetensors"),
    ("pytorch", ".bin"),
    ("pytorch", ".pt"),
    ("gguf", ".gguf"),
)
# Files that end like weights and are none (training state):
# filter_files_not_needed_for_inference in vllm 0.14.1, model_executor/model_loader/weight_utils.py.
_NOT_WEIGHTS = (
    "training_args.bin",
    "optimizer.bin",
    "scheduler.bin",
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
)
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


class Safetensors(NamedTuple):
    """What the header of a safetensors file says.

    Attributes:
        bytes: How long the file has to be.
        parameters: Numbers of its tensors by their format (`BF16`, `I32`), as the Hub counts them.
        shapes: Each tensor's shape by its name.
    """

    bytes: int
    parameters: dict[str, int]
    shapes: dict[str, list[int]]


def header_length(start: bytes | None) -> int | None:
    """Bytes of a safetensors file's header, from the file's first eight; None where it has none.

    The format: 8 bytes of header length, a JSON header with each tensor's extent, the tensors
    (https://huggingface.co/docs/safetensors/index#format).
    """
    if start is None or len(start) < 8:
        return None
    length = int(struct.unpack("<Q", start[:8])[0])
    return length if 0 < length <= _HEADER_LIMIT else None


def parse_header(text: bytes) -> Safetensors | None:
    """Reads the header of a safetensors file, without the eight bytes before it.

    Returns:
        What it says; None when it is none.
    """
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        shapes = {
            name: [int(size) for size in tensor.get("shape", ())] for name, tensor in header.items()
        }
        parameters: dict[str, int] = {}
        for name, tensor in header.items():
            count = 1
            for size in shapes[name]:
                count *= size
            form = str(tensor.get("dtype"))
            parameters[form] = parameters.get(form, 0) + count
        end = max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
    return Safetensors(8 + len(text) + end, parameters, shapes)


def read_header(host: Host, path: str) -> Safetensors | None:
    """Reads the header of a safetensors file; None when it has none."""
    length = header_length(host.read_bytes(path, 8))
    if length is None:
        return None
    text = host.read_bytes(path, length, offset=8)
    return parse_header(text) if text is not None and len(text) == length else None


def added(parameters: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The numbers of several files together, by format, sorted."""
    total: dict[str, int] = {}
    for one in parameters:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))


def chosen_weights(
    names: Sequence[str], shards: Callable[[str], list[str]]
) -> tuple[str | None, list[str]]:
    """Which of a directory's files are the weights that vLLM loads, and their format.

    Args:
        names: What the directory lists.
        shards: The files that an index of the directory names; [] for one that is damaged.

    Returns:
        `safetensors`, `pytorch`, `gguf` or None, the first that is there, as vLLM prefers; and the
        files, which an index may name although they are not there.
    """
    present = set(names)
    for format_, suffix in _SUFFIXES:
        index = _INDEXES.get(format_)
        listed = [name for name in names if name.endswith(suffix) and name not in _NOT_WEIGHTS]
        wanted = (shards(index) if index in present and index is not None else []) or listed
        if wanted:
            return format_, wanted
    return None, []


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
        layers (how many of the model's it reaches into; None when its matrices cannot be read),
        shapes (module to its width in and out); None for a directory without an adapter's weights.
    """
    if _ADAPTER_WEIGHTS not in names:
        return None
    header = read_header(host, f"{directory}/{_ADAPTER_WEIGHTS}")
    layers, halves = 0, {}
    for name, shape in (header.shapes if header is not None else {}).items():
        match = _LORA.match(name)
        if match is None or len(shape) != 2:
            continue
        layers = max(layers, int(match["layer"] or -1) + 1)
        # lora_A is rank by in, lora_B is out by rank.
        halves[match["module"], match["half"]] = shape[1] if match["half"] == "A" else shape[0]
    return {
        "layers": layers or None,
        "shapes": {
            module: [halves.get((module, "A")), halves.get((module, "B"))]
            for module in sorted({module for module, _half in halves})
        },
    }


def weights(host: Host, directory: str, names: list[str]) -> dict[str, Any]:
    """Reads the weights of a model directory; links into a Hub cache are followed.

    Args:
        host: The machine.
        directory: The model's directory.
        names: What the directory lists.

    Returns:
        format (see `chosen_weights`), files [{name, bytes}], bytes (their sum), parameters (numbers
        by format; None where not all of the files are safetensors), missing (shards that the index
        names or that links lead to and that are absent), incomplete (safetensors files that are not
        as long as their header says).
    """
    format_, wanted = chosen_weights(
        names, lambda index: shards_of(host.read_text(f"{directory}/{index}") or "")
    )
    sizes = {name: host.size(f"{directory}/{name}") for name in wanted}
    files = [{"name": name, "bytes": size} for name, size in sizes.items() if size is not None]
    headers: list[Safetensors | None] = []
    if format_ == "safetensors":
        headers = [read_header(host, f"{directory}/{entry['name']}") for entry in files]
    incomplete = [
        str(entry["name"])
        for entry, header in zip(files, headers)
        if header is None or header.bytes != entry["bytes"]
    ]
    known = [header.parameters for header in headers if header is not None]
    missing = [name for name, size in sizes.items() if size is None]
    return {
        "format": format_,
        "files": files,
        "bytes": sum(size for size in sizes.values() if size is not None),
        "parameters": added(known) if known and len(known) == len(wanted) else None,
        "missing": missing,
        "incomplete": incomplete,
    }


def has_tokenizer(names: Iterable[str]) -> bool:
    """Whether a directory with these files holds a tokenizer."""
    present = set(names)
    return (
        bool(present.intersection(_TOKENIZERS))
        or {"vocab.json", "merges.txt"} <= present
        or any(name.endswith(".tiktoken") for name in present)
    )


def described(texts: Mapping[str, str]) -> dict[str, Any]:
    """What the small files of a model say.

    Args:
        texts: Their content by name: `config.json`, `DOCUMENTS` and `TEMPLATES`, where they are.

    Returns:
        config, config_error, documents (the parsed `DOCUMENTS` that are there and are JSON, by
        name), chat_template (its text, or None; of several that have names the one named
        `default`).
    """
    config, config_error = None, None
    if "config.json" in texts:
        config, config_error = parse_config(texts["config.json"])
    documents: dict[str, Any] = {}
    for name in (*DOCUMENTS, TEMPLATES[1]):
        if name in texts:
            try:
                documents[name] = json.loads(texts[name])
            except ValueError:
                continue
    template: Any = texts.get(TEMPLATES[0])
    for name in (TEMPLATES[1], "tokenizer_config.json"):
        document = documents.get(name)
        if template is None and isinstance(document, dict):
            template = document.get("chat_template")
    documents.pop(TEMPLATES[1], None)
    if isinstance(template, list):
        named = {one["name"]: one.get("template") for one in template if _is_named(one)}
        template = named.get("default", next(iter(named.values()), None))
    tokenizer = documents.get("tokenizer_config.json")
    if isinstance(tokenizer, dict):
        documents["tokenizer_config.json"] = {
            key: value for key, value in tokenizer.items() if key not in _NOT_TOLD
        }
    return {
        "config": config,
        "config_error": config_error,
        "documents": documents,
        "chat_template": template if isinstance(template, str) else None,
    }


def _is_named(template: Any) -> bool:
    return isinstance(template, dict) and isinstance(template.get("name"), str)


def read_one(host: Host, directory: str) -> dict[str, Any]:
    """Reads one entry of `facts.models`.

    Args:
        host: The machine.
        directory: Absolute path of the model's directory.

    Returns:
        exists, is_directory, readable, names (what it lists, sorted), weights (see `weights`),
        tokenizer, adapter (see `adapter`), and what `described` says of its documents.
    """
    exists = host.exists(directory)
    is_directory = host.is_dir(directory)
    readable = is_directory and host.can_read(directory)
    names = sorted(host.listdir(directory)) if readable else []
    texts: dict[str, str] = {}
    for name in ("config.json", *DOCUMENTS, *TEMPLATES):
        # What is in a folder of its own is read where the folder is there.
        if name.partition("/")[0] in names:
            text = host.read_text(f"{directory}/{name}", DOCUMENT_LIMIT)
            if text is not None:
                texts[name] = text
    said = described(texts)
    if "config.json" in names and "config.json" not in texts:
        said["config_error"] = "cannot be read"
    present = {name for name in names if host.is_file(f"{directory}/{name}")}
    return {
        "exists": exists,
        "is_directory": is_directory,
        "readable": readable,
        **said,
        "names": names,
        "weights": weights(host, directory, names),
        "tokenizer": has_tokenizer(present),
        "adapter": adapter(host, directory, names),
    }


def read(host: Host, directories: Sequence[str]) -> dict[str, Any]:
    """Reads `facts.models`; see `read_one`."""
    return {directory: read_one(host, directory) for directory in directories}
