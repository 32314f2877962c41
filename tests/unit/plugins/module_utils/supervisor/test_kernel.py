# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.kernel import (
    telling,
    words,
)

if TYPE_CHECKING:
    from pathlib import Path

OOM = "Out of memory: Killed process 1100 (VLLM::EngineCor) total-vm:8kB, anon-rss:7kB, UID:997"
XID = "NVRM: Xid (PCI:0000:01:00): 79, pid=1100, name=VLLM::EngineCor, GPU has fallen off the bus."
FAULT = "VLLM::EngineCor[1100]: segfault at 0 ip 00007f1e sp 00007ffd error 4 in libcuda.so.550"
TRAP = "traps: python3[2139] trap invalid opcode ip:7f4a sp:7ffc error:0 in libtorch_cpu.so"


def test_it_takes_what_tells_of_the_server_since_its_start() -> None:
    records = [
        f"3,1,5000000,-;{XID}",  # of an earlier start
        f"3,2,11000000,-;{OOM}\n SUBSYSTEM=memory",
        "6,3,11500000,-;usb 1-1: new high-speed USB device number 2",
        "4,4,11600000,-;Out of memory: Killed process 7 (postgres) total-vm:1kB",
        f"4,5,12000000,-;{FAULT}",
        f"4,6,12000001,c;{TRAP}",
        "nothing that the kernel writes",
    ]
    assert telling(records, since=10.0) == (OOM, FAULT, TRAP)


def test_only_the_last_of_many_are_told() -> None:
    records = [f"3,{n},{n}000000,-;{XID} {n}" for n in range(20, 40)]
    assert [line[-2:] for line in telling(records, since=0.0)] == ["35", "36", "37", "38", "39"]


def test_a_log_that_may_not_be_read_says_nothing(tmp_path: Path) -> None:
    assert words(0.0, str(tmp_path / "nothing-here")) == ()
