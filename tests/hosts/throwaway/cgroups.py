# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control groups for hosts where PID 1 is not systemd.

systemd-nspawn makes `payload` and `supervisor` below the group it is started in, so each host gets
a group of its own in every hierarchy: <mount>/<ident>/hosts/<name>, where <ident> is
`Settings.ident`. What watches over it sits in <mount>/<ident>/supervisors, outside of its limits.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from .common import HostsError


@dataclass(frozen=True)
class Hierarchy:
    """A mounted cgroup hierarchy.

    Attributes:
        mount: Where it is mounted.
        version: 1 or 2.
        controllers: v1: the controllers bound to it (`name=systemd` is one). v2: empty, they are
            read from `cgroup.controllers`.
    """

    mount: Path
    version: int
    controllers: frozenset[str]


def hierarchies(mountinfo: str | None = None) -> list[Hierarchy]:
    """The machine's cgroup hierarchies.

    Args:
        mountinfo: The text of `/proc/self/mountinfo` (proc(5)); read by default.

    Returns:
        One entry a hierarchy; a second mount of the same one is left out.
    """
    if mountinfo is None:
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    flags = {"rw", "ro", "xattr", "clone_children", "noprefix", "nsdelegate", "memory_localevents"}
    found: dict[str, Hierarchy] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if not after:
            continue
        fstype, _, options = after.split(" ", 2)
        if fstype not in ("cgroup", "cgroup2"):
            continue
        mount, device = Path(before.split()[4]), before.split()[2]
        names = {word for word in options.split(",") if not word.startswith("release_agent=")}
        found.setdefault(
            device,
            Hierarchy(mount, 1, frozenset(names - flags))
            if fstype == "cgroup"
            else Hierarchy(mount, 2, frozenset()),
        )
    return list(found.values())


def missing_controllers(found: list[Hierarchy] | None = None) -> list[str]:
    """Controllers without which the hosts' limits would not be real."""
    found = hierarchies() if found is None else found
    have: set[str] = set()
    for hierarchy in found:
        have |= hierarchy.controllers
        if hierarchy.version == 2:
            with contextlib.suppress(OSError):
                have |= set((hierarchy.mount / "cgroup.controllers").read_text().split())
                if all(other.version == 2 for other in found):
                    have.add("devices")  # v2 controls devices by BPF, not by a controller
    return sorted({"memory", "pids", "cpu", "devices"} - have)


def _usable(found: list[Hierarchy]) -> list[Hierarchy]:
    # A new cpuset group of v1 takes no process until its cpus and mems are set; hosts need none.
    return [h for h in found if "cpuset" not in h.controllers]


def host_groups(ident: str, host: str) -> list[Path]:
    """A host's own groups, one a hierarchy, whether they exist or not."""
    return [h.mount / ident / "hosts" / host for h in _usable(hierarchies())]


def create(ident: str, host: str, memory: int | None = None) -> None:
    """Make a host's groups.

    Args:
        ident: What all hosts' groups lie in.
        host: The host's name.
        memory: Bytes of memory it may use in all; unlimited by default.

    Raises:
        HostsError: The machine does not hand its controllers on.
    """
    for hierarchy in _usable(hierarchies()):
        group = hierarchy.mount / ident / "hosts" / host
        (hierarchy.mount / ident / "supervisors").mkdir(parents=True, exist_ok=True)
        group.mkdir(parents=True, exist_ok=True)
        if hierarchy.version == 2 and (hierarchy.mount / "cgroup.controllers").read_text().split():
            for parent in (hierarchy.mount, hierarchy.mount / ident, group.parent):
                _hand_on(parent)
        # All hosts together would have no more of the cores than one process beside them, and
        # what waits for their servers waits for a time that it knows.
        for name, value in (("cpu.weight", 400), ("cpu.shares", 4096)):
            if (hierarchy.mount / ident / name).exists():
                (hierarchy.mount / ident / name).write_text(str(value), encoding="ascii")
        if memory is not None:
            for name, value in _memory_limits(memory):
                if (group / name).exists():
                    (group / name).write_text(str(value), encoding="ascii")


def _memory_limits(memory: int) -> list[tuple[str, int]]:
    """Files of v2 and v1 and what to write there; without swap, or the limit would only slow down.

    The order matters in v1: memory and swap together can never be limited to less than memory.
    """
    return [
        ("memory.max", memory),
        ("memory.swap.max", 0),
        ("memory.limit_in_bytes", memory),
        ("memory.memsw.limit_in_bytes", memory),
    ]


def _hand_on(group: Path) -> None:
    wanted = (group / "cgroup.controllers").read_text().split()
    have = (group / "cgroup.subtree_control").read_text().split()
    lacking = [name for name in wanted if name not in have]
    for name in lacking:
        try:
            (group / "cgroup.subtree_control").write_text(f"+{name}", encoding="ascii")
        except OSError as error:
            if name in ("memory", "pids", "cpu"):
                why = "it holds processes" if error.errno == errno.EBUSY else error.strerror
                raise HostsError(
                    f"the cgroup {group} does not hand its controller {name} on ({why})",
                    "run this on a machine, not inside a container that shares its cgroup",
                ) from None


def enter(groups: list[Path]) -> None:
    """Move the calling process into groups."""
    for group in groups:
        (group / "cgroup.procs").write_text("0", encoding="ascii")


def enter_supervisors(ident: str) -> None:
    """Move the calling process to where the hosts' supervisors sit."""
    enter([h.mount / ident / "supervisors" for h in _usable(hierarchies())])


def _tree(group: Path) -> list[Path]:
    """A group and all groups below it, deepest first."""
    return [Path(top) for top, _, _ in os.walk(group, topdown=False)]


def processes(ident: str, host: str) -> set[int]:
    """Process ids in any of a host's groups."""
    pids: set[int] = set()
    for group in host_groups(ident, host):
        for directory in _tree(group):
            with contextlib.suppress(OSError):
                pids |= {int(word) for word in (directory / "cgroup.procs").read_text().split()}
    return pids


def kill(ident: str, host: str, timeout: float = 30.0) -> None:
    """Kill everything in a host's groups and wait for it to be gone.

    Args:
        ident: What all hosts' groups lie in.
        host: The host's name.
        timeout: Seconds to wait.

    Raises:
        HostsError: Something would not die.
    """
    deadline = time.monotonic() + timeout
    while pids := processes(ident, host):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise HostsError(f"processes of {host} do not die: {sorted(pids)}")
        time.sleep(0.05)


def remove(ident: str, host: str) -> None:
    """Remove a host's empty groups; nothing happens where there are none."""
    for group in host_groups(ident, host):
        for directory in _tree(group):
            # The kernel lets a group go a moment after its last process.
            for _ in range(40):
                try:
                    directory.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.05)
                else:
                    break


def known_hosts(ident: str) -> list[str]:
    """Names of the hosts that have a group, also of those a crash left behind."""
    names: set[str] = set()
    for hierarchy in hierarchies():
        with contextlib.suppress(OSError):
            names |= {p.name for p in (hierarchy.mount / ident / "hosts").iterdir() if p.is_dir()}
    return sorted(names)


def remove_root(ident: str) -> None:
    """Remove the groups above the hosts', when no host is left."""
    for hierarchy in hierarchies():
        for directory in _tree(hierarchy.mount / ident):
            with contextlib.suppress(OSError):
                directory.rmdir()
