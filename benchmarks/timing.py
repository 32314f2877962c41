# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands in this folder share: running Ansible and timing it."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compute_plane.vllm"


@dataclass
class Run:
    """One run of a program.

    Attributes:
        seconds: Wall time.
        cpu: CPU seconds of the controller's processes, which other work on the machine changes
            less.
        tasks: For a playbook: each task's name, role and seconds, in order.
        stats: For a playbook: Ansible's counts by host.
        memory: The most bytes that the controller's processes held at a time, a page that several
            share counted once; 0 where it was not weighed.
    """

    seconds: float
    cpu: float
    tasks: list[dict[str, Any]]
    stats: dict[str, dict[str, int]]
    memory: int = 0


class Scales(threading.Thread):
    """Weighs the processes of a session every second, until they have ended.

    Args:
        session: Its leader's process ID.
    """

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.session = session
        self.most = 0

    def run(self) -> None:
        """Weigh."""
        while weight := sum(_weight(entry, self.session) for entry in os.listdir("/proc")):
            self.most = max(self.most, weight)
            time.sleep(1.0)


def _weight(entry: str, session: int) -> int:
    """The bytes of a process of a session, by its proportional set size; 0 of all others."""
    try:
        if not entry.isdigit() or os.getsid(int(entry)) != session:
            return 0
        rollup = Path(f"/proc/{entry}/smaps_rollup").read_text(encoding="ascii")
    except OSError:  # it has ended
        return 0
    found = re.search(r"(?m)^Pss: +(\d+) kB", rollup)
    return int(found.group(1)) * 1024 if found else 0


def ansible(program: str, *arguments: str, show: bool = False, weigh: bool = False) -> Run:
    """Run one of Ansible's programs from .venv and time it.

    Args:
        program: `ansible` or `ansible-playbook`.
        arguments: Its arguments.
        show: Whether its output is shown.
        weigh: Whether the memory of its processes is measured.

    Raises:
        SystemExit: It failed; its output is printed.
    """
    with tempfile.NamedTemporaryFile(suffix=".json") as record:
        environment = {
            **os.environ,
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "benchmarks" / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "task_seconds",
            "TASK_SECONDS_FILE": record.name,
        }
        began, used = time.monotonic(), _cpu()
        running = subprocess.Popen(
            [str(BIN / program), *arguments],
            cwd=ROOT,
            env=environment,
            stdout=None if show else subprocess.PIPE,
            stderr=None if show else subprocess.STDOUT,
            text=True,
            start_new_session=weigh,
        )
        scales = Scales(running.pid)
        if weigh:
            scales.start()
        output, _errors = running.communicate()
        seconds, used = time.monotonic() - began, _cpu() - used
        if running.returncode != 0:
            sys.exit(f"{program} {' '.join(arguments)} failed:\n{output or ''}")
        text = Path(record.name).read_text(encoding="utf-8")
        data = json.loads(text) if text else {"tasks": [], "stats": {}}
    return Run(seconds, used, data["tasks"], data["stats"], scales.most)


def _cpu() -> float:
    """CPU seconds of all programs that were run until now."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def testhosts(*arguments: str) -> str:
    """Call the tool of the throwaway hosts and return what it printed."""
    argv = [str(ROOT / "tests" / "hosts" / "testhosts.py"), *arguments]
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout


def machine() -> str:
    """This machine in a few words, for beside the figures."""
    cores = os.cpu_count()
    load = os.getloadavg()[0]
    return f"{cores} cores, load {load:.1f}, Python {sys.version.split()[0]}"
