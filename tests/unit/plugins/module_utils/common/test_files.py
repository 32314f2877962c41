# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import grp
import os
import stat
from typing import TYPE_CHECKING

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.common import files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _mine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are root's belong to whoever runs the test."""
    monkeypatch.setattr(files, "OWNER", os.geteuid())
    monkeypatch.setattr(files, "GROUP", grp.getgrgid(os.getegid()).gr_name)


def test_a_file_is_brought_about_and_then_right(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a"
    file = files.File(str(path), "é\n", mode=0o640)
    assert not file.is_right()
    file.write()
    assert files.File(str(path), "é\n", mode=0o640).is_right()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not files.File(str(path), "é\n").is_right()
    assert os.listdir(path.parent) == ["a"]


def test_a_group_that_there_is_none_of_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("before")
    file = files.File(str(path), "after", group="no-such-group")
    assert not file.is_right()
    with pytest.raises(files.FileError) as raised:
        file.write()
    assert str(raised.value) == (
        f"{path} is to belong to the group no-such-group, which this host does not have"
    )
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_that_cannot_be_written_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.File(str(tmp_path / "a"), "text").write()
    assert os.listdir(tmp_path) == []


def test_the_folder_of_drop_ins_goes_with_its_last_file(tmp_path: Path) -> None:
    folder = tmp_path / "vllm@a.service.d"
    for name in ("ours.conf", "yours.conf"):
        files.File(str(folder / name), "[Service]\n").write()
    files.File(str(folder / "ours.conf"), None).write()
    assert os.listdir(folder) == ["yours.conf"]
    files.File(str(folder / "yours.conf"), None).write()
    assert not folder.exists()
    files.File(str(folder / "yours.conf"), None).write()
