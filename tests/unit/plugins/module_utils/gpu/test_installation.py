# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A driver's facts, from what Debian 12's own programs print."""

from __future__ import annotations

from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import installation
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Completed
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.fake_host import (
    FakeHost,
)

POLICY = """\
nvidia-kernel-dkms:
  Installed: 535.261.03-1
  Candidate: 535.309.01-0+deb12u1
  Version table:
     535.309.01-0+deb12u1 500
        500 http://deb.debian.org/debian-security bookworm-security/non-free amd64 Packages
 *** 535.261.03-1 500
        500 http://deb.debian.org/debian bookworm/non-free amd64 Packages
        100 /var/lib/dpkg/status
nvidia-driver-cuda:
  Installed: (none)
  Candidate: (none)
  Version table:
"""
SIMULATION = """\
Reading package lists...
Remv nvidia-open-kernel-dkms [535.261.03-1]
Inst dkms (3.0.10-8+deb12u1 Debian:12.15/oldstable [all])
Inst libcuda1 [535.261.03-1] (535.309.01-0+deb12u1 Debian-Security:12/oldstable-security [amd64])
Inst libc6:i386 (2.36-9 Debian:12.15/oldstable [i386]) []
Conf dkms (3.0.10-8+deb12u1 Debian:12.15/oldstable [all])
"""
CONFLICT = """\
The following packages have unmet dependencies:
 nvidia-open-kernel-dkms : Depends: firmware-nvidia-gsp (= 535.261.03) or
                           Depends: nvidia-open-kernel-support--v1
"""
DKMS = """\
nvidia-current/535.309.01, 6.1.0-57-amd64, x86_64: installed
nvidia-current/535.261.03, 6.1.0-40-amd64, x86_64: built
zfs/2.1.11: added
"""
STATUS = """\
Package: libcuda1
Status: install ok installed
Architecture: amd64
Version: 535.309.01-0+deb12u1

Package: nvidia-smi
Status: deinstall ok config-files
Version: 535.261.03-1

Package: bash
Status: install ok installed
Version: 5.2
"""


def test_what_apt_would_do() -> None:
    assert installation.parse_simulation(SIMULATION) == [
        ("Remv", "nvidia-open-kernel-dkms", "535.261.03-1"),
        ("Inst", "dkms", "3.0.10-8+deb12u1"),
        ("Inst", "libcuda1", "535.309.01-0+deb12u1"),
        ("Inst", "libc6", "2.36-9"),
        ("Conf", "dkms", "3.0.10-8+deb12u1"),
    ]


def test_candidates_and_where_they_are_from() -> None:
    assert installation.parse_candidates(POLICY) == {
        "nvidia-kernel-dkms": {
            "installed": "535.261.03-1",
            "candidate": "535.309.01-0+deb12u1",
            "origins": [
                "http://deb.debian.org/debian-security bookworm-security/non-free",
            ],
        },
        "nvidia-driver-cuda": {"installed": None, "candidate": None, "origins": []},
    }


def test_dkms() -> None:
    rows = installation.parse_dkms(DKMS)
    assert [(row["version"], row["kernel"], row["state"]) for row in rows] == [
        ("535.309.01", "6.1.0-57-amd64", "installed"),
        ("535.261.03", "6.1.0-40-amd64", "built"),
        ("2.1.11", None, "added"),
    ]


def test_only_what_is_installed_of_a_driver() -> None:
    assert installation.installed_packages(STATUS) == {"libcuda1": "535.309.01-0+deb12u1"}


def host(**files: str | bytes) -> FakeHost:
    """A Debian with two kernels and a 3090; one kernel has the module."""

    def modinfo(argv: list[str]) -> Completed:
        built = argv[argv.index("-k") + 1] == "6.1.0-57-amd64"
        return Completed(0, "535.309.01\n", "", None) if built else Completed(1, "", "", None)

    return FakeHost(
        {
            "/etc/os-release": 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n',
            "/lib/modules/6.1.0-57-amd64/kernel/x": "",
            "/lib/modules/6.1.0-57-amd64/build/Makefile": "",
            "/lib/modules/6.1.0-40-amd64/kernel/x": "",
            "/lib/modules/leftover/modules.dep": "",
            "/sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
            "/sys/bus/pci/devices/0000:01:00.0/device": "0x2204\n",
            "/sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
            "/var/lib/dpkg/status": STATUS,
            **files,
        },
        programs={
            "/sbin/modinfo": modinfo,
            "/usr/sbin/dkms": Completed(0, DKMS, "", None),
            "/usr/bin/apt-cache": Completed(0, POLICY, "", None),
        },
        machine=("gpu1", "6.1.0-57-amd64", "x86_64"),
    )


def test_a_host() -> None:
    found = installation.read(host(), ["nvidia-kernel-dkms"])
    assert found["kernels"] == [
        {"name": "6.1.0-40-amd64", "headers": False, "module": None},
        {"name": "6.1.0-57-amd64", "headers": True, "module": "535.309.01"},
    ]
    assert (found["cards"], found["loaded"], found["nouveau"]) == (["0x2204"], None, False)
    assert (found["secure_boot"], found["mok_enrolled"], found["run_file"]) == (None, None, None)
    assert found["distribution"]["id"] == "debian"


def test_what_is_loaded_and_what_others_have_left() -> None:
    version = (
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  590.48.01  Release Build\n"
        "GCC version:  gcc version 12.2.0\n"
    )
    found = installation.read(
        host(
            **{
                "/proc/driver/nvidia/version": version,
                "/proc/modules": "nouveau 2400256 0 - Live 0x0\n",
                "/usr/bin/nvidia-uninstall": "",
                installation.SECURE_BOOT: b"\x06\x00\x00\x00\x01",
            }
        ),
        [],
    )
    assert (found["loaded"], found["nouveau"]) == ("590.48.01", True)
    assert (found["run_file"], found["secure_boot"]) == ("/usr/bin/nvidia-uninstall", True)
    assert found["candidates"] == {}


def test_why_apt_cannot() -> None:
    answer = Completed(
        100, CONFLICT, "E: Unable to correct problems, you have held broken packages.\n", None
    )
    told = installation.simulate(
        FakeHost(programs={"/usr/bin/apt-get": answer}), ["nvidia-open-kernel-dkms"]
    )
    assert told["actions"] == []
    assert "nvidia-open-kernel-dkms : Depends: firmware-nvidia-gsp" in told["error"]
    assert "held broken packages" in told["error"]
    missing = installation.simulate(FakeHost(), ["x"])
    assert missing["error"]
