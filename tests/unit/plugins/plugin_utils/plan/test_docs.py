# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/plan.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.planner import make_plan
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    NOTES,
    PROBLEMS,
)

DOCS = Path(__file__).parents[5] / "docs" / "plan.md"


@pytest.fixture(scope="module")
def text():
    return DOCS.read_text(encoding="utf-8")


def _rows(text: str, heading: str) -> list[str]:
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| `")]


def test_every_problem_is_documented_with_its_remedy(text):
    expected = [f"| `{code}` | {kind.meaning} | {kind.remedy} |" for code, kind in PROBLEMS.items()]
    assert _rows(text, "Problem codes") == expected


def test_every_note_is_documented(text):
    assert _rows(text, "Note codes") == [f"| `{code}` | {what} |" for code, what in NOTES.items()]


def test_every_key_of_the_plan_is_documented(text, facts, release_data):
    wanted = {
        "release": "0.14.1",
        "instances": [{"name": "one", "model": "/srv/models/qwen2.5-7b-instruct"}],
    }
    plan = make_plan(wanted, facts("ac-3090"), release_data())
    section = text.split("## What the plan holds\n")[1].split("\n## ")[0]
    documented = set(re.findall(r"`([a-z_0-9]+)`", section))
    instance = plan["instances"][0]
    keys = {
        *plan,
        *plan["runtime"],
        *plan["driver"],
        *instance,
        *instance["model"],
        *instance["attention_backend"],
    }
    assert keys <= documented


def test_driver_versions_are_the_rules(text, release_data):
    builds = release_data().rules["drivers"]["builds"]
    section = text.split("### Driver\n")[1].split("\n### ")[0]
    for rule in builds.values():
        assert rule["native"] in section
        assert rule["minimum"] in section
