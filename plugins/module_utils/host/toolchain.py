# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CUDA toolkit and the compilers, as the *service* will see them.

A login shell's PATH says little about a unit's: every look-up here goes through an explicit search
path. No `nvcc` is the normal case.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host, Running

# systemd's own default for system services (systemd.exec(5), "$PATH").
SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What the libraries look for by default, in their order: Triton (triton 3.5.1,
# runtime/build.py) takes gcc, else clang, and never `cc`; torch.compile's C++ (torch 2.9.1,
# _inductor/config.py, cpp.cxx) takes g++.
C_COMPILERS = ("gcc", "clang")
CXX_COMPILERS = ("g++",)
# Debian's package nvidia-cuda-toolkit keeps the program here, behind a link in /usr/bin.
_PACKAGED = "/usr/lib/nvidia-cuda-toolkit"
_RELEASE = re.compile(r"\bV(\d+\.\d+\.\d+)")


class Candidate(NamedTuple):
    """An `nvcc` and how it was found.

    Attributes:
        path: The program.
        source: "PATH", "CUDA_HOME", "CUDA_PATH", a toolkit's directory, or "package".
    """

    path: str
    source: str


def which(host: Host, name: str, search_path: str) -> str | None:
    """The program that a search path leads to, else None."""
    for directory in search_path.split(":"):
        path = f"{directory.rstrip('/')}/{name}"
        if directory.startswith("/") and host.is_executable(path):
            return path
    return None


def _version_key(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def find_nvcc(host: Host, service_path: str) -> list[Candidate]:
    """Lists every nvcc, those that a service sees by itself first.

    Args:
        host: The machine.
        service_path: The service's PATH.

    Returns:
        Candidates; one file that several ways lead to is listed once, under the first.
    """
    ways: list[tuple[str | None, str]] = [(which(host, "nvcc", service_path), "PATH")]
    homes = ["/usr/local/cuda"]
    # Newest first: cuda-12.10 after cuda-12.9.
    versions = [name for name in host.listdir("/usr/local") if name.startswith("cuda-")]
    homes += [f"/usr/local/{name}" for name in sorted(versions, key=_version_key, reverse=True)]
    homes.append("/opt/cuda")
    ways += [(f"{home}/bin/nvcc", home) for home in homes]
    ways.append((f"{_PACKAGED}/bin/nvcc", "package"))
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        home = host.environ.get(variable, "")
        if home.startswith("/"):
            ways.append((f"{home.rstrip('/')}/bin/nvcc", variable))
    ways.append((which(host, "nvcc", host.environ.get("PATH", "")), "login PATH"))
    seen = set()
    found = []
    for path, source in ways:
        if path is None or not host.is_executable(path):
            continue
        real = host.realpath(path)
        if real not in seen:
            seen.add(real)
            found.append(Candidate(path, source))
    return found


def recorded_version(host: Host, nvcc: str) -> str | None:
    """Nvcc's version from the file that NVIDIA's toolkit keeps beside it.

    Args:
        host: The machine.
        nvcc: Path of the program.

    Returns:
        For example "12.8.93" out of version.json (CUDA 11 and later) or "10.2.89" out of
        version.txt (before); None without such a file.
    """
    home = host.realpath(nvcc).rsplit("/bin/", 1)[0]
    try:
        components = json.loads(host.read_text(f"{home}/version.json") or "")
        return str((components.get("cuda_nvcc") or components["cuda"])["version"])
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    match = re.search(r"CUDA Version (\d[\d.]*)", host.read_text(f"{home}/version.txt") or "")
    return match.group(1) if match else None


def parse_nvcc_version(stdout: str) -> str | None:
    """The version in `nvcc --version`: "Cuda compilation tools, release 12.8, V12.8.93"."""
    match = _RELEASE.search(stdout)
    return match.group(1) if match else None


def parse_compiler_version(stdout: str) -> str | None:
    """The version in the first line of `gcc --version` or `clang --version`.

    "gcc (Debian 12.2.0-14) 12.2.0" names its package first; "Debian clang version 14.0.6".
    """
    line = stdout.split("\n", 1)[0]
    match = re.search(r"(?:\)|version)\s+(\d+(?:\.\d+)+)", line)
    return match.group(1) if match else None


class Toolchain:
    """Reads toolkit and compilers; programs run in the background while other facts are read.

    Args:
        host: The machine.
        service_path: The PATH of the unit that will serve.
    """

    def __init__(self, host: Host, service_path: str = SERVICE_PATH) -> None:
        self._host = host
        self._service_path = service_path
        self._environ = {"PATH": service_path, "LC_ALL": "C"}
        self._nvcc: list[tuple[Candidate, str | None, Running | None]] = []
        for candidate in find_nvcc(host, service_path):
            version = recorded_version(host, candidate.path)
            running = None if version else self._start(candidate.path)
            self._nvcc.append((candidate, version, running))
        self._c = self._compiler(C_COMPILERS)
        self._cxx = self._compiler(CXX_COMPILERS)

    def _start(self, path: str) -> Running:
        return self._host.start([path, "--version"], timeout=10.0, environ=self._environ)

    def _compiler(self, names: tuple[str, ...]) -> tuple[str, Running] | None:
        for name in names:
            path = which(self._host, name, self._service_path)
            if path is not None:
                return path, self._start(path)
        return None

    @staticmethod
    def _compiler_facts(asked: tuple[str, Running] | None) -> dict[str, Any] | None:
        if asked is None:
            return None
        path, running = asked
        return {"path": path, "version": parse_compiler_version(running.result().stdout)}

    def result(self) -> dict[str, Any]:
        """Reads `facts.nvcc`.

        Returns:
            found, path, version (of the first candidate that tells its version), on_service_path
            (whether the service's PATH leads to it: what vLLM asks before it lets FlashInfer
            compile; vllm 0.14.1, utils/flashinfer.py), candidates [{path, version, source}],
            c_compiler, cxx_compiler ({path, version} or None),
            libc_headers (whether a C program can include <stdlib.h>; gcc alone does not bring
            it), service_path. A candidate whose version is None is there and does not run.
        """
        candidates = []
        for candidate, recorded, running in self._nvcc:
            version = recorded
            if running is not None:
                version = parse_nvcc_version(running.result().stdout)
            candidates.append(
                {"path": candidate.path, "version": version, "source": candidate.source}
            )
        working = next((entry for entry in candidates if entry["version"]), None)
        return {
            "found": working is not None,
            "path": working["path"] if working else None,
            "version": working["version"] if working else None,
            "on_service_path": working is not None and working["source"] == "PATH",
            "candidates": candidates,
            "c_compiler": self._compiler_facts(self._c),
            "cxx_compiler": self._compiler_facts(self._cxx),
            "libc_headers": self._host.is_file("/usr/include/stdlib.h"),
            "service_path": self._service_path,
        }
