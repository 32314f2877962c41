# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of `vllm_restore`: reads the file."""

from __future__ import annotations

import json
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.backup import read_backup
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.progress import ProgressAction
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.sending import send_file


class ActionModule(ProgressAction):
    """Sends the host what the backup holds."""

    module = "compute_plane.vllm.vllm_restore"
    takes_locks = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the task."""
        path = self._loader.path_dwim(str(self._task.args.get("file") or ""))
        backup = read_backup(self._loader, path)
        if backup is None:
            raise AnsibleActionFail(
                f"there is no backup {path}; playbooks/backup.yml makes one while the host still is"
            )
        # As a file: a parameter's secrets would be hidden wherever a result has the same text.
        files = send_file(self, "backup.json", json.dumps(backup["files"]).encode())
        self._task.args = {**self._task.args, "files": files}
        result = super().run(tmp, task_vars)
        host = str((task_vars or {})["inventory_hostname"])
        if backup["host"] != host:
            warning = f"{path} is of {backup['host']}, not of {host}"
            result.setdefault("warnings", []).append(warning)
        return result
