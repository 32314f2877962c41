# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import caches


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    own = tmp_path / "cache"
    for name in ("vllm/torch_compile_cache/a", "vllm/modelinfos", "triton/b", "inductor/c"):
        (own / name).mkdir(parents=True)
        (own / name / "file").write_bytes(b"12345")
    return {
        "CACHE_DIRECTORY": str(own),
        "VLLM_CACHE_ROOT": str(own / "vllm"),
        "TRITON_CACHE_DIR": str(own / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(own / "inductor"),
    }


def test_compiled_code_is_removed_and_nothing_else(environ: dict[str, str], tmp_path: Path) -> None:
    own = tmp_path / "cache"
    removed = caches.remove_compile_caches(environ, str(tmp_path))
    assert removed == {
        str(own / "vllm/torch_compile_cache"): 5,
        str(own / "triton"): 5,
        str(own / "inductor"): 5,
    }
    left = sorted(str(path.relative_to(own)) for path in own.rglob("*"))
    assert left == ["vllm", "vllm/modelinfos", "vllm/modelinfos/file"]


def test_it_is_removed_once_and_much_later_again(environ: dict[str, str], tmp_path: Path) -> None:
    assert caches.remove_compile_caches(environ, str(tmp_path))
    inductor = Path(environ["TORCHINDUCTOR_CACHE_DIR"])
    inductor.mkdir()
    assert caches.remove_compile_caches(environ, str(tmp_path)) is None
    assert inductor.exists()
    os.utime(tmp_path / "caches-removed", (0, 0))
    assert caches.remove_compile_caches(environ, str(tmp_path)) == {str(inductor): 0}


def test_folders_that_may_be_others_too_stay(environ: dict[str, str], tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (shared / "torch_compile_cache").mkdir(parents=True)
    linked = Path(environ["CACHE_DIRECTORY"]) / "linked"
    linked.symlink_to(shared)
    own = environ["CACHE_DIRECTORY"]
    for elsewhere in (str(shared), f"{own}/../shared", str(linked), "", own):
        there = {
            "CACHE_DIRECTORY": own,
            "VLLM_CACHE_ROOT": str(shared),
            "TRITON_CACHE_DIR": elsewhere,
        }
        assert caches.compile_caches(there) == []
    assert caches.compile_caches({**environ, "CACHE_DIRECTORY": ""}) == []


def test_where_there_is_nothing_to_remove_nothing_is_promised(tmp_path: Path) -> None:
    assert caches.remove_compile_caches({"CACHE_DIRECTORY": str(tmp_path)}, str(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []
