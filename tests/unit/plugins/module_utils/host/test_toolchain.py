# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.host import toolchain
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import (
    Completed,
    Host,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.toolchain import Toolchain
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.fake_host import (
    FakeHost,
    ok,
)

GCC = ok("gcc (Debian 12.2.0-14+deb12u1) 12.2.0\nCopyright (C) 2022 Free Software Foundation\n")
NVCC = ok(
    "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 12.8, V12.8.93\n"
    "Build cuda_12.8.r12.8/compiler.35583870_0\n"
)
JSON = {"cuda": {"version": "12.6.3"}, "cuda_nvcc": {"version": "12.6.85"}}


def read(*, path=toolchain.SERVICE_PATH, **machine):
    return Toolchain(FakeHost(**machine), path).result()


def test_a_host_without_anything():
    assert read() == {
        "found": False,
        "path": None,
        "version": None,
        "on_service_path": False,
        "candidates": [],
        "c_compiler": None,
        "cxx_compiler": None,
        "libc_headers": False,
        "service_path": toolchain.SERVICE_PATH,
    }


def test_compilers():
    facts = read(
        files={"/usr/include/stdlib.h": ""},
        programs={
            "/usr/bin/gcc": GCC,
            "/usr/bin/g++": ok("g++ (GCC) 11.5.0 20240719 (Red Hat 11.5.0-5)"),
        },
    )
    assert facts["c_compiler"] == {"path": "/usr/bin/gcc", "version": "12.2.0"}
    assert facts["cxx_compiler"] == {"path": "/usr/bin/g++", "version": "11.5.0"}
    assert facts["libc_headers"] is True


def test_triton_takes_gcc_before_clang_and_never_cc():
    clang = ok("Debian clang version 14.0.6\nTarget: x86_64-pc-linux-gnu\n")
    facts = read(programs={"/usr/bin/clang": clang, "/usr/bin/gcc": GCC})
    assert facts["c_compiler"]["path"] == "/usr/bin/gcc"
    assert read(programs={"/usr/bin/clang": clang})["c_compiler"]["version"] == "14.0.6"
    assert read(programs={"/usr/bin/cc": GCC})["c_compiler"] is None


def test_the_services_path_counts():
    programs = {"/home/me/bin/gcc": GCC, "/home/me/bin/nvcc": NVCC}
    environ = {"PATH": "/home/me/bin:/usr/bin"}
    facts = read(programs=programs, environ=environ)
    assert facts["c_compiler"] is None
    assert facts["found"] is True
    assert facts["on_service_path"] is False
    assert facts["candidates"] == [
        {"path": "/home/me/bin/nvcc", "version": "12.8.93", "source": "login PATH"}
    ]
    facts = read(programs=programs, environ=environ, path="/home/me/bin")
    assert facts["c_compiler"]["path"] == "/home/me/bin/gcc"
    assert facts["on_service_path"] is True


def test_programs_are_asked_in_the_services_environment():
    host = FakeHost(programs={"/usr/bin/gcc": GCC})
    seen = []
    start = host.start

    def record(argv, timeout=10.0, environ=None):
        seen.append(environ)
        return start(argv, timeout, environ)

    host.start = record
    Toolchain(host).result()
    assert seen == [{"PATH": toolchain.SERVICE_PATH, "LC_ALL": "C"}]


def test_every_toolkit_once_the_services_first_then_the_newest():
    facts = read(
        files={
            "/usr/local/cuda-12.6/version.json": json.dumps(JSON),
            "/usr/local/cuda-12.10/version.json": json.dumps({"cuda": {"version": "12.10.0"}}),
            "/opt/cuda/version.txt": "CUDA Version 10.2.89\n",
        },
        programs={
            "/usr/local/cuda-12.6/bin/nvcc": NVCC,
            "/usr/local/cuda-12.10/bin/nvcc": NVCC,
            "/opt/cuda/bin/nvcc": NVCC,
            "/usr/lib/nvidia-cuda-toolkit/bin/nvcc": ok("release 11.8, V11.8.89"),
            "/srv/cuda/bin/nvcc": NVCC,
        },
        links={
            "/usr/local/cuda": "cuda-12.6",
            "/usr/bin/nvcc": "/usr/lib/nvidia-cuda-toolkit/bin/nvcc",
        },
        environ={"CUDA_HOME": "/srv/cuda", "CUDA_PATH": "/usr/local/cuda"},
    )
    assert facts["candidates"] == [
        {"path": "/usr/bin/nvcc", "version": "11.8.89", "source": "PATH"},
        {"path": "/usr/local/cuda/bin/nvcc", "version": "12.6.85", "source": "/usr/local/cuda"},
        {
            "path": "/usr/local/cuda-12.10/bin/nvcc",
            "version": "12.10.0",
            "source": "/usr/local/cuda-12.10",
        },
        {"path": "/opt/cuda/bin/nvcc", "version": "10.2.89", "source": "/opt/cuda"},
        {"path": "/srv/cuda/bin/nvcc", "version": "12.8.93", "source": "CUDA_HOME"},
    ]
    assert (facts["path"], facts["version"]) == ("/usr/bin/nvcc", "11.8.89")
    assert facts["on_service_path"] is True


def test_a_recorded_version_starts_no_program():
    host = FakeHost(
        {"/usr/local/cuda/version.json": json.dumps(JSON)},
        programs={"/usr/local/cuda/bin/nvcc": NVCC},
    )
    assert Toolchain(host).result()["version"] == "12.6.85"
    assert host.started == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cuda": 3}', '{"cuda": {}}', "null"])
def test_a_version_file_that_is_none(text):
    host = FakeHost({"/c/version.json": text}, programs={"/c/bin/nvcc": NVCC})
    assert toolchain.recorded_version(host, "/c/bin/nvcc") is None


@pytest.mark.parametrize(
    "answer",
    [
        Completed(127, "", "nvcc: error while loading shared libraries", None),
        Completed(None, "", "", "did not end within 10 s"),
        ok("something else\n"),
    ],
)
def test_an_nvcc_that_does_not_run(answer):
    facts = read(programs={"/usr/local/cuda/bin/nvcc": answer})
    assert facts["found"] is False
    assert facts["candidates"] == [
        {"path": "/usr/local/cuda/bin/nvcc", "version": None, "source": "/usr/local/cuda"}
    ]


def test_a_broken_one_does_not_hide_a_working_one():
    facts = read(programs={"/usr/bin/nvcc": Completed(1, "", "", None), "/opt/cuda/bin/nvcc": NVCC})
    assert (facts["found"], facts["path"]) == (True, "/opt/cuda/bin/nvcc")
    assert facts["on_service_path"] is False


@pytest.mark.parametrize("path", ["", ":", "bin:.", "relative/bin"])
def test_relative_directories_are_not_searched(path):
    host = FakeHost(programs={"/usr/bin/gcc": GCC})
    assert toolchain.which(host, "gcc", path) is None


@pytest.mark.skipif(shutil.which("gcc") is None, reason="this machine has no gcc")
def test_this_machine():
    expected = subprocess.run(
        ["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True
    ).stdout.strip()
    facts = Toolchain(Host()).result()
    assert facts["c_compiler"]["version"] == expected
