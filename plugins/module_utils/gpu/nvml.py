# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The GPUs as NVML tells them through pynvml (package nvidia-ml-py, pure Python).

Run `read` and `library_version` in a child process: a GPU that has fallen off the bus can hang any
call. A call that a GPU, a driver or an older pynvml does not support gives None.

Function names: NVIDIA Management Library API reference,
https://docs.nvidia.com/deploy/nvml-api/index.html
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu.cuda_driver import (
    format_version,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host

LIBRARY = "libnvidia-ml.so.1"
MISMATCH = "Driver/library version mismatch"
NOT_INSTALLED = f"{LIBRARY} is not installed"
# nvmlReturn_t
LIBRARY_NOT_FOUND = 12
GPU_IS_LOST = 15
VERSION_MISMATCH = 18
UNKNOWN = 999
_COMPUTE_MODES = {0: "default", 1: "exclusive_thread", 2: "prohibited", 3: "exclusive_process"}
# nvmlGpuP2PCapsIndex_t
_P2P_READ, _P2P_NVLINK = 0, 2
_P2P_OK = 0
# nvmlGpuTopologyLevel_t, by the names that `nvidia-smi topo -m` has for them
_PATHS = {0: "PSB", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
_MOST_NVLINKS = 36  # NVML_NVLINK_MAX_LINKS
_VERSION_LENGTH = 80  # NVML_SYSTEM_NVML_VERSION_BUFFER_SIZE


def empty_gpu(index: int) -> dict[str, Any]:
    """A GPU about which nothing is known yet; every reader fills in what it learns."""
    return {
        "index": index,
        "uuid": None,
        "name": None,
        "compute_capability": None,
        "memory_total_bytes": None,
        "memory_reserved_bytes": None,
        "memory_used_bytes": None,
        "memory_free_bytes": None,
        "cuda_memory_total_bytes": None,
        "utilization_percent": None,
        "power_limit_watts": None,
        "power_limit_default_watts": None,
        "power_limit_least_watts": None,
        "power_limit_most_watts": None,
        "persistence_mode": None,
        "compute_mode": None,
        "ecc": None,
        "mig_mode": None,
        "display_active": None,
        "display_attached": None,
        "pcie": None,
        "pci_bus_id": None,
        "peers": None,
        "lost": False,
        "error": None,
        "processes": [],
    }


def bus_id(address: str) -> str:
    """A PCI address as NVML writes it: "0000:01:00.0" becomes "00000000:01:00.0"."""
    domain, rest = address.split(":", 1)
    return f"{domain.zfill(8)}:{rest}".upper()


def find_pynvml(host: Host, tools: str) -> str | None:
    """Finds pynvml.

    Args:
        host: The machine.
        tools: The tools' virtual environment, for example /opt/vllm/tools.

    Returns:
        "" when this Python has it, else the directory in `tools` to import it from, else None.
    """
    if host.has_module("pynvml"):
        return ""
    lib = f"{tools.rstrip('/')}/lib"
    for name in host.listdir(lib):
        directory = f"{lib}/{name}/site-packages"
        if name.startswith("python3") and host.is_file(f"{directory}/pynvml.py"):
            return directory
    return None


def driver_part(nvml_version: str) -> str:
    """The driver's version in NVML's: "13.590.48.01" leads with the CUDA major."""
    first, dot, rest = nvml_version.partition(".")
    return rest if dot and len(first) <= 2 and rest.count(".") >= 1 else nvml_version


def library_version() -> str | None:
    """The driver version that the installed NVML library belongs to; the driver is not asked.

    Returns:
        For example "590.48.01"; None without the library.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    buffer = ctypes.create_string_buffer(_VERSION_LENGTH)
    if library.nvmlSystemGetNVMLVersion(buffer, ctypes.c_uint(_VERSION_LENGTH)) != 0:
        return None
    return driver_part(buffer.value.decode("utf-8", "replace"))


def _text(value: Any) -> str | None:
    """Pynvml's older versions return bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is None else str(value)


def _flag(value: Any) -> bool | None:
    """NVML's nvmlEnableState_t."""
    return None if value is None else bool(value)


class _Reader:
    """Asks NVML about one GPU, remembering when it turns out to be lost.

    Args:
        nvml: The pynvml module.
        index: NVML's index of the GPU.
    """

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml = nvml
        self._gpu = empty_gpu(index)
        self._handle: Any = None

    def _ask(self, name: str, *arguments: Any) -> Any:
        """Calls one function; None when it is not supported or the GPU is lost."""
        if self._gpu["lost"]:
            return None  # every further call would run into its own time limit
        try:
            return getattr(self._nvml, name)(self._handle, *arguments)
        except self._nvml.NVMLError as error:
            if error.value == GPU_IS_LOST:
                self._gpu.update(lost=True, error=str(error))
        except (AttributeError, TypeError, ValueError):
            pass  # this pynvml does not know the function, or the driver answers oddly
        return None

    def _memory(self) -> None:
        version = getattr(self._nvml, "nvmlMemory_v2", None)
        memory = self._ask("nvmlDeviceGetMemoryInfo", version) if version is not None else None
        if memory is not None:
            self._gpu["memory_reserved_bytes"] = int(memory.reserved)
        else:
            # The first form counts what the driver reserves as used.
            memory = self._ask("nvmlDeviceGetMemoryInfo")
        if memory is not None:
            self._gpu["memory_total_bytes"] = int(memory.total)
            self._gpu["memory_used_bytes"] = int(memory.used)
            self._gpu["memory_free_bytes"] = int(memory.free)

    def _ecc(self) -> None:
        modes = self._ask("nvmlDeviceGetEccMode")
        if modes is None:
            return
        ecc: dict[str, Any] = {"mode": _flag(modes[0]), "pending": _flag(modes[1])}
        for counter, counter_name in ((0, "volatile"), (1, "aggregate")):
            for kind, kind_name in ((0, "corrected"), (1, "uncorrected")):
                key = f"{counter_name}_{kind_name}"
                ecc[key] = self._ask("nvmlDeviceGetTotalEccErrors", kind, counter)
        self._gpu["ecc"] = ecc

    def _power(self) -> None:
        default = self._ask("nvmlDeviceGetPowerManagementDefaultLimit")
        least, most = self._ask("nvmlDeviceGetPowerManagementLimitConstraints") or (None, None)
        for key, milliwatts in (
            ("power_limit_watts", self._ask("nvmlDeviceGetEnforcedPowerLimit")),
            ("power_limit_default_watts", default),
            ("power_limit_least_watts", least),
            ("power_limit_most_watts", most),
        ):
            self._gpu[key] = None if milliwatts is None else milliwatts / 1000.0

    def _pcie(self) -> None:
        pcie = {
            "generation": self._ask("nvmlDeviceGetCurrPcieLinkGeneration"),
            "width": self._ask("nvmlDeviceGetCurrPcieLinkWidth"),
            "max_generation": self._ask("nvmlDeviceGetMaxPcieLinkGeneration"),
            "max_width": self._ask("nvmlDeviceGetMaxPcieLinkWidth"),
        }
        if any(value is not None for value in pcie.values()):
            self._gpu["pcie"] = pcie

    def _process_name(self, pid: int) -> str | None:
        """NVML's name for a process; it cannot name one that it may not see."""
        try:
            return _text(self._nvml.nvmlSystemGetProcessName(pid))
        except (self._nvml.NVMLError, ValueError):
            return None

    def _processes(self) -> None:
        found: dict[int, dict[str, Any]] = {}
        for kind, name in (
            ("graphics", "Graphics"),
            ("compute", "Compute"),
            ("compute", "MPSCompute"),
        ):
            function = f"nvmlDeviceGet{name}RunningProcesses"
            listed = self._ask(function)
            if listed is None:  # drivers before 510 have the second form only
                listed = self._ask(f"{function}_v2")
            for process in listed or []:
                # One that does both is listed twice with the same memory.
                pid = int(process.pid)
                found[pid] = {
                    "pid": pid,
                    "name": self._process_name(pid),
                    "memory_used_bytes": process.usedGpuMemory,
                    "type": kind,
                }
        self._gpu["processes"] = [found[pid] for pid in sorted(found)]

    def _nvlinks(self) -> list[str | None]:
        """The PCI addresses at the other ends of its NVLinks that are up: GPUs, or switches."""
        ends = []
        for link in range(_MOST_NVLINKS):
            state = self._ask("nvmlDeviceGetNvLinkState", link)
            if state is None:  # no NVLink, or no more of them
                break
            if state:
                remote = self._ask("nvmlDeviceGetNvLinkRemotePciInfo", link)
                ends.append(None if remote is None else _text(remote.busId))
        return ends

    def add_peers(self, readers: Sequence[_Reader]) -> None:
        """Says how the GPU reaches each of the others.

        Args:
            readers: Those of all GPUs, after `read`.
        """
        if self._handle is None or len(readers) < 2:
            self._gpu["peers"] = [] if len(readers) < 2 else None
            return
        ends = self._nvlinks()
        peers = []
        for other in readers:
            if other is self or other._handle is None:
                continue
            path = _PATHS.get(self._ask("nvmlDeviceGetTopologyCommonAncestor", other._handle))
            if self._ask("nvmlDeviceGetP2PStatus", other._handle, _P2P_NVLINK) == _P2P_OK and ends:
                # Through switches every link leads to every GPU.
                path = f"NV{ends.count(other._gpu['pci_bus_id']) or len(ends)}"
            status = self._ask("nvmlDeviceGetP2PStatus", other._handle, _P2P_READ)
            peers.append(
                {
                    "index": other._gpu["index"],
                    "path": path,
                    "p2p": None if status is None else status == _P2P_OK,
                }
            )
        self._gpu["peers"] = peers

    def read(self) -> dict[str, Any]:
        """Everything NVML tells about the GPU."""
        gpu = self._gpu
        try:
            self._handle = self._nvml.nvmlDeviceGetHandleByIndex(gpu["index"])
        except self._nvml.NVMLError as error:
            # A GPU that fell off the bus shows as either, depending on the driver.
            gpu.update(lost=error.value in (GPU_IS_LOST, UNKNOWN), error=str(error))
            return gpu
        gpu["uuid"] = _text(self._ask("nvmlDeviceGetUUID"))
        gpu["name"] = _text(self._ask("nvmlDeviceGetName"))
        pci = self._ask("nvmlDeviceGetPciInfo")
        gpu["pci_bus_id"] = None if pci is None else _text(pci.busId)
        capability = self._ask("nvmlDeviceGetCudaComputeCapability")
        gpu["compute_capability"] = (
            None if capability is None else f"{capability[0]}.{capability[1]}"
        )
        self._memory()
        utilization = self._ask("nvmlDeviceGetUtilizationRates")
        gpu["utilization_percent"] = None if utilization is None else int(utilization.gpu)
        self._power()
        gpu["persistence_mode"] = _flag(self._ask("nvmlDeviceGetPersistenceMode"))
        gpu["compute_mode"] = _COMPUTE_MODES.get(self._ask("nvmlDeviceGetComputeMode"))
        self._ecc()
        modes = self._ask("nvmlDeviceGetMigMode")
        gpu["mig_mode"] = None if modes is None else _flag(modes[0])
        gpu["display_active"] = _flag(self._ask("nvmlDeviceGetDisplayActive"))
        gpu["display_attached"] = _flag(self._ask("nvmlDeviceGetDisplayMode"))
        self._pcie()
        self._processes()
        return gpu


def read(site: str) -> dict[str, Any]:
    """Asks NVML about driver and GPUs.

    Args:
        site: Directory to import pynvml from; "" for this Python's own.

    Returns:
        library_version, driver_version, cuda_version, gpus, and code and error of nvmlInit (None
        when it worked).
    """
    if site:
        sys.path.insert(0, site)
    sys.dont_write_bytecode = True  # reading a host leaves nothing behind on it
    nvml: Any = importlib.import_module("pynvml")
    answer: dict[str, Any] = {
        "library_version": library_version(),
        "driver_version": None,
        "cuda_version": None,
        "code": None,
        "error": None,
        "gpus": [],
    }
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        answer["code"] = error.value
        known = {LIBRARY_NOT_FOUND: NOT_INSTALLED, VERSION_MISMATCH: MISMATCH}
        answer["error"] = known.get(error.value, str(error))
        return answer
    try:
        answer["driver_version"] = _text(nvml.nvmlSystemGetDriverVersion())
        answer["cuda_version"] = format_version(nvml.nvmlSystemGetCudaDriverVersion())
        count = nvml.nvmlDeviceGetCount()
        readers = [_Reader(nvml, index) for index in range(count)]
        answer["gpus"] = [reader.read() for reader in readers]
        for reader in readers:
            reader.add_peers(readers)
    except nvml.NVMLError as error:
        answer["code"], answer["error"] = error.value, str(error)
    finally:
        nvml.nvmlShutdown()
    return answer
