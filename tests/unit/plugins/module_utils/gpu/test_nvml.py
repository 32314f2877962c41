# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import nvml
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.fake_host import (
    FakeHost,
)


class NVMLError(Exception):
    def __init__(self, value):
        super().__init__({3: "Not Supported", 15: "GPU is lost", 999: "Unknown Error"}.get(value))
        self.value = value


class Pynvml(ModuleType):
    """A pynvml that answers what it is given; everything else is not supported.

    It stands for old drivers, old pynvml's and failures that the fake GPU's library cannot show.
    """

    NVMLError = NVMLError

    def __init__(self, **answers):
        super().__init__("pynvml")
        self.asked = []
        self.answers = {
            "nvmlInit": None,
            "nvmlShutdown": None,
            "nvmlSystemGetDriverVersion": "590.48.01",
            "nvmlSystemGetCudaDriverVersion": 13010,
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetHandleByIndex": "handle",
            **answers,
        }

    def __getattr__(self, name):
        if not name.startswith("nvml") or name == "nvmlMemory_v2":
            raise AttributeError(name)

        def function(*arguments):
            self.asked.append(name)
            answer = self.answers.get(name, NVMLError(3))
            if callable(answer):
                return answer(*arguments)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return function


@pytest.fixture
def read(monkeypatch):
    def read(**answers):
        module = Pynvml(**answers)
        monkeypatch.setitem(sys.modules, "pynvml", module)
        monkeypatch.setattr(nvml, "library_version", lambda: "590.48.01")
        return nvml.read(""), module

    return read


def test_a_gpu_that_supports_nothing(read):
    answer, _ = read()
    assert answer["gpus"] == [{**nvml.empty_gpu(0), "peers": []}]
    assert answer["driver_version"] == "590.48.01"
    assert answer["cuda_version"] == "13.1"


def two(links, p2p, ancestor=50, remote=None, **more):
    """Answers of two GPUs; `links` of their NVLinks are up, `p2p` by capability."""

    def status(_handle, _other, capability):
        answer = p2p[capability]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def state(_handle, link):
        if link < links:
            return 1
        raise NVMLError(2)  # invalid argument: there is no such link

    return {
        "nvmlDeviceGetCount": 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetPciInfo": lambda handle: SimpleNamespace(
            busId=f"00000000:0{handle + 1}:00.0"
        ),
        "nvmlDeviceGetTopologyCommonAncestor": lambda *_handles: ancestor,
        "nvmlDeviceGetP2PStatus": status,
        "nvmlDeviceGetNvLinkState": state,
        "nvmlDeviceGetNvLinkRemotePciInfo": lambda handle, _link: SimpleNamespace(
            busId=remote or f"00000000:0{2 - handle}:00.0"
        ),
        **more,
    }


@pytest.mark.parametrize(
    ("answers", "path", "p2p"),
    [
        pytest.param(two(4, {0: 0, 2: 0}), "NV4", True, id="a bridge"),
        pytest.param(
            two(18, {0: 0, 2: 0}, remote="00000000:C0:00.0"), "NV18", True, id="through switches"
        ),
        pytest.param(two(0, {0: 5, 2: 5}, 30), "PHB", False, id="no peer access, as on GeForce"),
        pytest.param(two(0, {0: 0, 2: 5}, 10), "PIX", True, id="peers over PCIe"),
        pytest.param(two(4, {0: 0, 2: 5}, 50), "SYS", True, id="links to others"),
        pytest.param(
            two(0, {0: NVMLError(3), 2: NVMLError(3)}, NVMLError(3)), None, None, id="not told"
        ),
        pytest.param(two(0, {0: 0, 2: 5}, 77), None, True, id="a level without a name"),
    ],
)
def test_how_gpus_reach_each_other(read, answers, path, p2p):
    if isinstance(answers["nvmlDeviceGetTopologyCommonAncestor"](0, 1), Exception):
        answers["nvmlDeviceGetTopologyCommonAncestor"] = NVMLError(3)
    answer, _ = read(**answers)
    first, second = (gpu["peers"] for gpu in answer["gpus"])
    assert first == [{"index": 1, "path": path, "p2p": p2p}]
    assert second == [{"index": 0, "path": path, "p2p": p2p}]


def test_a_single_gpu_is_not_asked_for_links(read):
    answer, module = read()
    assert answer["gpus"][0]["peers"] == []
    assert "nvmlDeviceGetNvLinkState" not in module.asked


def test_one_of_two_is_lost(read):
    def handle(index):
        if index:
            raise NVMLError(15)
        return index

    answer, _ = read(**two(0, {0: 0, 2: 5}, nvmlDeviceGetHandleByIndex=handle))
    assert [gpu["peers"] for gpu in answer["gpus"]] == [[], None]


def test_an_old_pynvml_returns_bytes(read):
    answer, _ = read(
        nvmlSystemGetDriverVersion=b"470.256.02",
        nvmlDeviceGetName=b"Tesla T4",
        nvmlDeviceGetUUID=b"GPU-1",
        nvmlDeviceGetPciInfo=SimpleNamespace(busId=b"00000000:00:1E.0"),
    )
    [gpu] = answer["gpus"]
    assert answer["driver_version"] == "470.256.02"
    assert (gpu["name"], gpu["uuid"]) == ("Tesla T4", "GPU-1")
    assert gpu["pci_bus_id"] == "00000000:00:1E.0"


