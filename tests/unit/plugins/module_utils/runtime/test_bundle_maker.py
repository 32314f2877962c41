# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bundle lacks, keeps and has too much of, without fetching anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.bundle_files import (
    BundleFiles,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.bundle_maker import (
    BundleMaker,
    Lock,
    Wheel,
)

if TYPE_CHECKING:
    from pathlib import Path

A, B = "a" * 64, "b" * 64


def maker(path: Path, **params: Any) -> BundleMaker:
    given = {
        "path": f"{path}/",
        "platform": "x86_64-manylinux_2_28",
        "locks": [{"name": "cpu-py311.txt", "python": "3.11", "text": f"x==1 --hash=sha256:{A}\n"}],
        "tools_lock": f"y==1 --hash=sha256:{B}\n",
        "models": [],
        "workers": 1,
        **params,
    }
    return BundleMaker(given, Progress(None), check=True)


def test_what_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    bad = {"name": "../x", "python": "3.11", "text": "nothing pinned\n"}
    with pytest.raises(Failed) as told:
        maker(tmp_path, locks=[bad], workers=0, platform="win", models=["/a"]).check_arguments()
    for part in (
        "locks: ../x",
        "'../x' is not a file name",
        "platform:",
        "workers: 0",
        "models: /a",
    ):
        assert part in str(told.value)
    assert "holds mine" in str(told.value)


@pytest.mark.parametrize(
    ("name", "filename", "sha256", "fits"),
    [
        ("x", "x-1-py3-none-any.whl", A, True),
        ("x", "x-1-cp311-cp311-manylinux_2_28_x86_64.whl", A, True),
        ("x", "x-1-cp311-cp311-manylinux_2_31_x86_64.whl", A, False),
        ("x", "x-1-cp312-cp312-manylinux_2_28_x86_64.whl", A, False),
        ("x", "x-1-py3-none-any.whl", B, False),
        ("z", "z-1-py3-none-any.whl", A, False),
    ],
)
def test_a_wheel_counts_by_hash_name_and_tag(
    tmp_path: Path, name: str, filename: str, sha256: str, fits: bool
) -> None:
    lock = Lock("cpu-py311.txt", "3.11", f"x==1 --hash=sha256:{A}\n")
    todo, kept = maker(tmp_path).missing([lock], [Wheel(filename, name, "1", sha256)])
    assert kept == ({filename} if fits else set())
    assert [one.name for _python, one in todo] == ([] if fits else ["x"])


def test_only_wheels_and_what_was_a_bundle_s_before_are_surplus(tmp_path: Path) -> None:
    for path in ("wheels/old.whl", "wheels/a.whl", "models/m/x", "models/mine/x", "locks/old.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    found = maker(tmp_path).surplus({"wheels/a.whl"}, {"models/m/x", "locks/old.txt"})
    assert found == ["locks/old.txt", "models/m/x", "wheels/old.whl"]


def test_a_directory_without_a_manifest_is_no_whole_bundle(tmp_path: Path) -> None:
    problem, files = BundleFiles({"path": str(tmp_path)}, Progress(None)).problem()
    assert problem is not None
    assert "it has no manifest.json" in problem
    assert files == []
