# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes of two things done side by side."""

from __future__ import annotations

import contextvars
import threading
from typing import Any

import yaml

from ansible_collections.compute_plane.vllm.plugins.action.vllm_install import (
    ARGUMENTS,
    Leg,
    give_way,
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


def test_only_the_host_is_waited_for_side_by_side() -> None:
    turn = threading.Lock()
    both = threading.Barrier(2, timeout=10)
    inside: list[int] = []

    class Action:
        def _low_level_execute_command(self, command: str) -> str:
            both.wait()  # passes only when both are here at once
            return command

    def leg() -> list[dict[str, Any]]:
        action = Action()
        give_way(action, turn)
        with turn:
            for _step in range(20):
                inside.append(1)
                assert sum(inside) == 1
                inside.pop()
                assert action._low_level_execute_command("true") == "true"
                assert turn.locked()
        return [{"changed": False}]

    legs = [Leg(leg), Leg(leg)]
    for one in legs:
        one.start()
    for one in legs:
        one.join(30)
    assert [one.message for one in legs] == [None, None]
    assert [one.error for one in legs] == [None, None]
    assert not turn.locked()


def test_the_documentation_is_that_of_the_arguments() -> None:
    options = yaml.safe_load(vllm_install.DOCUMENTATION)["options"]
    assert options.keys() == ARGUMENTS.keys()
    for name, option in options.items():
        given = {key: option[key] for key in ("type", "default", "elements") if key in option}
        wanted = {key: value for key, value in ARGUMENTS[name].items() if key in given}
        assert given == wanted, name
