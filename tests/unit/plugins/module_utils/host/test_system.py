# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import platform

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.host import system
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.fake_host import (
    FakeHost,
    ok,
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('ID=debian\nVERSION_ID="12"\n', {"ID": "debian", "VERSION_ID": "12"}),
        ("ID='rhel'\n# ID=x\n\nnonsense\n", {"ID": "rhel"}),
        ('NAME="a \\"b\\" \\$c"\nEMPTY=\n', {"NAME": 'a "b" $c', "EMPTY": ""}),
        ("", {}),
    ],
)
def test_os_release(text, values):
    assert system.parse_os_release(text) == values


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["debian"], "debian"),
        (["ubuntu", "debian"], "debian"),
        (["linuxmint", "ubuntu", "debian"], "debian"),
        (["rocky", "rhel", "centos", "fedora"], "redhat"),
        (["fedora"], "redhat"),
        (["arch"], "other"),
        ([], "other"),
    ],
)
def test_family(names, family):
    assert system.os_family(names) == family


MOUNT = "30 22 0:26 / {} rw,nosuid - {} none rw\n"


@pytest.mark.parametrize(
    ("mountinfo", "mode"),
    [
        (MOUNT.format("/sys/fs/cgroup", "cgroup2"), "v2"),
        (
            MOUNT.format("/sys/fs/cgroup", "tmpfs")
            + MOUNT.format("/sys/fs/cgroup/unified", "cgroup2")
            + MOUNT.format("/sys/fs/cgroup/memory", "cgroup"),
            "hybrid",
        ),
        (
            MOUNT.format("/sys/fs/cgroup", "tmpfs") + MOUNT.format("/sys/fs/cgroup/cpu", "cgroup"),
            "v1",
        ),
        (MOUNT.format("/", "ext4"), None),
        ("", None),
    ],
)
def test_cgroup(mountinfo, mode):
    assert system.cgroup_mode(mountinfo) == mode


@pytest.mark.parametrize(
    ("cpuinfo", "flags"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 sse amx_bf16\n", ["amx_bf16", "avx2"]),
        ("processor\t: 0\nFeatures\t: fp asimd i8mm bf16\n", ["asimd", "bf16", "i8mm"]),
        ("processor\t: 0\n", []),
    ],
)
def test_cpu_flags(cpuinfo, flags):
    assert system.cpu_flags(cpuinfo) == flags


@pytest.mark.parametrize(
    ("library", "version"),
    [
        ("/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so", 252),
        ("/usr/lib/systemd/libsystemd-shared-257.so", 257),
        ("/usr/lib64/systemd/libsystemd-shared-256.11-1.fc41.so", 256),
        ("/lib/systemd/libsystemd-shared-245.so", 245),
    ],
)
def test_systemd_version_without_starting_it(library, version):
    host = FakeHost({library: ""})
    assert system.systemd_version(host) == version
    assert host.started == []


def test_systemd_version_by_asking_it():
    host = FakeHost(programs={"/usr/bin/systemctl": ok("systemd 255 (255.4-1ubuntu8.8)\n+PAM")})
    assert system.systemd_version(host) == 255


def test_no_systemd():
    assert system.systemd_version(FakeHost()) is None


def test_read():
    host = FakeHost(
        {
            "/usr/lib/os-release": 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.5"\n',
            "/proc/meminfo": "MemTotal:  1024 kB\nMemAvailable:  512 kB\nHugePages_Total: 0\n",
            "/run/systemd/system/x": "",
            "/proc/net/fib_trie": "|-- 10.0.0.5\n   /32 host LOCAL\n",
        },
        machine=("gpu1", "5.14.0", "x86_64"),
        glibc="2.34",
        uid=1000,
        cpus=8,
    )
    assert system.read(host) == {
        "hostname": "gpu1",
        "distribution": "rocky",
        "distribution_version": "9.5",
        "distribution_like": ["rhel", "centos", "fedora"],
        "os_family": "redhat",
        "architecture": "x86_64",
        "kernel": "5.14.0",
        "glibc": "2.34",
        "effective_uid": 1000,
        "systemd_version": None,
        "systemd_running": True,
        "cgroup": None,
        "cpu_count": 8,
        "cpu_flags": [],
        "memory_total_bytes": 1048576,
        "memory_available_bytes": 524288,
        "addresses": ["10.0.0.5"],
    }


def test_read_on_an_empty_machine():
    facts = system.read(FakeHost(glibc=None))
    assert facts["distribution"] is None
    assert facts["os_family"] == "other"
    assert facts["glibc"] is None
    assert facts["memory_total_bytes"] is None
    assert facts["systemd_running"] is False


def test_this_machine():
    facts = system.read(Host())
    assert facts["architecture"] == platform.machine()
    assert facts["kernel"] == platform.release()
    assert facts["hostname"] == platform.node()
    assert facts["glibc"] == platform.libc_ver()[1]
    assert facts["memory_total_bytes"] > facts["memory_available_bytes"] > 0
