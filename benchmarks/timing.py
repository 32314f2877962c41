# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands in this folder share: running Ansible and timing it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
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
    """

    seconds: float
    cpu: float
    tasks: list[dict[str, Any]]
    stats: dict[str, dict[str, int]]


def ansible(program: str, *arguments: str, show: bool = False) -> Run:
    """Run one of Ansible's programs from .venv and time it.

    Args:
        program: `ansible` or `ansible-playbook`.
        arguments: Its arguments.
        show: Whether its output is shown.

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
        done = subprocess.run(
            [str(BIN / program), *arguments],
            cwd=ROOT,
            env=environment,
            stdout=None if show else subprocess.PIPE,
            stderr=None if show else subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds, used = time.monotonic() - began, _cpu() - used
        if done.returncode != 0:
            sys.exit(f"{program} {' '.join(arguments)} failed:\n{done.stdout or ''}")
        text = Path(record.name).read_text(encoding="utf-8")
        data = json.loads(text) if text else {"tasks": [], "stats": {}}
    return Run(seconds, used, data["tasks"], data["stats"])


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
