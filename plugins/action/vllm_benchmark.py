# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of `vllm_benchmark`: shows how far it is, and writes the reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.progress import ProgressAction
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.reports.benchmark import (
    write_reports,
)


class ActionModule(ProgressAction):
    """Runs the module and prints which run is under way and how long the rest takes."""

    module = "compute_plane.vllm.vllm_benchmark"

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the task."""
        arguments = dict(self._task.args)
        reports_dir = arguments.pop("reports_dir", None)
        self._task.args = arguments
        result = super().run(tmp, task_vars)
        host = str((task_vars or {})["inventory_hostname"])
        for one in result.get("instances", []):
            # Taken out in any case: it is long, and Ansible prints all of a failed result.
            measured = one.pop("measured", None)
            if measured is None or not reports_dir:
                continue
            directory = Path(self._loader.path_dwim(str(reports_dir)))
            try:
                one["page"] = str(write_reports(directory, host, measured))
            except OSError as error:
                result["failed"] = True
                line = f"the reports cannot be written: {error}"
                result["msg"] = f"{result.get('msg', '')}\n{line}".strip()
        return result
