# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.processes import (
    Processes,
    unit_of,
)
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.fake_host import (
    FakeHost,
)

V2_INIT = "0::/init.scope\n"
V1 = "12:pids:/a\n3:name=systemd:{}\n0::/elsewhere\n"


@pytest.mark.parametrize(
    ("cgroup", "init", "unit"),
    [
        ("0::/system.slice/vllm@chat.service\n", V2_INIT, "vllm@chat.service"),
        ("0::/system.slice/system-vllm.slice/vllm@a-b.service\n", V2_INIT, "vllm@a-b.service"),
        # A unit that manages groups of its own below.
        ("0::/system.slice/docker.service/child\n", V2_INIT, "docker.service"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", V2_INIT, "session-3.scope"),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.service\n",
            V2_INIT,
            "user@1000.service",
        ),
        ("0::/init.scope\n", V2_INIT, "init.scope"),
        ("0::/\n", V2_INIT, None),
        ("0::/system.slice\n", V2_INIT, None),
        ("0::/docker/0123abcd\n", V2_INIT, None),
        ("0::/kubepods/besteffort/pod1/abc.scope\n", V2_INIT, None),
        # v1 and hybrid: systemd's own hierarchy tells.
        (V1.format("/system.slice/ssh.service"), V1.format("/init.scope"), "ssh.service"),
        # Seen from inside a container whose paths start with its own.
        (
            V1.format("/machine.slice/machine-a.scope/payload/system.slice/ssh.service"),
            V1.format("/machine.slice/machine-a.scope/payload/init.scope"),
            "ssh.service",
        ),
        ("0::/payload-1/system.slice/ssh.service\n", "0::/payload-1\n", "ssh.service"),
        ("", "", None),
        ("nonsense", V2_INIT, None),
    ],
)
def test_unit(cgroup, init, unit):
    assert unit_of(cgroup, init) == unit


@pytest.mark.parametrize(
    ("cmdline", "name"),
    [
        ("VLLM::EngineCore\0", "VLLM::EngineCore"),
        ("VLLM::EngineCore", "VLLM::EngineCore"),
        ("/opt/vllm/releases/x/bin/python3\0-m\0vllm\0", "python3"),
        ("nginx: master process /usr/sbin/nginx\0", "nginx"),
        ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups\0", "sshd"),
        ("python3\0-c\0pass\0", "python3"),
        ("", "kworker/0:1"),  # a kernel thread has no arguments
    ],
)
def test_command(cmdline, name):
    host = FakeHost({"/proc/7/cmdline": cmdline, "/proc/7/comm": "kworker/0:1\n"})
    assert Processes(host).command(7) == name


def test_owner_is_the_effective_user():
    status = "Name:\tx\nUid:\t1000\t998\t998\t998\nGid:\t1\t1\t1\t1\n"
    host = FakeHost({"/proc/7/status": status}, users={998: "vllm"})
    assert Processes(host).owner(7) == "vllm"


def test_a_process_that_is_gone():
    processes = Processes(FakeHost())
    assert processes.name(7) is None
    assert processes.command(7) is None
    assert processes.owner(7) is None
    assert processes.unit(7) is None


def test_this_process():
    processes = Processes(Host())
    assert "py" in (processes.command(os.getpid()) or "")
    assert processes.owner(os.getpid()) == Host().user_name(os.geteuid())
