# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd, as far as a task asks it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Callable

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import Deployment
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import (
    FINGERPRINT,
    variable,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.units import parse_show
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.failures import TaskFailed
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.paths import DROP_IN

PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,MainPID,NRestarts,Result,NeedDaemonReload,Job,StatusText"
)


class Manager:
    """systemd.

    Args:
        run: Runs a program: its exit status, output and errors; `AnsibleModule.run_command`.
    """

    def __init__(self, run: Callable[..., tuple[int, str, str]]) -> None:
        self._run = run

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        """Run systemctl and return what it printed.

        Raises:
            TaskFailed: It does not do what it is asked, and check is set.
        """
        status, output, errors = self._run(["systemctl", "--no-pager", *arguments])
        if check and status != 0:
            said = errors.strip() or output.strip()
            raise TaskFailed(f"systemctl {' '.join(arguments)} failed: {said}")
        return output

    def show(self, units: Sequence[str]) -> dict[str, dict[str, str]]:
        """The state of units by name."""
        return parse_show(self.systemctl("show", "--property", PROPERTIES, *units)) if units else {}

    def journal(self, since: float, lines: int, *selection: str) -> str:
        """The last lines of the journal since a time, their text alone."""
        command = ["journalctl", "--no-pager", "--quiet", "--output", "cat"]
        _status, output, _errors = self._run([*command, "--since", f"@{since:.0f}", *selection])
        # Not --lines: beside --since systemd 252 counts from the start.
        return "\n".join(output.strip().splitlines()[-lines:])

    def environ(self, state: dict[str, str]) -> bytes | None:
        """The environment that a unit's running server was started with; `None` without one."""
        pid = int(state.get("MainPID") or 0)
        if not pid:
            return None
        try:
            with open(f"/proc/{pid}/environ", "rb") as stream:
                return stream.read()
        except (FileNotFoundError, ProcessLookupError):
            return None

    def running(self, state: dict[str, str]) -> str | None:
        """The fingerprint of a unit's running server; `None` without one."""
        return variable(self.environ(state), FINGERPRINT)

    def verify(self, deployments: Sequence[Deployment]) -> None:
        """Let systemd read new units in a staging folder before anything is installed.

        Raises:
            TaskFailed: It does not accept them.
        """
        with tempfile.TemporaryDirectory(prefix="vllm-units-") as staging:
            paths = []
            for wanted in deployments:
                path = os.path.join(staging, wanted.unit_name)
                paths.append(path)
                os.mkdir(f"{path}.d")
                drop_in = f"{path}.d/{DROP_IN}"
                for file, text in ((path, wanted.unit), (drop_in, wanted.drop_in_text)):
                    with open(file, "w", encoding="utf-8") as stream:
                        stream.write(text)
            status, output, errors = self._run(
                ["systemd-analyze", "--no-pager", "--man=no", "verify", *paths],
                environ_update={"SYSTEMD_UNIT_PATH": f"{staging}:"},
            )
        if status != 0:
            said = errors.strip() or output.strip()
            raise TaskFailed(f"systemd does not accept the unit: {said}")

    def make_users(self, path: str) -> None:
        """Make the users and groups of a file that are missing.

        Raises:
            TaskFailed: They cannot be made.
        """
        status, output, errors = self._run(["systemd-sysusers", path])
        if status != 0:
            raise TaskFailed(f"systemd-sysusers failed: {errors.strip() or output.strip()}")
