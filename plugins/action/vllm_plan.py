# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of `vllm_plan`: reads release data, probes the host once, asks the Hub, plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.groups import hosts_of
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.hosts import directories
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import (
    answered,
    hub_request,
    model_path,
    questions,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.planner import make_plan
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    problem_line,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.release import (
    ReleaseData,
    os_packages,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.report import render
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.variables import unread
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import (
    Wanted,
    read_wanted,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.probing import probe
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.release_data import (
    default_release,
    default_releases_dir,
    load_release_data,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.role_variables import (
    role_variables,
)

# `raw`: the planner itself says what is wrong with a value, and all of it at once.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "release": {"type": "raw", "default": default_release()},
    "accelerator": {"type": "raw", "default": "auto"},
    "instances": {"type": "raw"},
    "nvcc": {"type": "raw", "default": "any"},
    "opt_dir": {"type": "raw", "default": "/opt/vllm"},
    "etc_dir": {"type": "raw", "default": "/etc/vllm"},
    "state_dir": {"type": "raw", "default": "/var/lib/vllm"},
    "model_hub": {"type": "raw"},
    "model_endpoint": {"type": "raw"},
    "model_token": {"type": "str", "no_log": True},
    "model_from": {"type": "str"},
    "ask_hub": {"type": "bool", "default": True},
    "hub_facts": {"type": "dict"},
    "python": {"type": "raw"},
    "runtime_venv": {"type": "raw"},
    "gpu_power_limit": {"type": "raw"},
    "offline": {"type": "bool", "default": False},
    "group_address": {"type": "str"},
    "members": {"type": "dict"},
    "verification": {"type": "raw"},
    "endpoint": {"type": "raw"},
    "releases_dir": {"type": "path"},
    "fail_on_problems": {"type": "bool", "default": True},
}


def plain(value: Any) -> Any:
    """Return a value of Ansible's template engine as plain Python data."""
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return str(value)
    return value


def probe_arguments(wanted: Wanted, data: ReleaseData) -> dict[str, Any]:
    """Return what `vllm_probe` must look at for this wanted state.

    Args:
        wanted: The checked wanted state.
        data: The release's data, for the packages of every family.
    """
    models = {model_path(one, wanted, {}) for one in wanted.sources if one.local}
    hub: list[dict[str, Any]] = []
    for request in map(hub_request, wanted.sources):
        if request is not None and request not in hub:
            hub.append(request)
    pythons = [wanted.python] if wanted.python is not None else []
    if wanted.runtime_venv is not None:
        pythons.append(f"{wanted.runtime_venv}/bin/python")
    return {
        "paths": directories(wanted),
        "packages": os_packages(data),
        "models": sorted(model for model in models if model is not None),
        "hub": hub,
        "hub_dir": wanted.hub,
        "python": pythons,
        "opt_dir": wanted.opt_dir,
        "etc_dir": wanted.etc_dir,
        "state_dir": wanted.state_dir,
    }


def hub_arguments(wanted: Wanted, facts: Any, token: str | None) -> dict[str, Any] | None:
    """Return what `hf_model_info` is asked for models that the host does not know; None for none.

    Args:
        wanted: The checked wanted state.
        facts: What the probe found.
        token: The user's token of the Hub.
    """
    models = questions(wanted, facts)
    if not models:
        return None
    return {
        "models": models,
        "cache_dir": wanted.hub,
        "endpoint": wanted.endpoint,
        "token": token or None,
    }


def brought(told: Mapping[str, Any], needed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what another host knows of models, as facts of a host that has nothing of them.

    Args:
        told: What `hf_model_info` returned there.
        needed: The models that the host does not know.
    """
    names = [(one["repo_id"], one["revision"]) for one in needed]
    hub = [
        {**entry, "download_bytes": entry.get("bytes")}
        for entry in fact.rows(told, "hub")
        if (entry.get("repo_id"), entry.get("revision")) in names
    ]
    return {"models": fact.mapping(told, "models"), "hub": hub}


def variables_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the plan looks at of a host's variables.

    Args:
        given: All of them, as the task has them.
    """
    variables = role_variables()
    return {
        "unread": unread(given, variables.public | variables.internal),
        "known": sorted(variables.public),
    }


def answer(raw: Mapping[str, Any], facts: Any, data: ReleaseData, fail: bool) -> dict[str, Any]:
    """Plan, and return the action's result.

    Args:
        raw: The wanted state as the task gives it.
        facts: What the probe returned.
        data: The release's data.
        fail: Whether problems make the task fail. The result then holds only
            their lines, because Ansible prints all of a failed result.
    """
    plan = make_plan(raw, facts, data)
    problems = plan["problems"]
    if any(problem["code"] == "weights-do-not-fit" for problem in problems):
        # Here, because few plans need it.
        from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import fit

        fit.say_what_would_fit(plan, raw, facts, data)
    lines = "\n".join(problem_line(problem) for problem in problems)
    if problems and fail:
        return {"changed": False, "failed": True, "msg": lines}
    return {
        "changed": False,
        "msg": lines,
        "problems": problems,
        "plan": plan,
        "report": render(plan, facts),
        "facts": facts,
    }


class ActionModule(ActionBase):
    """Plans what will be done on a host; changes nothing, in check mode or out of it."""

    _requires_connection = True
    _supports_check_mode = True

    def probe(
        self, wanted: Wanted, data: ReleaseData, task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Return what `vllm_probe` says of the host as plain data; a failed result has no facts."""
        said = probe(self, probe_arguments(wanted, data), task_vars)
        if said.get("failed") or not fact.mapping(said, "facts"):
            told = f"The host could not be probed: {said.get('msg', 'no facts')}"
            return {**said, "failed": True, "msg": told, "changed": False}
        return {"facts": plain(said["facts"])}

    def ask_hub(
        self, questions: Mapping[str, Any], task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Return what `hf_model_info` says as plain data, or its failed result."""
        said = self._execute_module(
            module_name="compute_plane.vllm.hf_model_info",
            module_args=dict(questions),
            task_vars=task_vars,
        )
        if said.get("failed"):
            told = f"The Hub could not be asked: {said.get('msg', 'no answer')}"
            return {**said, "msg": told, "changed": False}
        answers: dict[str, Any] = plain(said)
        return answers

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Any:
        """Run the task: one round trip, the probe; one more for models that the host lacks.

        Returns:
            `answer`'s result, or the probe's own where it failed.
        """
        result = super().run(tmp, task_vars)
        arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)[1]
        raw = plain({key: value for key, value in arguments.items() if key != "releases_dir"})
        fail, ask = raw.pop("fail_on_problems"), raw.pop("ask_hub")
        token, told = raw.pop("model_token"), raw.pop("hub_facts")
        raw["has_token"] = bool(token)
        raw["host_name"] = str((task_vars or {}).get("inventory_hostname", ""))
        raw["inventory"] = sorted(str(name) for name in (task_vars or {}).get("hostvars", ()))
        given_dir = arguments.get("releases_dir")
        raw["variables"] = variables_of(task_vars or {})
        releases_dir = Path(given_dir) if given_dir else default_releases_dir()
        data = load_release_data(releases_dir, raw.get("release"))
        # Said again, and reported, by the plan itself.
        wanted = read_wanted(raw, Findings())
        probed = self.probe(wanted, data, task_vars)
        if probed.get("failed"):
            return {**result, **probed}
        facts = probed["facts"]
        facts = answered(facts, brought(told or {}, questions(wanted, facts)))
        asked = hub_arguments(wanted, facts, token) if ask else None
        if asked is not None:
            said = self.ask_hub(asked, task_vars)
            if said.get("failed"):
                return {**result, **said}
            facts = answered(facts, said)
        # The plan of a group is whole when the others' have been compared with it.
        missing = hosts_of(wanted) if wanted.members is None else []
        planned = answer(raw, facts, data, fail and not missing)
        if not planned.get("failed"):
            planned["hub_questions"] = questions(wanted, facts)
            planned["group_members"] = missing
        for note in planned.get("plan", {}).get("notes", ()):
            if note["code"] == "release-chosen":  # also where no report is printed
                host = (task_vars or {}).get("inventory_hostname", "host")
                self._display.display(f"  {host}: {note['message']}")
            if note["code"] == "unknown-variable":
                self._display.warning(f"{note['where']}: {note['message']}")
        return {**result, **planned}
