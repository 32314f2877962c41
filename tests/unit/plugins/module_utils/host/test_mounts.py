# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import shutil

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.host import mounts
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Disk, Host
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.fake_host import (
    FakeHost,
)

MOUNTINFO = """\
22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
30 22 8:1 / /opt rw,noexec - xfs /dev/sda1 rw,attr2
31 22 8:2 / /srv/a\\040b ro,relatime shared:5 master:2 - ext4 /dev/mapper/x\\134y ro
32 22 0:40 / /optional rw - tmpfs tmpfs rw,size=1k
33 30 8:3 / /opt rw - btrfs /dev/sdb1 rw
broken line
34 22 0:41 / /net rw - nfs4 server:/export rw,vers=4.2
"""


@pytest.mark.parametrize(
    ("path", "point", "device"),
    [
        ("/", "/", "/dev/nvme0n1p2"),
        ("/var/lib", "/", "/dev/nvme0n1p2"),
        ("/opt", "/opt", "/dev/sdb1"),  # the later mount hides the earlier one
        ("/opt/vllm", "/opt", "/dev/sdb1"),
        ("/optional/x", "/optional", "tmpfs"),
        ("/optimum", "/", "/dev/nvme0n1p2"),
        ("/srv/a b/c", "/srv/a b", "/dev/mapper/x\\y"),
        ("/net/models", "/net", "server:/export"),
    ],
)
def test_which_mount(path, point, device):
    found = mounts.mount_of(path, mounts.parse_mountinfo(MOUNTINFO))
    assert found is not None
    assert (found.point, found.device) == (point, device)


def test_options():
    parsed = {(mount.point, mount.device): mount for mount in mounts.parse_mountinfo(MOUNTINFO)}
    assert parsed["/opt", "/dev/sda1"].options == ["rw", "noexec", "attr2"]
    assert parsed["/srv/a b", "/dev/mapper/x\\y"].read_only
    assert not parsed["/", "/dev/nvme0n1p2"].read_only


@pytest.mark.parametrize("options", ["ro - ext4 /dev/sda rw", "rw - ext4 /dev/sda ro"])
def test_read_only_either_way(options):
    [mount] = mounts.parse_mountinfo(f"22 1 8:0 / / {options}\n")
    assert mount.read_only
    assert mount.options == [options.split()[0]]


def test_a_path_that_does_not_exist_yet():
    host = FakeHost(
        {"/proc/self/mountinfo": MOUNTINFO},
        directories=["/opt"],
        disks={"/opt": Disk(1000, 400), "/": Disk(50, 10)},
    )
    assert mounts.read(host, ["/opt/vllm/releases/x"])["/opt/vllm/releases/x"] == {
        "existing": "/opt",
        "mount": "/opt",
        "device": "/dev/sdb1",
        "fstype": "btrfs",
        "options": ["rw"],
        "total_bytes": 1000,
        "free_bytes": 400,
        "read_only": False,
    }


def test_a_link_to_another_file_system():
    host = FakeHost(
        {"/proc/self/mountinfo": MOUNTINFO},
        directories=["/net", "/var/lib"],
        links={"/var/lib/vllm": "/net/vllm"},
        disks={"/net": Disk(9, 8), "/": Disk(2, 1)},
    )
    facts = mounts.read(host, ["/var/lib/vllm"])["/var/lib/vllm"]
    assert (facts["existing"], facts["mount"], facts["free_bytes"]) == ("/net", "/net", 8)


def test_nothing_is_known():
    facts = mounts.read(FakeHost(), ["/opt/vllm"])["/opt/vllm"]
    assert facts["existing"] == "/"
    assert facts["mount"] is None
    assert facts["free_bytes"] is None
    assert facts["read_only"] is False


def test_this_machine(tmp_path):
    asked = str(tmp_path / "not" / "there")
    facts = mounts.read(Host(), [asked, "/proc/self"])
    assert facts[asked]["existing"] == os.path.realpath(tmp_path)
    assert facts[asked]["total_bytes"] == shutil.disk_usage(tmp_path).total
    assert facts["/proc/self"]["fstype"] == "proc"
