# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of `vllm_fit`: probes the host, asks the Hub, and plans each model alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.compute_plane.vllm.plugins.action.vllm_plan import (
    ActionModule as PlanAction,
)
from ansible_collections.compute_plane.vllm.plugins.action.vllm_plan import (
    hub_arguments,
    plain,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.fit import (
    fit,
    render_fit,
    settle,
    with_shipped,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import (
    answered,
    name_of,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    shown,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import read_wanted
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.release_data import (
    default_release,
    default_releases_dir,
    load_release_data,
)

ARGUMENTS: dict[str, dict[str, Any]] = {
    "release": {"type": "raw", "default": default_release()},
    "accelerator": {"type": "raw", "default": "auto"},
    "models": {"type": "raw"},
    "model_hub": {"type": "raw"},
    "model_endpoint": {"type": "raw"},
    "model_token": {"type": "str", "no_log": True},
    "opt_dir": {"type": "raw", "default": "/opt/vllm"},
    "etc_dir": {"type": "raw", "default": "/etc/vllm"},
    "state_dir": {"type": "raw", "default": "/var/lib/vllm"},
    "releases_dir": {"type": "path"},
}
# Seconds for the Hub's answers about one model; they are asked side by side.
_SECONDS_A_MODEL = 2


def read_models(given: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the models as keys of instances, and what is wrong with them.

    Args:
        given: Repositories or directories, or dictionaries of an instance's keys.
    """
    if not isinstance(given, list):
        return [], [f"models: {shown(given)} is not a list — write one model a line"]
    found: list[dict[str, Any]] = []
    problems = []
    for index, one in enumerate(given):
        keys = {"model": one} if isinstance(one, str) else one
        if isinstance(keys, Mapping) and isinstance(keys.get("model"), str):
            found.append({"name": name_of(keys["model"]), **keys})
        else:
            problems.append(
                f"models[{index}]: {shown(one)} is not a model — write a repository, a directory, "
                "or a dictionary with model and other keys of an instance"
            )
    return found, problems


class ActionModule(PlanAction):
    """Tells what a host can serve; changes nothing, in check mode or out of it."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Any:
        """Run the task: the probe, and one more round trip for models that only the Hub knows.

        Returns:
            `release`, `problems` (the host's own), `fit` (a row a model) and `report`; what failed
            otherwise.
        """
        result = ActionBase.run(self, tmp, task_vars)
        arguments = plain(self.validate_argument_spec(argument_spec=ARGUMENTS)[1])
        folder = arguments.pop("releases_dir")
        token, given = arguments.pop("model_token"), arguments.pop("models")
        data = load_release_data(
            Path(folder) if folder else default_releases_dir(), arguments["release"]
        )
        shipped = fact.mapping(data.rules, "candidates")
        models, problems = read_models(
            list(fact.mapping(shipped, "models")) if given is None else given
        )
        if data.release is None and not data.releases:
            problems.append(f"release: there is no {arguments['release']}")
        if problems:
            return {**result, "failed": True, "msg": "\n".join(problems)}
        raw = {**arguments, "instances": models}
        wanted = read_wanted(raw, Findings())
        probed = self.probe(wanted, data, task_vars)
        if probed.get("failed"):
            return {**result, **probed}
        # What ships with the collection needs no question; a revision of the user's own does.
        named = [one["model"] for one in models if one.get("revision") is not None]
        facts = with_shipped(probed["facts"], shipped, wanted.hub, named)
        asked = hub_arguments(wanted, facts, token)
        if asked is not None:
            patience = 8 + _SECONDS_A_MODEL * len(asked["models"])
            said = self.ask_hub({**asked, "timeout": patience}, task_vars)
            if said.get("failed"):
                return {**result, **said}
            facts = answered(facts, said)
        settled, data, lacks = settle(arguments, facts, data)
        release = settled["release"]
        rows = fit(settled, facts, data, models)
        report = render_fit(rows, release, lacks)
        return {
            **result,
            "changed": False,
            "release": release,
            "problems": lacks,
            "fit": rows,
            "report": report,
        }
