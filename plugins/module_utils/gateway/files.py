# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a gateway: checked before they are there, taken back when it will not go on."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from typing import Callable

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import File
from ansible_collections.compute_plane.vllm.plugins.module_utils.gateway.runtime import Gateway

MAIN = "haproxy.cfg"
PENDING = ".pending"
"""Is there while the files are newer than what the running gateway has read."""
_Run = Callable[..., "tuple[int, str, str]"]


def wanted_files(folder: str, texts: Mapping[str, str], secrets: Mapping[str, str]) -> list[File]:
    """The files of a folder; each that is there and not wanted is wanted absent."""
    wanted = [File(os.path.join(folder, name), text) for name, text in texts.items()]
    wanted += [
        File(os.path.join(folder, name), text, 0o600, is_secret=True)
        for name, text in secrets.items()
    ]
    there = os.listdir(folder) if os.path.isdir(folder) else []
    names = {*texts, *secrets, PENDING}
    wanted += [File(os.path.join(folder, name), None) for name in there if name not in names]
    return sorted(wanted, key=lambda file: file.path)


def check(files: list[File], program: str, run: _Run) -> None:
    """Let HAProxy read the files in a folder of their own.

    Args:
        files: All of them.
        program: HAProxy.
        run: Runs a program; `AnsibleModule.run_command`.

    Raises:
        Failed: It does not take them.
    """
    with tempfile.TemporaryDirectory(prefix="vllm-gateway-") as staging:
        for file in files:
            if file.text is not None:
                path = os.path.join(staging, os.path.basename(file.path))
                with open(path, "w", encoding="utf-8") as stream:
                    stream.write(file.text)
        status, output, errors = run([program, "-c", "-C", staging, "-f", MAIN])
    if status != 0:
        said = errors.strip() or output.strip()
        raise Failed(f"HAProxy does not take the configuration; nothing was changed: {said}")


class Unit:
    """The gateway's systemd unit.

    Args:
        name: Of the unit.
        run: Runs a program; `AnsibleModule.run_command`.
        gateway: The running gateway.
        seconds: The longest wait for a new process to take over.
    """

    def __init__(self, name: str, run: _Run, gateway: Gateway, seconds: float = 15.0) -> None:
        self.name = name
        self._run = run
        self._gateway = gateway
        self._seconds = seconds

    def is_active(self) -> bool:
        """Whether it runs."""
        return self._run(["systemctl", "is-active", "--quiet", self.name])[0] == 0

    def go_on(self) -> None:
        """Start it, or have a new process take over with the files that are there.

        Raises:
            Failed: It does not start, or the former process goes on.
        """
        former = self._gateway.pid() if self.is_active() else ""
        verb = "reload" if former else "restart"
        status, _output, errors = self._run(["systemctl", verb, self.name])
        if status != 0:
            raise Failed(f"systemctl {verb} {self.name}: {errors.strip()}")
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            try:
                if self._gateway.pid() not in ("", former):
                    return
            except Failed:
                pass  # between two processes
            time.sleep(0.1)
        raise Failed(f"no new process of {self.name} within {self._seconds:.0f} s")


def apply(files: list[File], folder: str, unit: Unit) -> None:
    """Put files in place and have the gateway go on with them.

    Raises:
        Failed: It will not; the former files are there again.
    """
    os.makedirs(folder, mode=0o755, exist_ok=True)
    pending = os.path.join(folder, PENDING)
    File(pending, "").write()
    changed = [file for file in files if not file.is_right()]
    for file in changed:
        file.write()
    try:
        unit.go_on()
    except Failed as problem:
        for file in changed:
            File(file.path, file.before, file.mode).write()
        try:
            unit.go_on()
        except Failed:
            # What is there is not what runs: the next run begins with it.
            raise Failed(
                f"{problem}; nor with the former configuration, which is there again. See:"
                " journalctl -u vllm-gateway"
            ) from problem
        os.unlink(pending)
        raise Failed(f"{problem}. It runs with the former configuration again") from problem
    os.unlink(pending)
