# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin: one probe, one answer, readable when it fails."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from unittest import mock

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.compute_plane.vllm.plugins.action import vllm_plan
from ansible_collections.compute_plane.vllm.plugins.modules import vllm_probe
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import Findings
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import read_wanted
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.release_data import (
    default_releases_dir,
    load_release_data,
)
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_args import asked_for

FACTS = Path(__file__).parents[3] / "fixtures" / "facts"
MODEL = "/srv/models/qwen2.5-7b-instruct"


def _facts(name="cpu-debian-12"):
    return json.loads((FACTS / f"{name}.json").read_text(encoding="utf-8"))


NOTHING = {"changed": False, "hub": [], "models": {}}
COMMIT = "0" * 40
PATH = f"/var/lib/vllm/hub/models--org--model/snapshots/{COMMIT}"
ROW = {
    "exists": True,
    "is_directory": True,
    "readable": True,
    "config": {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
    "tokenizer": True,
    "names": ["config.json", "model.safetensors"],
    "weights": {"format": "safetensors", "files": [{"name": "model.safetensors", "bytes": 5}]},
}


def entry(**changes):
    """An entry of facts.hub of a model that is on the host."""
    known = {"repo_id": "org/model", "revision": "main", "commit": COMMIT, "path": PATH}
    return {**known, "bytes": 9, "download_bytes": 0, "asked": None, "error": None, **changes}


class Task:
    """The parts of a task that an action looks at."""

    def __init__(self, args):
        self.args = args
        self.async_val = 0
        self.check_mode = True
        self.diff = False
        self.delegate_to = None


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs the action against a host that answers with given facts."""

    def runner(probed=None, task_vars=None, said=None, **args):
        args.setdefault("release", "0.14.1")
        args.setdefault("instances", [{"name": "one", "model": MODEL}])
        action = vllm_plan.ActionModule(
            Task(args),
            mock.MagicMock(),
            mock.MagicMock(check_mode=True),
            None,
            None,
            None,
        )
        answer = {"changed": False, "facts": _facts()} if probed is None else probed

        def answers(module_name, **_arguments):
            return answer if module_name.endswith(".vllm_probe") else said or NOTHING

        with mock.patch.object(action, "_execute_module", side_effect=answers) as execute:
            monkeypatch.setattr(action._display, "warning", runner.warnings.append)
            monkeypatch.setattr(action._display, "display", runner.shown.append)
            result = action.run(task_vars=task_vars or {})
        runner.calls = execute.call_args_list
        return result

    runner.warnings = []
    runner.shown = []
    return runner


def test_a_good_plan_is_returned_whole(run):
    result = run()
    assert set(result) >= {"plan", "report", "facts", "problems", "msg"}
    assert result["changed"] is False
    assert not result.get("failed")
    assert result["msg"] == ""
    assert result["plan"]["instances"][0]["unit"] == "vllm@one.service"


def test_the_host_is_asked_once(run):
    run(
        instances=[
            {"name": "one", "model": MODEL},
            {"name": "two", "model": "org/model", "revision": "0" * 40, "port": 8001},
        ],
        python="/opt/python3.12",
    )
    call = run.calls[0]
    assert call.kwargs["module_name"] == "compute_plane.vllm.vllm_probe"
    asked = call.kwargs["module_args"]
    assert asked["models"] == [MODEL]
    one = {"repo_id": "org/model", "revision": COMMIT, "trust_remote_code": False}
    assert asked["hub"] == [one]
    assert asked["hub_dir"] == "/var/lib/vllm/hub"
    assert asked["paths"] == ["/etc/vllm", "/opt/vllm", "/var/lib/vllm", "/var/lib/vllm/hub"]
    assert asked["python"] == ["/opt/python3.12"]
    # Every family and Python that the plan could come to need.
    assert {"gcc", "python3.11-dev", "python3.13-dev", "python3.12-devel"} <= set(asked["packages"])


def test_a_hub_elsewhere_is_where_its_models_are_looked_for(run):
    commit = "0" * 40
    result = run(
        instances=[{"name": "one", "model": "org/model", "revision": commit}],
        model_hub="/srv/models/hub/",
    )
    path = f"/srv/models/hub/models--org--model/snapshots/{commit}"
    assert result["plan"]["instances"][0]["model"]["path"] == path
    assert result["plan"]["instances"][0]["config"]["model"] == path
    asked = run.calls[0].kwargs["module_args"]
    assert asked["models"] == []
    assert asked["hub_dir"] == "/srv/models/hub"
    assert asked["paths"] == ["/etc/vllm", "/opt/vllm", "/srv/models/hub", "/var/lib/vllm"]


HUB = [{"name": "one", "model": "org/model"}]


def test_a_model_that_the_host_has_is_asked_of_nobody(run):
    facts = {**_facts(), "hub": [entry()], "models": {PATH: ROW}}
    result = run({"changed": False, "facts": facts}, instances=HUB)
    assert len(run.calls) == 1
    model = result["plan"]["instances"][0]["model"]
    assert (model["known"], model["commit"], model["path"]) == ("files", COMMIT, PATH)
    assert result["hub_questions"] == []


def test_the_hub_is_asked_for_what_the_host_does_not_have(run):
    recorded = entry(commit=COMMIT, download_bytes=9)
    said = {"hub": [entry(asked="https://hub.example", download_bytes=9)], "models": {PATH: ROW}}
    result = run(
        {"changed": False, "facts": {**_facts(), "hub": [recorded]}},
        said=said,
        instances=[*HUB, {"name": "two", "model": "org/model", "port": 8001}],
        model_endpoint="https://hub.example",
        model_token="hf_secret",
    )
    _probe, call = run.calls
    assert call.kwargs["module_name"] == "compute_plane.vllm.hf_model_info"
    assert call.kwargs["module_args"] == {
        "models": [
            {
                "repo_id": "org/model",
                "revision": "main",
                "trust_remote_code": False,
                "commit": COMMIT,
            }
        ],
        "cache_dir": "/var/lib/vllm/hub",
        "endpoint": "https://hub.example",
        "token": "hf_secret",
    }
    assert "hf_secret" not in json.dumps(result)
    model = result["plan"]["instances"][0]["model"]
    assert (model["known"], model["download_bytes"]) == ("hub", 9)
    assert result["facts"]["models"][PATH] == ROW
    assert result["hub_questions"] == []


def test_nothing_is_asked_of_the_hub_when_it_must_not_be(run):
    result = run(instances=HUB, ask_hub=False)
    assert len(run.calls) == 1
    assert result["hub_questions"] == [
        {"repo_id": "org/model", "revision": "main", "trust_remote_code": False, "commit": None}
    ]


def test_what_another_host_knows_is_taken_where_this_one_knows_nothing(run):
    told = {"hub": [entry(), entry(repo_id="org/other")], "models": {PATH: ROW}, "changed": False}
    result = run(instances=HUB, ask_hub=False, hub_facts=told)
    model = result["plan"]["instances"][0]["model"]
    # There it is whole; here all of it is to be fetched.
    assert (model["known"], model["download_bytes"]) == ("files", 9)
    facts = {**_facts(), "hub": [entry(bytes=7)], "models": {PATH: ROW}}
    result = run({"facts": facts}, instances=HUB, ask_hub=False, hub_facts=told)
    assert result["plan"]["instances"][0]["model"]["download_bytes"] == 0


def test_an_asking_that_fails_ends_the_task(run):
    result = run(said={"failed": True, "msg": "no Python"}, instances=HUB)
    assert result["failed"] is True
    assert result["msg"] == "The Hub could not be asked: no Python"


def test_a_hub_that_is_no_path_is_a_problem(run):
    result = run(instances=[{"name": "one", "model": MODEL}], model_hub="hub")
    assert result["msg"].startswith("vllm_model_hub: ")


def test_what_it_asks_is_what_the_probe_takes():
    wanted = read_wanted({"release": "0.14.1"}, Findings())
    data = load_release_data(default_releases_dir(), "0.14.1")
    validator = ArgumentSpecValidator(asked_for(vllm_probe)["argument_spec"])
    result = validator.validate(vllm_plan.probe_arguments(wanted, data))
    assert result.error_messages == []


def test_a_failure_holds_the_problems_and_nothing_that_buries_them(run):
    facts = _facts()
    facts["host"]["effective_uid"] = 1000
    result = run(
        probed={"changed": False, "facts": facts},
        instances=[{"name": "one", "model": MODEL, "prt": 1, "port": "http"}],
    )
    assert result["failed"] is True
    assert set(result) <= {"failed", "changed", "msg", "invocation"}
    lines = result["msg"].splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("vllm_instances[0].prt: ")
    assert "did you mean port?" in lines[0]
    assert lines[1].startswith("vllm_instances[0].port: ")
    assert lines[2].startswith("host: tasks run as user id 1000")
    assert all(" — " in line for line in lines)


def test_problems_without_failing_return_everything(run):
    result = run(instances=[{"name": "one", "model": MODEL, "prt": 1}], fail_on_problems=False)
    assert not result.get("failed")
    assert [problem["code"] for problem in result["problems"]] == ["unknown-key"]
    assert "Wrong" in result["report"]
    assert result["facts"]["host"]["hostname"]


def test_broken_input_still_probes_the_host(run):
    result = run(release="9.9.9", accelerator="tpu", instances="none", fail_on_problems=False)
    assert len(run.calls) == 1
    codes = {problem["code"] for problem in result["problems"]}
    assert codes == {"unknown-release", "unknown-accelerator", "wrong-type"}


def test_a_variable_that_nothing_reads_is_told_also_where_no_report_is_printed(run):
    result = run(task_vars={"vllm_sevice_drain": 3, "vllm_service_drain": 3, "vllm_tune_found": {}})
    assert not result.get("failed")
    (warning,) = run.warnings
    assert warning.startswith("vllm_sevice_drain: no role and no playbook reads this variable")
    assert warning.endswith("is vllm_service_drain meant?")


def test_the_release_that_was_chosen_is_told_by_its_number(run):
    facts = _facts()
    facts["pythons"] = [
        {"path": "/usr/bin/python3.10", "version": "3.10.12", "headers": "/x", "venv": True}
    ]
    result = run(
        {"changed": False, "facts": facts}, {"inventory_hostname": "a"}, release="newest-that-fits"
    )
    assert result["plan"]["release"] == "0.26.0"
    (line,) = run.shown
    assert line.startswith("  a: vLLM 0.26.0 is the newest that fits (no newer one: ")
    assert 'vllm_release: "0.26.0" keeps it' in line
    asked = run.calls[0].kwargs["module_args"]["packages"]
    assert "python3.13-dev" in asked  # of every release that may be chosen


def test_a_misspelt_secret_ends_the_run(run):
    result = run(task_vars={"vllm_servce_api_keys": {"one": "s3cret"}})
    assert result["msg"] == (
        "vllm_servce_api_keys: no role and no playbook reads this variable — did you mean"
        " vllm_service_api_keys? correct its name; one of your own must not begin with vllm_"
    )


def test_a_host_that_cannot_be_probed_says_so(run):
    result = run(probed={"failed": True, "msg": "no Python found", "changed": False})
    assert result["failed"] is True
    assert result["msg"] == "The host could not be probed: no Python found"


def test_releases_of_ones_own(run, tmp_path):
    result = run(releases_dir=str(tmp_path), fail_on_problems=False)
    (problem,) = result["problems"]
    assert problem["code"] == "unknown-release"
    assert "(none)" in problem["remedy"]


def test_tagged_values_become_plain():
    class Tagged(str):
        """As Ansible's template engine returns strings."""

    value = {Tagged("a"): [Tagged("b"), (1, 2.5, None, True)]}
    result = vllm_plan.plain(copy.deepcopy(value))
    assert result == {"a": ["b", [1, 2.5, None, True]]}
    assert type(next(iter(result))) is str
    assert type(result["a"][0]) is str
