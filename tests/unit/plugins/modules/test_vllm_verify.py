# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module: when the whole suite runs, what is kept, what fails, and that no key is shown."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from endpoints.scripted import GOOD, KEY, LENGTH, MODEL, SIMPLIFIED, ScriptedServer, chat, serving

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import (
    Common,
    Record,
    deployment,
    proved_text,
    read_record,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.installed import Installed
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.paths import Paths
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.proof import Prover
from ansible_collections.compute_plane.vllm.plugins.modules import vllm_verify
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_args import patch_module_args

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="what the module keeps belongs to root")

SCHEMA = json.loads((Path(__file__).parents[4] / "docs/endpoint-record.schema.json").read_text())
QUESTION = {"name": "capital", "prompt": "What is the capital of France?", "expect": "Paris"}
SUITE = ["health", "version", "models", "chinese", "streaming"]


@pytest.fixture(scope="module")
def shared() -> Iterator[ScriptedServer]:
    with serving() as server:
        yield server


class Run:
    """A host on which an instance was proved, and the module that runs there."""

    def __init__(self, directory: Path, server: ScriptedServer, capsys: Any) -> None:
        self.server, self.capsys = server, capsys
        self.etc, self.state = directory / "etc", directory / "state"
        self.etc.mkdir()
        (self.state / "proved").mkdir(parents=True)
        self.deploy()

    def deploy(self, demand: dict[str, Any] | None = None, **config: Any) -> None:
        """Prove a deployment of the instance."""
        wanted = {
            "name": "m",
            "venv": "/opt/vllm/releases/r",
            "config": {"model": "/srv/m", "max-model-len": LENGTH, **config},
            "environment": {},
            "url": self.server.url,
            "served_model_name": MODEL,
            "on_demand": demand,
        }
        proved = deployment(wanted, Common("0.14.1", "[Unit]\n", "/opt/vllm/supervisor/0"), [])
        (self.state / "proved" / "m.json").write_text(proved_text(Record(proved)))

    def __call__(self, **arguments: Any) -> dict[str, Any]:
        self.server.requests.clear()
        endpoint = {
            "name": "m",
            "url": arguments.pop("url", self.server.url),
            "served_model_name": arguments.pop("model", MODEL),
            "max_model_len": arguments.pop("max_model_len", LENGTH),
            "api_key": arguments.pop("api_key", None),
        }
        given = {
            "endpoints": [endpoint],
            "release": "0.14.1",
            "suite": SUITE,
            "questions": [QUESTION],
            "timeout": 60,
            "tools_path": sys.prefix,
            "etc_dir": str(self.etc),
            "state_dir": str(self.state),
            **arguments,
        }
        with patch_module_args(given), pytest.raises(SystemExit):
            vllm_verify.main()
        printed = self.capsys.readouterr().out
        assert KEY not in printed
        result: dict[str, Any] = json.loads(printed)
        return result

    def record(self) -> dict[str, Any]:
        """The endpoint record."""
        value: dict[str, Any] = json.loads((self.etc / "m.endpoint.json").read_text())
        jsonschema.validate(value, SCHEMA)
        return value

    def asked(self) -> list[str]:
        """What the server was asked."""
        return [kind for kind, _body in self.server.requests]


