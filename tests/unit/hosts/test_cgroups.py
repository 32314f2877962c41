# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from throwaway import cgroups

HYBRID = """\
20 18 254:0 / / rw - ext4 /dev/vda rw
33 20 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
34 33 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 33 0:30 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
36 33 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 33 0:32 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
38 33 0:33 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
39 33 0:34 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
40 33 0:35 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
41 20 0:31 / /mnt/memory-again rw,relatime - cgroup cgroup rw,memory
"""

UNIFIED = """\
20 18 254:0 / / rw - ext4 /dev/vda rw
33 20 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
"""


def test_hybrid_hierarchies() -> None:
    found = {str(h.mount): (h.version, set(h.controllers)) for h in cgroups.hierarchies(HYBRID)}
    assert found == {
        "/sys/fs/cgroup/cpu,cpuacct": (1, {"cpu", "cpuacct"}),
        "/sys/fs/cgroup/cpuset": (1, {"cpuset"}),
        "/sys/fs/cgroup/memory": (1, {"memory"}),
        "/sys/fs/cgroup/devices": (1, {"devices"}),
        "/sys/fs/cgroup/pids": (1, {"pids"}),
        "/sys/fs/cgroup/systemd": (1, {"name=systemd"}),
        "/sys/fs/cgroup/unified": (2, set()),
    }


def test_unified_hierarchy() -> None:
    (only,) = cgroups.hierarchies(UNIFIED)
    assert (only.mount, only.version) == (Path("/sys/fs/cgroup"), 2)


def test_no_hierarchy() -> None:
    assert cgroups.hierarchies("20 18 254:0 / / rw - ext4 /dev/vda rw\n") == []
    assert cgroups.missing_controllers([]) == ["cpu", "devices", "memory", "pids"]


def hierarchy(mount: Path, version: int, *controllers: str) -> cgroups.Hierarchy:
    return cgroups.Hierarchy(mount, version, frozenset(controllers))


@pytest.mark.parametrize(
    ("available", "missing"),
    [
        ("cpuset cpu io memory pids", []),
        ("cpu pids", ["memory"]),
        ("", ["cpu", "memory", "pids"]),
    ],
)
def test_missing_controllers_of_v2(tmp_path: Path, available: str, missing: list[str]) -> None:
    (tmp_path / "cgroup.controllers").write_text(available + "\n")
    assert cgroups.missing_controllers([hierarchy(tmp_path, 2)]) == missing


def test_missing_controllers_of_hybrid(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("hugetlb\n")
    found = [hierarchy(Path("/x"), 1, "cpu", "cpuacct"), hierarchy(Path("/y"), 1, "memory")]
    # v2 controls devices by itself only where nothing is left of v1.
    assert cgroups.missing_controllers([*found, hierarchy(tmp_path, 2)]) == ["devices", "pids"]
