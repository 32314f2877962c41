# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner against the table of cases in tests/fixtures/plan/cases.

A case names a machine's facts, changes some of them, gives a wanted state, and
says which problems must come back (all of them, and no other) or what the plan
must hold. Expected figures come from recorded deployments and from the sources
named in the cases, not from the planner.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import answered
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.planner import make_plan
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    NOTES,
    PROBLEMS,
    problem_line,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.report import WIDTH, render

FIXTURES = Path(__file__).parents[4] / "fixtures" / "plan"
MODEL = "/srv/models/qwen2.5-7b-instruct"
KEYS = {
    "name",
    "facts",
    "releases",
    "wanted",
    "instance",
    "instances",
    "change",
    "model",
    "models",
    "hub",
    "proved",
    "problems",
    "remedies",
    "no_remedies",
    "messages",
    "notes",
    "no_notes",
    "plan",
}


def _load() -> list[dict[str, Any]]:
    cases = []
    for path in sorted((FIXTURES / "cases").glob("*.yml")):
        for case in yaml.safe_load(path.read_text(encoding="utf-8")):
            default = "ac-3090" if path.stem in ("cuda", "hub") else "cpu-debian-12"
            cases.append({"facts": default, "problems": [], **case, "file": path.stem})
    return cases


CASES = _load()
MODELS = yaml.safe_load((FIXTURES / "models.yml").read_text(encoding="utf-8"))


def merged(base: Any, change: Any) -> Any:
    """Return `base` with `change` laid over it; whole-number keys change list items."""
    if isinstance(base, list) and isinstance(change, dict):
        items = copy.deepcopy(base)
        for index, item in sorted(change.items()):
            if index == len(items):
                items.append(copy.deepcopy(items[item.pop("copy")]))
            items[index] = merged(items[index], item)
        return items
    if isinstance(base, dict) and isinstance(change, dict):
        result = copy.deepcopy(base)
        for key, value in change.items():
            result[key] = merged(result[key], value) if key in result else copy.deepcopy(value)
        return result
    return copy.deepcopy(change)


def wanted_of(case: dict[str, Any]) -> dict[str, Any]:
    """Return the wanted state of a case."""
    one = {"name": "qwen", "model": MODEL, **case.get("instance", {})}
    instances = case.get("instances", [one])
    return {"release": "0.14.1", "instances": instances, **case.get("wanted", {})}


