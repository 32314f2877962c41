# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of `vllm_tune`: plans every candidate, then shows how far the host is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.action.vllm_plan import ARGUMENTS, plain
from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import tuning
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.attention import AUTO
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.planner import make_plan
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import problem_line
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.release import ReleaseData
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.progress import ProgressAction
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.release_data import (
    default_releases_dir,
    load_release_data,
)


class WrongTask(Exception):
    """The task cannot be carried out; the message says why."""


# What of vllm_plan's arguments is the planner's.
_WANTED = {
    name: argument.get("default")
    for name, argument in ARGUMENTS.items()
    if name not in ("releases_dir", "fail_on_problems")
}


def _instance(wanted: Mapping[str, Any], name: str) -> tuple[int, dict[str, Any]]:
    """The instance to tune: the one of that name, or the only one."""
    instances = wanted["instances"]
    found = [
        (index, dict(one))
        for index, one in enumerate(instances)
        if not name or one.get("name") == name
    ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(one.get("name")) for one in instances)
    raise WrongTask(f"there are the instances {names}; set vllm_tune_instance to one")


def _planned(plan: Mapping[str, Any], index: int) -> dict[str, Any]:
    """What the module needs of a planned instance."""
    instance = plan["instances"][index]
    return {
        name: instance[name]
        for name in ("name", "config", "environment", "url", "served_model_name", "memory", "gpus")
    }


def candidates(
    wanted: Mapping[str, Any],
    facts: Any,
    data: ReleaseData,
    name: str,
    space: Any,
    goal: str = "latency",
) -> dict[str, Any]:
    """Plan every choice of the space as the whole host's plan with one instance changed.

    Args:
        wanted: The wanted state as `vllm_plan` takes it, with its defaults.
        facts: What the probe returned.
        data: The release's data.
        name: The instance; "" where there is only one.
        space: As `tuning.read_space` takes it.
        goal: What is looked for.

    Returns:
        `space` and `candidates`: each a `choice` with its planned `instance`, or its `problems`,
        whether it `keeps_backend`: `auto` is what was found when the instance was deployed, and
        the limits of the host's cards, watts by UUID, as `gpu_power`.

    Raises:
        WrongTask: The instance, the space or the present plan is wrong.
    """
    index, instance = _instance(wanted, name)
    if instance.get("hosts"):
        raise WrongTask(
            f"{instance.get('name')} spans hosts, and each candidate would stop and start all of "
            "them, which tuning does not do; set a key by hand and compare with benchmark.yml"
        )
    present = make_plan(wanted, facts, data)
    if present["problems"]:
        raise WrongTask("\n".join(problem_line(problem) for problem in present["problems"]))
    if goal == tuning.TOKENS_PER_JOULE and present["accelerator"] == "cpu":
        raise WrongTask(f"goal: {goal} needs a GPU, whose driver tells what it takes")
    backends = [
        row["name"]
        for row in present["instances"][index]["attention_backend"]["candidates"]
        if row["works"]
    ]
    try:
        read = tuning.read_space(space, instance, present["accelerator"], backends)
    except tuning.SpaceError as error:
        raise WrongTask(str(error)) from error
    rows = []
    for choice in tuning.choices(read):
        instances = list(wanted["instances"])
        changed = instances[index] = tuning.changed_instance(instance, choice)
        state = {**wanted, "instances": instances}
        if choice.get(tuning.POWER) is not None:
            of_instance = dict.fromkeys(present["instances"][index]["gpus"], choice[tuning.POWER])
            state["gpu_power_limit"] = {**present["gpu_power"], **of_instance}
        plan = make_plan(state, facts, data)
        problems = [problem_line(problem) for problem in plan["problems"]]
        rows.append(
            {
                "choice": choice,
                "problems": problems,
                "instance": None if problems else _planned(plan, index),
                "keeps_backend": str(changed.get("attention_backend", "")).upper() == AUTO,
                "gpu_power": plan["gpu_power"],
            }
        )
    return {"space": read, "candidates": rows, "accelerator": present["accelerator"]}


def with_choice(wanted: Mapping[str, Any], name: str, choice: Mapping[str, Any]) -> list[Any]:
    """The inventory's instances with a choice made for one of them."""
    index, instance = _instance(wanted, name)
    instances = list(wanted["instances"])
    instances[index] = tuning.changed_instance(instance, choice)
    return instances


class ActionModule(ProgressAction):
    """Plans, then runs the module, which starts, proves and measures."""

    module = "compute_plane.vllm.vllm_tune"
    takes_locks = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the task."""
        arguments = plain(self._task.args)
        wanted, facts = arguments.pop("wanted", None), arguments.pop("facts", None)
        space, name = arguments.pop("space", None), arguments.pop("instance", "") or ""
        if not isinstance(wanted, Mapping) or not isinstance(facts, Mapping):
            return {"failed": True, "msg": "wanted and facts are what vllm_preflight has"}
        given = {key: value for key, value in wanted.items() if value is not None}
        wanted = {**_WANTED, **given}
        data = load_release_data(default_releases_dir(), wanted.get("release"))
        try:
            goal = str(arguments.get("goal", "latency"))
            planned = candidates(wanted, facts, data, name, space, goal)
        except WrongTask as error:
            return {"failed": True, "msg": str(error)}
        self._task.args = {**arguments, **planned}
        result = super().run(tmp, task_vars)
        if "best" in result:
            result["instances"] = with_choice(wanted, name, result["best"])
            limited = result["best"].get(tuning.POWER) is not None
            limit = result["gpu_power"] if limited else wanted.get("gpu_power_limit")
            result["gpu_power_limit"] = limit
        return result
