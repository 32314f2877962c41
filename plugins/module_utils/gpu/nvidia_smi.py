# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The GPUs as `nvidia-smi` tells them: for a host that does not have pynvml yet.

The XML's elements as drivers from 418 to 580 print them; a value that a GPU or a driver does not
have ("N/A" and the like) gives None.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import nvml
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host, Running

_MIB = 1024 * 1024
_COMPUTE_MODES = {
    "Default": "default",
    "Exclusive_Thread": "exclusive_thread",
    "Prohibited": "prohibited",
    "Exclusive_Process": "exclusive_process",
}
# "Unable to determine the device handle for GPU 0000:02:00.0: GPU is lost. ..."; newer drivers
# write "GPU0: 0000:02:00.0" or "GPU0000:02:00.0".
_NO_HANDLE = re.compile(
    r"Unable to determine the device handle for GPU\s?(?:\d{1,2}: )?"
    r"([0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.\d): (.+)"
)


def start(host: Host, path: str, timeout: float) -> Running:
    """Starts the query whose output `parse` reads."""
    return host.start([path, "-q", "-x"], timeout=timeout)


def start_compute_capability(host: Host, path: str, timeout: float) -> Running:
    """Starts the query whose output `parse_compute_capability` reads; the XML does not have it."""
    argv = [path, "--query-gpu=uuid,compute_cap", "--format=csv,noheader"]
    return host.start(argv, timeout=timeout)


def parse_compute_capability(stdout: str) -> dict[str, str]:
    """Compute capability by UUID; {} from a driver that does not know the query (before 510)."""
    found = {}
    for line in stdout.splitlines():
        uuid, comma, capability = line.partition(",")
        if comma and re.match(r"^\d+\.\d+$", capability.strip()):
            found[uuid.strip()] = capability.strip()
    return found


def _value(element: ElementTree.Element, *paths: str) -> str | None:
    """Text at the first path that has a value."""
    for path in paths:
        text = (element.findtext(path) or "").strip().strip("[]")
        if (
            text
            and text not in ("N/A", "Not Supported", "Unknown Error", "ERR!", "None")
            and ("deprecated" not in text and "lost" not in text)
        ):
            return text
    return None


def _number(element: ElementTree.Element, *paths: str) -> float | None:
    """The number that starts the text: "24576 MiB", "350.00 W", "16x"."""
    match = re.match(r"-?\d+(?:\.\d+)?", _value(element, *paths) or "")
    return float(match.group(0)) if match else None


def _integer(element: ElementTree.Element, *paths: str) -> int | None:
    number = _number(element, *paths)
    return None if number is None else int(number)


def _bytes(element: ElementTree.Element, *paths: str) -> int | None:
    number = _integer(element, *paths)
    return None if number is None else number * _MIB


def _flag(element: ElementTree.Element, *paths: str) -> bool | None:
    text = _value(element, *paths)
    return {"Enabled": True, "Yes": True, "Disabled": False, "No": False}.get(text or "")


def _total(element: ElementTree.Element | None, names: tuple[str, ...]) -> int | None:
    """Sum of the counters that are there."""
    if element is None:
        return None
    counts = [_integer(element, name) for name in names]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _ecc(gpu: ElementTree.Element) -> dict[str, Any] | None:
    mode = _flag(gpu, "ecc_mode/current_ecc")
    if mode is None:
        return None
    ecc: dict[str, Any] = {"mode": mode, "pending": _flag(gpu, "ecc_mode/pending_ecc")}
    for scope in ("volatile", "aggregate"):
        errors = gpu.find(f"ecc_errors/{scope}")
        # First what Turing and older print, then Ampere and newer.
        ecc[f"{scope}_corrected"] = _total(
            errors, ("single_bit/total", "sram_correctable", "dram_correctable")
        )
        ecc[f"{scope}_uncorrected"] = _total(
            errors,
            (
                "double_bit/total",
                "sram_uncorrectable",
                "sram_uncorrectable_parity",
                "sram_uncorrectable_secded",
                "dram_uncorrectable",
            ),
        )
    return ecc


def _processes(gpu: ElementTree.Element) -> list[dict[str, Any]]:
    found = {}
    for process in gpu.findall("processes/process_info"):
        pid = _integer(process, "pid")
        if pid is None:
            continue
        found[pid] = {
            "pid": pid,
            "name": _value(process, "process_name"),
            "memory_used_bytes": _bytes(process, "used_memory"),
            "type": "compute" if "C" in (_value(process, "type") or "") else "graphics",
        }
    return [found[pid] for pid in sorted(found)]


