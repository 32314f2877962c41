# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of ``vllm_runtime``: shows the progress of an installation."""

from __future__ import annotations

from typing import Any, Optional

from ansible.plugins.action import ActionBase
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.progress import run_with_progress


class ActionModule(ActionBase):
    """Runs the module and prints how far it is."""

    _requires_connection = True

    def run(
        self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None
    ) -> dict[str, Any]:
        """Run the task."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        result.update(
            run_with_progress(
                self, "compute_plane.vllm.vllm_runtime", task_vars or {}, **self._task.args
            )
        )
        return result
