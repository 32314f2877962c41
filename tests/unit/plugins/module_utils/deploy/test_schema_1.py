# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that were deployed with records of schema 1: nothing is restarted, nothing is lost.

`schema-1-cpu.json` is from a host, `schema-1-cuda.json` of the last version that wrote schema 1;
`instances.json` has the plan's instances that both were made of.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy import deployment as d
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.schema_1 import upgraded
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import (
    config_file,
    drop_in,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.record import make_record
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.run import read_state

FIXTURES = Path(__file__).parents[4] / "fixtures" / "proved"
INSTANCES = json.loads((FIXTURES / "instances.json").read_text())
SUPERVISOR = "/opt/vllm/supervisor/1ca099a79892"


def record(accelerator: str) -> tuple[dict[str, Any], d.Record]:
    """A record's file, and what is read from it."""
    text = (FIXTURES / f"schema-1-{accelerator}.json").read_text()
    read = d.read_record(text)
    assert read is not None
    return json.loads(text), read


def planned(which: str, old: dict[str, Any], nodes: list[str] | None) -> d.Deployment:
    """What the plan's instance is deployed as now, on the host of an old deployment."""
    instance = INSTANCES[which]
    common = d.Common(old["release"], old["unit"], SUPERVISOR, accelerator=which.partition("-")[0])
    model = instance["model"]
    wanted = {**instance, "venv": old["venv"], "repository": model["repo_id"]}
    return d.deployment({**wanted, "revision": model["revision"]}, common, nodes)


CASES = [
    ("cpu", "cpu", "current", []),
    ("cpu", "cpu-before", "previous", []),
    ("cuda", "cuda", "current", ["/dev/nvidia0"]),
    ("cuda", "cuda-before", "previous", None),
]


@pytest.mark.parametrize(("accelerator", "which", "place", "nodes"), CASES)
def test_the_first_run_afterwards_restarts_and_writes_nothing(
    accelerator: str, which: str, place: str, nodes: list[str] | None
) -> None:
    data, read = record(accelerator)
    old, now = data[place], planned(which, data[place], nodes)
    assert now.fingerprint == old["fingerprint"]
    assert now.config_text == old["config"]
    assert now.drop_in_text == old["drop_in"]
    assert now == getattr(read, place)


def test_the_endpoint_record_is_as_it_was() -> None:
    _, read = record("cpu")
    verification = read_state((FIXTURES / "verified-cpu.json").read_text())
    assert verification is not None
    before = json.loads((FIXTURES / "endpoint-cpu.json").read_text())
    for now in (read.current, planned("cpu", record("cpu")[0]["current"], [])):
        made = make_record(now, verification, key_required=False, state_dir="/none")
        assert {**made, "host": before["host"]} == before


@pytest.mark.parametrize(("accelerator", "which", "place", "nodes"), CASES)
def test_nothing_of_a_deployment_is_lost(
    accelerator: str, which: str, place: str, nodes: list[str] | None
) -> None:
    data, read = record(accelerator)
    old, one = data[place], getattr(read, place)
    assert dataclasses.asdict(one) == dataclasses.asdict(planned(which, old, nodes))
    assert (one.config_text, one.drop_in_text) == (old["config"], old["drop_in"])
    for same in ("name", "release", "venv", "unit", "fingerprint", "url", "max_model_len"):
        assert getattr(one, same) == old[same]
    assert (one.unit_name, one.user) == (f"vllm@{one.name}.service", "vllm")


def test_what_was_text_is_data() -> None:
    _, read = record("cuda")
    one, before = read.current, read.previous
    assert before is not None
    commit = "a09a35458c702b33eeacc393d103063234e8bc28"
    assert (one.repository, one.revision) == ("Qwen/Qwen2.5-7B-Instruct", commit)
    assert (one.accelerator, one.attention_backend) == ("cuda", "TRITON_ATTN")
    assert (one.host, one.port, one.kind) == ("0.0.0.0", 8000, "chat")
    assert one.gpus == ["GPU-00000000-0000-4000-8000-000000000001"]
    assert one.environment["OWN"] == 'a "quoted" $word, 100 %, back\\slash'
    assert one.config["chat-template"] == '/srv/a "b" $c 100%.jinja'
    assert one.limits == {"memory_max": "20G", "tasks_max": "2048"}
    assert (one.release, before.release) == ("0.14.1", "0.26.0")
    _, read = record("cpu")
    assert (read.current.repository, read.current.accelerator) == (None, "cpu")
    assert read.current.gpus == []


def test_it_is_written_as_the_present_schema_and_read_again() -> None:
    _, read = record("cuda")
    text = d.proved_text(read)
    assert json.loads(text)["schema"] == 2
    again = d.read_record(text)
    assert again is not None
    assert dataclasses.asdict(again) == dataclasses.asdict(read)


def test_a_deployment_without_a_supervisor_goes_back_as_it_was() -> None:
    # As the first version that kept records wrote it.
    data, _ = record("cpu")
    venv = "/opt/vllm/releases/0.14.1-cpu-0"
    lines = data["current"]["drop_in"].splitlines()[-9:]
    start = f'ExecStart="{venv}/bin/vllm" "serve" "--config" "/etc/vllm/a$$.yaml"'
    text = "\n".join(["# Managed by us", "[Service]", start, *lines, ""])
    old = {**data["current"], "drop_in": text, "unit": "[Service]\nType=exec\n"}
    one = d.read_record(json.dumps({"schema": 1, "current": old, "previous": None}))
    assert one is not None
    assert one.current.command == [f"{venv}/bin/vllm", "serve", "--config", "/etc/vllm/a$.yaml"]
    assert (one.current.settings, one.current.mounts, one.current.user) == ([], [], "root")
    assert start in one.current.drop_in_text
    assert one.current.fingerprint == old["fingerprint"]


OLD = record("cpu")[0]["current"]
PRINTABLE = st.text(st.characters(exclude_categories=("C",)))


@given(
    st.dictionaries(st.from_regex(r"[a-z][a-z-]*", fullmatch=True), PRINTABLE | st.integers()),
    st.lists(PRINTABLE.filter(bool), min_size=1),
    st.dictionaries(st.from_regex(r"X[A-Z_]*", fullmatch=True), PRINTABLE),
    st.lists(PRINTABLE.filter(bool)),
)
def test_whatever_was_written_is_read(
    config: dict[str, Any], command: list[str], environment: dict[str, str], mounts: list[str]
) -> None:
    old = {
        **OLD,
        "config": config_file("vllm@a.service", config),
        "drop_in": drop_in("vllm@a.service", command, "/v", environment, ["A=b"], mounts),
    }
    rest, flags, variables = upgraded(old)
    assert (flags, variables) == (config, environment)
    assert (rest["command"], rest["mounts"], rest["settings"]) == (command, mounts, ["A=b"])
