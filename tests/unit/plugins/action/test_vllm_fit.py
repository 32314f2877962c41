# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin of `vllm_fit`: one probe, no question for what ships with the collection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ansible_collections.compute_plane.vllm.plugins.action import vllm_fit

FACTS = Path(__file__).parents[3] / "fixtures" / "facts"
SHIPPED = "Qwen/Qwen3-8B-FP8"


class Task:
    """The parts of a task that an action looks at."""

    def __init__(self, args: dict[str, Any]) -> None:
        self.args = args
        self.async_val = 0
        self.check_mode = False
        self.diff = False
        self.delegate_to = None


@pytest.fixture
def run() -> Any:
    """Return a function that runs the action on a machine; it returns what was asked, too."""

    def runner(machine: str, said: Any = None, **args: Any) -> tuple[dict[str, Any], list[Any]]:
        facts = json.loads((FACTS / f"{machine}.json").read_text(encoding="utf-8"))
        action = vllm_fit.ActionModule(Task(args), mock.MagicMock(), mock.MagicMock(), *[None] * 3)

        def answers(module_name: str, **_arguments: Any) -> Any:
            return {"facts": facts} if module_name.endswith(".vllm_probe") else said

        with mock.patch.object(action, "_execute_module", side_effect=answers) as execute:
            result = action.run(task_vars={})
        return result, [call.kwargs["module_name"] for call in execute.call_args_list]

    return runner


def test_the_newest_release_that_fits_is_named(run: Any) -> None:
    result, asked = run("driver-535", models=[SHIPPED], release="newest-that-fits")
    assert result["release"] == "0.14.1"
    assert result["problems"] == []
    (row,) = result["fit"]
    assert row["fits"]
    assert 'vllm_release: "0.14.1"' in result["report"].splitlines()
    assert not result["changed"]
    assert asked == ["compute_plane.vllm.vllm_probe"]


def test_what_the_host_lacks_is_returned(run: Any) -> None:
    result, _asked = run("driver-535", models=[SHIPPED], release="0.33.0")
    assert [problem["code"] for problem in result["problems"]] == ["driver-too-old"]
    assert "First of all, whatever the model:" in result["report"]


def test_a_release_that_there_is_not_and_a_list_that_is_none(run: Any) -> None:
    result, asked = run("ac-3090", models=[5], release="0.0.1")
    assert result["failed"]
    assert "models[0]: 5 is not a model" in result["msg"]
    assert "release: there is no 0.0.1" in result["msg"]
    assert asked == []


def test_another_model_is_asked_of_the_hub(run: Any) -> None:
    said = {"hub": [], "models": {}}
    result, asked = run("ac-3090", said=said, models=["org/other"], release="0.14.1")
    assert asked[1:] == ["compute_plane.vllm.hf_model_info"]
    assert not result["fit"][0]["fits"]
