# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The readers against the fake GPU's libraries: real ctypes, pynvml and nvidia-smi."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import fake_gpu
import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import gpus

MIB = 1024 * 1024
READ = """
import json, sys
from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import nvidia_smi
from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu.gpus import Gpus
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
reader = Gpus(Host(), lambda: nvidia_smi, "/none", sys.argv[1], float(sys.argv[2]))
print(json.dumps(reader.result()))
"""
HAS_PYNVML = importlib.util.find_spec("pynvml") is not None
SOURCES = [
    pytest.param(
        "pynvml",
        marks=pytest.mark.skipif(not HAS_PYNVML, reason="nvidia-ml-py is not installed"),
    ),
    "nvidia-smi",
]


@pytest.fixture(scope="session")
def substitutes(tmp_path_factory):
    directory = tmp_path_factory.mktemp("fake-gpu")
    fake_gpu.build(directory)
    return directory


@pytest.fixture
def read(substitutes, tmp_path):
    """Reads the GPUs of a machine, given as ini text, in a process that has the libraries."""

    def read(machine, source="nvidia-smi", timeout=10.0):
        ini = tmp_path / "machine.ini"
        ini.write_text(machine)
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "LD_LIBRARY_PATH": str(substitutes),
            "PATH": f"{substitutes}:{os.environ['PATH']}",
            "FAKE_GPU_CONF": str(ini),
            "CUDA_VISIBLE_DEVICES": "",
        }
        done = subprocess.run(
            [sys.executable, "-c", READ, source, str(timeout)],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return read


def machine(name):
    return (fake_gpu.MACHINES / f"{name}.ini").read_text()


@pytest.mark.parametrize("source", SOURCES)
def test_ac_3090(read, source):
    facts = read(machine("ac-3090"), source)
    assert facts["source"] == source
    driver = facts["driver"]
    assert driver["version"] == driver["library_version"] == "590.48.01"
    assert driver["cuda_version"] == "13.1"
    assert driver["cuinit"] == {"ok": True, "code": 0, "error": None}
    assert (driver["loaded"], driver["mismatch"], driver["error"]) == (True, False, None)
    [gpu] = facts["gpus"]
    assert gpu == {
        "index": 0,
        "uuid": "GPU-00000000-0000-4000-8000-000000000001",
        "name": "NVIDIA GeForce RTX 3090",
        "compute_capability": "8.6",
        "memory_total_bytes": 24576 * MIB,
        "memory_reserved_bytes": 422 * MIB,
        "memory_used_bytes": 2 * MIB,
        "memory_free_bytes": 24152 * MIB,
        "cuda_memory_total_bytes": 24154 * MIB,
        "utilization_percent": 0,
        "power_limit_watts": 350.0,
        "power_limit_default_watts": 350.0,
        "power_limit_least_watts": 100.0,
        "power_limit_most_watts": 366.0,
        "persistence_mode": True,
        "compute_mode": "default",
        "ecc": None,
        "mig_mode": None,
        "display_active": False,
        "display_attached": False,
        "pcie": {"generation": 1, "width": 16, "max_generation": 4, "max_width": 16},
        "pci_bus_id": "00000000:01:00.0",
        "peers": [],
        "lost": False,
        "error": None,
        "processes": [],
    }


@pytest.mark.parametrize("source", SOURCES)
def test_everything_a_gpu_can_have(read, source):
    facts = read(
        """
        [machine]
        driver = 580.105.08
        cuda = 13.0
        [gpu]
        name = NVIDIA H100 80GB HBM3
        capability = 9.0
        memory_mib = 81559
        reserved_mib = 599
        used_mib = 1000
        utilization = 97
        power_limit_watts = 700
        compute_mode = 3
        ecc = 1
        ecc_counts = 1 2 3 4
        mig = 1
        display_active = 1
        display_attached = 1
        link = 5x8
        max_link = 5x16
        """.replace("        ", ""),
        source,
    )
    [gpu] = facts["gpus"]
    assert gpu["ecc"] == {
        "mode": True,
        "pending": True,
        "volatile_corrected": 1,
        "volatile_uncorrected": 2,
        "aggregate_corrected": 3,
        "aggregate_uncorrected": 4,
    }
    assert (gpu["mig_mode"], gpu["compute_mode"]) == (True, "exclusive_process")
    assert (gpu["display_active"], gpu["display_attached"]) == (True, True)
    assert gpu["pcie"] == {"generation": 5, "width": 8, "max_generation": 5, "max_width": 16}
    assert (gpu["utilization_percent"], gpu["power_limit_watts"]) == (97, 700.0)
    assert gpu["memory_free_bytes"] == (81559 - 599 - 1000) * MIB


@pytest.mark.parametrize("source", SOURCES)
def test_two_gpus_in_order(read, source):
    gpus = read(machine("two-3090"), source)["gpus"]
    assert [(gpu["index"], gpu["pci_bus_id"]) for gpu in gpus] == [
        (0, "00000000:01:00.0"),
        (1, "00000000:02:00.0"),
    ]
    assert gpus[0]["uuid"] != gpus[1]["uuid"]
    peers = [[{"index": other, "path": "PHB", "p2p": False}] for other in (1, 0)]
    assert [gpu["peers"] for gpu in gpus] == (peers if source == "pynvml" else [None, None])


@pytest.mark.skipif(not HAS_PYNVML, reason="nvidia-ml-py is not installed")
def test_two_gpus_with_a_bridge(read):
    bridged = "[gpu]\nnvlinks = 4\npeer_access = 1\nancestor = 50\n"
    gpus = read(f"[machine]\n{bridged * 2}[gpu]\n", "pynvml")["gpus"]
    assert [[(one["index"], one["path"], one["p2p"]) for one in gpu["peers"]] for gpu in gpus] == [
        [(1, "NV4", True), (2, "SYS", True)],
        [(0, "NV4", True), (2, "SYS", True)],
        [(0, "PHB", False), (1, "PHB", False)],
    ]


@pytest.mark.parametrize("source", SOURCES)
def test_processes_of_this_machine_are_named(read, source):
    with subprocess.Popen(["sleep", "60"]) as holder:
        try:
            ini = machine("ac-3090") + f"process = {holder.pid} C 100 as the driver calls it\n"
            [gpu] = read(ini + "process = 4194303 G 50 Gone\n", source)["gpus"]
        finally:
            holder.kill()
    first, second = sorted(gpu["processes"], key=lambda process: process["type"])
    assert (first["pid"], first["name"], first["type"]) == (holder.pid, "sleep", "compute")
    assert first["memory_used_bytes"] == 100 * MIB
    assert first["owner"] is not None
    assert (second["name"], second["owner"], second["unit"]) == ("Gone", None, None)


@pytest.mark.parametrize("source", SOURCES)
def test_mismatch(read, source):
    driver = read(machine("mismatch"), source)["driver"]
    assert driver["mismatch"] is True
    assert driver["library_version"] == "590.48.01"
    assert driver["error"] == "Driver/library version mismatch"
    assert (driver["cuinit"]["ok"], driver["cuinit"]["code"]) == (False, 803)
    assert driver["cuinit"]["error"].startswith("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: ")


@pytest.mark.parametrize("source", SOURCES)
def test_the_driver_is_not_loaded(read, source):
    facts = read("[machine]\nnvml = 9\ncuinit = 100\n[gpu]\n", source)
    assert facts["gpus"] == []
    assert facts["driver"]["loaded"] is False
    assert facts["driver"]["error"] == "Driver Not Loaded"
    assert facts["driver"]["cuinit"]["code"] == 100


@pytest.mark.parametrize("source", SOURCES)
def test_a_lost_gpu(read, source):
    facts = read(machine("lost-gpu"), source)
    [gpu] = facts["gpus"]
    assert (gpu["lost"], gpu["error"]) == (True, "GPU is lost")
    assert facts["driver"]["cuinit"]["ok"] is False


@pytest.mark.skipif(not HAS_PYNVML, reason="nvidia-ml-py is not installed")
def test_a_lost_gpu_beside_a_working_one(read):
    gpus = read("[machine]\n[gpu]\n[gpu]\nlost = 1\n", "pynvml")["gpus"]
    assert [(gpu["lost"], gpu["compute_capability"]) for gpu in gpus] == [
        (False, "8.6"),
        (True, None),
    ]


@pytest.mark.parametrize(
    ("ini", "error"),
    [
        ("cuinit = hang", "cuInit gave no answer within 1 s"),
        ("cuinit = crash", "cuInit crashed by signal 11 (SIGSEGV)"),
        ("cuinit = 999", "CUDA_ERROR_UNKNOWN: unknown error"),
        ("cuinit = 4242", "error 4242"),
    ],
)
def test_cuda_fails_while_nvml_answers(read, ini, error):
    facts = read(f"[machine]\n{ini}\n[gpu]\n", timeout=1.0)
    assert (facts["driver"]["cuinit"]["ok"], facts["driver"]["cuinit"]["error"]) == (False, error)
    [gpu] = facts["gpus"]
    # nvidia-smi's XML does not have it, so it was asked a second time.
    assert gpu["compute_capability"] == "8.6"
    assert gpu["cuda_memory_total_bytes"] is None


@pytest.mark.parametrize("source", SOURCES)
def test_nvml_hangs(read, source):
    facts = read("[machine]\nnvml = hang\n[gpu]\n", source, timeout=1.0)
    assert "within 1 s" in facts["driver"]["error"]
    assert facts["gpus"] == []
    assert facts["driver"]["cuinit"]["ok"] is True
    assert facts["driver"]["cuda_version"] == "13.1"


@pytest.mark.skipif(not HAS_PYNVML, reason="nvidia-ml-py is not installed")
def test_nvml_crashes(read):
    facts = read("[machine]\nnvml = crash\n[gpu]\n", "pynvml")
    assert facts["driver"]["error"] == "NVML crashed by signal 11 (SIGSEGV)"


def test_pynvml_of_the_tools_is_found(substitutes, tmp_path):
    if not HAS_PYNVML:
        pytest.skip("nvidia-ml-py is not installed")
    import pynvml

    site = tmp_path / "lib" / "python3.99" / "site-packages"
    site.mkdir(parents=True)
    (site / "pynvml.py").write_bytes(Path(pynvml.__file__).read_bytes())
    code = READ.replace('"/none"', repr(str(tmp_path)))
    collections = str(Path(gpus.__file__).parents[6])
    environ = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": collections,
        "LD_LIBRARY_PATH": str(substitutes),
        "FAKE_GPU_CONF": str(fake_gpu.MACHINES / "ac-3090.ini"),
    }
    # -S: without this environment's own site-packages.
    argv = [sys.executable, "-S", "-c", code, "auto", "10"]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)
    assert facts["source"] == "pynvml"
    assert len(facts["gpus"]) == 1


