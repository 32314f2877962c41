# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The NVIDIA driver: is it there, does it work, and does it run the release's CUDA build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import Findings
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.release import (
    ReleaseData,
    accelerator_data,
    is_wsl,
)

# How the report and the plan name the three outcomes.
NATIVE = "native"
MINOR_VERSION = "minor-version"
TOO_OLD = "too-old"


def check_driver(
    facts: Mapping[str, Any], data: ReleaseData, findings: Findings
) -> dict[str, Any] | None:
    """Check the driver and every GPU that it reports.

    One cause gives one problem: a mismatch also makes cuInit fail, and only
    the mismatch is reported.

    Returns:
        `version`, `build` (cu128), `minimum`, `native` and `compatibility`
        (`native`, `minor-version` or `too-old`), or None where the driver or
        the build is not known.
    """
    gpu = fact.mapping(facts, "gpu")
    driver = fact.mapping(gpu, "driver")
    gpus = fact.rows(gpu, "gpus")
    seen = fact.rows(gpu, "pci_devices")
    build = _cuda_build(data)
    rule = fact.mapping(data.rules, "drivers", "builds", build)
    if not gpu:
        findings.note("facts-missing", "host", "the GPUs were not looked at")
        return None
    if is_wsl(facts):
        remedy, settings = _without_gpu(data)
        findings.problem(
            "wsl2",
            "host",
            "the host is WSL2, which has its GPU from Windows at /dev/dxg and not at /dev/nvidia0, "
            "where the service opens it",
            f"start Linux on the machine itself{remedy}",
            settings,
        )
        return None
    if not seen and not gpus:
        remedy, settings = _without_gpu(data)
        findings.problem(
            "no-gpu",
            "host",
            "no NVIDIA GPU is on the PCI bus",
            f"seat the GPU or pass it through to this machine{remedy}",
            settings,
        )
        return None
    if driver.get("mismatch") is True:
        findings.problem(
            "driver-mismatch",
            "host",
            f"the NVIDIA kernel module is {driver.get('module_version') or '?'} and its library "
            f"is {driver.get('library_version') or '?'}: the driver was upgraded under a "
            "running system",
            "reboot, so that the module of the installed driver is loaded",
        )
    elif driver.get("loaded") is not True:
        detail = fact.text(driver, "error")
        findings.problem(
            "driver-not-loaded",
            "host",
            f"an NVIDIA GPU is on the PCI bus and its driver is not loaded"
            f"{f' ({detail})' if detail else ''}",
            _install_remedy(data, rule),
        )
    elif not gpus and (fact.text(driver, "error") or "").endswith("is not installed"):
        # As gpu_info says of a library that cannot be found (module_utils/gpu/nvml.py).
        module = fact.text(driver, "module_version")
        findings.problem(
            "driver-libraries-missing",
            "host",
            f"the NVIDIA driver is loaded and its libraries are missing: {driver['error']}",
            "install the driver's libraries, of the version that its kernel module has"
            f"{f' ({module})' if module else ''}; on Debian and Ubuntu they are in libnvidia-ml1 "
            "and libcuda1, or in libnvidia-compute of that branch",
        )
    elif not gpus:
        detail = fact.text(driver, "error")
        findings.problem(
            "no-gpu",
            "host",
            f"the NVIDIA driver is loaded and reports no GPU{f' ({detail})' if detail else ''}",
            "look at dmesg for NVRM and Xid lines, and reboot",
        )
    else:
        _check_gpus(driver, gpus, data, findings)
    return _compatibility(driver, build, rule, data, findings)


def _without_gpu(data: ReleaseData) -> tuple[str, dict[str, Any] | None]:
    """What a host without a GPU can do with the release, as the end of a remedy."""
    if not accelerator_data(data, "cpu"):
        return "", None
    return ", or set vllm_accelerator: cpu", {"vllm_accelerator": "cpu"}


def _check_gpus(
    driver: Mapping[str, Any],
    gpus: list[Mapping[str, Any]],
    data: ReleaseData,
    findings: Findings,
) -> None:
    lost = False
    for row in gpus:
        if row.get("lost") is True:
            lost = True
            findings.problem(
                "gpu-lost",
                "host",
                f"GPU {row.get('index')} at {row.get('pci_bus_id') or '?'} is lost: "
                f"{row.get('error') or 'it does not answer'}",
                "reboot; if it comes back lost, check its power cables, its slot and Xid 79 "
                "in dmesg",
            )
        errors = fact.integer(row, "ecc", "volatile_uncorrected")
        if errors:
            findings.note(
                "gpu-ecc",
                "host",
                f"GPU {row.get('index')} counts {errors} uncorrected memory errors since boot",
            )
    cuinit = fact.mapping(driver, "cuinit")
    if cuinit.get("ok") is not False or lost:
        return
    code = fact.integer(cuinit, "code")
    error = fact.text(cuinit, "error") or "no error text"
    known = fact.mapping(data.rules, "drivers", "cuinit", str(code))
    meaning = fact.text(known, "meaning")
    findings.problem(
        "cuinit-failed",
        "host",
        f"cuInit fails{f' with {code}' if code is not None else ''}: {error}"
        f"{f' ({meaning})' if meaning else ''}",
        fact.text(known, "remedy")
        or "install the driver's CUDA library (libcuda.so.1) of the driver's own version, "
        "and reboot",
    )


def _cuda_build(data: ReleaseData) -> str:
    """Return the release's CUDA build as PyTorch names it: `cu128` for CUDA 12.8."""
    version = fact.text(accelerator_data(data, "cuda"), "expect", "cuda") or ""
    return f"cu{version.replace('.', '')}" if version else ""


def _install_remedy(data: ReleaseData, rule: Mapping[str, Any]) -> str:
    template = fact.text(data.rules, "drivers", "install_remedy")
    native = fact.text(rule, "native")
    if template is None or native is None:
        return "install the distribution's NVIDIA driver and reboot"
    return template.replace("{native}", native)


def _compatibility(
    driver: Mapping[str, Any],
    build: str,
    rule: Mapping[str, Any],
    data: ReleaseData,
    findings: Findings,
) -> dict[str, Any] | None:
    version = fact.text(driver, "version")
    minimum, native = fact.text(rule, "minimum"), fact.text(rule, "native")
    if version is None or not fact.version_tuple(version):
        return None
    if minimum is None or native is None:
        if build:
            findings.note(
                "facts-missing", "host", f"there is no driver rule for {build}; not checked"
            )
        return None
    present = fact.version_tuple(version)
    if present < fact.version_tuple(minimum):
        compatibility = TOO_OLD
        findings.problem(
            "driver-too-old",
            "host",
            f"the NVIDIA driver is {version} and the release's {build} build needs {minimum}",
            _install_remedy(data, rule),
        )
    elif present < fact.version_tuple(native):
        compatibility = MINOR_VERSION
        findings.note(
            "driver-minor-version",
            "host",
            f"driver {version} runs {build} by CUDA's minor-version compatibility; kernels that "
            f"come only as PTX need {native} or newer",
        )
    else:
        compatibility = NATIVE
    return {
        "version": version,
        "build": build,
        "minimum": minimum,
        "native": native,
        "compatibility": compatibility,
    }