def _gpu(element: ElementTree.Element, index: int) -> dict[str, Any]:
    """One <gpu> in the shape of `nvml.empty_gpu`."""
    gpu = nvml.empty_gpu(index)
    link = "pci/pci_gpu_link_info"
    pcie = {
        "generation": _integer(element, f"{link}/pcie_gen/current_link_gen"),
        "width": _integer(element, f"{link}/link_widths/current_link_width"),
        "max_generation": _integer(element, f"{link}/pcie_gen/max_link_gen"),
        "max_width": _integer(element, f"{link}/link_widths/max_link_width"),
    }
    gpu.update(
        uuid=_value(element, "uuid"),
        name=_value(element, "product_name"),
        pci_bus_id=_value(element, "pci/pci_bus_id") or element.get("id"),
        memory_total_bytes=_bytes(element, "fb_memory_usage/total"),
        memory_reserved_bytes=_bytes(element, "fb_memory_usage/reserved"),
        memory_used_bytes=_bytes(element, "fb_memory_usage/used"),
        memory_free_bytes=_bytes(element, "fb_memory_usage/free"),
        utilization_percent=_integer(element, "utilization/gpu_util"),
        # Drivers before 530 call the group power_readings and the limit enforced.
        power_limit_watts=_number(
            element,
            "gpu_power_readings/current_power_limit",
            "gpu_power_readings/enforced_power_limit",
            "power_readings/enforced_power_limit",
            "power_readings/power_limit",
        ),
        **{
            f"power_limit_{key}_watts": _number(
                element, f"gpu_power_readings/{name}", f"power_readings/{name}"
            )
            for key, name in (
                ("default", "default_power_limit"),
                ("least", "min_power_limit"),
                ("most", "max_power_limit"),
            )
        },
        persistence_mode=_flag(element, "persistence_mode"),
        compute_mode=_COMPUTE_MODES.get(_value(element, "compute_mode") or ""),
        ecc=_ecc(element),
        mig_mode=_flag(element, "mig_mode/current_mig"),
        display_active=_flag(element, "display_active"),
        display_attached=_flag(element, "display_attached", "display_mode"),
        pcie=pcie if any(value is not None for value in pcie.values()) else None,
        processes=_processes(element),
    )
    if "is lost" in " ".join(element.itertext()):
        gpu.update(lost=True, error="GPU is lost")
    return gpu


def parse(stdout: str, stderr: str, rc: int | None) -> dict[str, Any]:
    """Reads `nvidia-smi -q -x`.

    Args:
        stdout: What it printed; the XML, or a sentence when it failed.
        stderr: The same for standard error.
        rc: Its exit status, which is NVML's error code when NVML failed.

    Returns:
        driver_version, cuda_version, gpus, code and error: as `nvml.read`.
    """
    answer: dict[str, Any] = {
        "driver_version": None,
        "cuda_version": None,
        "code": None,
        "error": None,
        "gpus": [],
    }
    start_, end = stdout.find("<nvidia_smi_log"), stdout.find("</nvidia_smi_log>")
    root = None
    if 0 <= start_ < end:
        try:
            # The driver's own program wrote this, not a stranger.
            xml = stdout[start_ : end + len("</nvidia_smi_log>")]
            root = ElementTree.fromstring(xml)  # noqa: S314
        except ElementTree.ParseError as error:
            answer["error"] = f"nvidia-smi printed XML that cannot be read: {error}"
    if root is not None:
        answer["driver_version"] = _value(root, "driver_version")
        answer["cuda_version"] = _value(root, "cuda_version")
        answer["gpus"] = [_gpu(gpu, index) for index, gpu in enumerate(root.findall("gpu"))]
    said = "\n".join([stdout[: start_ if start_ >= 0 else None], stderr])
    for address, reason in _NO_HANDLE.findall(said):
        gpu = nvml.empty_gpu(len(answer["gpus"]))
        lost = "lost" in reason or "Unknown Error" in reason
        gpu.update(pci_bus_id=nvml.bus_id(address), lost=lost, error=reason.split(".")[0].strip())
        answer["gpus"].append(gpu)
    if len(answer["gpus"]) == 1:
        answer["gpus"][0]["peers"] = []  # of several the XML does not tell it
    if rc != 0 and not answer["gpus"] and answer["error"] is None:
        answer["code"] = rc
        first = next((line.strip() for line in said.splitlines() if line.strip()), "")
        first = first.replace("Failed to initialize NVML: ", "")
        answer["error"] = first or f"nvidia-smi ended with exit status {rc}"
    return answer
