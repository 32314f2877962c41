# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import gpus as gpu
from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import nvidia_smi, nvml
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import (
    Completed,
    Isolated,
)
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.fake_host import (
    FakeHost,
    answered,
    ok,
)

OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.126.09  Release Build  "
    "(dvs-builder@U22-I3-AM02-24-3)  Wed Jan  7 22:51:36 UTC 2026\n"
    "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n"
)
PROPRIETARY = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\n"
    "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
)
NO_CUDA = {
    "ok": False,
    "code": None,
    "error": "libcuda.so.1 is not installed",
    "version": None,
    "devices": [],
}
CUDA = {"ok": True, "code": 0, "error": None, "version": "13.0", "devices": []}


def told(**more):
    """What NVML told."""
    return {
        "library_version": "580.126.09",
        "driver_version": "580.126.09",
        "cuda_version": "13.0",
        "code": None,
        "error": None,
        "gpus": [],
        **more,
    }


def card(index=0, **more):
    return {**nvml.empty_gpu(index), "uuid": f"GPU-{index}", **more}


def read(files=None, *, answer=None, cuda=CUDA, library=None, source="auto", **machine):
    isolated = {
        "cuInit": cuda if isinstance(cuda, Isolated) else answered(cuda),
        "NVML version": answered(library),
    }
    if answer is not None:
        isolated["NVML"] = answer if isinstance(answer, Isolated) else answered(answer)
        machine["modules"] = ["pynvml"]
    host = FakeHost(files, isolated=isolated, **machine)
    return gpu.Gpus(host, lambda: nvidia_smi, source=source).result()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (OPEN, ("580.126.09", True)),
        (PROPRIETARY, ("550.54.14", False)),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  590.48.01  Release Build",
            ("590.48.01", True),
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104  Wed", ("535.104", False)),
        ("", (None, None)),
        ("GCC version: gcc 12.3.0\n", (None, None)),
    ],
)
def test_module_version(text, version):
    assert gpu.parse_module_version(text) == version


def test_a_host_without_anything():
    assert read(cuda=NO_CUDA) == {
        "driver": {
            "loaded": False,
            "version": None,
            "cuda_version": None,
            "library_version": None,
            "module_version": None,
            "mismatch": False,
            "open_module": None,
            "cuinit": {"ok": False, "code": None, "error": "libcuda.so.1 is not installed"},
            "error": "libnvidia-ml.so.1 is not installed",
        },
        "pci_devices": [],
        "gpus": [],
        "devices": [],
        "source": None,
    }


def test_pynvml_without_nvidias_library_is_no_source():
    facts = read(answer=told(code=12, error=nvml.NOT_INSTALLED, library_version=None))
    assert facts["source"] is None
    assert facts["driver"]["error"] == "libnvidia-ml.so.1 is not installed"


def test_healthy():
    facts = read({gpu.MODULE_VERSION: OPEN}, answer=told(gpus=[card()]))
    assert facts["source"] == "pynvml"
    assert facts["driver"] == {
        "loaded": True,
        "version": "580.126.09",
        "cuda_version": "13.0",
        "library_version": "580.126.09",
        "module_version": "580.126.09",
        "mismatch": False,
        "open_module": True,
        "cuinit": {"ok": True, "code": 0, "error": None},
        "error": None,
    }


def test_library_and_module_differ():
    facts = read({gpu.MODULE_VERSION: PROPRIETARY}, answer=told(driver_version=None))["driver"]
    assert facts["mismatch"] is True
    assert (facts["module_version"], facts["library_version"]) == ("550.54.14", "580.126.09")
    assert facts["version"] == "550.54.14"


def test_nvml_says_mismatch_where_the_kernel_cannot_be_read():
    facts = read(answer=told(code=18, error=nvml.MISMATCH, driver_version=None))["driver"]
    assert facts["mismatch"] is True


def test_the_module_is_loaded_and_nvidias_libraries_are_not_there():
    facts = read({gpu.MODULE_VERSION: OPEN}, cuda=NO_CUDA)["driver"]
    assert facts["loaded"] is True
    assert facts["version"] == "580.126.09"
    assert facts["mismatch"] is False


def test_the_version_in_sysfs_serves_too():
    facts = read({"/sys/module/nvidia/version": "580.126.09\n"}, answer=told())["driver"]
    assert (facts["module_version"], facts["open_module"]) == ("580.126.09", None)


@pytest.mark.parametrize(
    "error", ["cuInit gave no answer within 30 s", "cuInit crashed by signal 11 (SIGSEGV)"]
)
def test_cuinit_hangs_or_crashes(error):
    facts = read(answer=told(), cuda=Isolated(None, error, None, True))["driver"]
    assert facts["cuinit"] == {"ok": False, "code": None, "error": error}
    assert facts["version"] == "580.126.09"


def test_nvml_hangs_while_cuda_works():
    asked = Isolated(None, "NVML gave no answer within 30 s", None, True)
    facts = read({gpu.MODULE_VERSION: OPEN}, answer=asked)
    assert facts["driver"]["error"] == "NVML gave no answer within 30 s"
    assert facts["driver"]["cuinit"]["ok"] is True
    assert facts["driver"]["cuda_version"] == "13.0"
    assert facts["driver"]["loaded"] is True
    assert facts["gpus"] == []


def test_nvidia_smi_hangs():
    facts = read(
        programs={"/usr/bin/nvidia-smi": Completed(None, "", "", "it did not end within 30 s")}
    )
    assert facts["source"] == "nvidia-smi"
    assert facts["driver"]["error"] == "it did not end within 30 s"


