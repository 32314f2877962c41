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

from ansible_collections.compute_plane.vllm.plugins.action.vllm_plan import brought
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.causes import CAUSES
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.flags import (
    OWN_KEYS,
    RESERVED,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import answered
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.planner import make_plan
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    NOTES,
    PROBLEMS,
    problem_line,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.report import WIDTH, render
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import (
    INSTANCE_KEYS,
    LIMITS,
    dashed,
)

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
    "members",
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
            default = "ac-3090" if path.stem in ("attempts", "cuda", "hub") else "cpu-debian-12"
            cases.append({"facts": default, "problems": [], **case, "file": path.stem})
    return cases


def _models() -> dict[str, Any]:
    """The public models that a case may name: the planner's own, and those that vLLM was asked of.

    Their weights are those that vLLM 0.14.1 itself counted (scripts/kv-oracle).
    """
    oracle = FIXTURES.parent / "oracle"
    counted = json.loads((oracle / "0.14.1.json").read_text(encoding="utf-8"))["models"]
    known = yaml.safe_load((oracle / "models.yml").read_text(encoding="utf-8"))
    found = {
        name: {"config": model["config"], "weights_bytes": counted[name]["tp1"]["weights_bytes"]}
        for name, model in known.items()
        if "weights_bytes" in counted.get(name, {}).get("tp1", {})
    }
    return found | yaml.safe_load((FIXTURES / "models.yml").read_text(encoding="utf-8"))


CASES = _load()
MODELS = _models()


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


def plans_of(case: dict[str, Any], facts, release_data) -> dict[str, Any]:
    """Plan the other hosts of a group as the case's own, but for what it says of each."""
    plans = {}
    for name, other in case["members"].items():
        wanted = {**case.get("wanted", {}), "host_name": name, **other.get("wanted", {})}
        alone = {key: value for key, value in case.items() if key != "members"}
        plans[name] = plan_of({**alone, **other, "wanted": wanted}, facts, release_data)[0]
    return plans


def plan_of(case: dict[str, Any], facts, release_data) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make the plan of a case; return it with the facts."""
    wanted = wanted_of(case)
    data = release_data(wanted["release"], case.get("releases", "collection"))
    found = facts_of(case, facts(case["facts"]))
    if "members" in case:
        wanted["members"] = plans_of(case, facts, release_data)
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


# Variables of the inventory that the planner has under another name.
VARIABLES = {"vllm_preflight_nvcc": "nvcc", "python": "python"}
# Keys of an instance that are dictionaries, in which a remedy may set a single entry.
WITHIN = "extra_args|environment|limits|lora"


def with_settings(
    wanted: dict[str, Any], facts: dict[str, Any], settings: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a wanted state and facts with what a remedy sets."""
    changed, found = copy.deepcopy(wanted), copy.deepcopy(facts)
    for where, value in settings.items():
        if where == "ansible_become":
            # What becoming root does: the planner is only told whose rights the tasks have.
            found["host"]["effective_uid"] = 0
            continue
        place = re.fullmatch(rf"vllm_instances\[(\d+)\]\.(?:({WITHIN})\.)?(.+)", where)
        if place is None:
            target, key = changed, VARIABLES.get(where) or where.removeprefix("vllm_")
        else:
            target, key = changed["instances"][int(place[1])], place[3]
            if place[2] is not None:
                target = target.setdefault(place[2], {})
        for one in [one for one in target if one == key or dashed(str(one)) == key]:
            del target[one]
        if value is not None:
            target[key] = value
    return changed, found


def ways_of(problem: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each way by which a problem's remedy says that it ends."""
    return [problem["settings"], *problem.get("alternatives", [])] if "settings" in problem else []


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case["problems"]],
    ids=lambda case: f"{case['file']}: {case['name']}",
)
def test_what_a_remedy_sets_ends_its_problem(case, facts, release_data):
    plan, found = plan_of(case, facts, release_data)
    for problem in plan["problems"]:
        for settings in ways_of(problem):
            wanted, host = with_settings(wanted_of(case), found, settings)
            data = release_data(wanted.get("release"), case.get("releases", "collection"))
            after = make_plan(wanted, host, data)["problems"]
            left = [(one["code"], one["where"]) for one in after]
            said = f"{problem_line(problem)}: {settings}"
            assert (problem["code"], problem["where"]) not in left, said


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case["problems"]],
    ids=lambda case: f"{case['file']}: {case['name']}",
)
def test_who_follows_the_remedies_does_not_go_round_in_circles(case, facts, release_data):
    plan, found = plan_of(case, facts, release_data)
    wanted = wanted_of(case)
    seen = [wanted]
    while settings := next((way for one in plan["problems"] for way in ways_of(one)), None):
        wanted, found = with_settings(wanted, found, settings)
        assert wanted not in seen or settings == {"ansible_become": True}, settings
        seen.append(wanted)
        data = release_data(wanted.get("release"), case.get("releases", "collection"))
        plan = make_plan(wanted, found, data)


