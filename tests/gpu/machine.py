# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured with: the release's environment, and models made on the spot."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

RELEASE = "0.26.0"

# https://huggingface.co/Qwen/Qwen2.5-7B-Instruct/blob/main/config.json
QWEN: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 3584,
    "initializer_range": 0.02,
    "intermediate_size": 18944,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "model_type": "qwen2",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 152064,
}
TINY = {
    **QWEN,
    "hidden_size": 256,
    "intermediate_size": 512,
    "max_window_layers": 2,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
}
SHAPES = {"qwen2.5-7b": QWEN, "tiny": TINY}


def unpack(pieces: Path, work: Path) -> None:
    """Join the pieces of tests/gpu/pack and unpack them, once."""
    digest, count = (pieces / "piece.00" / "sha256").read_text().split()
    done = work / "unpacked"
    if done.exists() and done.read_text() == digest:
        return
    work.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    whole = work / "pack.tar.xz"
    with open(whole, "wb") as stream:
        for number in range(int(count)):
            data = (pieces / f"piece.{number:02d}" / "data").read_bytes()
            found.update(data)
            stream.write(data)
    if found.hexdigest() != digest:
        raise SystemExit(f"run: {pieces}: the pieces are not those of one pack")
    target = work / "pack"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    with subprocess.Popen(["xz", "-dc", "-T0", whole], stdout=subprocess.PIPE) as packed:
        subprocess.run(
            ["tar", "-x", "-C", target, "--no-same-owner"], stdin=packed.stdout, check=True
        )
    if packed.returncode != 0:
        raise SystemExit("run: the pack cannot be unpacked")
    whole.unlink()
    done.write_text(digest)


def make_venv(work: Path) -> Path:
    """An environment of the machine's Python: the pack's packages before the machine's own."""
    venv = work / "venv"
    done = venv / "made"
    if done.exists():
        return venv
    shutil.rmtree(venv, ignore_errors=True)
    machine = subprocess.run(
        ["python3", "-c", "import sysconfig, torch; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    subprocess.run(["python3", "-m", "venv", "--without-pip", venv], check=True)
    site = next((venv / "lib").glob("python3*/site-packages"))
    for entry in sorted((work / "pack" / "site").iterdir()):
        os.rename(entry, site / entry.name)
    (site / "zz_machine.pth").write_text(machine + "\n")
    script = venv / "bin" / "vllm"
    script.write_text(
        f"#!{venv}/bin/python\nimport sys\n"
        "from vllm.entrypoints.cli.main import main\n"
        # Engines are started by spawn, which imports this file again.
        'if __name__ == "__main__":\n    sys.exit(main())\n'
    )
    script.chmod(0o755)
    subprocess.run(
        [venv / "bin" / "python", "-m", "compileall", "-q", "-j", "0", site],
        check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    done.touch()
    return venv


def tensors(config: dict[str, Any]) -> dict[str, list[int]]:
    """Names and sizes of a Qwen2 model's weights, as transformers has them."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    found = {"model.embed_tokens.weight": [config["vocab_size"], hidden]}
    for layer in range(config["num_hidden_layers"]):
        here = f"model.layers.{layer}"
        for name, rows in (("q", hidden), ("k", kv), ("v", kv)):
            found[f"{here}.self_attn.{name}_proj.weight"] = [rows, hidden]
            found[f"{here}.self_attn.{name}_proj.bias"] = [rows]
        found[f"{here}.self_attn.o_proj.weight"] = [hidden, hidden]
        found[f"{here}.mlp.gate_proj.weight"] = [inner, hidden]
        found[f"{here}.mlp.up_proj.weight"] = [inner, hidden]
        found[f"{here}.mlp.down_proj.weight"] = [hidden, inner]
        found[f"{here}.input_layernorm.weight"] = [hidden]
        found[f"{here}.post_attention_layernorm.weight"] = [hidden]
    found["model.norm.weight"] = [hidden]
    found["lm_head.weight"] = [config["vocab_size"], hidden]
    return found


def write_tokenizer(source: Path, target: Path, vocabulary: int) -> None:
    """The small model's tokenizer, with tokens beside its own up to a vocabulary's size."""
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    words = tokenizer["model"]["vocab"]
    known = set(words.values()) | {one["id"] for one in tokenizer["added_tokens"]}
    for number in range(vocabulary):
        if number not in known:
            words[f"<t{number}>"] = number
    (target / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    shutil.copy(source / "tokenizer_config.json", target)


def make_model(folder: Path, shape: str, tokenizer: Path) -> None:
    """A model of a shape whose weights take their place and are not written (a sparse file).

    For `load_format: dummy`; vLLM then draws random weights, and the plan sees the files' size.
    """
    if (folder / "config.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    config = SHAPES[shape]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, size in tensors(config).items():
        count = 2
        for one in size:
            count *= one
        header[name] = {"dtype": "BF16", "shape": size, "data_offsets": [at, at + count]}
        at += count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + at)
    write_tokenizer(tokenizer, folder, config["vocab_size"])
    (folder / "config.json").write_text(json.dumps(config, indent=2))


# Runs in the release's environment.
_FILL = textwrap.dedent("""
    import json, sys, torch
    from safetensors import safe_open
    path, device = sys.argv[1:]
    with open(path, "rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    torch.manual_seed(1)
    with open(path, "r+b") as stream:
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            value = torch.randn(entry["shape"], device=device, dtype=torch.float32) * 0.02
            if "norm" in name:
                value += 1
            data = value.to(torch.bfloat16).cpu().contiguous().view(torch.uint8).numpy()
            stream.seek(8 + size + entry["data_offsets"][0])
            stream.write(data)
""")


def fill(folder: Path, venv: Path, device: str, env: dict[str, str]) -> None:
    """Write random weights into a model that :func:`make_model` made."""
    subprocess.run(
        [venv / "bin" / "python", "-c", _FILL, folder / "model.safetensors", device],
        check=True, env=env, timeout=240,
    )  # fmt: skip


def say(text: str) -> None:
    """Tell on standard error what is going on."""
    print(text, file=sys.stderr, flush=True)
