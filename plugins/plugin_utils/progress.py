# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show on the controller how far a long module has come.

The module keeps a small file on the host (`plugins/module_utils/common/progress.py`). While it
runs, a thread here reads that file over a second session of the task's connection, which SSH
multiplexes, and prints a line every few seconds: plain lines, since several hosts share the
terminal.
"""

from __future__ import annotations

import copy
import getpass
import json
import os
import shlex
import socket
import threading
import uuid
from collections.abc import Mapping
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.numbers import human_seconds
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import (
    DIRECTORY,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils import supervisor
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.code import with_code

INTERVAL = 5.0
"""Seconds between two lines of a host."""

LINES = 4
"""Hosts up to which this is so; of more, each is heard of less often."""


def decimal_bytes(count: float) -> str:
    """A number of bytes in decimal units, as disks and downloads are sold: `4.1 GB`."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def progress_line(host: str, state: Mapping[str, Any]) -> str:
    """What is printed for one reading of a progress file."""
    parts = []
    if state.get("files_total"):
        parts.append(f"{state.get('files_done', 0)} of {state['files_total']} files")
    total = state.get("bytes_total")
    if total:
        done = state.get("bytes_done", 0)
        parts.append(f"{decimal_bytes(done)} of {decimal_bytes(total)} ({100 * done // total} %)")
        if state.get("rate"):
            parts.append(f"{decimal_bytes(state['rate'])}/s")
            left = state.get("eta", (total - done) / state["rate"])
            parts.append(f"{human_seconds(left)} left")
    elif state.get("elapsed") is not None:
        parts.append(human_seconds(state["elapsed"]))
    if state.get("detail"):
        parts.append(str(state["detail"]))
    return f"  {host}: {state['what']}" + (f": {', '.join(parts)}" if parts else "")


def host_column(variables: Mapping[str, Any]) -> str:
    """A host's name, as wide as the longest of those that run beside it, so that lines align."""
    hosts = [str(host) for host in variables.get("ansible_play_batch", ())]
    return str(variables["inventory_hostname"]).ljust(max(map(len, hosts), default=0))


def calm_interval(hosts: int) -> float:
    """Seconds between two lines of one host: with many hosts there are no more lines in all."""
    return INTERVAL * max(1.0, hosts / LINES)


def own_session(connection: Any) -> Any:
    """A second session of a connection, to run a module while another runs in the first.

    What belongs to one command (the temporary directory, the prompt of become) is its own; SSH
    multiplexes the two.
    """
    session = copy.copy(connection)
    session._shell = copy.copy(connection._shell)
    session.become = copy.copy(connection.become)
    return session


def this_run() -> str:
    """This run as those hear of it who wait for it: `alice@laptop with site.yml`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user that has no name
        user = f"user {os.getuid()}"
    playbooks = [os.path.basename(str(name)) for name in context.CLIARGS.get("args") or ()]
    with_what = f" with {' '.join(playbooks)}" if playbooks else ""
    return f"{user}@{socket.gethostname()}{with_what}"


class ProgressReader(threading.Thread):
    """Reads one progress file on the host and prints what it says, until stopped."""

    def __init__(self, connection: Any, path: str, host: str, interval: float = INTERVAL) -> None:
        super().__init__(daemon=True)
        # The module occupies the task's own connection; this one is for reading, as the plain user.
        self._connection = copy.copy(connection)
        self._connection.become = None
        self._command = f"cat {shlex.quote(path)}"
        self._host = host
        self._interval = interval
        self._ended = threading.Event()
        self._display = Display()

    def read(self) -> dict[str, Any] | None:
        """The file's content; `None` before the module wrote it and after it ended."""
        status, output, _errors = self._connection.exec_command(self._command, sudoable=False)
        if status != 0 or not output:
            return None
        state: dict[str, Any] = json.loads(output)
        return state

    def run(self) -> None:
        """Print a line whenever it says something new."""
        last = None
        while not self._ended.wait(self._interval):
            try:
                state = self.read()
            except Exception as error:  # noqa: BLE001 - showing progress must never end the work it shows
                self._display.vv(f"progress of {self._host} is not to be had: {error}")
                return
            line = None if state is None else progress_line(self._host, state)
            if line is not None and line != last:
                self._display.display(line)
                last = line

    def stop(self) -> None:
        """End the thread, without waiting longer than for a reading under way."""
        self._ended.set()
        self.join(self._interval)


class ProgressAction(ActionBase):
    """An action that runs the module of its name and prints how far it is."""

    _requires_connection = True
    module: str
    """The module's fully qualified name; it takes the parameter `progress`."""
    takes_locks = False
    """Whether it has the parameter `asked_by` too."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the task."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        result.update(self.follow(self.module, self._task.args, task_vars or {}))
        return result

    def follow(
        self, module: str, arguments: Mapping[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Run a module that takes `progress`, and print how far it is.

        Args:
            module: Its fully qualified name.
            arguments: Its parameters.
            variables: The task's variables.

        Returns:
            What it returned.
        """
        path = f"{DIRECTORY}/{uuid.uuid4().hex}.json"
        whose = {"asked_by": this_run()} if self.takes_locks else {}

        def execute(given: Mapping[str, Any]) -> dict[str, Any]:
            reader = ProgressReader(
                self._connection,
                path,
                host_column(variables),
                calm_interval(len(variables.get("ansible_play_batch", ()))),
            )
            reader.start()
            try:
                result: dict[str, Any] = self._execute_module(
                    module_name=module, module_args=dict(given), task_vars=variables
                )
            finally:
                reader.stop()
            return result

        return with_code(self, execute, {**arguments, **whose, "progress": path})


class ProvingAction(ProgressAction):
    """An action whose module proves the servers that it starts, and writes reports of a failure."""

    def follow(
        self, module: str, arguments: Mapping[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Run the module, which is told which supervisor is the newest."""
        return super().follow(module, {**arguments, "supervisor": supervisor.name()}, variables)

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the task."""
        arguments = dict(self._task.args)
        reports_dir = arguments.pop("reports_dir", None)
        self._task.args = arguments
        result = super().run(tmp, task_vars)
        # Taken out in any case, since Ansible prints all of a failed result.
        evidence = [instance.pop("evidence", None) for instance in result.get("instances", [])]
        wrong = [endpoint for endpoint in evidence if endpoint]
        if wrong and reports_dir:
            # Here, because hardly any run has something to report.
            from ansible_collections.compute_plane.vllm.plugins.plugin_utils.reports import (
                verification,
            )

            host = str((task_vars or {})["inventory_hostname"])
            verification.add_reports(result, reports_dir, host, wrong, failed=True)
        return result
