# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of `vllm_backup`: writes the file."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.backup import (
    listing,
    read_backup,
    write_backup,
)


class ActionModule(ActionBase):
    """Runs the module, and keeps what it found."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the task."""
        super().run(tmp, task_vars)
        result: dict[str, Any] = self._execute_module(
            "compute_plane.vllm.vllm_backup", task_vars=task_vars
        )
        # Taken out in any case: it has secrets.
        found = result.pop("files", None)
        if found is None:
            return result
        result["file"] = self._loader.path_dwim(str(self._task.args["file"]))
        former = (read_backup(self._loader, result["file"]) or {}).get("files")
        result["changed"] = former != found
        result["diff"] = {
            "before_header": result["file"],
            "after_header": result["file"],
            "before": listing(former),
            "after": listing(found),
        }
        if result["changed"] and not self._task.check_mode:
            write_backup(result["file"], str((task_vars or {})["inventory_hostname"]), found)
        return result
