# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/lock: which wheel is locked, what a lock says, what is refused."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

# pip and uv both try these in this order for CPython 3.11 on glibc 2.28 (PEP 425, PEP 600).
BEST_FIRST = [
    "p-1-cp311-cp311-manylinux_2_28_x86_64.whl",
    "p-1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_26_x86_64.whl",
    "p-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "p-1-cp311-cp311-manylinux1_x86_64.whl",
    "p-1-cp311-abi3-manylinux_2_28_x86_64.whl",
    "p-1-cp39-abi3-manylinux_2_28_x86_64.whl",
    "p-1-cp311-none-any.whl",
    "p-1-py3-none-manylinux_2_28_x86_64.whl",
    "p-1-py3-none-any.whl",
]
UNFIT = [
    "p-1-cp311-cp311-manylinux_2_34_x86_64.whl",
    "p-1-cp311-cp311-manylinux_2_28_aarch64.whl",
    "p-1-cp312-cp312-manylinux_2_28_x86_64.whl",
    "p-1-cp312-abi3-manylinux_2_28_x86_64.whl",
    "p-1-cp311-cp311-musllinux_1_2_x86_64.whl",
]


def package(*filenames: str) -> dict[str, Any]:
    return {
        "name": "p",
        "version": "1",
        "wheels": [
            {"url": f"file:///{name}", "size": len(name), "hashes": {"sha256": f"hash of {name}"}}
            for name in filenames
        ],
    }


def chosen(lock: ModuleType, *filenames: str) -> str:
    tags = lock.supported_tags("3.11", "x86_64-manylinux_2_28")
    wheel = lock.best_wheel(package(*filenames), tags)
    filename: str = wheel.sha256.removeprefix("hash of ")
    assert wheel.size == len(filename)
    return filename


class TestBestWheel:
    @pytest.mark.parametrize("number", range(len(BEST_FIRST)))
    def test_takes_what_installers_prefer(self, lock_program: ModuleType, number: int) -> None:
        offered = [*UNFIT, *reversed(BEST_FIRST[number:])]
        expected = BEST_FIRST[number]
        if expected == "p-1-cp311-none-any.whl":
            # Platform-specific py3 wheels come before any-platform cp311 ones.
            offered.remove("p-1-py3-none-manylinux_2_28_x86_64.whl")
        assert chosen(lock_program, *offered) == expected

    def test_takes_the_highest_build(self, lock_program: ModuleType) -> None:
        offered = [f"p-1-{build}-py3-none-any.whl" for build in ("9", "10", "2")]
        assert chosen(lock_program, "p-1-py3-none-any.whl", *offered) == offered[1]

    @pytest.mark.parametrize("filename", UNFIT)
    def test_refuses_what_does_not_fit(self, lock_program: ModuleType, filename: str) -> None:
        with pytest.raises(lock_program.LockError, match="p==1 has no wheel for this Python"):
            chosen(lock_program, filename)

    @pytest.mark.parametrize("missing", ["size", "hashes"])
    def test_refuses_an_index_without_size_or_hash(
        self, lock_program: ModuleType, missing: str
    ) -> None:
        damaged = package("p-1-py3-none-any.whl")
        del damaged["wheels"][0][missing]
        tags = lock_program.supported_tags("3.11", "x86_64-manylinux_2_28")
        with pytest.raises(lock_program.LockError, match="no SHA-256 or no size"):
            lock_program.best_wheel(damaged, tags)


def test_unknown_platform_is_refused(lock_program: ModuleType) -> None:
    with pytest.raises(lock_program.LockError, match="windows"):
        lock_program.platform_tags("windows")


class TestDownloadBytes:
    TEXT = """\
# a comment that stays
accelerators:
  cuda:
    locks: {'3.11': a.txt, '3.12': b.txt}
    download_bytes: 0
  cpu:
    # and this one
    download_bytes: 7
    locks: {'3.11': c.txt}
"""

    def test_is_the_most_of_each_accelerator(
        self, lock_program: ModuleType, tmp_path: Path
    ) -> None:
        for name, size in (("a", 10), ("b", 30), ("c", 20)):
            (tmp_path / f"{name}.txt").write_text(f"# Wheels: 1. Download: {size} bytes.\n")
        expected = self.TEXT.replace("bytes: 0", "bytes: 30").replace("bytes: 7", "bytes: 20")
        assert lock_program.with_download_bytes(self.TEXT, tmp_path) == expected

    def test_line_is_asked_for(self, lock_program: ModuleType, tmp_path: Path) -> None:
        text = self.TEXT.replace("    download_bytes: 7\n", "")
        with pytest.raises(lock_program.LockError, match=r"download_bytes.* for cpu"):
            lock_program.with_download_bytes(text, tmp_path)


class TestCommandLine:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["9.9.9"], "release '9.9.9' is unknown; known: 0.14.1"),
            (["0.14.1", "--accelerator", "rocm"], "no accelerator 'rocm'; it has: cuda, cpu"),
            (["0.14.1", "--python", "3.8"], "no Python '3.8'; it has: 3.10, 3.11"),
        ],
    )
    def test_wrong_names_are_refused_with_the_right_ones(
        self,
        lock_program: ModuleType,
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        message: str,
    ) -> None:
        assert lock_program.main(arguments) == 2
        assert message in capsys.readouterr().err

    def test_uv_is_shielded_from_the_machine_and_its_failure_explained(
        self, lock_program: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        seen: dict[str, str] = {}

        def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
            seen.update(options["env"])
            return subprocess.CompletedProcess(command, 1, stderr="because of p\n")

        monkeypatch.setenv("UV_FIND_LINKS", "/somewhere")
        monkeypatch.setenv("UV_DEFAULT_INDEX", "a mirror")
        monkeypatch.setattr(lock_program.subprocess, "run", run)
        with pytest.raises(lock_program.LockError, match=r"status 1:\nbecause of p$"):
            lock_program.run_uv(["pip", "compile"], tmp_path)
        assert "UV_FIND_LINKS" not in seen
        assert seen["UV_DEFAULT_INDEX"] == "a mirror"
