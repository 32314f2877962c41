# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters that roles compute with; that of the status table is tested with its module."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.filter.model_commits import model_commits
from ansible_collections.compute_plane.vllm.plugins.filter.model_copies import model_copies
from ansible_collections.compute_plane.vllm.plugins.filter.model_paths import LATER, model_paths
from ansible_collections.compute_plane.vllm.plugins.filter.model_requests import model_requests
from ansible_collections.compute_plane.vllm.plugins.filter.pick import pick
from ansible_collections.compute_plane.vllm.plugins.filter.prometheus_targets import (
    prometheus_targets,
)
from ansible_collections.compute_plane.vllm.plugins.filter.service_instances import (
    service_instances,
)
from ansible_collections.compute_plane.vllm.plugins.filter.unplanned_models import (
    unplanned_models,
)

FILTERS = Path(__file__).parents[4] / "plugins" / "filter"


@pytest.mark.parametrize(
    ("item", "place", "value"),
    [
        ({"a": 1}, "a", 1),
        ({"a": {"b-c": [2]}}, "a.b-c", [2]),
        ({"a": None}, "a.b", None),
        ({"a": 1}, "a.b", None),
        ({}, "a", None),
        (["x", "y"], 1, "y"),
        (("x",), 1, None),
        ({"a": False}, "a", False),
    ],
)
def test_pick(item: Any, place: Any, value: Any) -> None:
    assert pick([item, item], {"key": place}) == [{"key": value}] * 2


def instance(name: str, repo_id: str | None, revision: str | None = None, **changes: Any) -> Any:
    """An instance of a plan, with a model of the Hub or in a directory."""
    model = {"source": "hub", "repo_id": repo_id, "revision": revision, "path": None}
    if repo_id is None:
        model = {"source": "local", "repo_id": None, "revision": None, "path": "/srv/m"}
    model |= {"commit": None, "known": None if repo_id else "files", **changes.pop("model", {})}
    return {
        "name": name,
        "model": model,
        "lora": [],
        "config": {"port": 8000, "model": repo_id},
        "environment": {"A": "b"},
        "limits": {},
        "attention_backend": {
            "selected": "X",
            "mechanism": "flag",
            "key": "attention-backend",
            "trial": [],
            "candidates": [],
        },
        "url": "http://127.0.0.1:8000",
        "served_model_name": "served",
        "gpus": [],
        **changes,
    }


TWICE = [instance("a", "o/m"), instance("b", None), instance("c", "o/m", "main")]
OTHER = [*TWICE, instance("d", "o/m", "v1", config={"trust-remote-code": True})]


def test_each_model_of_the_hub_is_asked_for_once() -> None:
    first = {"repo_id": "o/m", "revision": "main", "trust_remote_code": False, "fetch": True}
    assert model_requests(TWICE, fetch=True) == [first]
    second = {**first, "revision": "v1", "trust_remote_code": True}
    assert model_requests(OTHER, fetch=True) == [first, second]


def test_what_was_planned_is_what_is_fetched() -> None:
    planned = [instance("a", "o/m", model={"commit": "1" * 40})]
    (request,) = model_requests(planned)
    assert (request["revision"], request["commit"]) == ("main", "1" * 40)


def test_what_a_group_copies_is_looked_for_and_not_fetched() -> None:
    mine = instance("a", "o/m", model={"copy_from": "gpu1"})
    assert [one["fetch"] for one in model_requests([mine, *OTHER], fetch=True)] == [False, True]
    # Whichever of two instances of one model is named first.
    assert [one["fetch"] for one in model_requests([*OTHER, mine], fetch=True)] == [False, True]


def test_what_is_missing_is_copied_from_the_host_that_the_plan_names() -> None:
    members = [{"name": "gpu1", "address": "192.0.2.7"}, {"name": "gpu2", "address": "192.0.2.8"}]
    sql = {"name": "sql", "source": "hub", "repo_id": "o/sql", "revision": None, "path": None}
    spanning = instance(
        "a", "o/m", model={"copy_from": "gpu1"}, lora=[{**sql, "copy_from": "gpu2"}]
    )
    spanning["group"] = {"members": members}
    instances = [spanning, instance("b", "o/n", model={"copy_from": "store"}), *TWICE[1:2]]
    requests = model_requests([*instances, instance("d", "o/fetched")])
    missing: list[dict[str, Any]] = [{"whole": False}] * 3 + [{"path": "/hub/f"}]
    instances.append(instance("d", "o/fetched"))
    assert model_copies(instances, requests, missing) == [
        {"host": "gpu1", "address": "192.0.2.7", "models": [requests[0]]},
        {"host": "gpu2", "address": "192.0.2.8", "models": [requests[1]]},
        {"host": "store", "address": None, "models": [requests[2]]},
    ]
    there = [{"whole": True}, {"whole": False}, {"whole": True}, {"path": "/hub/f"}]
    assert [one["host"] for one in model_copies(instances, requests, there)] == ["gpu2"]


