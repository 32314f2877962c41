# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hub, the real client and the module, for each test."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hub import Hub, Store
from hub.testing import Module, client_environment, tools, write_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODEL = "acme/tiny"
TOKEN = "hf_KnownTokenOfATestThatMustNotLeak"

# What a model's repository has beside what vLLM loads.
BALLAST = {
    "pytorch_model.bin": b"bin" * 1000,
    "tiny.gguf": b"gguf" * 1000,
    "original/consolidated.00.pth": b"pth" * 1000,
    "original/params.json": b"{}",
    "onnx/config.json": b"{}",
    "modeling_tiny.py": b"raise SystemExit\n",
}
SHARDS = [3_000_000, 2_000_000, 1_000_001]


@pytest.fixture(scope="session")
def venv() -> Path:
    """The tools' environment with the real client."""
    return tools()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the model."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny", SHARDS, extra=BALLAST)


@pytest.fixture
def hub(model: Path) -> Iterator[Hub]:
    """A hub with the model."""
    store = Store()
    store.tokens.add(TOKEN)
    store.add(MODEL, model)
    with Hub(store) as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The cache on the managed host."""
    return tmp_path / "cache"


@pytest.fixture
def run(hub: Hub, venv: Path, cache: Path, tmp_path: Path) -> Module:
    """Runs the module against the hub."""
    return Module(
        tmp_path,
        {
            "repo_id": MODEL,
            "endpoint": hub.url,
            "cache_dir": str(cache),
            "tools_path": str(venv),
            "stall_timeout": 5,
            "retries": 2,
        },
    )


@pytest.fixture
def client(hub: Hub, venv: Path, cache: Path, tmp_path: Path) -> Callable[..., Any]:
    """Runs an expression of Python with the real client on the module's cache."""

    def evaluate(expression: str, **environment: str) -> Any:
        source = f"import json, huggingface_hub as hf\nprint(json.dumps({expression}))"
        done = subprocess.run(
            [str(venv / "bin/python"), "-c", source],
            env=client_environment(
                hub.url, tmp_path, **{"HF_HUB_CACHE": str(cache), **environment}
            ),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return evaluate


@pytest.fixture
def assert_whole(model: Path) -> Callable[..., None]:
    """Checks that a result's snapshot is the model, file by file, and that nothing is left over."""

    def check(result: dict[str, Any], source: Path = model) -> None:
        assert not result.get("failed"), result["msg"]
        snapshot = Path(result["path"])
        found = {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*.*")}
        assert {name for name in found if name.endswith(".safetensors")} == {
            path.name for path in source.glob("*.safetensors")
        }
        assert "config.json" in found
        for name in found:
            assert sha256(snapshot / name) == sha256(source / name), name
        assert not list(snapshot.parents[1].glob("blobs/*.incomplete"))
        assert result["stderr"] == ""

    return check


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
