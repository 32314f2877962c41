# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import backoff

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0), (1, 10), (2, 20), (3, 40), (4, 80), (6, 300), (50, 300)]
)
def test_the_pauses_grow_and_end(failures: int, seconds: float) -> None:
    assert backoff.delay(failures) == seconds


def test_failures_are_remembered_for_one_configuration(tmp_path: Path) -> None:
    one = backoff.Failures(str(tmp_path), "a")
    one.add("no compiler")
    one.add("no compiler again")
    assert backoff.Failures(str(tmp_path), "a").summaries == ["no compiler", "no compiler again"]
    assert backoff.Failures(str(tmp_path), "b").summaries == []


def test_they_are_forgotten(tmp_path: Path) -> None:
    one = backoff.Failures(str(tmp_path), "a")
    one.forget()
    one.add("x")
    one.forget()
    assert one.summaries == []
    assert backoff.Failures(str(tmp_path), "a").summaries == []


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense"])
def test_a_damaged_memory_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "failed-starts.json").write_text(text)
    assert backoff.Failures(str(tmp_path), "a").summaries == []
