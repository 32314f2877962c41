# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole of facts: on this machine, and as the fixtures keep it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils import probe
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.fake_host import (
    FakeHost,
    answered,
)

ROOT = Path(__file__).resolve().parents[4]
FACTS = ROOT / "tests" / "fixtures" / "facts"
PARTS = ["host", "mounts", "ports", "packages", "models", "pythons", "nvcc", "deployed", "gpu"]
DRIVER = {"loaded", "version", "cuda_version", "library_version", "module_version", "mismatch"}
DRIVER |= {"open_module", "cuinit", "error"}
GPU = {"index", "uuid", "name", "compute_capability", "memory_total_bytes", "memory_used_bytes"}
GPU |= {"memory_free_bytes", "utilization_percent", "power_limit_watts", "persistence_mode", "ecc"}
GPU |= {"mig_mode", "display_active", "pcie", "pci_bus_id", "lost", "error", "processes"}
GPU |= {"memory_reserved_bytes", "cuda_memory_total_bytes", "compute_mode", "display_attached"}
GPU |= {"peers"}
GPU |= {f"power_limit_{one}_watts" for one in ("default", "least", "most")}
SHAPES = {
    "host": {"hostname", "distribution", "distribution_version", "distribution_like", "os_family"}
    | {"architecture", "kernel", "glibc", "effective_uid", "systemd_version", "systemd_running"}
    | {"cgroup", "cpu_count", "cpu_flags", "memory_total_bytes", "memory_available_bytes"}
    | {"addresses"},
    "nvcc": {"found", "path", "version", "candidates", "c_compiler", "cxx_compiler"}
    | {"service_path", "on_service_path", "libc_headers"},
    "deployed": {"tools", "releases", "instances", "measured", "power_unit", "recovery_unit"},
    "gpu": {"driver", "pci_devices", "gpus", "devices", "source"},
}
ABSENT = {"ok": False, "code": None, "error": "none", "version": None, "devices": []}


def test_an_empty_machine_has_every_part():
    host = FakeHost(isolated={"cuInit": answered(ABSENT), "NVML version": answered(None)})
    facts = probe.collect(host, probe.Questions(paths=["/opt"], packages=["gcc"], models=["/m"]))
    assert list(facts) == PARTS
    assert host.started == []
    assert facts["packages"] == {"gcc": None}
    assert facts["models"]["/m"]["exists"] is False


def test_the_tools_of_another_directory_are_used():
    site = "/srv/vllm/tools/lib/python3.12/site-packages/pynvml.py"
    told = {"library_version": None, "driver_version": "1", "cuda_version": None, "code": None}
    isolated = {"cuInit": answered(ABSENT), "NVML": answered({**told, "error": None, "gpus": []})}
    host = FakeHost({site: ""}, isolated=isolated)
    assert probe.collect(host, probe.Questions(opt_dir="/srv/vllm/"))["gpu"]["source"] == "pynvml"


def test_this_machine():
    questions = probe.Questions(paths=["/opt/vllm"], packages=["bash"], models=[str(ROOT)])
    facts = probe.collect(Host(), questions)
    assert list(facts) == PARTS
    for part, keys in SHAPES.items():
        assert set(facts[part]) == keys
    json.dumps(facts, allow_nan=False)
    assert facts["mounts"]["/opt/vllm"]["total_bytes"] > 0
    assert facts["models"][str(ROOT)]["is_directory"] is True


def test_the_readers_need_no_ansible():
    module = probe.__name__
    code = f"import sys, {module}; print([m for m in sys.modules if m.split('.')[0] == 'ansible'])"
    collections = str(Path(probe.__file__).parents[5])
    argv = [sys.executable, "-S", "-c", code]
    environ = {"PYTHONPATH": collections}
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("path", sorted(FACTS.glob("*.json")), ids=lambda path: path.stem)
def test_fixtures_have_the_shape_of_facts(path):
    facts = json.loads(path.read_text())
    assert facts["_about"]
    assert [part for part in facts if not part.startswith("_")] == PARTS
    for part, keys in SHAPES.items():
        assert set(facts[part]) == keys
    assert set(facts["gpu"]["driver"]) == DRIVER
    for gpu in facts["gpu"]["gpus"]:
        assert set(gpu) == GPU


def test_fixtures_are_what_the_readers_return():
    argv = [sys.executable, str(ROOT / "tests" / "fixtures" / "make_facts.py"), "--check"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
