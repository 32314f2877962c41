# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy import deployment as d
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.order import (
    in_order,
    started_before,
)

COMMON = d.Common("0.14.1", "[Service]\nType=notify\n", "/opt/vllm/supervisor/0")


def instance(name: str, gpus: str, share: float | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "venv": "/v",
        "config": {} if share is None else {"gpu-memory-utilization": share},
        "environment": {"CUDA_VISIBLE_DEVICES": gpus} if gpus else {},
        "url": "http://127.0.0.1:8000",
        "served_model_name": name,
        **changes,
    }


def server(name: str, gpus: str, share: float | None = None, **changes: Any) -> d.Deployment:
    return d.deployment(instance(name, gpus, share, **changes), COMMON, None)


def names(wanted: list[d.Deployment], *running: d.Deployment) -> str:
    return "".join(one.name for one in in_order(wanted, {one.name: one for one in running}))


def test_those_of_one_gpu_start_one_after_the_other_and_others_at_once() -> None:
    found = started_before(
        [
            instance("c", "GPU-1"),
            instance("b", "GPU-2"),
            instance("a", "GPU-1"),
            instance("over", "GPU-1,GPU-2"),
            instance("cpu", ""),
        ]
    )
    assert found == {
        "a": [],
        "b": [],
        "c": ["vllm@a.service"],
        "cpu": [],
        "over": ["vllm@a.service", "vllm@b.service", "vllm@c.service"],
    }


def test_the_inventorys_order_makes_no_circle() -> None:
    rows = [instance(name, "GPU-1") for name in "abc"]
    assert all(
        started_before(order) == started_before(rows) for order in itertools.permutations(rows)
    )


def test_a_unit_that_waits_says_so_and_is_no_other_server() -> None:
    alone, later = server("b", "GPU-1", 0.5), server("b", "GPU-1", 0.5, after=["vllm@a.service"])
    assert "After=" not in alone.drop_in_text
    assert "[Unit]" not in alone.drop_in_text.split('RequiresMountsFor="/v"')[1]
    assert "After=vllm@a.service\n" in later.drop_in_text.split("[Service]")[0]
    assert later.fingerprint == alone.fingerprint
    assert later != alone
    assert d.read_record(d.proved_text(d.Record(later))) == d.Record(later)


def test_a_record_from_before_there_was_an_order_is_read() -> None:
    import json

    one = server("b", "GPU-1", 0.5)
    old = json.loads(d.proved_text(d.Record(one)))
    del old["current"]["after"]
    assert d.read_record(json.dumps(old)) == d.Record(one)


@pytest.mark.parametrize(
    ("running", "wanted", "order"),
    [
        # Nothing serves: the inventory's order.
        ([], [("b", "G1", 0.4), ("a", "G1", 0.4)], "ba"),
        # One that has the GPU makes room before another comes to it.
        ([("b", "G1", 0.85)], [("a", "G1", 0.4), ("b", "G1", 0.4)], "ba"),
        # Who grows comes after who shrinks, also of several.
        (
            [("a", "G1", 0.2), ("b", "G1", 0.6), ("c", "G1", 0.1)],
            [("a", "G1", 0.4), ("b", "G1", 0.3), ("c", "G1", 0.2)],
            "bac",
        ),
        # Another GPU is another matter.
        ([("b", "G1", 0.85)], [("a", "G2", 0.4), ("b", "G1", 0.4)], "ab"),
        # One that moves away, although it takes as much where it goes.
        ([("b", "G1", 0.85)], [("a", "G1", 0.85), ("b", "G2", 0.85)], "ba"),
        # Two that change places wait for each other.
        (
            [("a", "G1", 0.85), ("b", "G2", 0.85)],
            [("a", "G2", 0.85), ("b", "G1", 0.85)],
            "ab",
        ),
    ],
)
def test_memory_is_given_back_before_it_is_taken(
    running: list[tuple[str, str, float]], wanted: list[tuple[str, str, float]], order: str
) -> None:
    servers = [server(*one) for one in running]
    assert names([server(*one) for one in wanted], *servers) == order


def test_servers_without_gpus_stay_in_the_inventorys_order() -> None:
    assert names([server("b", ""), server("a", "")], server("a", "")) == "ba"
