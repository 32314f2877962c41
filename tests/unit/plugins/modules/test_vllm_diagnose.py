# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.modules import vllm_diagnose
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_args import patch_module_args

if TYPE_CHECKING:
    from pathlib import Path


def run(capsys: pytest.CaptureFixture[str], **params: Any) -> dict[str, Any]:
    with patch_module_args(params), pytest.raises(SystemExit):
        vllm_diagnose.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_somebody_elses_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(
        "lab7:1:1 [0] NCCL INFO a\n"
        "Traceback (most recent call last):\n"
        '  File "/home/bob/v/x.py", line 1, in main\n'
        "ValueError: Total number of attention heads (28) must be divisible by tensor parallel "
        "size (8). key k-planted-1\n"
    )
    result = run(capsys, path=str(log), secrets=["k-planted-1"], names=["lab7"])
    assert result["cause"] == "heads_not_divisible"
    assert "k-planted-1" not in json.dumps(result)
    assert "bob" not in json.dumps(result)
    assert not result["changed"]


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), ("\n\n", "is empty")])
def test_no_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, said: str
) -> None:
    log = tmp_path / "vllm.log"
    if content is not None:
        log.write_text(content)
    result = run(capsys, path=str(log))
    assert result["failed"]
    assert said in result["msg"]
