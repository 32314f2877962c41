# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import shutil
import subprocess

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.host import packages
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import (
    Completed,
    Host,
)
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.fake_host import (
    FakeHost,
)

STATUS = b"""\
Package: gcc
Status: install ok installed
Architecture: amd64
Version: 4:12.2.0-3
Depends: cpp, gcc-12
Description: GNU C compiler
 Package: not-a-field

Package: gcc-12
Status: install ok installed
Version: 12.2.0-14+deb12u1

Package: removed
Status: deinstall ok config-files
Version: 1.0

Package: half
Status: install reinstreq half-installed
Version: 1.0

Package: libnuma1
Status: deinstall ok config-files
Architecture: i386
Version: 2.0.15

Package: libnuma1
Status: hold ok installed
Architecture: amd64
Version: 2.0.16-1

Package: last
Status: install ok installed
Version: 9"""


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("gcc", "4:12.2.0-3"),
        ("gcc-12", "12.2.0-14+deb12u1"),
        ("cpp", None),  # mentioned, not installed
        ("not-a-field", None),
        ("removed", None),
        ("half", None),
        ("libnuma1", "2.0.16-1"),  # on hold, of the second architecture
        ("last", "9"),
        ("g", None),
        ("", None),
    ],
)
def test_dpkg(name, version):
    assert packages.dpkg_versions(STATUS, [name]) == {name: version}


def test_dpkg_first_of_its_kind():
    status = b"Package: a\nStatus: install ok installed\nVersion: 1\n\n"
    assert packages.dpkg_versions(status, ["a"]) == {"a": "1"}


def test_rpm():
    def rpm(argv):
        assert argv[1:] == ["-q", "--queryformat", "%{NAME}\\t%{EVR}\\n", "--", "gcc", "nothing"]
        # rpm ends with the number of packages it did not find.
        return Completed(1, "gcc\t11.5.0-5.el9_5\npackage nothing is not installed\n", "", None)

    host = FakeHost(programs={"/usr/bin/rpm": rpm})
    assert packages.read(host, ["gcc", "nothing"]) == {"gcc": "11.5.0-5.el9_5", "nothing": None}
    assert len(host.started) == 1


def test_no_package_is_asked_for():
    host = FakeHost(programs={"/usr/bin/rpm": Completed(0, "", "", None)})
    assert packages.read(host, []) == {}
    assert host.started == []


def test_another_package_manager():
    assert packages.read(FakeHost(), ["gcc"]) == {"gcc": None}


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="this machine has no dpkg")
def test_this_machine_as_dpkg_query_tells_it():
    names = ["dpkg", "libc6", "bash", "no-such-package-anywhere"]
    argv = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status} ${Version}\n", *names]
    told = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    expected = dict.fromkeys(names)
    for line in told.splitlines():
        name, status, version = line.split()
        if status == "installed":
            expected[name] = version
    assert packages.read(Host(), names) == expected
