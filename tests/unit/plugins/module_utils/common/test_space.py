# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.space import (
    human_bytes,
    space,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_space_is_that_of_the_nearest_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def statvfs(path: str) -> Any:
        asked.append(path)
        return type("Status", (), {"f_bavail": 3, "f_frsize": 4096})()

    monkeypatch.setattr("os.statvfs", statvfs)
    room = space(str(tmp_path / "not" / "yet"))
    assert asked == [str(tmp_path)]
    assert room.free == 12288
    assert os.path.ismount(room.mount)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (15 << 30, "15.0 GiB"), (3 << 40, "3.0 TiB")],
)
def test_human_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text
