# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress

if TYPE_CHECKING:
    import pathlib


def test_the_file_can_be_read_by_the_connections_user(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "run" / "a.json"
    progress = Progress(str(path))
    progress.update("downloading", bytes_done=5, bytes_total=10)
    state = json.loads(path.read_text())
    assert (state["what"], state["bytes_done"]) == ("downloading", 5)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    progress.close()
    assert not path.exists()


def test_a_new_step_is_written_at_once_and_the_same_one_at_a_calm_pace(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "a.json"
    progress = Progress(str(path), interval=3600)
    progress.update("one", elapsed=1)
    progress.update("one", elapsed=2)
    assert json.loads(path.read_text())["elapsed"] == 1
    progress.update("two", elapsed=3)
    assert json.loads(path.read_text())["what"] == "two"


def test_a_place_that_cannot_be_written_does_not_end_the_work(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("in the way")
    progress = Progress(str(tmp_path / "file" / "a.json"))
    progress.update("downloading")
    progress.close()


def test_without_a_path_nothing_is_written() -> None:
    progress = Progress(None)
    progress.update("one")
    progress.close()
