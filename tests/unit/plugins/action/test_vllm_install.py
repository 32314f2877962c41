# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes of two things done side by side."""

from __future__ import annotations

import contextvars
from typing import Any

import yaml

from ansible_collections.compute_plane.vllm.plugins.action.vllm_install import (
    ARGUMENTS,
    Leg,
    together,
)
from ansible_collections.compute_plane.vllm.plugins.modules import vllm_install

RUNTIME = {"changed": True, "venv": "/v", "diff": {"before": "", "after": "venv"}}
MODEL = {"changed": False, "path": "/m", "invocation": {}, "warnings": ["w"], "diff": []}


def test_results_together() -> None:
    result = together([{"changed": True}, dict(RUNTIME)], [dict(MODEL)])
    assert result == {
        "changed": True,
        "runtime": {"changed": True, "venv": "/v"},
        "models": [{"changed": False, "path": "/m"}],
        "diff": [{"before": "", "after": "venv"}],
        "warnings": ["w"],
    }
    assert together([{"changed": False}], [dict(MODEL)])["changed"] is False


def test_each_failure_is_told_and_nothing_else() -> None:
    bad = {"failed": True, "msg": "no room"}
    worse = {"failed": True, "msg": "no network"}
    assert together([bad], [dict(MODEL)]) == {"changed": False, "failed": True, "msg": "no room"}
    both = together([dict(bad)], [dict(MODEL), dict(worse)])
    assert both["msg"] == "no room\nno network"


def test_a_leg() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    variable.set(7)
    leg = Leg(lambda: [{"seen": variable.get()}])
    leg.start()
    leg.join()
    assert leg.results == [{"seen": 7}]
    assert leg.message is None

    def breaks() -> list[dict[str, Any]]:
        raise OSError("the line is dead")

    leg = Leg(breaks)
    leg.start()
    leg.join()
    assert leg.message == "the line is dead"


def test_the_documentation_is_that_of_the_arguments() -> None:
    options = yaml.safe_load(vllm_install.DOCUMENTATION)["options"]
    assert options.keys() == ARGUMENTS.keys()
    for name, option in options.items():
        given = {key: option[key] for key in ("type", "default", "elements") if key in option}
        wanted = {key: value for key, value in ARGUMENTS[name].items() if key in given}
        assert given == wanted, name