def test_only_the_library_is_there():
    facts = read(library="580.126.09")
    assert facts["driver"]["error"] == (
        "libnvidia-ml.so.1 is there, but neither pynvml nor nvidia-smi to ask it"
    )
    assert facts["driver"]["library_version"] == "580.126.09"


def test_the_source_can_be_chosen():
    smi = ok("<nvidia_smi_log><driver_version>1.2</driver_version></nvidia_smi_log>")
    programs = {"/usr/bin/nvidia-smi": smi}
    assert read(answer=told(), programs=programs)["source"] == "pynvml"
    assert read(answer=told(), programs=programs, source="nvidia-smi")["source"] == "nvidia-smi"
    assert read(programs=programs)["source"] == "nvidia-smi"
    assert read(programs=programs, source="pynvml")["source"] is None


BROKEN = Isolated(None, "NVML: ImportError: cannot import name 'x'", None, False)


def test_a_broken_pynvml_is_no_obstacle_where_nvidia_smi_is_there():
    smi = ok("<nvidia_smi_log><driver_version>1.2</driver_version></nvidia_smi_log>")
    facts = read(answer=BROKEN, programs={"/usr/bin/nvidia-smi": smi})
    assert facts["source"] == "nvidia-smi"
    assert (facts["driver"]["version"], facts["driver"]["error"]) == ("1.2", None)


@pytest.mark.parametrize("source", ["auto", "pynvml"])
def test_a_broken_pynvml_alone(source):
    facts = read(answer=BROKEN, source=source)
    assert facts["source"] == "pynvml"
    assert facts["driver"]["error"] == "NVML: ImportError: cannot import name 'x'"


def test_an_nvml_that_crashes_is_not_asked_again():
    crash = Isolated(None, "NVML crashed by signal 11 (SIGSEGV)", 11, False)
    facts = read(answer=crash, programs={"/usr/bin/nvidia-smi": ok("")})
    assert facts["source"] == "pynvml"
    assert facts["driver"]["error"] == "NVML crashed by signal 11 (SIGSEGV)"


def test_what_only_cuda_knows():
    device = {"uuid": "GPU-1", "compute_capability": "8.6", "memory_total_bytes": 7}
    facts = read(
        answer=told(gpus=[card(0, compute_capability="9.0"), card(1)]),
        cuda={**CUDA, "devices": [device]},
    )
    first, second = facts["gpus"]
    assert (first["compute_capability"], first["cuda_memory_total_bytes"]) == ("9.0", None)
    assert (second["compute_capability"], second["cuda_memory_total_bytes"]) == ("8.6", 7)


def test_nvidia_smi_is_asked_for_compute_capability_where_cuda_fails():
    def smi(argv):
        if "-x" in argv:
            return ok("<nvidia_smi_log><gpu><uuid>GPU-0</uuid></gpu></nvidia_smi_log>")
        return ok("GPU-0, 8.6\n")

    facts = read(cuda=NO_CUDA, programs={"/usr/bin/nvidia-smi": smi})
    assert facts["gpus"][0]["compute_capability"] == "8.6"


def process(pid, **more):
    return {"pid": pid, "name": None, "memory_used_bytes": 5, "type": "compute", **more}


def test_processes():
    files = {
        "/proc/7/cmdline": "VLLM::EngineCore\0",
        "/proc/7/status": "Uid:\t998\t998\t998\t998\n",
        "/proc/7/cgroup": "0::/system.slice/system-vllm.slice/vllm@chat.service\n",
    }
    processes = [process(7, name="python3"), process(8, name="/usr/bin/gone"), process(9)]
    facts = read(files, answer=told(gpus=[card(processes=processes)]), users={998: "vllm"})
    assert facts["gpus"][0]["processes"] == [
        {
            "pid": 7,
            "name": "VLLM::EngineCore",
            "owner": "vllm",
            "unit": "vllm@chat.service",
            "memory_used_bytes": 5,
            "type": "compute",
        },
        {
            "pid": 8,
            "name": "/usr/bin/gone",
            "owner": None,
            "unit": None,
            "memory_used_bytes": 5,
            "type": "compute",
        },
        {
            "pid": 9,
            "name": None,
            "owner": None,
            "unit": None,
            "memory_used_bytes": 5,
            "type": "compute",
        },
    ]


def bus(*addresses):
    files = {}
    for address in addresses:
        base = f"/sys/bus/pci/devices/{address}"
        files.update(
            {f"{base}/vendor": "0x10de", f"{base}/class": "0x030000", f"{base}/device": "0"}
        )
    return files


@pytest.mark.parametrize(
    ("addresses", "found"),
    [
        (["0000:01:00.0", "0000:02:00.0"], "00000000:02:00.0"),
        (["0000:01:00.0"], None),  # gone from the bus as well
        (["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"], None),  # which one, nobody knows
    ],
)
def test_where_a_lost_gpu_is(addresses, found):
    gpus = [
        card(0, pci_bus_id="00000000:01:00.0"),
        card(1, uuid=None, lost=True, error="GPU is lost"),
    ]
    facts = read(bus(*addresses), answer=told(gpus=gpus))
    assert facts["gpus"][1]["pci_bus_id"] == found


def test_device_files_in_natural_order():
    names = ["nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia-caps/nvidia-cap1", "null"]
    facts = read({f"/dev/{name}": "" for name in names}, answer=told())
    assert sorted(facts["devices"]) == [
        "/dev/nvidia-caps/nvidia-cap1",
        "/dev/nvidia-uvm",
        "/dev/nvidia10",
        "/dev/nvidia2",
        "/dev/nvidiactl",
    ]
    assert facts["devices"].index("/dev/nvidia2") < facts["devices"].index("/dev/nvidia10")
