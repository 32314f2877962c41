# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a process is: its name, its owner and the systemd unit it belongs to."""

from __future__ import annotations

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host

_UNIT_SUFFIXES = (".service", ".scope", ".socket", ".mount", ".swap")


def systemd_path(cgroup: str) -> str | None:
    """Picks the hierarchy that systemd manages out of /proc/PID/cgroup.

    Args:
        cgroup: The file's text, one `id:controllers:path` a line (cgroups(7)).

    Returns:
        The path in the v1 `name=systemd` hierarchy where there is one, else in the v2 hierarchy,
        else None.
    """
    unified = None
    for line in cgroup.splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        if parts[1] == "name=systemd":
            return parts[2]
        if parts[0] == "0" and parts[1] == "":
            unified = parts[2]
    return unified


def unit_of(cgroup: str, init_cgroup: str) -> str | None:
    """Names the system unit that a process belongs to, as systemd itself reads it.

    Args:
        cgroup: Text of /proc/PID/cgroup.
        init_cgroup: Text of /proc/1/cgroup: inside a container the paths may start with the
            container's own.

    Returns:
        For example "vllm@chat.service" or "session-3.scope"; None outside of any unit.
    """
    path = systemd_path(cgroup)
    if path is None:
        return None
    root = (systemd_path(init_cgroup) or "/").rstrip("/")
    root = root.removesuffix("/init.scope")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    for part in path.split("/"):
        if part.endswith(_UNIT_SUFFIXES):
            return part
        if part and not part.endswith(".slice"):
            return None  # systemd places units in slices only; another manager made this one
    return None


class Processes:
    """Looks processes up, reading what they share once.

    Args:
        host: The machine.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._init = host.read_text("/proc/1/cgroup") or ""

    def name(self, pid: int) -> str | None:
        """The kernel's name for the process (at most 15 bytes), or None when it is gone."""
        text = self._host.read_text(f"/proc/{pid}/comm")
        return None if text is None else text.rstrip("\n")

    def command(self, pid: int) -> str | None:
        """A name worth printing: the first word of the process's title.

        Programs that set a title (`VLLM::EngineCore`, "sshd: /usr/sbin/sshd -D [listener] ...")
        write it over their arguments; else this is the program's file name.

        Returns:
            The name, or None when the process is gone.
        """
        title = self._host.read_text(f"/proc/{pid}/cmdline", 4096) or ""
        first = title.split("\0", 1)[0]
        if first.startswith("/"):
            return first.rsplit("/", 1)[-1]
        return first.split(" ", 1)[0].rstrip(":") or self.name(pid)

    def owner(self, pid: int) -> str | None:
        """Login name of the process's user (the number where no account has it), or None."""
        for line in (self._host.read_text(f"/proc/{pid}/status") or "").splitlines():
            if line.startswith("Uid:"):
                return self._host.user_name(int(line.split()[2]))  # the effective one
        return None

    def unit(self, pid: int) -> str | None:
        """The systemd unit of the process, or None."""
        text = self._host.read_text(f"/proc/{pid}/cgroup")
        return None if text is None else unit_of(text, self._init)
