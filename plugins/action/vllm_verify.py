# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of `vllm_verify`: runs the module and writes its reports."""

from __future__ import annotations

from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.published import (
    with_public_url,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.progress import ProgressAction


def what_failed(endpoints: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The endpoints of a failed result, which Ansible prints: the failed checks alone."""
    return [
        {
            **{
                key: endpoint[key] for key in ("name", "url", "served_model_name", "full", "passed")
            },
            "checks": [check for check in endpoint["checks"] if not check["passed"]],
        }
        for endpoint in endpoints
    ]


def already_verified(arguments: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The task's endpoints, where another task has just verified all of them; else `None`."""
    verified = {one["name"]: one for one in arguments.get("verified") or []}
    names = [one["name"] for one in arguments["endpoints"]]
    if arguments.get("mode") == "full" or arguments.get("reports_dir"):
        return None
    return [verified[name] for name in names] if verified.keys() >= set(names) else None


def summary(endpoints: list[dict[str, Any]], address: str | None) -> list[str]:
    """A line for each endpoint: the checks that passed, the warnings, and what it said last.

    Args:
        endpoints: What the module returned.
        address: The host's, as others reach it, for an endpoint that listens on all addresses.
    """
    lines = []
    for endpoint in endpoints:
        checks = endpoint["verification"]["checks"]
        by_outcome = {
            outcome: ", ".join(one["name"] for one in checks if one["outcome"] == outcome)
            for outcome in ("passed", "failed")
        }
        name = endpoint["name"] if endpoint["record"] else endpoint["served_model_name"]
        url = with_public_url(endpoint["record"] or endpoint, None, address)["url"]
        line = f"{url} serves {name}, verified: {by_outcome['passed']}."
        if by_outcome["failed"]:
            line += f" Not passed (warnings): {by_outcome['failed']}."
        asked = endpoint["checks"]
        lines.append(f"{line} It says: {asked[-1]['detail']}" if asked else f"{line} It is asleep.")
    return lines


class ActionModule(ProgressAction):
    """Verifies, and writes reports also of what failed."""

    _supports_check_mode = True
    module = "compute_plane.vllm.vllm_verify"
    takes_locks = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the task."""
        result: dict[str, Any] = super(ProgressAction, self).run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        address = self._play_context.remote_addr
        verified = already_verified(arguments)
        if verified is not None:
            found = {"endpoints": verified, "summary": summary(verified, address), "diff": []}
            return {**result, "changed": False, **found}
        reports_dir = arguments.pop("reports_dir", None)
        arguments.pop("verified", None)
        found = self.follow(self.module, arguments, variables)
        result.update(found)
        failed = bool(result.get("failed"))
        if reports_dir and "endpoints" in result:
            # Here, because a run that changes nothing has none to write.
            from ansible_collections.compute_plane.vllm.plugins.plugin_utils.reports import (
                verification,
            )

            host = str(variables["inventory_hostname"])
            verification.add_reports(result, reports_dir, host, result["endpoints"], failed=failed)
        if "endpoints" in result:
            if failed:
                result["endpoints"] = what_failed(result["endpoints"])
            else:
                result["summary"] = summary(result["endpoints"], address)
        return result