# A variable, a key of an instance or a flag, and the value that a remedy gives it. `name` begins
# the lines of an instance, and what stands in braces is told by its own keys.
PLAIN = {*INSTANCE_KEYS, *LIMITS} - {"name", "extra_args", "environment", "limits", "lora"}
NAMED = re.compile(
    rf"\b(vllm_\w+|ansible_\w+|\w+_format|{'|'.join(sorted(PLAIN))}): (\[[^]]*\]|[^\s,;}}]+)"
)
LEFT_OUT = re.compile(r"\b(leave (it|the \w+|\w+) out|remove it|did you mean)\b")
# Of an unknown variable the plan is told the name alone; the value of a misspelt key may be of no
# use to the right one.
WITHOUT_VALUE = {"unknown-variable", "unknown-key"}


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case["problems"]],
    ids=lambda case: f"{case['file']}: {case['name']}",
)
def test_what_a_remedy_names_is_there_as_data(case, facts, release_data):
    plan, _found = plan_of(case, facts, release_data)
    for problem in plan["problems"]:
        ways = ways_of(problem)
        given = {
            (where.rpartition(".")[2].replace("-", "_"), str(value).lower())
            for way in ways
            for where, value in [*way.items(), *adapters_of(way)]
        }
        named = {(key, value.strip('"').lower()) for key, value in NAMED.findall(problem["remedy"])}
        assert named <= given, problem_line(problem)
        if LEFT_OUT.search(problem["remedy"]) and problem["code"] not in WITHOUT_VALUE:
            assert ways, problem_line(problem)


def adapters_of(way: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the keys of the adapters that a remedy sets."""
    return [
        item
        for where, value in way.items()
        if where.endswith("].lora")
        for adapter in value.values()
        if isinstance(adapter, dict)
        for item in adapter.items()
    ]


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


HUB = "https://huggingface.co"


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_model_is_planned_alike_whoever_tells_of_it(name, facts, release_data):
    """By the Hub before it is fetched, by its files after, and by a host or bundle that has it."""
    repo_id, size = f"org/{name}", MODELS[name]["weights_bytes"]
    wanted = {
        "release": "0.26.0",
        "instances": [
            {"name": "m", "model": repo_id, "max_num_seqs": 16},
            {"name": "of-files", "model": MODEL, "port": 8001, "gpus": [1]},
        ],
    }
    needed = [{"repo_id": repo_id, "revision": "main"}]

    def told(**entry):
        return said_by_the_hub(repo_id, like=name, bytes=size, **entry)

    by_hub = told(asked=HUB, download_bytes=size)
    by_mirror = told(asked="https://mirror.example", download_bytes=size)
    by_files = told(asked=None, download_bytes=0)
    ways = {
        "hub": by_hub,
        "mirror": by_mirror,
        "files": by_files,
        "host with the files": brought(by_files, needed),
        "host that asked": brought(by_hub, needed),
    }
    plans = {
        way: make_plan(wanted, answered(facts("two-3090"), found), release_data("0.26.0"))
        for way, found in ways.items()
    }
    written = {
        way: [
            {key: one[key] for key in one if key != "model"} | {"path": one["model"]["path"]}
            for one in plan["instances"]
        ]
        for way, plan in plans.items()
    }
    for way in ways:
        assert written[way] == written["hub"], way
        assert plans[way]["problems"] == plans["hub"]["problems"], way
    assert written["hub"][0]["config"]["model"].endswith(COMMIT)
    left = {way: plan["instances"][0]["model"]["download_bytes"] for way, plan in plans.items()}
    assert left == {**dict.fromkeys(ways, size), "files": 0}


def test_what_nobody_tells_of_is_planned_anew_when_it_is_there(facts, release_data):
    silent = {"code": "network", "status": None, "message": "Network is unreachable"}
    wanted = {"release": "0.14.1", "instances": [{"name": "m", "model": "Qwen/Qwen3-8B"}]}
    first = answered(facts("ac-3090"), said_by_the_hub("Qwen/Qwen3-8B", error=silent))
    half = make_plan(wanted, first, release_data())
    assert [note["code"] for note in half["notes"]].count("model-not-on-host") == 1
    (planned,) = half["instances"]
    assert planned["memory"] is None
    assert planned["model"]["known"] is None
    there = said_by_the_hub("Qwen/Qwen3-8B", like="qwen3-8b", asked=None, download_bytes=0)
    whole = make_plan(wanted, answered(first, there), release_data())
    at_once = make_plan(wanted, answered(facts("ac-3090"), there), release_data())
    assert whole == at_once
    assert whole["instances"][0]["memory"] is not None


# What the table of causes advises to set, as the inventory has it: its text, and whatever stands
# for a value that only people know.
ADVISED = re.compile(r"(environment|extra_args): \{\s*([^{}]+)\}")


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)
def test_the_plan_takes_what_a_cause_of_failure_advises(cause, facts, release_data):
    advised: dict[str, Any] = {"environment": {}, "extra_args": {}}
    for where, text in ADVISED.findall(cause.remedy):
        for item in text.split(","):
            name, _colon, value = item.partition(":")
            advised[where][name.strip()] = value.strip().strip('"') or "x"
    if not any(advised.values()):
        return
    flags = {dashed(name) for name in advised["extra_args"]}
    releases = release_data().available
    known = [release for release in releases if flags <= {*release_data(release).flags}]
    assert known, f"no release has {flags}"
    instance = {"name": "m", "model": MODEL, "environment": advised["environment"]}
    wanted = {"release": known[-1], "instances": [instance]}
    plan = make_plan(wanted, facts("ac-3090"), release_data(known[-1]))
    assert plan["problems"] == []
    for name in advised["environment"]:
        assert name in plan["instances"][0]["environment"]
    assert not flags & ({*OWN_KEYS} | {*RESERVED})
