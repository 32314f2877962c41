# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import processes


@pytest.mark.parametrize(
    ("stat", "parsed"),
    [
        ("12 (python) S 7 12 12 0", (7, "S", "python")),
        ("12 (a) b) (c) T 7 12", (7, "T", "a) b) (c")),
    ],
)
def test_a_process_is_read(stat: str, parsed: tuple[int, str, str]) -> None:
    assert processes.parent_and_name(stat) == parsed


# A supervisor in small, and its child with a child of its own that is stopped.
PARENT = """
import os, signal, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from supervisor import processes
processes.adopt_orphans()
child = subprocess.Popen([sys.executable, "-c", sys.argv[2]])
time.sleep(1)
os.kill(child.pid, signal.SIGKILL)
child.wait()
time.sleep(0.3)
print(len(processes.descendants(os.getpid())))
print(len(processes.kill_descendants(os.getpid())))
print(len(processes.descendants(os.getpid())))
"""
CHILD = """
import os, signal, time
if os.fork() == 0:
    os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(60)
"""


def test_an_orphan_is_adopted_and_killed_also_when_it_is_stopped() -> None:
    folder = os.path.dirname(os.path.dirname(processes.__file__))
    done = subprocess.run(
        [sys.executable, "-c", PARENT, folder, CHILD],
        stdout=subprocess.PIPE,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.split() == ["1", "1", "0"]


def test_others_are_left_alone() -> None:
    with subprocess.Popen(["sleep", "30"]) as other:
        assert processes.kill_descendants(other.pid, within=0.2) == {}
        time.sleep(0.1)
        assert other.poll() is None
        os.kill(other.pid, signal.SIGKILL)
