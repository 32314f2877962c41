# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The GPUs and their driver: `facts.gpu`.

Three witnesses are heard, each so that it may hang, crash or be absent: NVML (through pynvml, else
nvidia-smi), the CUDA driver (`cuInit`), and the kernel (/proc/driver/nvidia, the PCI bus, /dev).
"""

from __future__ import annotations

import functools
import re
from typing import Any, Callable

from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import (
    cuda_driver,
    nvml,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import (
    Forked,
    Host,
    Running,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.processes import Processes
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.toolchain import (
    SERVICE_PATH,
    which,
)

TOOLS = "/opt/vllm/tools"
TIMEOUT = 30.0  # seconds; without persistence mode eight GPUs take more than ten to wake up
MODULE_VERSION = "/proc/driver/nvidia/version"
PCI_DIR = "/sys/bus/pci/devices"
_NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"  # PCI base class 03: display controllers, 3D controllers among them
SOURCES = ("auto", "pynvml", "nvidia-smi")
# WSL's and container runtimes' places, beside the usual ones.
_SMI_PATH = f"{SERVICE_PATH}:/usr/lib/wsl/lib:/usr/local/nvidia/bin"
# "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.126.09  Release Build  (...)" and
# "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024".
_NVRM = re.compile(
    r"^NVRM version:.*\bKernel Module\b(?: for \S+)?\s+(\d+\.\d[\d.]*)", re.MULTILINE
)


def parse_module_version(text: str) -> tuple[str | None, bool | None]:
    """Reads /proc/driver/nvidia/version.

    Args:
        text: The file's text.

    Returns:
        The loaded kernel module's version and whether it is NVIDIA's open one; None for what the
        text does not tell.
    """
    match = _NVRM.search(text)
    if not match:
        return None, None
    return match.group(1), "Open Kernel Module" in match.group(0)


def device_files(host: Host) -> list[str]:
    """The driver's device files, in natural order."""
    names = [f"/dev/{name}" for name in host.listdir("/dev") if name.startswith("nvidia")]
    found = [path for path in names if not host.is_dir(path)]
    found += [
        f"{path}/{name}" for path in names if host.is_dir(path) for name in host.listdir(path)
    ]
    return sorted(
        found,
        key=lambda path: [
            part.zfill(9) if part.isdigit() else part for part in re.split(r"(\d+)", path)
        ],
    )


def pci_devices(host: Host) -> list[dict[str, str]]:
    """Each NVIDIA display or 3D controller as sysfs prints it: address, vendor, device, class."""
    devices = []
    for address in host.listdir(PCI_DIR):
        entry = {"address": address}
        for key in ("vendor", "device", "class"):
            entry[key] = (host.read_text(f"{PCI_DIR}/{address}/{key}") or "").strip()
            if key == "vendor" and entry[key] != _NVIDIA:
                break
        else:
            if entry["class"].startswith(_DISPLAY_CLASS):
                devices.append(entry)
    return devices


def find_nvidia_smi(host: Host) -> str | None:
    """The nvidia-smi program, on this login's PATH or in its usual places, or None."""
    return which(host, "nvidia-smi", f"{host.environ.get('PATH', '')}:{_SMI_PATH}")


