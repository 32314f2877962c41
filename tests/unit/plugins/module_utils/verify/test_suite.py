# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expectations, scripts, and reading a user's suite."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
import yaml
from endpoints.scripted import PRIME, SIMPLIFIED, TRADITIONAL

from ansible_collections.compute_plane.vllm.plugins.doc_fragments.verification import (
    ModuleDocFragment,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.checks import Checks
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.run import ARGUMENTS
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.sandbox import read_run
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.suite import (
    CHECKS,
    DEFAULT_SUITE,
    SuiteError,
    read_suite,
    suite_digest,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.text import (
    code_in,
    numbers,
    problems_with,
    script_problem,
)


def validate(schema: Any, value: Any) -> str | None:
    try:
        fastjsonschema.validate(schema, value)
    except fastjsonschema.JsonSchemaValueException as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("text", "script", "problem"),
    [
        (TRADITIONAL, "traditional", None),
        (SIMPLIFIED, "simplified", None),
        (SIMPLIFIED, "traditional", "not in traditional Chinese"),
        (TRADITIONAL, "simplified", "not in simplified Chinese"),
        # One slip in many is a slip.
        (TRADITIONAL * 2 + "习", "traditional", None),
        # Characters of both scripts, 台 里 后 只 among them, decide nothing.
        (TRADITIONAL + "台北皇后里只", "traditional", None),
        ("人口手足", "traditional", "no character of it tells"),
        ("Machine learning", "traditional", "not in Chinese"),
        ("機器學習(Machine Learning)是人工智慧", "traditional", "not in Chinese"),
        ("機器學習(ML)是人工智慧的一個分支", "traditional", None),
        ("", "traditional", "not in Chinese"),
    ],
)
def test_scripts(text: str, script: str, problem: str | None) -> None:
    found = script_problem(text, script)
    assert (found is None) if problem is None else (problem in str(found))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("345 / 5 = 69.", [345, 5, 69]),
        ("1,234.5 and -3", [1234.5, -3]),
        ("v1.2 x86", []),
        ("none", []),
        ("**69**", [69]),
    ],
)
def test_numbers(text: str, found: list[float]) -> None:
    assert numbers(text) == found


@pytest.mark.parametrize(
    ("expect", "text", "problem"),
    [
        ({"regex": "Par.s"}, "Paris", None),
        ({"regex": ["Par", "Lond"]}, "Paris", "matches 'Lond'"),
        ({"not_regex": r"\d"}, "no 5", "'5' in it"),
        ({"contains": "ari"}, "Paris", None),
        ({"contains": ["Paris", "France"]}, "Paris", "'France' is not in it"),
        ({"not_contains": "sorry"}, "I'm sorry", "'sorry' is in it"),
        ({"min_length": 3}, " ab ", "at least 3"),
        ({"max_length": 3}, "abcd", "at most 3"),
        ({"number": {"equals": 12}}, "2 + 10 = 12", None),
        ({"number": {"equals": 12}}, "12 = 2 + 10", "its last number is 10"),
        ({"number": {"equals": 12, "which": "first"}}, "12 = 2 + 10", None),
        ({"number": {"equals": 10, "which": "any"}}, "12 = 10 + 2", None),
        ({"number": {"equals": 3.14, "tolerance": 0.01}}, "3.1416", None),
        ({"number": {"min": 1, "max": 2}}, "3", "expected min 1, max 2"),
        ({"number": {"min": 1}}, "many", "no number"),
        ({"json_schema": {"required": ["a"]}}, '{"a": 1}', None),
        ({"json_schema": {"required": ["a"]}}, '```json\n{"a": 1}\n```', None),
        ({"json_schema": {"type": "object", "required": ["a"]}}, "{}", "does not fit"),
        ({"json_schema": {}}, "{", "not JSON"),
        ({"script": "traditional"}, SIMPLIFIED, "not in traditional"),
        ({"regex": "a", "contains": "b"}, "a", "'b' is not in it"),
    ],
)
def test_expectations(expect: dict[str, Any], text: str, problem: str | None) -> None:
    found = "; ".join(problems_with(text, expect, validate))
    assert (found == "") if problem is None else (problem in found)


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        (PRIME, "def is_prime"),
        ("def is_prime(n):\n    return True", "def is_prime"),
        ("```\nx = 1\n```", "x = 1"),
        ("```bash\nls\n```\n```python\nx = 2\n```", "x = 2"),
        ("```python\nx = 3", "x = 3"),
        ("No code here.", None),
        ("```bash\nls\n```", None),
    ],
)
def test_code_in_an_answer(text: str, starts: str | None) -> None:
    code = code_in(text)
    assert (code is None) if starts is None else str(code).startswith(starts)


def test_the_default_suite_is_the_documented_one() -> None:
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    assert documented["suite"]["default"] == list(DEFAULT_SUITE)
    assert set(documented) == set(ARGUMENTS)
    names = [check.name for check in read_suite(DEFAULT_SUITE, [], "warning", "m")]
    assert names == list(DEFAULT_SUITE)