@pytest.fixture
def verify(
    tmp_path: Path,
    shared: ScriptedServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    # Warnings are part of the result on a host; other tests make this process a controller.
    if importlib.util.find_spec("ansible.module_utils._internal"):  # from ansible-core 2.19 on
        monkeypatch.setattr("ansible.module_utils._internal.is_controller", False)
    shared.script, shared.key = dict(GOOD), None
    return Run(tmp_path, shared, capsys)


def test_the_suite_runs_once_for_a_deployment_then_a_question_will_do(verify: Run) -> None:
    first = verify()
    assert (first["changed"], first["endpoints"][0]["full"]) == (True, True)
    assert "chinese" in verify.asked()
    assert verify.record()["state"] == "verified"
    second = verify()
    assert (second["changed"], second["endpoints"][0]["full"]) == (False, False)
    assert verify.asked() == ["/health", "/version", "/v1/models", "question"]
    kept = second["endpoints"][0]["verification"]
    assert [check["name"] for check in kept["checks"]] == [*SUITE, "capital"]


def test_one_on_demand_that_is_asleep_is_woken_only_where_the_suite_is_due(
    verify: Run, tmp_path: Path
) -> None:
    verify.deploy({"share": "gpu0"}, uds="/run/vllm/m/server.sock")
    run_dir, state = str(tmp_path / "run"), tmp_path / "run" / "m" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text('{"state": "asleep"}')
    first = verify(run_dir=run_dir)
    assert (first["endpoints"][0]["full"], "chinese" in verify.asked()) == (True, True)
    second = verify(run_dir=run_dir)
    assert (second["changed"], second["endpoints"][0]["passed"], verify.asked()) == (
        False,
        True,
        [],
    )
    assert "chinese" in (verify(run_dir=run_dir, mode="full") and verify.asked())
    state.write_text('{"state": "serving"}')
    assert verify(run_dir=run_dir)["endpoints"][0]["passed"]
    assert verify.asked() != []


def test_it_runs_again_for_another_suite_another_deployment_or_when_told_to(verify: Run) -> None:
    verify()
    assert verify(suite=["health"])["endpoints"][0]["full"] is True
    assert verify(suite=["health"])["endpoints"][0]["full"] is False
    verify.deploy(dtype="float16")
    assert verify(suite=["health"])["endpoints"][0]["full"] is True
    assert verify(suite=["health"], mode="full")["endpoints"][0]["full"] is True


def test_it_runs_again_where_vllm_has_taken_another_context(verify: Run) -> None:
    verify.deploy(**{"max-model-len": "auto"})
    assert verify(max_model_len=None)["endpoints"][0]["full"] is True
    assert verify.record()["max_model_len"] == LENGTH
    assert verify(max_model_len=None)["endpoints"][0]["full"] is False
    # As if it had been another at the start that was verified.
    kept = verify.state / "verified" / "m.json"
    found = json.loads(kept.read_text())
    kept.write_text(json.dumps({**found, "max_model_len": LENGTH + 16}))
    again = verify(max_model_len=None)
    assert again["endpoints"][0]["full"] is True
    assert "failed" not in again
    assert json.loads(kept.read_text())["max_model_len"] == LENGTH


def test_a_wrong_answer_fails_and_is_in_the_record(verify: Run) -> None:
    verify()
    verify.server.script["question"] = chat("Berlin.")
    result = verify()
    assert result["failed"] is True
    assert result["msg"].startswith("m: capital: it answered 'Berlin.'")
    assert verify.record()["state"] == "failed"
    verify.server.script["question"] = GOOD["question"]
    assert verify()["changed"] is True
    assert verify.record()["state"] == "verified"


def test_the_figures_of_a_benchmark_are_in_the_record_of_what_was_measured(verify: Run) -> None:
    verify()
    result = {
        "fingerprint": verify.record()["fingerprint"],
        "measured_at": "2026-11-23T02:00:00+00:00",
        "summary": {"single_stream": None, "highest_throughput": None},
    }
    (verify.state / "benchmarks").mkdir()
    (verify.state / "benchmarks" / "m.json").write_text(json.dumps(result))
    assert verify()["changed"] is True
    assert verify.record()["benchmark"]["at"] == "2026-11-23T02:00:00+00:00"
    assert verify()["changed"] is False
    verify.deploy(dtype="float16")
    verify()
    assert verify.record()["benchmark"] is None


def test_severity_decides(verify: Run) -> None:
    verify.server.script["chinese"] = chat(SIMPLIFIED)
    mild = verify()
    assert "failed" not in mild
    assert any("chinese: it is not in traditional Chinese" in str(w) for w in mild["warnings"])
    assert verify.record()["verification"]["checks"]["chinese"] == "failed"
    strict = verify(ability="error")
    assert strict["failed"] is True
    assert "m: chinese: it is not in traditional" in strict["msg"]


def test_what_has_failed_is_not_taken_for_passed_the_next_time(verify: Run) -> None:
    verify.server.script["stream"] = (500, b"EngineDeadError")
    assert verify()["failed"] is True
    verify.server.script["stream"] = GOOD["stream"]
    assert verify()["endpoints"][0]["full"] is True


def test_what_failed_is_kept_beside_what_passed_until_the_suite_passes(verify: Run) -> None:
    verify()
    good = (verify.state / "verified" / "m.json").read_text()
    verify.server.script["stream"] = (500, b"EngineDeadError")
    path = verify.state / "failed" / "m.json"
    result = verify(mode="full")
    assert result["msg"].endswith(f"All questions and answers are in {path} on the host.")
    failed = json.loads(path.read_text())
    outcomes = {check["name"]: check["outcome"] for check in failed["checks"]}
    assert outcomes["streaming"] == "failed"
    assert (verify.state / "verified" / "m.json").read_text() == good
    verify.server.script["stream"] = GOOD["stream"]
    verify(mode="full")
    assert not path.exists()


def test_the_key_is_read_on_the_host_and_never_shown(verify: Run) -> None:
    verify.server.key = KEY
    assert verify()["failed"] is True
    (verify.etc / "m.env").write_text(f"VLLM_API_KEY={KEY}\n")
    result = verify(suite=["health", "models", "api_key"])
    assert "failed" not in result
    assert verify.record()["api_key_required"] is True
    assert "failed" not in verify(suite=["health", "models", "api_key"])


def test_a_foreign_endpoint_leaves_nothing_behind(verify: Run) -> None:
    verify.server.key = KEY
    result = verify(foreign=True, api_key=KEY)
    assert "failed" not in result
    assert result["endpoints"][0]["record"] is None
    assert not (verify.etc / "m.endpoint.json").exists()
    assert not (verify.state / "verified").exists()


def test_a_foreign_endpoint_is_asked_by_the_first_model_that_it_has(verify: Run) -> None:
    result = verify(foreign=True, model=None, url=f"{verify.server.url}/v1/")
    assert "failed" not in result
    assert result["endpoints"][0]["served_model_name"] == MODEL
    assert result["endpoints"][0]["url"] == verify.server.url


@pytest.mark.parametrize(
    ("key", "action", "says"),
    [
        (None, None, "/v1/models answered 401: it wants an API key"),
        ("another-key", None, "/v1/models answered 401: the API key is wrong"),
        (KEY, (500, b"EngineDeadError"), "/v1/models answered 500, expected 200: EngineDeadError"),
        (KEY, b"<html>", "/v1/models did not answer with a JSON object"),
        (KEY, {"object": "list"}, "/v1/models has no list of models"),
        (KEY, "hang", "/v1/models did not answer within 1 s"),
        (KEY, ("break off", b'{"data": ['), "/v1/models broke off"),
    ],
)
def test_a_foreign_endpoint_that_cannot_be_used_is_one_failure_and_asked_no_more(
    verify: Run, key: str | None, action: Any, says: str
) -> None:
    verify.server.key = KEY
    verify.server.script["/v1/models"] = action or GOOD["/v1/models"]
    result = verify(foreign=True, api_key=key, timeout=1 if action == "hang" else 60)
    assert result["failed"] is True
    (line,) = result["msg"].splitlines()
    assert line.startswith(f"m: models: {verify.server.url} cannot be verified: {says}")
    assert verify.asked() == ["/v1/models"]
    assert [check["name"] for check in result["endpoints"][0]["checks"]] == ["models"]


def test_a_foreign_endpoint_that_is_not_there(verify: Run) -> None:
    result = verify(foreign=True, url="http://127.0.0.1:9")
    assert "cannot be reached: [Errno 111] Connection refused" in result["msg"]


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "llm.example", "ftp://x", "http://", "http://[x"]
)
def test_what_is_no_address_is_told(verify: Run, url: str) -> None:
    result = verify(foreign=True, url=url)
    assert result["msg"].startswith(f"{url!r} is not the address of a server")


