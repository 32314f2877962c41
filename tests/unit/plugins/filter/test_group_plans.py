# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts of a group have a plan, and what its members are told."""

from __future__ import annotations

from ansible_collections.compute_plane.vllm.plugins.filter.group_plans import group_plans
from ansible_collections.compute_plane.vllm.plugins.filter.service_instances import (
    service_instances,
)

HOSTVARS = {
    "a": {"vllm_preflight_result": {"plan": {"release": "1"}}},
    "b": {"vllm_preflight_result": {"failed": True, "msg": "no facts"}},
    "c": {},
    "d": {"vllm_preflight_result": {"plan": {"release": "2"}}},
}


def test_a_host_without_a_plan_or_of_another_batch_is_left_out():
    found = group_plans(["a", "b", "c", "d", "e"], HOSTVARS, ["a", "b", "c", "e"])
    assert found == {"a": {"release": "1"}}


def plan(rank: int, **changed: object) -> dict[str, object]:
    """The plan of a member."""
    members = [{"name": "a", "address": "192.0.2.7"}, {"name": "b", "address": "192.0.2.8"}]
    own = {"host": "0.0.0.0", "port": 8000} if rank == 0 else {"headless": True}
    instance = {
        "name": "m",
        "model": {"repo_id": "o/m"},
        "lora": [],
        "config": {"node-rank": rank, "master-addr": "192.0.2.7", "nnodes": 2, **own, **changed},
        "environment": {"CUDA_VISIBLE_DEVICES": f"GPU-{rank}"},
        "limits": {},
        "attention_backend": {"mechanism": None, "key": None, "trial": []},
        "url": "http://192.0.2.7:8000",
        "served_model_name": "m",
        "group": {"rank": rank, "port": 29500, "address": "x", "members": members},
    }
    return {"release": "0.14.1", "runtime": {"venv": f"/opt/{rank}"}, "instances": [instance]}


def fingerprint(rank: int, commit: str = "c1", path: str = "/hub/m", **changed: object) -> str:
    """What tells its configuration from others."""
    found = service_instances(plan(rank, **changed), {"m": path}, {"m": commit})[0]
    return str(found["group"]["fingerprint"])


def test_members_of_one_configuration_have_one_fingerprint():
    assert fingerprint(0) == fingerprint(1, path="/elsewhere/m")


def test_what_all_members_share_makes_another():
    assert len({fingerprint(0), fingerprint(0, commit="c2"), fingerprint(0, dtype="float16")}) == 3


def test_an_instance_of_one_host_is_told_of_no_group():
    alone = plan(0)
    alone["instances"][0]["group"] = None
    assert "group" not in service_instances(alone, {"m": "/hub/m"}, {"m": "c1"})[0]
