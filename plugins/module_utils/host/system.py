# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host is: distribution, kernel, C library, systemd, cgroups, CPU, memory."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.ports import local_addresses

# CPU features that vLLM's CPU build or its libraries choose code by; the rest is noise in facts.
# Names as Linux prints them: x86 `flags` and Arm `Features` of /proc/cpuinfo.
CPU_FLAGS = (
    "avx2",
    "avx512f",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimdhp",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
)
_SYSTEMD_LIBRARY = re.compile(r"^libsystemd-shared-(\d+)\b.*\.so$")


def parse_os_release(text: str) -> dict[str, str]:
    """Reads os-release(5): shell-like assignments, without starting a shell.

    Args:
        text: The file's text.

    Returns:
        Values by name, quotes and backslashes resolved.
    """
    values = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith("#"):
            continue
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        values[name] = re.sub(r'\\(["\'\\$`])', r"\1", value)
    return values


def os_family(names: list[str]) -> str:
    """Which package manager's world a distribution belongs to.

    Args:
        names: os-release's ID followed by its ID_LIKE.

    Returns:
        "debian", "redhat" or "other".
    """
    for name in names:
        if name in ("debian", "ubuntu"):
            return "debian"
        if name in ("rhel", "fedora", "centos"):
            return "redhat"
    return "other"


def parse_meminfo(text: str) -> dict[str, int]:
    """Reads /proc/meminfo; returns bytes by name for the lines given in kB."""
    sizes = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2] == "kB":
            sizes[words[0].rstrip(":")] = int(words[1]) * 1024
    return sizes


def cpu_flags(cpuinfo: str) -> list[str]:
    """The features in `CPU_FLAGS` that the first CPU of /proc/cpuinfo has, sorted."""
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() in ("flags", "Features"):
            have = set(value.split())
            return sorted(flag for flag in CPU_FLAGS if flag in have)
    return []


def cgroup_mode(mountinfo: str) -> str | None:
    """How the control groups are laid out, from /proc/self/mountinfo.

    Returns:
        "v2" (unified), "hybrid" (v1 with a v2 tree beside it), "v1", or None without any.
    """
    kinds = {}
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        fields = left.split()
        if separator and len(fields) > 4 and fields[4].startswith("/sys/fs/cgroup"):
            kinds[fields[4]] = right.split()[0]
    if kinds.get("/sys/fs/cgroup") == "cgroup2":
        return "v2"
    if "cgroup" in kinds.values():
        return "hybrid" if "cgroup2" in kinds.values() else "v1"
    return None


def systemd_version(host: Host) -> int | None:
    """Systemd's major version, read off its private library's name; started only if that fails.

    Returns:
        For example 252, or None where systemd is not installed.
    """
    for directory in ["/usr/lib/systemd", "/lib/systemd"] + [
        f"{base}/{name}/systemd"
        for base in ("/usr/lib", "/usr/lib64")
        for name in ("", f"{host.uname().machine}-linux-gnu")
    ]:
        for name in host.listdir(directory):
            match = _SYSTEMD_LIBRARY.match(name)
            if match:
                return int(match.group(1))
    for path in ("/usr/bin/systemctl", "/bin/systemctl"):
        if host.is_executable(path):
            match = re.match(r"systemd (\d+)", host.run([path, "--version"], timeout=5.0).stdout)
            return int(match.group(1)) if match else None
    return None


def read(host: Host) -> dict[str, Any]:
    """Reads `facts.host`.

    Args:
        host: The machine.

    Returns:
        hostname, distribution, distribution_version, distribution_like, os_family, architecture,
        kernel, glibc, effective_uid, systemd_version, systemd_running, cgroup, cpu_count,
        cpu_flags, memory_total_bytes, memory_available_bytes, addresses. Sizes are bytes; what
        cannot be read is None.
    """
    release = parse_os_release(
        host.read_text("/etc/os-release") or host.read_text("/usr/lib/os-release") or ""
    )
    like = release.get("ID_LIKE", "").split()
    distribution = release.get("ID")
    names = host.uname()
    memory = parse_meminfo(host.read_text("/proc/meminfo") or "")
    return {
        "hostname": names.nodename,
        "distribution": distribution,
        "distribution_version": release.get("VERSION_ID"),
        "distribution_like": like,
        "os_family": os_family(([distribution] if distribution else []) + like),
        "architecture": names.machine,
        "kernel": names.release,
        "glibc": host.glibc_version(),
        "effective_uid": host.effective_uid(),
        "systemd_version": systemd_version(host),
        "systemd_running": host.is_dir("/run/systemd/system"),
        "cgroup": cgroup_mode(host.read_text("/proc/self/mountinfo") or ""),
        "cpu_count": host.cpu_count(),
        # One CPU is enough, and the kernel works for every further one.
        "cpu_flags": cpu_flags(host.read_text("/proc/cpuinfo", 8192) or ""),
        "memory_total_bytes": memory.get("MemTotal"),
        "memory_available_bytes": memory.get("MemAvailable"),
        "addresses": local_addresses(
            host.read_text("/proc/net/fib_trie"), host.read_text("/proc/net/if_inet6")
        ),
    }