def test_an_old_driver_tells_memory_without_what_it_reserves(read):
    memory = SimpleNamespace(total=1000, used=300, free=700)
    answer, _ = read(nvmlDeviceGetMemoryInfo=lambda handle, version=None: memory)
    [gpu] = answer["gpus"]
    assert gpu["memory_reserved_bytes"] is None
    assert (gpu["memory_total_bytes"], gpu["memory_used_bytes"]) == (1000, 300)


def test_an_old_driver_lists_processes_in_the_second_form(read):
    process = SimpleNamespace(pid=7, usedGpuMemory=None)
    answer, _ = read(
        nvmlDeviceGetComputeRunningProcesses=NVMLError(13),
        nvmlDeviceGetComputeRunningProcesses_v2=[process],
    )
    [gpu] = answer["gpus"]
    assert gpu["processes"] == [
        {"pid": 7, "name": None, "memory_used_bytes": None, "type": "compute"}
    ]


def test_a_process_that_computes_and_draws_is_one(read):
    process = SimpleNamespace(pid=7, usedGpuMemory=5)
    answer, _ = read(
        nvmlDeviceGetGraphicsRunningProcesses=[process, SimpleNamespace(pid=3, usedGpuMemory=1)],
        nvmlDeviceGetComputeRunningProcesses=[process],
        nvmlSystemGetProcessName="/usr/bin/blender",
    )
    [gpu] = answer["gpus"]
    assert [(entry["pid"], entry["type"]) for entry in gpu["processes"]] == [
        (3, "graphics"),
        (7, "compute"),
    ]
    assert gpu["processes"][1]["name"] == "/usr/bin/blender"


def test_a_gpu_that_is_lost_while_it_is_read_is_not_asked_further(read):
    answer, module = read(
        nvmlDeviceGetName="NVIDIA GeForce RTX 3090", nvmlDeviceGetUtilizationRates=NVMLError(15)
    )
    [gpu] = answer["gpus"]
    assert (gpu["lost"], gpu["error"]) == (True, "GPU is lost")
    assert gpu["name"] == "NVIDIA GeForce RTX 3090"
    assert module.asked[-2:] == ["nvmlDeviceGetUtilizationRates", "nvmlShutdown"]


@pytest.mark.parametrize(("code", "lost"), [(15, True), (999, True), (4, False)])
def test_a_gpu_without_a_handle(read, code, lost):
    answer, _ = read(
        nvmlDeviceGetCount=2,
        nvmlDeviceGetHandleByIndex=lambda index: index or raise_(NVMLError(code)),
        nvmlDeviceGetName="the other one",
    )
    first, second = answer["gpus"]
    assert first["lost"] is lost
    assert first["error"]
    assert (second["index"], second["name"], second["lost"]) == (1, "the other one", False)


def raise_(error):
    raise error


@pytest.mark.parametrize(
    ("code", "error"),
    [(12, nvml.NOT_INSTALLED), (18, nvml.MISMATCH), (999, "Unknown Error")],
)
def test_nvml_does_not_start(read, code, error):
    answer, module = read(nvmlInit=NVMLError(code))
    assert (answer["code"], answer["error"], answer["gpus"]) == (code, error, [])
    assert module.asked == ["nvmlInit"]


def test_nvml_fails_after_its_start(read):
    answer, module = read(nvmlDeviceGetCount=NVMLError(999))
    assert (answer["code"], answer["error"]) == (999, "Unknown Error")
    assert module.asked[-1] == "nvmlShutdown"


def test_ecc_that_is_off_has_no_counters(read):
    answer, _ = read(nvmlDeviceGetEccMode=[0, 1])
    assert answer["gpus"][0]["ecc"] == {
        "mode": False,
        "pending": True,
        "volatile_corrected": None,
        "volatile_uncorrected": None,
        "aggregate_corrected": None,
        "aggregate_uncorrected": None,
    }


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("13.590.48.01", "590.48.01"),
        ("12.535.274.02", "535.274.02"),
        ("12.580.105", "580.105"),
        ("590.48.01", "590.48.01"),
        ("", ""),
    ],
)
def test_driver_part(text, version):
    assert nvml.driver_part(text) == version


@pytest.mark.parametrize(
    ("address", "bus"),
    [
        ("0000:01:00.0", "00000000:01:00.0"),
        ("0000:af:00.0", "00000000:AF:00.0"),
        ("00000000:01:00.0", "00000000:01:00.0"),
        ("10000:01:00.0", "00010000:01:00.0"),
    ],
)
def test_bus_id(address, bus):
    assert nvml.bus_id(address) == bus


def test_where_pynvml_is():
    site = "/opt/vllm/tools/lib/python3.12/site-packages"
    host = FakeHost(
        {f"{site}/pynvml.py": "", "/opt/vllm/tools/lib/other/site-packages/pynvml.py": ""}
    )
    assert nvml.find_pynvml(host, "/opt/vllm/tools") == site
    assert nvml.find_pynvml(FakeHost(host.files, modules=["pynvml"]), "/opt/vllm/tools") == ""
    assert nvml.find_pynvml(FakeHost(), "/opt/vllm/tools") is None
