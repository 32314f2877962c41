# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release `newest-that-fits` takes, and what it says."""

from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.newest import plan_newest
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.planner import make_plan

DRIVER = "driver-too-old"
PYTHON = "python-not-found"
PORT = "port-in-use"


def problem(code):
    return {"code": code, "where": "host", "message": f"{code} here", "remedy": f"mend {code}"}


def plans(**codes):
    """Return a function from a release to its plan; `r1` is release 1."""
    asked = []

    def plan_of(release):
        asked.append(release)
        found = [problem(code) for code in codes[f"r{release}"]]
        return {"release": release, "problems": found, "notes": []}

    plan_of.asked = asked
    return plan_of


@pytest.mark.parametrize(
    ("codes", "taken"),
    [
        ({"r1": [], "r2": [], "r3": []}, "3"),
        ({"r1": [], "r2": [], "r3": [DRIVER]}, "2"),
        ({"r1": [], "r2": [PYTHON], "r3": [DRIVER, PYTHON]}, "1"),
        ({"r1": [], "r2": [], "r3": [PORT]}, "3"),
        ({"r1": [PORT], "r2": [PORT], "r3": [PORT, DRIVER]}, "2"),
    ],
)
def test_the_newest_without_an_obstacle_is_taken(codes, taken):
    plan = plan_newest(["1", "2", "3"], plans(**codes))
    assert plan["release"] == taken
    (note,) = plan["notes"]
    assert note["code"] == "release-chosen"
    assert f'vllm_release: "{taken}"' in note["message"]


def test_older_releases_are_not_looked_at():
    plan_of = plans(r1=[], r2=[], r3=[DRIVER])
    plan_newest(["1", "2", "3"], plan_of)
    assert plan_of.asked == ["3", "2"]


def test_each_newer_one_is_told_with_what_it_lacks():
    plan = plan_newest(["1", "2", "3"], plans(r1=[], r2=[PYTHON], r3=[DRIVER, PYTHON]))
    message = plan["notes"][0]["message"]
    assert "3: driver-too-old here, python-not-found here" in message
    assert "2: python-not-found here" in message


def test_where_none_fits_the_one_that_lacks_least_is_told_and_the_rest_stays():
    plan = plan_newest(["1", "2"], plans(r1=[DRIVER, PYTHON, PORT], r2=[PYTHON, PORT]))
    assert plan["release"] == "2"
    first, second = plan["problems"]
    assert first["code"] == "no-release-fits"
    assert first["remedy"] == "for vLLM 2: mend python-not-found"
    assert second["code"] == PORT


def test_a_release_without_the_accelerator_is_not_the_one_to_mend_the_host_for():
    plan = plan_newest(["1", "2"], plans(r1=[DRIVER, PYTHON], r2=["unknown-accelerator"]))
    assert plan["release"] == "1"
    assert "mend driver-too-old; mend python-not-found" in plan["problems"][0]["remedy"]


def test_a_host_that_runs_all_of_them_gets_the_newest_there_is(facts, release_data):
    data = release_data("newest-that-fits")
    plan = make_plan(
        {
            "release": "newest-that-fits",
            "instances": [{"name": "one", "model": "/srv/models/qwen2.5-7b-instruct"}],
        },
        facts("ac-3090"),
        data,
    )
    with_cuda = [
        name for name, one in data.releases.items() if "cuda" in one.release["accelerators"]
    ]
    assert plan["release"] == with_cuda[-1]
    assert plan["problems"] == []
