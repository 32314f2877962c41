# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.plugin_utils import progress as shown

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


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (4.1e9, "4.1 GB"), (15.2e9, "15.2 GB")],
)
def test_bytes_for_people(count: float, text: str) -> None:
    assert shown.decimal_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3900, "1 h 5 min")],
)
def test_seconds_for_people(seconds: float, text: str) -> None:
    assert shown.human_seconds(seconds) == text


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ({"what": "making the venv", "elapsed": 3.2}, "  h: making the venv: 3 s"),
        (
            {"what": "unpacking", "bytes_done": 2 * 10**9, "bytes_total": 8 * 10**9, "rate": 50e6},
            "  h: unpacking: 2.0 GB of 8.0 GB (25 %), 50.0 MB/s, 2 min 0 s left",
        ),
        (
            {"what": "fetching", "files_done": 1, "files_total": 4, "detail": "a.bin"},
            "  h: fetching: 1 of 4 files, a.bin",
        ),
        ({"what": "stopping"}, "  h: stopping"),
    ],
)
def test_the_line_that_is_shown(state: dict[str, object], line: str) -> None:
    assert shown.progress_line("h", state) == line
