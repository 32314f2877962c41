# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of ``vllm_verify``: runs the module and writes its reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.verify_report import (
    html_report,
    json_report,
    junit_report,
)

REPORTS = {"json": json_report, "junit.xml": junit_report, "html": html_report}


def write_reports(directory: Path, host: str, endpoints: list[dict[str, Any]]) -> None:
    """Write the reports of a host's endpoints.

    Args:
        directory: Where; made where it is missing.
        host: The host's name in the inventory.
        endpoints: The module's result.

    Raises:
        OSError: A file cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for suffix, report in REPORTS.items():
        path = directory / f"{host}.{suffix}"
        # A model can answer half of a surrogate pair, which no file can hold.
        text = report(host, endpoints).encode("utf-8", "replace").decode("utf-8")
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


class ActionModule(ActionBase):
    """Verifies, and writes reports also of what failed."""

    _requires_connection = True
    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the task."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        reports_dir = arguments.pop("reports_dir", None)
        found = self._execute_module(
            module_name="compute_plane.vllm.vllm_verify",
            module_args=arguments,
            task_vars=variables,
        )
        result.update(found)
        if reports_dir and "endpoints" in result:
            host = str(variables["inventory_hostname"])
            directory = Path(str(reports_dir)).expanduser()
            try:
                write_reports(directory, host, result["endpoints"])
            except OSError as error:
                lines = [result.get("msg", ""), f"the reports cannot be written: {error}"]
                result.update(failed=True, msg="\n".join(lines).strip())
        return result
