# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real CUDA stack of 0.14.1, installed from its lock by the role, after a run that was killed.

Its wheels come from this machine's cache as far as they are there; else 5 GB are downloaded.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import CACHE
from .wheels import ROOT

if TYPE_CHECKING:
    from .conftest import Hosts

LOCK = ROOT / "releases" / "0.14.1" / "cuda-py311.txt"
VENV = f"/opt/vllm/releases/0.14.1-cuda-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
EXPECT = {"vllm": "0.14.1", "torch": "2.9.1+cu128", "cuda": "12.8", "triton": "3.5.1"}
ASK = (
    "import torch, vllm, importlib.metadata as m;"
    "print(torch.__version__, torch.version.cuda, m.version('triton'), m.version('vllm'))"
)
SECRET = "battery-staple"
CHECKS = """
import sys, time
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime import manifest

def seconds(full):
    began = time.monotonic()
    found = manifest.scan(sys.argv[1])
    entries = manifest.parse(open(sys.argv[1] + "/.manifest").read())
    assert not manifest.compare(sys.argv[1], entries, found, full)[0]
    return time.monotonic() - began

print(min(seconds(False) for _ in range(3)), seconds(True))
"""


@pytest.mark.timeout(1800)
def test_the_cuda_stack_of_0_14_1(hosts: Hosts, tmp_path: Path) -> None:
    (CACHE / "uv").mkdir(parents=True, exist_ok=True)
    machine = hosts.up("cuda", f"--seed={CACHE / 'uv'}=/opt/vllm/cache/uv")
    release = {
        "venv": VENV,
        "lock": LOCK.read_text(),
        "expect": EXPECT,
        "release": "0.14.1",
        "accelerator": "cuda",
    }
    after = random.SystemRandom().uniform(8, 25)
    print(f"killed after {after:.1f} s")
    machine.module(kill_after=after, **release, bundle=None)

    runtime = {
        "venv": VENV,
        "python": "/usr/bin/python3.11",
        "lock": f"0.14.1/{LOCK.name}",
        "expect": EXPECT,
        "installed_bytes": 0,
        "metadata_alias": None,
        "managed": True,
        "os_packages_missing": [],
    }
    variables = {
        "vllm_preflight_result": {
            "facts": {"deployed": {"tools": None}},
            "plan": {"release": "0.14.1", "accelerator": "cuda", "runtime": runtime},
        },
        "vllm_runtime_environment": {"UV_INDEX_MIRROR_PASSWORD": SECRET, "UV_CONCURRENT_BUILDS": 1},
    }
    inventory, extra = tmp_path / "hosts.yml", tmp_path / "variables.json"
    inventory.write_text(hosts.run("inventory", "cuda").stdout)
    extra.write_text(json.dumps(variables))
    began = time.monotonic()
    done = subprocess.run(
        [
            *(str(ROOT / ".venv/bin/ansible-playbook"), "-vvvv", "--diff", "-i", str(inventory)),
            *("-e", f"@{extra}", str(Path(__file__).with_name("install.yml"))),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"installed in {time.monotonic() - began:.1f} s")
    assert done.returncode == 0, done.stdout[-3000:]
    printed = done.stdout + done.stderr + machine("journalctl", "--no-pager", "--output=cat")
    assert SECRET not in printed

    assert machine(f"{VENV}/bin/python", "-I", "-c", ASK).split()[-4:] == [
        "2.9.1+cu128",
        "12.8",
        "3.5.1",
        "0.14.1",
    ]
    copied = machine("find", VENV, "-name", "libtorch_cuda.so", "-links", "1")
    assert copied == ""  # no second copy of the bytes
    assert machine.left_over() == []

    quick, full = map(
        float,
        machine(
            *("env", "PYTHONPATH=/src/collections", "python3.11", "-B", "-c", CHECKS, VENV)
        ).split(),
    )
    print(f"the quick check takes {quick:.2f} s, reading every file {full:.1f} s")
    assert quick * 5 < full
    began = time.monotonic()
    assert machine.succeeds(**release, bundle=None, verify="full")["changed"] is False
    print(f"a run with the full check takes {time.monotonic() - began:.1f} s")
