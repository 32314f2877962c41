# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of `hf_model` need beside a hub: the real client, models, a way to run the module."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[3]


def tools() -> Path:
    """The environment of the tools' lock, as on a managed host; made once in the user's cache.

    Raises:
        subprocess.CalledProcessError: It cannot be made.
    """
    lock = ROOT / "requirements" / "tools.txt"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = hashlib.sha256(lock.read_bytes() + python.encode()).hexdigest()[:12]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    venv = base / "compute_plane.vllm" / f"tools-{name}"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with venv.with_suffix(".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (venv / ".complete").exists():
            uv = shutil.which("uv", path=f"{ROOT}/.venv/bin:{os.environ['PATH']}") or "uv"
            for command in (
                [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv)],
                [uv, "pip", "sync", "--quiet", "--require-hashes", str(lock)],
            ):
                environment = {**os.environ, "VIRTUAL_ENV": str(venv)}
                subprocess.run(command, check=True, env=environment)
            (venv / ".complete").touch()
    return venv


def client_environment(endpoint: str, home: Path, **more: str) -> dict[str, str]:
    """The environment to run the real client in, against a hub."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        **more,
    }


def safetensors(size: int, content: Callable[[int], bytes], dtype: str = "U8") -> bytes:
    """A safetensors file of a given length, with one tensor.

    Where the length is less than a header needs, it is the content alone.

    Args:
        size: Bytes of the file.
        content: Gives so many bytes.
        dtype: The tensor's format.
    """
    width = {"U8": 1, "BF16": 2, "F32": 4}[dtype]
    room = size - 8 - 128
    if room < width:
        return content(size)
    data = room // width * width
    entry = {"dtype": dtype, "shape": [data // width], "data_offsets": [0, data]}
    header = json.dumps({"layer.weight": entry}).encode().ljust(size - 8 - data)
    return struct.pack("<Q", len(header)) + header + content(data)


def write_model(
    directory: Path, shards: list[int], seed: int = 1, extra: dict[str, bytes] | None = None
) -> Path:
    """Write a directory like a model's: random weights of the given sizes, an index, small files.

    Args:
        directory: Where; made anew.
        shards: Bytes of each safetensors file.
        seed: Of the content.
        extra: More files, by path.
    """
    rng = random.Random(seed)  # noqa: S311 - the same files each time
    names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    files = {
        "config.json": json.dumps({"model_type": "llama", "seed": seed}).encode(),
        "generation_config.json": b"{}",
        "tokenizer.json": json.dumps({"vocab": list(range(500))}).encode(),
        "tokenizer_config.json": b"{}",
        "README.md": b"# A model\n",
        "model.safetensors.index.json": json.dumps(
            {"weight_map": {f"layer.{i}": name for i, name in enumerate(names)}}
        ).encode(),
        **{
            name: safetensors(size, rng.randbytes) for name, size in zip(names, shards, strict=True)
        },
        **(extra or {}),
    }
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def bytes_in(directory: Path, pattern: str) -> int:
    """How many bytes the files that match have, also while files get their last names."""
    while True:
        try:
            return sum(path.stat().st_size for path in directory.glob(pattern))
        except FileNotFoundError:
            continue


def children(parent: int) -> list[int]:
    """The processes that a process has started and that still run."""
    found = []
    for name in os.listdir("/proc"):
        try:
            fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(name))
    return found


class Module:
    """Runs a module as Ansible does on a host, without a play.

    Args:
        workdir: For its arguments.
        defaults: Arguments of every run.
        python: The managed host's Python.
        name: The module.
    """

    def __init__(
        self,
        workdir: Path,
        defaults: dict[str, Any],
        python: str = sys.executable,
        name: str = "hf_model",
    ) -> None:
        self._name = name
        self.defaults = defaults
        self._workdir = workdir
        self._python = python
        self._runs = 0

    def start(self, *, check: bool = False, diff: bool = False, **arguments: Any) -> Any:
        """Start a run in a process group of its own; `finish` takes its result."""
        self._runs += 1
        path = self._workdir / f"arguments-{self._name}-{self._runs}.json"
        given = {**self.defaults, **arguments, "_ansible_check_mode": check, "_ansible_diff": diff}
        path.write_text(json.dumps({k: v for k, v in given.items() if v is not None}))
        return subprocess.Popen(
            [self._python, "-m", "hub.run_module", self._name, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self._workdir),
                "LANG": "C.UTF-8",
                "PYTHONPATH": f"{ROOT}/collections:{ROOT}/tests/hosts",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )

    def finish(self, process: Any, timeout: float = 60) -> dict[str, Any]:
        """A run's result, with `stdout` and `stderr` as printed.

        Raises:
            AssertionError: It printed no result, which no module may do.
        """
        stdout, stderr = process.communicate(timeout=timeout)
        try:
            result: dict[str, Any] = json.loads(stdout)
        except ValueError as error:
            raise AssertionError(f"no result:\n{stdout}\n{stderr}") from error
        result.pop("invocation", None)
        # ansible-core 2.19 passes them on with where they came from.
        warnings = [warning["event"]["msg"] for warning in result.pop("warnings", [])]
        return {**result, "warnings": warnings, "stdout": stdout, "stderr": stderr}

    def __call__(self, timeout: float = 60, **arguments: Any) -> dict[str, Any]:
        """Run to the end."""
        return self.finish(self.start(**arguments), timeout)