class Gpus:
    """Reads GPUs and driver; the slow witnesses run while other facts are read.

    Args:
        host: The machine.
        smi: Returns the module `nvidia_smi`; called, here or in `result`, where pynvml does not
            work. A host that this collection has installed something on has one that does.
        tools: Virtual environment to find pynvml in where this Python does not have it.
        source: "pynvml", "nvidia-smi", or "auto": pynvml where it is there.
        timeout: Seconds until a witness that does not answer is given up.
    """

    def __init__(
        self,
        host: Host,
        smi: Callable[[], Any],
        tools: str = TOOLS,
        source: str = "auto",
        timeout: float = TIMEOUT,
    ) -> None:
        self._host = host
        self._source = source
        self._timeout = timeout
        self._smi_path: str | None = None
        self._reader = smi
        self._smi: Running | None = None
        self._nvml: Forked | None = None
        self._library: Forked | None = None
        site = None if source == "nvidia-smi" else nvml.find_pynvml(host, tools)
        if site is not None:
            self._nvml = host.start_isolated("NVML", functools.partial(nvml.read, site), timeout)
        else:
            self._start_without_pynvml()
        self._cuda = host.start_isolated("cuInit", cuda_driver.read, timeout)

    def _start_without_pynvml(self) -> None:
        """Asks the library for its version, and nvidia-smi for the rest where it may be."""
        if self._source != "pynvml":
            self._smi_path = find_nvidia_smi(self._host)
        if self._smi_path is not None:
            self._smi = self._reader().start(self._host, self._smi_path, self._timeout)
        self._library = self._host.start_isolated(
            "NVML version", nvml.library_version, self._timeout
        )

    def _ask(self) -> tuple[str | None, dict[str, Any]]:
        """Hears NVML: which way it was asked, and what `nvml.read` returns."""
        nothing: dict[str, Any] = {
            "library_version": None,
            "driver_version": None,
            "cuda_version": None,
            "code": None,
            "error": None,
            "gpus": [],
        }
        if self._nvml is not None:
            asked = self._nvml.result()
            if asked.error is None:
                absent = asked.value["code"] == nvml.LIBRARY_NOT_FOUND
                return None if absent else "pynvml", dict(asked.value)
            # One that hung or crashed was NVML itself; one that raised is a pynvml that is broken.
            if not asked.timed_out and asked.signal is None:
                self._start_without_pynvml()
            if self._smi is None:
                return "pynvml", dict(nothing, error=asked.error)
        library = self._library.result().value if self._library is not None else None
        if self._smi is None:
            error = nvml.NOT_INSTALLED
            if library is not None:
                error = f"{nvml.LIBRARY} is there, but neither pynvml nor nvidia-smi to ask it"
            return None, dict(nothing, library_version=library, error=error)
        done = self._smi.result()
        if done.error is not None:
            return "nvidia-smi", dict(nothing, library_version=library, error=done.error)
        answer = self._reader().parse(done.stdout, done.stderr, done.rc)
        return "nvidia-smi", dict(answer, library_version=library)

    def _add_cuda(self, gpus: list[dict[str, Any]], devices: list[dict[str, Any]]) -> None:
        """Completes GPUs with what only the CUDA driver knows, or nvidia-smi does not print."""
        by_uuid = {device["uuid"]: device for device in devices}
        for gpu in gpus:
            device = by_uuid.get(gpu["uuid"], {})
            gpu["cuda_memory_total_bytes"] = device.get("memory_total_bytes")
            gpu["compute_capability"] = gpu["compute_capability"] or device.get(
                "compute_capability"
            )
        unknown = [gpu for gpu in gpus if not gpu["compute_capability"] and not gpu["lost"]]
        if unknown and self._smi_path is not None:
            reader = self._reader()
            running = reader.start_compute_capability(self._host, self._smi_path, self._timeout)
            known = reader.parse_compute_capability(running.result().stdout)
            for gpu in unknown:
                gpu["compute_capability"] = known.get(gpu["uuid"])

    def _add_addresses(self, gpus: list[dict[str, Any]], devices: list[dict[str, str]]) -> None:
        """Says where lost GPUs are, which NVML does not: at the addresses that no other has."""
        taken = {gpu["pci_bus_id"] for gpu in gpus}
        free = [nvml.bus_id(device["address"]) for device in devices]
        free = [address for address in free if address not in taken]
        unknown = [gpu for gpu in gpus if gpu["pci_bus_id"] is None]
        if len(free) == len(unknown):
            for gpu, address in zip(unknown, free):
                gpu["pci_bus_id"] = address

    def _add_processes(self, gpus: list[dict[str, Any]]) -> None:
        """Says who the processes are; one that is gone or not visible from here stays unknown."""
        processes = Processes(self._host)
        for gpu in gpus:
            gpu["processes"] = [
                {
                    "pid": process["pid"],
                    "name": processes.command(process["pid"]) or process["name"],
                    "owner": processes.owner(process["pid"]),
                    "unit": processes.unit(process["pid"]),
                    "memory_used_bytes": process["memory_used_bytes"],
                    "type": process["type"],
                }
                for process in gpu["processes"]
            ]

    def result(self) -> dict[str, Any]:
        """Reads `facts.gpu`.

        Returns:
            driver, pci_devices, gpus, devices and source, as module `gpu_info` documents them.
        """
        host = self._host
        try:
            source, answer = self._ask()
        finally:  # nothing goes on when the module ends to ask for code
            cuda = self._cuda.result()
        told = cuda.value or {}
        module_version, open_module = parse_module_version(host.read_text(MODULE_VERSION) or "")
        if module_version is None:
            module_version = (host.read_text("/sys/module/nvidia/version") or "").strip() or None
        library_version = answer["library_version"]
        gpus = answer["gpus"]
        devices = pci_devices(host)
        self._add_addresses(gpus, devices)
        self._add_cuda(gpus, told.get("devices", []))
        self._add_processes(gpus)
        differ = None not in (module_version, library_version) and module_version != library_version
        return {
            "driver": {
                "loaded": module_version is not None or answer["driver_version"] is not None,
                "version": answer["driver_version"] or module_version,
                "cuda_version": answer["cuda_version"] or told.get("version"),
                "library_version": library_version,
                "module_version": module_version,
                "mismatch": differ or answer["code"] == nvml.VERSION_MISMATCH,
                "open_module": open_module,
                "cuinit": {
                    "ok": told.get("ok", False),
                    "code": told.get("code"),
                    "error": cuda.error or told.get("error"),
                },
                "error": answer["error"],
            },
            "pci_devices": devices,
            "gpus": gpus,
            "devices": device_files(host),
            "source": source,
        }
