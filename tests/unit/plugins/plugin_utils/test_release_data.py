# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading release data on the controller."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.release_data import (
    default_releases_dir,
    load_release_data,
)

RULES = {"attention", "candidates", "drivers", "dtypes", "gpus", "host", "kinds", "memory"}


def test_the_collections_own_releases_are_complete():
    data = load_release_data(default_releases_dir(), "0.14.1")
    assert not data.errors
    assert set(data.rules) == RULES
    assert {"0.14.1", "0.26.0"} <= set(data.available)
    for section in data.release["accelerators"].values():
        assert set(section["locks"].values()) <= set(data.locks)
    assert data.flags["max-model-len"]["kind"] == "int"
    assert "generate" in data.registries["0.14.1"]["architectures"]["Qwen2ForCausalLM"]
    assert "Qwen3_5ForConditionalGeneration" in data.registries["0.26.0"]["architectures"]
    lock = default_releases_dir() / "0.14.1" / "cpu-py311.txt"
    assert data.locks["cpu-py311.txt"] == hashlib.sha256(lock.read_bytes()).hexdigest()


def test_releases_are_sorted_as_versions(tmp_path):
    for name in ("0.9.0", "0.14.1", "0.100.0", "not-a-release", ".git"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "release.yml").write_text("release: x\n")
    assert load_release_data(tmp_path, "1.0").available == ("0.9.0", "0.14.1", "0.100.0")


@pytest.mark.parametrize("release", [None, 0.14, "", "..", "../0.14.1", "0.14.1/", "/etc", ["0"]])
def test_anything_else_is_no_release(release):
    data = load_release_data(default_releases_dir(), release)
    assert data.release is None
    assert not data.errors
    assert set(data.rules) == RULES


@pytest.mark.parametrize("name", ["serve-flags.yml", "models.yml"])
@pytest.mark.parametrize("text", ["a: [", "- list\n", "", "\x00", "a: !!python/object:x {}\n"])
def test_a_damaged_file_is_named(tmp_path, text, name):
    shutil.copytree(default_releases_dir() / "0.14.1", tmp_path / "0.14.1")
    (tmp_path / "0.14.1" / name).write_text(text)
    data = load_release_data(tmp_path, "0.14.1")
    assert len(data.errors) == 1
    assert str(tmp_path / "0.14.1" / name) in data.errors[0]


def test_a_directory_that_is_not_there_has_no_releases(tmp_path):
    data = load_release_data(Path(tmp_path) / "absent", "0.14.1")
    assert data.available == ()
    assert data.release is None
