# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a host's NVIDIA driver twice, once to choose packages, once to ask apt about them."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.driver.plan import (
    Wanted,
    decide,
    packages,
    unbuilt,
)

INFO = "compute_plane.vllm.vllm_driver_info"


class ActionModule(ActionBase):
    """Plans, and fails with everything that is wrong."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the task."""
        super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            {
                "source": {"type": "str", "default": "distribution"},
                "branch": {"type": "str", "default": ""},
                "modules": {"type": "str", "default": "auto"},
            }
        )
        wanted = Wanted(arguments["source"], arguments["branch"], arguments["modules"])
        first = self._execute_module(INFO, module_args={}, task_vars=task_vars)
        if first.get("failed"):
            return dict(first)
        chosen = packages(first["driver"], wanted)
        problems = chosen["problems"]
        plan = {"modules": chosen["modules"], "headers": chosen["headers"]}
        if not problems:
            names = [*chosen["packages"], *chosen["headers"]]
            second = self._execute_module(
                INFO, module_args={"packages": names, "simulate": names}, task_vars=task_vars
            )
            if second.get("failed"):
                return dict(second)
            decided = decide(second["driver"], chosen, second["simulation"])
            problems = decided.pop("problems")
            plan.update(decided)
            plan["unbuilt"] = unbuilt(second["driver"], plan["version"] or "")
        if problems:
            count = len(problems)
            listed = "".join(f"\n  {line}" for line in problems)
            head = f"{count} problem{'s' if count > 1 else ''}; no package was changed"
            return {"failed": True, "msg": head + listed, "problems": problems, "plan": plan}
        return {"changed": False, "plan": plan, "problems": []}
