# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program on a gateway that counts who used what."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[3] / "roles" / "vllm_gateway" / "files" / "gateway.py"


@pytest.fixture(scope="module")
def program() -> Any:
    spec = importlib.util.spec_from_file_location("gateway_program", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(**others: Any) -> str:
    entry = {
        "at": 1795956349.914,
        "key": "alice",
        "model": "org/one",
        "status": 200,
        "ended": "--",
        "prompt_tokens": "12",
        "completion_tokens": "5",
    }
    return json.dumps({**entry, **others})


COUNTED = {
    "requests": 1,
    "failed": 0,
    "prompt_tokens": 12,
    "completion_tokens": 5,
    "without_tokens": 0,
}


@pytest.mark.parametrize(
    ("others", "counted"),
    [
        ({}, {}),
        (
            {"prompt_tokens": "-", "completion_tokens": "-"},
            {"prompt_tokens": 0, "completion_tokens": 0, "without_tokens": 1},
        ),
        # An answer that broke off: what it has told counts, and it failed.
        ({"ended": "SD"}, {"failed": 1}),
        (
            {"status": 503, "prompt_tokens": "-", "completion_tokens": "-"},
            {"failed": 1, "prompt_tokens": 0, "completion_tokens": 0},
        ),
        # An embedding tells no completion.
        ({"completion_tokens": "-"}, {"completion_tokens": 0}),
    ],
)
def test_one_request(program: Any, others: dict[str, Any], counted: dict[str, int]) -> None:
    counts: dict[str, dict[str, int]] = {}
    program.add(counts, [line(**others)])
    assert counts == {"2026-11-29 alice org/one": {**COUNTED, **counted}}


def test_what_is_no_request_of_somebody_for_a_model_is_passed_over(program: Any) -> None:
    counts: dict[str, dict[str, int]] = {}
    program.add(
        counts,
        [
            "[NOTICE] (1) : New worker forked",
            '{"at": 1}',
            "null",
            line(key="-"),
            line(model="-"),
            line(at="x"),
            line(status="200"),
        ],
    )
    assert counts == {}


def test_a_day_is_utcs(program: Any) -> None:
    counts: dict[str, dict[str, int]] = {}
    program.add(counts, [line(at=1795996799.9), line(at=1795996800.0)])
    assert sorted(counts) == ["2026-11-29 alice org/one", "2026-11-30 alice org/one"]


def test_nothing_is_counted_twice(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def journal(cursor: str | None) -> tuple[list[str], str | None]:
        asked.append(cursor)
        return ([line(), line(key="bob")], "c1") if cursor is None else ([line()], "c2")

    monkeypatch.setattr(program, "journal", journal)
    program.count(str(tmp_path), str(tmp_path))
    program.count(str(tmp_path), str(tmp_path))
    assert asked == [None, "c1"]
    assert (tmp_path / "usage.csv").read_text() == (
        "day,key,model,requests,failed,prompt_tokens,completion_tokens,without_tokens\n"
        "2026-11-29,alice,org/one,2,0,24,10,0\n"
        "2026-11-29,bob,org/one,1,0,12,5,0\n"
    )
    metrics = (tmp_path / "vllm_gateway.prom").read_text().splitlines()
    assert 'vllm_gateway_usage_prompt_tokens_total{key="alice",model="org/one"} 24' in metrics
    assert len([one for one in metrics if one.startswith("# TYPE")]) == 5


def test_old_days_go_and_totals_stay(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "journal", lambda cursor: ([line(at=0), line()], "c"))
    program.count(str(tmp_path), None)
    kept = json.loads((tmp_path / "counts.json").read_text())
    assert list(kept["days"]) == ["2026-11-29 alice org/one"]
    assert kept["totals"]["alice org/one"]["requests"] == 2