def test_installing_into_a_root_and_removing_again(tmp_path):
    machine = fake_gpu.MACHINES / "two-3090.ini"
    fake_gpu.install(tmp_path, machine)
    fake_gpu.install(tmp_path, machine)  # another machine takes the place of the first
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()}
    assert {fake_gpu.PROGRAM, fake_gpu.CONFIGURATION, fake_gpu.UNIT} < files
    script = (tmp_path / fake_gpu.KERNEL_SCRIPT).read_text()
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
    assert "/proc/driver/nvidia/version" in script
    assert "/dev/nvidia1 c 195 1" in script
    fake_gpu.uninstall(tmp_path)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_a_host_whose_card_has_no_driver(tmp_path):
    fake_gpu.install(tmp_path, fake_gpu.MACHINES / "no-driver.ini")
    assert not (tmp_path / fake_gpu.PROGRAM).exists()
    script = (tmp_path / fake_gpu.KERNEL_SCRIPT).read_text()
    assert "/sys/bus/pci/devices/0000:01:00.0/vendor" in script
    assert "/dev/" not in script


def test_a_machine_that_does_not_exist(tmp_path):
    with pytest.raises(fake_gpu.FakeGpuError, match=r"no\.ini"):
        fake_gpu.install(tmp_path, tmp_path / "no.ini")