def test_check_mode_asks_and_writes_nothing(verify: Run) -> None:
    result = verify(_ansible_check_mode=True, _ansible_diff=True)
    assert result["changed"] is True
    assert result["diff"][0]["after_header"].endswith("m.endpoint.json")
    assert not (verify.etc / "m.endpoint.json").exists()
    assert not (verify.state / "verified").exists()


def test_a_suite_that_cannot_be_read_asks_nothing(verify: Run) -> None:
    result = verify(suite=["helth", {"check": "models", "retries": "many"}])
    assert "suite[0].check: there is no 'helth'" in result["msg"]
    assert "suite[1].retries: 'many' is not of type int" in result["msg"]
    assert verify.asked() == []


def test_tools_that_are_not_there_are_told(verify: Run) -> None:
    result = verify(tools_path="/nowhere")
    assert "/nowhere/bin/python cannot be run" in result["msg"]


def test_the_suite_computes_little_beside_the_endpoints_own_time(verify: Run) -> None:
    # Of the processor, since what else the machine does is no cost of the suite's.
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    verification = verify(mode="full")["endpoints"][0]["verification"]
    assert verification["seconds"] >= verification["model_seconds"]
    now = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    spent = [
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        for before, after in zip(used, now, strict=True)
    ]
    assert sum(spent) < 2


