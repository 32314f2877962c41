# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils import deployment as d

WANTED: dict[str, Any] = {
    "name": "a",
    "venv": "/opt/vllm/releases/r1",
    "config": {"model": "/m", "port": 8000, "max-model-len": 4096},
    "environment": {"X": 1},
    "url": "http://127.0.0.1:8000",
    "served_model_name": "a",
}


def make(**changes: Any) -> d.Deployment:
    return d.deployment({**WANTED, **changes}, "0.14.1", "[Unit]\n", "/etc/vllm/a.yaml")


def test_a_deployment_is_what_the_plan_says() -> None:
    one = make()
    assert one.unit_name == "vllm@a.service"
    assert (one.release, one.venv, one.max_model_len) == ("0.14.1", WANTED["venv"], 4096)
    assert 'model: "/m"\n' in one.config
    assert f'Environment="COMPUTE_PLANE_FINGERPRINT={one.fingerprint}"\n' in one.drop_in
    assert 'Environment="X=1"\n' in one.drop_in


def test_no_context_length_wanted_is_none_checked() -> None:
    assert make(config={"model": "/m"}).max_model_len is None


@pytest.mark.parametrize(
    "changes",
    [
        {"venv": "/opt/vllm/releases/r2"},
        {"config": {**WANTED["config"], "port": 8001}},
        {"environment": {"X": 2}},
        {"environment": {}},
    ],
)
def test_another_configuration_has_another_fingerprint(changes: dict[str, Any]) -> None:
    assert make(**changes).fingerprint != make().fingerprint


def test_another_unit_has_another_fingerprint() -> None:
    other = d.deployment(WANTED, "0.14.1", "[Unit]\nAfter=x\n", "/etc/vllm/a.yaml")
    assert other.fingerprint != make().fingerprint


ONE, TWO = make(), make(venv="/opt/vllm/releases/r2")


@pytest.mark.parametrize(
    ("before", "proved", "after"),
    [
        (d.Record(ONE), ONE, d.Record(ONE)),
        (d.Record(ONE), TWO, d.Record(TWO, ONE)),
        (d.Record(TWO, ONE), TWO, d.Record(TWO, ONE)),
        (d.Record(TWO, ONE), ONE, d.Record(ONE, TWO)),  # a rollback, from which one can go back
    ],
)
def test_what_was_proved_before_is_kept(
    before: d.Record, proved: d.Deployment, after: d.Record
) -> None:
    assert before.proved(proved) == after


@pytest.mark.parametrize("record", [d.Record(ONE), d.Record(TWO, ONE)])
def test_a_record_is_read_as_it_was_written(record: d.Record) -> None:
    assert d.read_record(d.record_text(record)) == record


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        d.record_text(d.Record(ONE))[:-20],
        "[]",
        "{}",
        '{"schema": 1, "current": {}, "previous": null}',
        json.dumps({"schema": 99, "current": dataclasses.asdict(ONE), "previous": None}),
    ],
)
def test_what_is_no_record_is_none(text: str | None) -> None:
    assert d.read_record(text) is None


PROVED = {
    "/r/0.12": "2026-01-01T00:00:00+00:00",
    "/r/0.13": "2026-02-01T00:00:00+00:00",
    "/r/0.14": "2026-03-01T00:00:00+00:00",
    "/r/0.15": "2026-04-01T00:00:00+00:00",
}


@pytest.mark.parametrize(
    ("used", "keep", "removed"),
    [
        (["/r/0.15"], 2, ["/r/0.12"]),
        (["/r/0.15"], 0, ["/r/0.12", "/r/0.13", "/r/0.14"]),
        (["/r/0.12/", "/r/0.15"], 0, ["/r/0.13", "/r/0.14"]),
        (["/r/0.12", "/r/0.13", "/r/0.14", "/r/0.15"], 0, []),
        ([], 4, []),
        (["/home/own"], 3, ["/r/0.12"]),
    ],
)
def test_releases_that_nothing_uses_go(used: list[str], keep: int, removed: list[str]) -> None:
    assert d.releases_to_remove(PROVED, used, keep) == removed