@pytest.mark.parametrize(
    ("model", "fetched", "again"),
    [
        ({"known": None, "commit": None}, "1", True),
        ({"known": None, "commit": "1"}, "1", True),
        ({"known": "hub", "commit": "1"}, "1", False),
        ({"known": "files", "commit": "1"}, "1", False),
        ({"known": "hub", "commit": "2"}, "1", True),
    ],
)
def test_what_was_planned_in_ignorance_is_planned_again(
    model: dict[str, Any], fetched: str, again: bool
) -> None:
    instances = [instance("a", "o/m", model=model), instance("b", None)]
    assert unplanned_models(instances, {"a": fetched}) == (["a"] if again else [])


def test_each_instance_has_its_models_directory() -> None:
    requests = model_requests(OTHER)
    assert model_paths(OTHER, requests, [{"path": "/hub/1"}, {"path": "/hub/2"}]) == {
        "a": "/hub/1",
        "b": "/srv/m",
        "c": "/hub/1",
        "d": "/hub/2",
    }
    # Check mode: a branch that is not there yet.
    assert model_paths(TWICE, model_requests(TWICE), [{"path": None}])["a"] == LATER
    assert model_paths([instance("b", None)], [], []) == {"b": "/srv/m"}
    with pytest.raises(ValueError, match="zip"):
        model_paths(OTHER, requests, [{"path": "/hub/1"}])


def test_adapters_are_fetched_like_models_and_given_to_vllm_with_their_directories() -> None:
    hub = {"name": "sql", "source": "hub", "repo_id": "o/sql", "revision": None, "path": None}
    local = {"name": "a=b,c", "source": "local", "repo_id": None, "revision": None, "path": "/l"}
    one = instance(
        "a", "o/m", lora=[hub, local], config={"trust-remote-code": True, "enable-lora": True}
    )
    requests = model_requests([one])
    assert requests == [
        {"repo_id": "o/m", "revision": "main", "trust_remote_code": True},
        {"repo_id": "o/sql", "revision": "main", "trust_remote_code": False},
    ]
    paths = model_paths([one], requests, [{"path": "/hub/m"}, {"path": "/hub/sql"}])
    assert paths == {"a": "/hub/m", "a/sql": "/hub/sql", "a/a=b,c": "/l"}
    plan = {"runtime": {"venv": "/v"}, "instances": [one]}
    (served,) = service_instances(plan, paths, {"a": "1" * 40})
    assert served["config"]["lora-modules"] == [
        '{"name": "sql", "path": "/hub/sql"}',
        '{"name": "a=b,c", "path": "/l"}',
    ]


def test_each_instance_of_the_hub_has_its_models_commit() -> None:
    results = [{"path": "/hub/1", "commit": "1" * 40}, {"path": None, "commit": None}]
    assert model_commits(OTHER, model_requests(OTHER), results) == {
        "a": "1" * 40,
        "c": "1" * 40,
        "d": None,
    }


def test_an_instance_for_the_service_has_its_models_directory_and_what_is_to_be_tried() -> None:
    backend = {**instance("b", "o/m")["attention_backend"], "trial": ["X", "Y"]}
    plan = {
        "runtime": {"venv": "/opt/v"},
        "instances": [instance("a", None), instance("b", "o/m", attention_backend=backend)],
    }
    first, second = service_instances(plan, {"a": "/srv/m", "b": "/hub/b"}, {"b": "2" * 40})
    assert first == {
        "name": "a",
        "repository": None,
        "revision": None,
        "venv": "/opt/v",
        "config": {"port": 8000, "model": "/srv/m"},
        "environment": {"A": "b"},
        "limits": {},
        "attention": None,
        "url": "http://127.0.0.1:8000",
        "served_model_name": "served",
    }
    assert second["config"]["model"] == "/hub/b"
    assert (second["repository"], second["revision"]) == ("o/m", "2" * 40)
    assert second["attention"] == {
        "mechanism": "flag",
        "key": "attention-backend",
        "trial": ["X", "Y"],
    }
    assert plan["instances"][1]["config"]["model"] == "o/m"


RECORD = {
    "instance": "m",
    "url": "http://127.0.0.1:8000",
    "openai_base_url": "http://127.0.0.1:8000/v1",
    "listen_host": "127.0.0.1",
    "served_model_name": "served",
    "release": "1.2.3",
}


def test_targets_have_the_address_and_labels() -> None:
    record = {**RECORD, "url": "https://llm.example:8443"}
    assert prometheus_targets([record], "gpu1", {"site": "lab"}) == [
        {
            "targets": ["llm.example:8443"],
            "labels": {
                "__scheme__": "https",
                "__metrics_path__": "/metrics",
                "host": "gpu1",
                "instance_name": "m",
                "model": "served",
                "release": "1.2.3",
                "site": "lab",
            },
        }
    ]
    assert prometheus_targets([], "gpu1") == []


@pytest.mark.parametrize("path", sorted(FILTERS.glob("*.py")), ids=lambda path: path.stem)
def test_each_filter_is_found_by_its_name_and_documented(path: Path) -> None:
    name = f"ansible_collections.compute_plane.vllm.plugins.filter.{path.stem}"
    module = importlib.import_module(name)
    assert list(module.FilterModule().filters()) == [path.stem]
    assert yaml.safe_load(module.DOCUMENTATION)["name"] == path.stem
    assert yaml.safe_load(module.RETURN)["_value"]
    assert f"compute_plane.vllm.{path.stem}" in module.EXAMPLES
