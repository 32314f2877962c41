# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Building a release: what is damaged is fetched again once, and nothing is left of a failure.

uv is a program of the test that installs files as uv does, so that no index is needed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime import release
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.proving import (
    broken_in_cache,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.release import Release
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.steps import (
    CallFailed,
    Steps,
)

LOCK = "one==1.0 --hash=sha256:aa\ntwo==1.0 --hash=sha256:bb\n"
EXPECT = {"vllm": "1.0"}
UV = """
import base64, hashlib, json, os, pathlib, shutil, sys
cache, venv = pathlib.Path(os.environ["UV_CACHE_DIR"]), pathlib.Path(os.environ["VIRTUAL_ENV"])
log = cache.parent / "calls"
log.open("a").write(" ".join(sys.argv[1:3]) + " " + sys.argv[-1] + chr(10))
site = venv / "lib/python3.11/site-packages"
if sys.argv[1] == "venv":
    site.mkdir(parents=True, exist_ok=True)
    (venv / "bin").mkdir(exist_ok=True)
elif sys.argv[1] == "cache":
    shutil.rmtree(cache / "archive-v0" / sys.argv[-1], ignore_errors=True)
else:
    again = [word.split("=")[1] for word in sys.argv if word.startswith("--reinstall")]
    for name in again:
        shutil.rmtree(site / name, ignore_errors=True)
    for name in ("one", "two"):
        archive = cache / "archive-v0" / name
        served = json.loads((cache.parent / "served").read_text())
        if not archive.is_dir():
            rows, info = [], f"{name}-1.0.dist-info"
            files = {f"{name}/a.py": b"good", f"{name}/b.py": b"good", f"{info}/METADATA": b"m"}
            for path, content in files.items():
                file = archive / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(served.get(path, content.decode()).encode())
                digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
                rows.append(f"{path},sha256={digest.rstrip('=')},{len(content)}")
            (archive / info / "RECORD").write_text(chr(10).join(rows) + chr(10))
        if not (archive / f"{name}-1.0.dist-info/METADATA").read_bytes():
            sys.exit(f"error: Failed to install: {name}-1.0-any.whl ({name}==1.0)")
        for file in archive.rglob("*"):
            target = site / file.relative_to(archive)
            if file.is_file():
                target.parent.mkdir(exist_ok=True)
                target.unlink(missing_ok=True)
                shutil.copy2(file, target) if file.name == "RECORD" else os.link(file, target)
"""


class Build:
    """One host's cache and the builds that use it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.venv = root / "releases" / "one"
        self.cache = root / "cache" / "uv"
        uv = root / "tools/bin/uv"
        uv.parent.mkdir(parents=True)
        uv.write_text(f"#!{sys.executable}\n{UV}")
        uv.chmod(0o755)
        self.cache.mkdir(parents=True)
        self.serve()
        self.proofs: list[bool] = []
        monkeypatch.setattr(release, "prove_release", self.prove)

    def serve(self, **contents: str) -> None:
        (self.root / "cache/served").write_text(json.dumps(contents))

    def prove(self, _steps: Steps, venv: str, *_more: Any) -> dict[str, str]:
        """Importing: works when all of `one` is as it was made."""
        os.makedirs(os.path.join(venv, ".pycache"), exist_ok=True)
        site = Path(venv, "lib/python3.11/site-packages")
        good = all((site / f"one/{name}.py").read_bytes() == b"good" for name in "ab")
        self.proofs.append(good)
        if not good:
            raise CallFailed("proving the venv by its own Python", "ImportError: ModelConfig")
        return {"vllm": "1.0"}

    def __call__(self) -> Release:
        params = {
            "tools_path": str(self.root / "tools"),
            "cache_dir": str(self.cache),
            "bundle": None,
            "metadata_alias": None,
            "installed_bytes": 0,
            "expect": EXPECT,
            "release": "1.0",
            "accelerator": "cpu",
        }
        steps = Steps(Progress(None), {})
        with (self.root / "lock").open("a+", encoding="utf-8") as steps.guard:
            built = Release(str(self.venv), LOCK, sys.executable, False, steps, params)
            built.build()
        return built

    def cached(self, path: str) -> Path:
        return self.cache / "archive-v0" / path.split("/")[0].split("-")[0] / path

    def dropped(self) -> list[str]:
        lines = (self.root / "cache/calls").read_text().splitlines()
        return [line.split()[-1] for line in lines if line.startswith("cache clean")]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    return Build(tmp_path, monkeypatch)


def forget_proof(build: Build) -> None:
    for path in (build.root / "cache/proofs").rglob("proof.json"):
        path.unlink()


def test_a_new_host_compares_nothing_beforehand_and_drops_nothing(build: Build) -> None:
    built = build()
    assert built.record() is not None
    assert built.mended == []
    assert build.proofs == [True]
    assert build.dropped() == []


@pytest.mark.parametrize("content", ["goo", "", "gooD", "good, and mine"])
@pytest.mark.parametrize("with_proof", [False, True])
def test_a_file_that_was_changed_in_place_is_fetched_again_before_it_is_imported(
    build: Build, content: str, with_proof: bool
) -> None:
    build()
    site = build.venv / "lib/python3.11/site-packages"
    (site / "one/a.py").write_text(content)  # in place: the cache's file too
    assert build.cached("one/a.py").read_text() == content
    if not with_proof:
        forget_proof(build)
    built = build()
    assert built.record() is not None
    assert built.mended == ["altered: lib/python3.11/site-packages/one/a.py"]
    assert build.dropped() == ["one"]
    assert False not in build.proofs
    assert (site / "one/a.py").read_text() == "good"
    assert build.cached("one/a.py").read_text() == "good"
    assert build().mended == []


def test_what_keeps_size_and_time_is_found_when_the_proof_fails(build: Build) -> None:
    build()
    forget_proof(build)
    path = build.cached("one/b.py")
    status = path.stat()
    path.write_text("gooD")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    built = build()
    assert build.proofs == [True, False, True]
    assert built.mended == ["altered: lib/python3.11/site-packages/one/b.py"]


@pytest.mark.parametrize("name", ["METADATA", "RECORD"])
def test_a_cache_that_uv_cannot_read_is_dropped_and_fetched_again(build: Build, name: str) -> None:
    build()
    forget_proof(build)
    build.cached(f"two-1.0.dist-info/{name}").write_text("")
    built = build()
    assert built.record() is not None
    assert build.dropped() == ["two"]
    assert len(built.mended) == 1


def test_what_is_served_damaged_is_fetched_once_more_and_no_more(build: Build) -> None:
    build()
    forget_proof(build)
    build.cached("one/a.py").write_text("x")
    build.serve(**{"one/a.py": "y"})
    with pytest.raises(Failed, match=r"damaged also when they are fetched again .*one/a\.py"):
        build()
    assert build.dropped() == ["one"]
    assert not build.venv.exists()


def test_an_import_that_fails_although_all_is_whole_is_told_as_it_is(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prove(*_arguments: Any) -> Any:
        raise CallFailed("proving the venv by its own Python", "ImportError: libcuda.so.1")

    monkeypatch.setattr(release, "prove_release", prove)
    with pytest.raises(CallFailed, match=r"libcuda\.so\.1"):
        build()
    assert build.dropped() == []
    assert not build.venv.exists()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("error: Failed to install: two-1.0-any.whl (two==1.0)\n  cause: The wheel is", {"two"}),
        ("error: Failed to download `two==1.0`\n  cause: Failed to deserialize", {"two"}),
        ("Failed to install: not-two-1.0-any.whl (not-two==1.0)", set()),
        ("Failed to download `two==1.0`\n  cause: dns error", set()),
        ("Failed to install: (two==1.0)\n cause: No space left on device", set()),
        ("Hash mismatch for `two==1.0`", set()),
        ("error: something else", set()),
    ],
)
def test_which_packages_a_cache_is_broken_for(output: str, expected: set[str]) -> None:
    assert broken_in_cache(output, ["one", "two"]) == expected