def test_the_checks_are_the_documented_ones() -> None:
    text = (Path(__file__).parents[5] / "docs" / "verification.md").read_text(encoding="utf-8")
    section = text.split("## The checks\n")[1].split("\n## ")[0]
    rows = re.findall(r"(?m)^\| `(\w+)` \|.*\| (\w+) \| ([^|]*)\|$", section)
    documented = {
        name: (
            kind,
            {key: float(value) for key, value in re.findall(r"`(\w+)` \((\d+)\)", options)},
        )
        for name, kind, options in rows
    }
    assert documented == CHECKS
    assert list(documented) == list(DEFAULT_SUITE)
    for name in CHECKS:
        assert callable(getattr(Checks, name))


def test_severities() -> None:
    suite = ["health", "chinese", "gpu_memory", {"check": "is_prime", "severity": "error"}]
    severities = [check.severity for check in read_suite(suite, [], "warning", "m")]
    assert severities == ["error", "warning", "warning", "error"]
    severities = [check.severity for check in read_suite(suite, [], "error", "m")]
    assert severities == ["error", "error", "warning", "error"]


def test_own_questions_as_ansible_gives_them() -> None:
    own = {"name": "q", "prompt": "?", "messages": None, "expect": "a", "severity": None}
    (check,) = read_suite([], [own], "warning", "m")
    assert check.options == {
        "prompt": "?",
        "expect": {"regex": "a"},
        "max_tokens": 64,
        "temperature": 0,
    }
    assert (check.kind, check.severity) == ("question", "error")


def test_numbers_in_the_text_that_a_template_gives() -> None:
    own = {
        "name": "7",
        "prompt": "6",
        "expect": {"contains": "4", "min_length": "1", "number": {"equals": "4.5"}},
        "max_tokens": "16",
        "retries": "2",
    }
    (built_in, question) = read_suite(
        [{"check": "concurrency", "requests": "3"}], [own], "warning", "m"
    )
    assert built_in.options["requests"] == 3
    assert (question.name, question.retries, question.options["max_tokens"]) == ("7", 2, 16)
    assert question.options["prompt"] == "6"
    assert question.options["expect"] == {
        "contains": "4",
        "min_length": 1,
        "number": {"equals": 4.5},
    }


def test_entries_of_other_instances_are_left_out() -> None:
    suite = [{"check": "health", "instances": ["a"]}, {"check": "models", "instances": "b"}]
    assert [check.name for check in read_suite(suite, [], "warning", "b")] == ["models"]


def test_everything_wrong_is_told_at_once() -> None:
    suite = [
        "helth",
        7,
        {"check": "concurrency", "requests": 0, "severity": "fatal", "max_token": 1},
        {"name": "no question"},
        {"name": "a", "prompt": "?", "turns": ["?"], "expect": {}},
        {"name": "b", "prompt": 1, "expect": {"regex": "(", "number": {"which": "all"}}},
        {"name": "c", "prompt": "?", "expect": {"script": "latin"}, "retries": -1},
        "health",
        "health",
    ]
    with pytest.raises(SuiteError) as raised:
        read_suite(suite, [], "loud", "m")
    lines = str(raised.value).splitlines()
    for start in (
        "ability: 'loud'",
        "suite[0].check: there is no 'helth'",
        "suite[1]: 7",
        "suite[2].requests: 0 is not more than 0",
        "suite[2].severity: 'fatal'",
        "suite[2].max_token: there is no such key",
        "suite[3]: give one of prompt",
        "suite[3].expect: is missing",
        "suite[4]: give one of",
        "suite[4].expect: nothing is expected",
        "suite[5].prompt: 1 is not of type str",
        "suite[5].expect.regex: '(' is no regular expression",
        "suite[5].expect.number: give equals, min or max",
        "suite[5].expect.number.which: 'all'",
        "suite[6].expect.script: 'latin'",
        "suite[6].retries: -1",
        "suite: there are two checks named health",
    ):
        assert any(line.startswith(start) for line in lines), start


def test_another_suite_has_another_digest() -> None:
    one = read_suite(["health"], [], "warning", "m")
    two = read_suite([{"check": "health", "retries": 1}], [], "warning", "m")
    assert suite_digest(one) == suite_digest(read_suite(["health"], [], "warning", "m"))
    assert suite_digest(one) != suite_digest(two)


@pytest.mark.parametrize(
    ("output", "errors", "returned", "problem"),
    [
        ('noise\nWORD{"returned": [true]}\n', "", [True], None),
        ('{"returned": [true]}\n', "Finished with result: success", None, "could not be run"),
        ('WORD{"error": "NameError: x"}\n', "", None, "NameError: x"),
        ("", "Finished with result: timeout\n", None, "did not end within 3 s"),
        ("", "Finished with result: oom-kill\n", None, "more memory"),
        (
            "",
            "Finished with result: signal\nMain processes terminated with: code=killed/status=SYS",
            None,
            "forbidden system call",
        ),
        ("", "Finished with result: signal\n code=killed, status=31/SYS", None, "forbidden"),
        ("", "Finished with result: signal\n code=killed, status=9/KILL", None, "more memory"),
        ("", "Finished with result: exit-code\n code=exited/status=7\n", None, "exit-code, 7"),
        ("", "Failed to start transient service unit", None, "Failed to start transient"),
    ],
)
def test_what_became_of_a_program(
    output: str, errors: str, returned: list[Any] | None, problem: str | None
) -> None:
    run = read_run("WORD", output, errors, 3)
    assert run.returned == returned
    assert (run.problem is None) if problem is None else (problem in str(run.problem))