def facts_of(case: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a case: a machine's, with public models put on it, and changed."""
    for put in [*case.get("models", []), *([case["model"]] if "model" in case else [])]:
        known = MODELS[put["like"]]
        facts["models"][put["path"]] = {
            "exists": True,
            "is_directory": True,
            "readable": True,
            "config": {**known["config"], **put.get("config", {})},
            "config_error": None,
            "weights": {
                "format": "safetensors",
                "files": [{"name": "model.safetensors", "bytes": known["weights_bytes"]}],
                "bytes": known["weights_bytes"],
                "missing": [],
                "incomplete": [],
            },
            "tokenizer": True,
        }
    if "hub" in case:
        facts = answered(facts, said_by_the_hub(**case["hub"]))
    return merged(facts, copy.deepcopy(case.get("change", {})))


COMMIT = "b968826d9c46dd6066d109eabc6255188de91218"


def said_by_the_hub(repo_id, *, like=None, row=None, revision="main", **entry):
    """What `hf_model_info` says of a repository: a public model's row, changed; or a refusal."""
    path = f"/var/lib/vllm/hub/models--{repo_id.replace('/', '--')}/snapshots/{COMMIT}"
    told = {"commit": COMMIT, "path": path, "bytes": None, "download_bytes": None}
    told |= {"asked": "https://huggingface.co", "error": None, "base_models": []}
    told |= {"repo_id": repo_id, "revision": revision, **entry}
    if told["error"] is not None:
        return {"hub": [{**told, "commit": None, "path": None}], "models": {}}
    known = MODELS.get(like, {"config": None, "weights_bytes": 0})
    size = known["weights_bytes"]
    files = [{"name": "model.safetensors", "bytes": size}] if size else []
    whole = {
        "exists": True,
        "is_directory": True,
        "readable": True,
        "config": known["config"],
        "config_error": None,
        "documents": {},
        "chat_template": None,
        "names": ["config.json", "model.safetensors", "tokenizer.json"],
        "weights": {
            "format": "safetensors" if size else None,
            "files": files,
            "bytes": size,
            "parameters": None,
            "missing": [],
            "incomplete": [],
        },
        "tokenizer": True,
    }
    return {"hub": [told], "models": {path: merged(whole, row or {})}}


def plan_of(case: dict[str, Any], facts, release_data) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make the plan of a case; return it with the facts."""
    wanted = wanted_of(case)
    data = release_data(wanted["release"], case.get("releases", "collection"))
    found = facts_of(case, facts(case["facts"]))
    plan = make_plan(copy.deepcopy(wanted), copy.deepcopy(found), data)
    if case.get("proved"):
        venv = {"path": plan["runtime"]["venv"], "proved": True}
        found["deployed"]["releases"] = [venv]
        plan = make_plan(wanted, found, data)
    return plan, found


MATCHERS = {"about", "within", "above", "below", "contains", "starts", "absent"}


def differences(expected: Any, actual: Any, where: str = "plan") -> list[str]:
    """Compare what a case expects with the plan; only what is expected is looked at."""
    if isinstance(expected, dict) and expected and set(expected) <= MATCHERS:
        found = []
        if "about" in expected:
            low = expected["about"] * (1 - expected["within"])
            high = expected["about"] * (1 + expected["within"])
            found += [] if low <= actual <= high else [f"{where}: {actual} not about {expected}"]
        if "above" in expected and not actual > expected["above"]:
            found.append(f"{where}: {actual} not above {expected['above']}")
        if "below" in expected and not actual < expected["below"]:
            found.append(f"{where}: {actual} not below {expected['below']}")
        if "contains" in expected and expected["contains"] not in actual:
            found.append(f"{where}: {actual!r} lacks {expected['contains']!r}")
        if "starts" in expected and not actual.startswith(expected["starts"]):
            found.append(f"{where}: {actual!r} does not begin with {expected['starts']!r}")
        return found
    if isinstance(expected, dict):
        found = []
        for key, value in expected.items():
            here = f"{where}[{key!r}]"
            absent = value == {"absent": True}
            present = (
                isinstance(key, int) and key < len(actual)
                if isinstance(actual, list)
                else isinstance(actual, dict) and key in actual
            )
            if absent or not present:
                if absent == present:
                    found.append(f"{here}: {'is there' if present else 'is not there'}")
                continue
            found += differences(value, actual[key], here)
        return found
    return [] if expected == actual else [f"{where}: {actual!r}, not {expected!r}"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['file']}: {case['name']}")
def test_case(case, facts, release_data):
    plan, found = plan_of(case, facts, release_data)
    problems = [[problem["code"], problem["where"]] for problem in plan["problems"]]
    readable = "\n".join(map(problem_line, plan["problems"]))
    assert sorted(problems) == sorted(case["problems"]), readable
    for text in case.get("remedies", []):
        assert any(text in problem["remedy"] for problem in plan["problems"]), readable
    for text in case.get("no_remedies", []):
        assert not any(text in problem["remedy"] for problem in plan["problems"]), readable
    for text in case.get("messages", []):
        assert any(text in problem["message"] for problem in plan["problems"]), readable
    notes = {note["code"] for note in plan["notes"]}
    assert set(case.get("notes", [])) <= notes, plan["notes"]
    assert not set(case.get("no_notes", [])) & notes, plan["notes"]
    assert not (wrong := differences(case.get("plan", {}), plan)), "\n".join(wrong)

    json.dumps(plan, allow_nan=False)
    report = render(plan, found)
    for line in report.splitlines():
        assert len(line) <= WIDTH or " " not in line.strip(), line
    for problem in plan["problems"]:
        words = f"{problem['where']}: {problem['message']}".split()
        assert " ".join(words) in " ".join(report.split())


def test_cases_are_well_formed():
    names = [(case["file"], case["name"]) for case in CASES]
    assert len(names) == len(set(names))
    for case in CASES:
        assert set(case) - {"file"} <= KEYS, case["name"]
        assert {"problems", "plan", "notes", "no_notes", "facts"} & set(case)
    bad = [case for case in CASES if case["problems"]]
    assert len(CASES) >= 60
    assert len(bad) >= 25


def with_settings(wanted: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return a wanted state with what a remedy sets."""
    changed = copy.deepcopy(wanted)
    for where, value in settings.items():
        found = re.fullmatch(r"vllm_(instances\[(\d+)\]\.)?(\w+)", where)
        assert found, where
        target = changed if found[1] is None else changed["instances"][int(found[2])]
        target[found[3]] = value
    return changed


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case["problems"]],
    ids=lambda case: f"{case['file']}: {case['name']}",
)
def test_what_a_remedy_sets_ends_its_problem(case, facts, release_data):
    plan, found = plan_of(case, facts, release_data)
    for problem in plan["problems"]:
        if "settings" not in problem:
            continue
        wanted = with_settings(wanted_of(case), problem["settings"])
        data = release_data(wanted["release"], case.get("releases", "collection"))
        after = make_plan(wanted, found, data)["problems"]
        left = [(one["code"], one["where"]) for one in after]
        assert (problem["code"], problem["where"]) not in left, problem_line(problem)


@pytest.mark.parametrize("code", sorted(PROBLEMS))
def test_every_problem_has_a_case(code):
    assert any(code == problem[0] for case in CASES for problem in case["problems"])


@pytest.mark.parametrize("code", sorted(NOTES))
def test_every_note_has_a_case(code):
    assert any(code in case.get("notes", []) for case in CASES)


def test_ten_things_wrong_are_ten_problems(facts, release_data):
    (case,) = (case for case in CASES if case["name"].startswith("ten things wrong"))
    plan, found = plan_of(case, facts, release_data)
    assert len(plan["problems"]) == 10
    assert len({problem["code"] for problem in plan["problems"]}) == 10
    assert "10 problems: nothing will be changed." in render(plan, found)


def test_a_plan_only_uses_declared_codes(facts, release_data):
    for case in CASES:
        plan, _found = plan_of(case, facts, release_data)
        assert {problem["code"] for problem in plan["problems"]} <= set(PROBLEMS)
        assert {note["code"] for note in plan["notes"]} <= set(NOTES)
