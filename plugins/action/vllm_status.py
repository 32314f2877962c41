# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of `vllm_status`: sends what tells why a server ended where one has."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.compute_plane.vllm.plugins.plugin_utils import supervisor


class ActionModule(ActionBase):
    """Runs the module, and again where it has to know causes."""

    _requires_connection = True
    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the task."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        found = self._look(arguments, task_vars)
        if found.get("needs_supervisor"):
            sent = supervisor.send(self)
            found = self._look({**arguments, "supervisor_archive": sent}, task_vars)
        return {**result, **found}

    def _look(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        found: dict[str, Any] = self._execute_module(
            module_name="compute_plane.vllm.vllm_status",
            module_args=arguments,
            task_vars=task_vars,
        )
        return found
