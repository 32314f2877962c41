# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of an NVIDIA driver a Debian or Ubuntu host has, and what its package manager would do.

Reads only. `parse_*` are pure; what they read was printed by apt 2.6, dkms 3.0 and mokutil 0.6,
which are Debian 12's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu.gpus import (
    MODULE_VERSION,
    parse_module_version,
    pci_devices,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.packages import DPKG_STATUS
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.system import (
    parse_os_release,
)

MODULES = "/lib/modules"
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""Its fifth byte is 1 where only signed modules are loaded (UEFI 2.10, 3.3)."""

MOK = "/var/lib/dkms/mok.pub"
"""The key with which dkms signs (dkms(8), MODULE SIGNING)."""

RUN_FILES = ("/usr/bin/nvidia-uninstall", "/usr/bin/nvidia-installer")
"""What NVIDIA's `.run` installer leaves, which no package owns."""

_OURS = re.compile(r"(?:lib)?nvidia|libcuda|cuda-drivers|firmware-nvidia|dkms$|linux-headers-")
_SECONDS = 60.0


class Action(NamedTuple):
    """What apt would do to one package.

    Attributes:
        what: `Inst`, `Remv` or `Conf`.
        package: Its name.
        version: The new version; for `Remv` the present one.
    """

    what: str
    package: str
    version: str


def parse_simulation(stdout: str) -> list[Action]:
    """Reads what `apt-get --simulate` prints: `Inst name [old] (new Origin [arch])`."""
    found = []
    for line in stdout.splitlines():
        match = re.match(r"(Inst|Remv|Conf) (\S+?)(?::\S+)? (?:\[(\S+)\] ?)?(?:\((\S+) )?", line)
        if match:
            what, name, old, new = match.groups()
            found.append(Action(what, name, (old if what == "Remv" else new) or old or ""))
    return found


def parse_dkms(stdout: str) -> list[dict[str, str | None]]:
    """Reads `dkms status`: `nvidia-current/535.309.01, 6.1.0-57-amd64, x86_64: installed`."""
    found: list[dict[str, str | None]] = []
    for line in stdout.splitlines():
        match = re.match(r"([^/,\s]+)/([^,:\s]+)(?:, ([^,\s]+), \S+)?: (\w+)", line)
        if match:
            found.append(dict(zip(("module", "version", "kernel", "state"), match.groups())))
    return found


def parse_candidates(stdout: str) -> dict[str, dict[str, Any]]:
    """Reads `apt-cache policy NAME…`: of each `installed`, `candidate` and its `origins`."""
    found: dict[str, dict[str, Any]] = {}
    row: dict[str, Any] = {}
    of_candidate = False
    for line in stdout.splitlines():
        name = re.fullmatch(r"(\S+):", line)
        value = re.fullmatch(r"  (Installed|Candidate): (\S+)", line)
        version = re.fullmatch(r" (?:\*\*\*|   ) (\S+) -?\d+(?: \(phased \d+%\))?", line)
        origin = re.fullmatch(r" +-?\d+ (\S+) (\S+)(?: .*)?", line)
        if name:
            row = found.setdefault(name[1], {"installed": None, "candidate": None, "origins": []})
        elif value:
            row[value[1].lower()] = None if value[2] == "(none)" else value[2]
        elif version:
            of_candidate = version[1] == row["candidate"]
        elif origin and of_candidate and not origin[1].startswith("/var/lib/dpkg"):
            row["origins"].append(f"{origin[1]} {origin[2]}")
    return found


def installed_packages(status: str) -> dict[str, str]:
    """Versions of installed packages that belong to a driver, from dpkg's own database."""
    found = {}
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.+)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed") and _OURS.match(fields["Package"]):
            found[fields["Package"]] = fields["Version"]
    return dict(sorted(found.items()))


def kernels(host: Host) -> list[dict[str, Any]]:
    """Every installed kernel, with whether its headers are there and which nvidia module it has."""
    found = []
    for name in sorted(host.listdir(MODULES)):
        if not host.is_dir(f"{MODULES}/{name}/kernel"):
            continue
        version = host.run(
            ["/sbin/modinfo", "-k", name, "-F", "version", "nvidia"], timeout=_SECONDS
        )
        found.append(
            {
                "name": name,
                "headers": host.exists(f"{MODULES}/{name}/build/Makefile"),
                "module": version.stdout.strip() or None if version.rc == 0 else None,
            }
        )
    return found


def read(host: Host, names: Sequence[str]) -> dict[str, Any]:
    """Reads all of it.

    Args:
        host: The machine.
        names: Packages to ask apt about.

    Returns:
        As `vllm_driver_info` documents it.
    """
    release = parse_os_release(
        host.read_text("/etc/os-release") or host.read_text("/usr/lib/os-release") or ""
    )
    loaded = host.read_text("/proc/modules") or ""
    module_version = parse_module_version(host.read_text(MODULE_VERSION) or "")[0]
    boot = host.read_bytes(SECURE_BOOT)
    status = host.read_bytes(DPKG_STATUS)
    policy = host.run(["/usr/bin/apt-cache", "policy", *names], timeout=_SECONDS) if names else None
    return {
        "distribution": {
            key.lower(): release.get(key) for key in ("ID", "VERSION_ID", "VERSION_CODENAME")
        },
        "kernel": host.uname().release,
        "kernels": kernels(host),
        "cards": [card["device"] for card in pci_devices(host)],
        "loaded": module_version,
        "nouveau": bool(re.search(r"^nouveau ", loaded, re.MULTILINE)),
        "packages": None
        if status is None
        else installed_packages(status.decode("utf-8", "replace")),
        "candidates": parse_candidates(policy.stdout)
        if policy is not None and policy.rc == 0
        else {},
        "dkms": parse_dkms(host.run(["/usr/sbin/dkms", "status"], timeout=_SECONDS).stdout),
        "run_file": next((path for path in RUN_FILES if host.exists(path)), None),
        "secure_boot": None if boot is None else boot[4:5] == b"\1",
        "mok_enrolled": is_enrolled(host),
    }


def is_enrolled(host: Host) -> bool | None:
    """Whether the firmware trusts dkms's key; `None` where that cannot be told."""
    said = host.run(["/usr/bin/mokutil", "--test-key", MOK], timeout=_SECONDS)
    if said.rc is None:
        return None
    return "is already enrolled" in said.stdout


def simulate(host: Host, wanted: Sequence[str]) -> dict[str, Any]:
    """What apt would do to install packages, each `NAME` or `NAME=VERSION`.

    Returns:
        `actions`, and `error`: why it cannot be done, or `None`.
    """
    argv = ["/usr/bin/apt-get", "--simulate", "--no-install-recommends", "--allow-downgrades"]
    argv += ["--allow-change-held-packages", "--quiet", "install", "--", *wanted]
    said = host.run(argv, timeout=_SECONDS)
    error = None
    if said.rc != 0:
        lines = [*said.stdout.splitlines(), *said.stderr.splitlines()]
        told = [line.strip() for line in lines if re.match(r" \S+ : |E: ", line)]
        error = "; ".join(told) or said.error or "apt-get failed"
    return {"actions": [one._asdict() for one in parse_simulation(said.stdout)], "error": error}
