# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway is configured with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.gateway import (
    digest,
    endpoint,
    settings,
    with_former,
)

ALICE = {"name": "alice", "key": "key-of-alice-0123456789"}
BOB = {"name": "bob", "key": "key-of-bob-0123456789", "requests_per_minute": 60}
PATHS = ["/v1/chat/completions"]


def record(instance: str = "one", **others: Any) -> dict[str, Any]:
    return {
        "instance": instance,
        "state": "verified",
        "listen_host": "0.0.0.0",
        "url": "http://127.0.0.1:8000",
        "served_model_name": "org/model",
        "max_model_len": 4096,
        "api_key_required": False,
        **others,
    }


def found(host: str = "gpu1", key: str | None = None, **others: Any) -> dict[str, Any]:
    return endpoint(host, f"address-of-{host}", record(**others), key)


def made(*endpoints: dict[str, Any], keys: Any = (ALICE, BOB), paths: Any = PATHS) -> Any:
    return settings(endpoints, keys, "front", paths)


def test_two_servers_of_one_model_and_an_adapter() -> None:
    got = made(
        found(),
        found("gpu2", adapters=["fine"], max_model_len=2048),
        found(instance="bad", state="failed"),
    )
    assert got["problems"] == []
    servers = {model["name"]: model for model in got["models"]}
    assert sorted(servers) == ["fine", "org/model"]
    assert servers["org/model"]["max_model_len"] == 2048
    assert servers["org/model"]["servers"] == [
        {"name": "gpu1:one", "address": "address-of-gpu1", "port": 8000},
        {"name": "gpu2:one", "address": "address-of-gpu2", "port": 8000},
    ]
    assert [one["name"] for one in servers["fine"]["servers"]] == ["gpu2:one"]
    listed = json.loads(got["files"]["models.json"])["data"]
    assert [model["id"] for model in listed] == ["fine", "org/model"]
    assert got["files"]["limits.map"] == "bob 60\n"


def test_keys_are_nowhere_but_hashed_and_the_servers_own_where_root_alone_reads() -> None:
    got = made(found(key="own-key", api_key_required=True))
    assert got["problems"] == []
    assert got["secrets"]["keys.map"] == "".join(
        sorted(f"{digest(key['key'])} {key['name']}\n" for key in (ALICE, BOB))
    )
    assert got["secrets"]["credentials.map"].endswith(" own-key\n")
    shown = json.dumps([got["files"], got["models"]])
    assert "own-key" not in shown
    assert ALICE["key"] not in json.dumps(got)


def test_a_digest_is_haproxys() -> None:
    # printf %s secret | sha256sum
    assert digest("secret") == "2BB80D537B1DA3E38BD30361AA855686BDE0EACD7162FEF6A25FE97BF527A25B"


@pytest.mark.parametrize(
    ("endpoints", "others", "words"),
    [
        ([], {}, "no endpoint is verified on any host"),
        ([found(state="failed")], {}, "no endpoint is verified"),
        ([found()], {"keys": []}, "vllm_gateway_keys is empty"),
        ([found()], {"keys": [{"name": "a b", "key": ALICE["key"]}]}, "item 1: name is letters"),
        ([found()], {"keys": [{"name": "-", "key": ALICE["key"]}]}, "item 1: name is letters"),
        ([found()], {"keys": [{"name": "a", "key": "short"}]}, "less than 16 characters"),
        ([found()], {"keys": [{"name": "a", "key": "with a space 0123"}]}, "than ASCII's"),
        ([found()], {"keys": [ALICE, {**ALICE, "name": "b"}]}, "the same key as item 1"),
        ([found()], {"keys": [{**BOB, "requests_per_minute": -1}]}, "0 for no limit"),
        ([found()], {"keys": [{**BOB, "rpm": 1}]}, "unknown: rpm"),
        (
            [found()],
            {"keys": [BOB, {"name": "bob", "key": ALICE["key"]}]},
            "different requests_per",
        ),
        ([found()], {"paths": ["/metrics"]}, "'/metrics' is no path like"),
        ([found()], {"paths": ["/v1/a }"]}, "is no path like"),
        ([found(listen_host="127.0.0.1")], {}, "one on gpu1 listens on 127.0.0.1"),
        ([found(api_key_required=True)], {}, "vllm_service_api_keys of gpu1 has none"),
        ([found(url="https://10.0.0.1:8000", listen_host="10.0.0.1")], {}, "not https"),
        ([found(served_model_name='a"b')], {}, "serves 'a\"b'"),
        (
            [found(key="a", api_key_required=True), found("gpu2")],
            {},
            "org/model: its servers (one on gpu1, one on gpu2) ask for different keys",
        ),
    ],
)
def test_what_is_wrong_is_told(endpoints: Any, others: Any, words: str) -> None:
    problems = made(*endpoints, **others)["problems"]
    assert len(problems) == 1
    assert words in problems[0]
    assert not any(key["key"] in problems[0] for key in others.get("keys", [ALICE]) if key["key"])


def test_a_gateway_beside_its_server_reaches_it_on_the_loopback() -> None:
    beside = endpoint("front", "x", record(listen_host="127.0.0.1"), None)
    assert made(beside)["problems"] == []


def test_a_host_that_is_away_stays_as_it_was_known() -> None:
    hostvars = {
        "gpu1": {"ansible_host": "10.0.0.1", "vllm_gateway_found": {"records": [record()]}},
        "gpu2": {
            "vllm_gateway_found": {"records": [record(api_key_required=True)]},
            "vllm_service_api_keys": {"one": "own-key"},
        },
    }
    first = with_former(["gpu1", "gpu2"], hostvars, "")
    assert [(one["host"], one["address"], one["api_key"]) for one in first] == [
        ("gpu1", "10.0.0.1", None),
        ("gpu2", "gpu2", "own-key"),
    ]
    former = settings(first, [ALICE], "front", PATHS)["files"]["endpoints.json"]
    assert "own-key" not in former
    hostvars["gpu2"]["vllm_gateway_found"] = {"unreachable": True}
    hostvars["gpu1"]["vllm_gateway_found"] = {"records": []}
    assert with_former(["gpu1", "gpu2"], hostvars, former) == first[1:]
    assert with_former(["gpu1"], hostvars, former) == []
