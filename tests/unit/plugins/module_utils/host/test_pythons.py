# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import sys
import sysconfig

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import (
    Completed,
    Host,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.pythons import Pythons, find
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.fake_host import (
    FakeHost,
    ok,
)


def says(version, include="/usr/include/python3", ensurepip=True, file=None):
    """An interpreter's answer; its file is the one that was started unless another is given."""
    return lambda argv: ok(f"{version}\n{include}\n{ensurepip}\n{file or argv[0]}\n")


def test_each_file_is_listed_once():
    host = FakeHost(
        programs={
            "/usr/bin/python3.11": says("3.11.2"),
            "/usr/bin/python3.11-config": ok(""),
            "/usr/local/bin/python3.13": says("3.13.1"),
        },
        links={
            "/usr/bin/python3": "python3.11",
            "/usr/local/bin/python3.11": "/usr/bin/python3.11",
        },
    )
    assert find(host) == ["/usr/bin/python3.11", "/usr/local/bin/python3.13"]


def test_a_virtual_environment_is_another_interpreter():
    host = FakeHost(
        programs={"/usr/bin/python3.11": says("3.11.2")},
        links={"/srv/venv/bin/python": "/usr/bin/python3.11"},
    )
    assert find(host, ["/srv/venv/bin/python"]) == ["/srv/venv/bin/python", "/usr/bin/python3.11"]


def test_only_what_is_asked_for():
    host = FakeHost(programs={"/usr/bin/python3.11": says("3.11.2"), "/opt/p": says("3.12.1")})
    assert [entry["path"] for entry in Pythons(host, ["/opt/p"], ()).result()] == ["/opt/p"]


def test_headers_and_venv():
    host = FakeHost(
        {"/usr/include/python3.12/Python.h": ""},
        programs={
            "/usr/bin/python3.12": says("3.12.3", "/usr/include/python3.12"),
            "/usr/bin/python3.13": says("3.13.1", "/usr/include/python3.13", ensurepip=False),
        },
    )
    assert Pythons(host).result() == [
        {
            "path": "/usr/bin/python3.12",
            "version": "3.12.3",
            "headers": "/usr/include/python3.12/Python.h",
            "venv": True,
            "shim": None,
        },
        {
            "path": "/usr/bin/python3.13",
            "version": "3.13.1",
            "headers": None,
            "venv": False,
            "shim": None,
        },
    ]


def test_a_shim_is_named_with_what_it_starts():
    real = "/root/.pyenv/versions/3.12.1/bin/python3.12"
    host = FakeHost(
        programs={
            "/root/.pyenv/shims/python3.12": says("3.12.1", file=real),
            "/root/.pyenv/shims/python3.13": Completed(127, "", "command not found", None),
        },
        files={"/root/.pyenv/shims/python3.13": "#!/usr/bin/env bash\n"},
    )
    asked = ["/root/.pyenv/shims/python3.12", "/root/.pyenv/shims/python3.13"]
    assert [(row["version"], row["shim"]) for row in Pythons(host, asked).result()] == [
        ("3.12.1", real),
        (None, ""),
    ]


def test_a_shim_of_this_machine(tmp_path):
    shim = tmp_path / "python3"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    shim.chmod(0o755)
    [facts] = Pythons(Host(), [str(shim)], ()).result()
    assert facts["shim"] == os.path.realpath(sys.executable)
    shim.write_text("#!/bin/sh\necho no version is set >&2\nexit 127\n")
    [facts] = Pythons(Host(), [str(shim)], ()).result()
    assert (facts["version"], facts["shim"]) == (None, "")


@pytest.mark.parametrize(
    "answer",
    [
        Completed(127, "", "error while loading shared libraries", None),
        Completed(None, "", "", "did not end within 10 s"),
        ok("not what was asked\n"),
    ],
)
def test_one_that_does_not_run_is_left_out(answer):
    assert Pythons(FakeHost(programs={"/usr/bin/python3.9": answer})).result() == []


def test_one_that_does_not_exist_is_left_out():
    assert Pythons(FakeHost(), ["/no/python"]).result() == []


def test_every_interpreter_of_this_machine():
    facts = Pythons(Host()).result()
    assert facts
    for entry in facts:
        code = (
            "import importlib.util as u, platform, sysconfig\n"
            "print(platform.python_version(), bool(u.find_spec('ensurepip')),"
            " sysconfig.get_paths('posix_prefix')['include'] + '/Python.h')"
        )
        done = Host().run([entry["path"], "-I", "-c", code])
        version, venv, header = done.stdout.split()
        assert entry["version"] == version
        assert entry["venv"] is (venv == "True")
        assert entry["headers"] == (header if os.path.exists(header) else None)


def test_this_interpreter():
    [facts] = Pythons(Host(), [sys.executable], ()).result()
    assert facts["shim"] is None
    assert facts["version"] == ".".join(str(number) for number in sys.version_info[:3])
    header = os.path.join(sysconfig.get_paths(scheme="posix_prefix")["include"], "Python.h")
    assert facts["headers"] == (header if os.path.exists(header) else None)