def brief(verify: Run, **arguments: Any) -> dict[str, Any] | None:
    """What the module that runs the services finds of a server that it did not have to start."""
    params = {
        "suite": SUITE,
        "questions": [QUESTION],
        "ability": "warning",
        "answer_timeout": 5,
        **arguments,
    }
    paths = Paths(str(verify.etc), str(verify.state), unit_dir="/none")
    prover = Prover(Installed(paths, "root", None), params, Progress(None), print)
    proved = read_record((verify.state / "proved" / "m.json").read_text())
    assert proved is not None
    return prover.verify_briefly(proved.current)


def without_seconds(endpoint: dict[str, Any] | None) -> dict[str, Any]:
    assert endpoint is not None
    checks = [{**check, "seconds": 0} for check in endpoint["checks"]]
    return {**endpoint, "checks": checks}


def test_a_server_that_was_not_started_is_verified_once_with_the_same_result(verify: Run) -> None:
    assert brief(verify) is None  # the suite has not run yet
    verify()
    (short,) = verify()["endpoints"]
    verify.server.requests.clear()
    found = without_seconds(brief(verify))
    assert json.loads(json.dumps(found)) == without_seconds(short)
    assert verify.asked() == ["/health", "/version", "/v1/models", "question"]


def test_what_is_not_as_before_is_left_to_the_verification(verify: Run) -> None:
    verify()
    assert brief(verify, suite=["health"]) is None
    verify.server.script["question"] = chat("It is Berlin.")
    assert brief(verify) is None
    verify.server.script["question"] = chat("It is Paris.")
    assert brief(verify) is not None
    record = verify.etc / "m.endpoint.json"
    record.write_text(record.read_text().replace('"verified"', '"failed"'))
    assert brief(verify) is None


def test_whoever_has_replaced_what_was_proved_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "proved").mkdir()
    wanted = {
        "name": "m",
        "venv": "/opt/vllm/releases/r",
        "config": {"model": "/srv/m"},
        "environment": {},
        "url": "http://127.0.0.1:8000",
        "served_model_name": "m",
    }
    proved = deployment(wanted, Common("0.14.1", "[Unit]\n", "/opt/vllm/supervisor/0"), [])
    (tmp_path / "proved" / "m.json").write_text(proved_text(Record(proved)))
    vllm_verify.check_deployed({"m": proved.fingerprint}, str(tmp_path))
    for deployed in ({"m": "0" * 16}, {"m": proved.fingerprint, "gone": "0" * 16}):
        with pytest.raises(Failed, match="another run replaced it"):
            vllm_verify.check_deployed(deployed, str(tmp_path))
