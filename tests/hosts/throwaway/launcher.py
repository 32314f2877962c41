# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host runs: under a supervisor of ours, or as a unit of the machine's systemd.

Both start the same systemd-nspawn. It ends with status 133 when the guest reboots
(systemd-nspawn(1), exit status; `RestartForceExitStatus=133` in systemd-nspawn@.service), and
whoever started it starts it again.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from . import cgroups
from .common import HostsError, become, run
from .network import namespace

INIT = """\
#!/bin/sh
# PID 1 of a throwaway host, until it is systemd.
# systemd-nspawn mounts cgroup v1 controllers read-only, and systemd then ignores MemoryMax=,
# CPUQuota=, TasksMax= and DeviceAllow= without a word: make them writable.
for controller in cpu cpuacct memory pids blkio devices freezer; do
    [ ! -d /sys/fs/cgroup/$controller ] || mount -o remount,bind,rw /sys/fs/cgroup/$controller
done
# It allows 10 % of the memory where a machine allows half.
mount -o remount,size=50% /dev/shm
exec /lib/systemd/systemd
"""
INIT_PATH = "usr/local/sbin/testhost-init"

REBOOT = 133
POWEROFF_SECONDS = 15
# Python needs a moment until the supervisor has written its process id, more on a loaded machine.
SUPERVISOR_SECONDS = 30
PROPAGATE = Path("/run/systemd/nspawn")
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Machine:
    """What a launcher needs to know of a host.

    Attributes:
        ident: `Settings.ident`.
        name: The host's name.
        directory: Its directory below the state directory.
        memory: Bytes of memory it may use in all, or None.
        options: Further options of systemd-nspawn.
    """

    ident: str
    name: str
    directory: Path
    memory: int | None = None
    options: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """Its name among everything on this machine."""
        return namespace(self.ident, self.name)

    @property
    def console(self) -> Path:
        """Everything the guest and systemd-nspawn write to the console."""
        return self.directory / "console.log"


class Launcher(Protocol):
    """Starts and stops hosts."""

    name: str

    def start(self, machine: Machine) -> None:
        """Start a host's systemd-nspawn; returns before the guest is up."""

    def alive(self, machine: Machine) -> bool:
        """Whether something looks after the host (it may be between two boots)."""

    def nspawn_pid(self, machine: Machine) -> int | None:
        """The process id of the host's systemd-nspawn."""

    def stop(self, machine: Machine) -> None:
        """Power the host off; kill it when that takes too long. Idempotent."""

    def leftovers(self, ident: str) -> list[str]:
        """Names of the hosts that something is left of."""


def nspawn_argv(machine: Machine) -> list[str]:
    """The command line of a host's systemd-nspawn."""
    return [
        "systemd-nspawn",
        "--quiet",
        "--settings=no",
        f"--directory={machine.directory / 'root'}",
        f"--machine={machine.full_name}",
        f"--hostname={machine.name}",
        # Without --keep-unit it would ask the machine's systemd for a scope.
        "--register=no",
        "--keep-unit",
        "--kill-signal=SIGRTMIN+3",
        f"--network-namespace-path=/run/netns/{machine.full_name}",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=read-only",
        "--capability=CAP_NET_ADMIN",
        # With cgroup v2 systemd enforces DeviceAllow= and IPAddressDeny= by BPF programs, and
        # ignores them without a word where it may not load any.
        "--system-call-filter=bpf",
        *machine.options,
        f"/{INIT_PATH}",
    ]


def nspawn_environment() -> dict[str, str]:
    """The environment of systemd-nspawn; nothing of the caller's leaks into the guest."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
        # /tmp as the distribution has it: on disk in Debian 12, half of the memory in 13.
        "SYSTEMD_NSPAWN_TMPFS_TMP": "0",
    }


def leader(nspawn_pid: int | None) -> int | None:
    """The process id, on this machine, of a guest's PID 1.

    Args:
        nspawn_pid: The process id of its systemd-nspawn.

    Returns:
        None before the guest's PID 1 runs.
    """
    if nspawn_pid is None:
        return None
    try:
        children = Path(f"/proc/{nspawn_pid}/task/{nspawn_pid}/children").read_text().split()
        for child in children:
            for line in Path(f"/proc/{child}/status").read_text().splitlines():
                if line.startswith("NSpid:") and line.split()[2:] == ["1"]:
                    return int(child)
    except OSError:
        return None
    return None


class Supervised:
    """For machines whose PID 1 is not systemd: a small supervisor process a host."""

    name = "supervisor"

    def start(self, machine: Machine) -> None:
        """Start the host's supervisor."""
        _propagate_on_tmpfs()
        cgroups.create(machine.ident, machine.name, machine.memory)
        # The supervisor inherits the locked file: whoever cannot lock it knows that it lives,
        # and the kernel lets go of it however the supervisor dies.
        with (
            open(machine.directory / "supervisor.lock", "w", encoding="ascii") as lock,
            open(machine.console, "ab") as console,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (machine.directory / "supervisor.pid").unlink(missing_ok=True)
            subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    str(Path(__file__).parents[1] / "testhosts.py"),
                    "_supervise",
                    machine.ident,
                    machine.name,
                    str(machine.directory),
                    *machine.options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd="/",
                env=nspawn_environment(),
                start_new_session=True,
                pass_fds=(lock.fileno(),),
            )

    def alive(self, machine: Machine) -> bool:
        """Whether the host's supervisor lives."""
        try:
            with open(machine.directory / "supervisor.lock", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def nspawn_pid(self, machine: Machine) -> int | None:
        """The process id that the supervisor wrote down, while the supervisor lives."""
        if not self.alive(machine):
            return None
        with contextlib.suppress(OSError, ValueError):
            return int((machine.directory / "nspawn.pid").read_text(encoding="ascii"))
        return None

    def stop(self, machine: Machine) -> None:
        """Have the supervisor power the guest off; kill what is left after that."""
        supervisor = self._supervisor_pid(machine)
        if supervisor is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(supervisor, signal.SIGTERM)
            deadline = time.monotonic() + POWEROFF_SECONDS
            while self.alive(machine):
                if time.monotonic() > deadline:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(supervisor, signal.SIGKILL)
                    break
                time.sleep(0.05)
        cgroups.kill(machine.ident, machine.name)
        cgroups.remove(machine.ident, machine.name)

    def _supervisor_pid(self, machine: Machine) -> int | None:
        """The process id that the supervisor wrote down, or None when none lives.

        One whose `up` was killed in the moment of its start has still to write it.
        """
        deadline = time.monotonic() + SUPERVISOR_SECONDS
        while self.alive(machine):
            with contextlib.suppress(OSError, ValueError):
                return int((machine.directory / "supervisor.pid").read_text(encoding="ascii"))
            if time.monotonic() > deadline:
                raise HostsError(
                    f"the supervisor of {machine.name} lives, and has not said its process id"
                )
            time.sleep(0.05)
        return None

    def leftovers(self, ident: str) -> list[str]:
        """Names of the hosts that have control groups."""
        return cgroups.known_hosts(ident)


def supervise(machine: Machine) -> int:
    """Run a host's systemd-nspawn, again after each reboot, until it ends or SIGTERM comes.

    Args:
        machine: The host.

    Returns:
        systemd-nspawn's last exit status.
    """
    stopping = False
    pid = 0

    def stop(_signum: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Not left to `up`, which may be killed before it could.
    (machine.directory / "supervisor.pid").write_text(f"{os.getpid()}\n", encoding="ascii")
    cgroups.enter_supervisors(machine.ident)
    while True:
        pid = os.fork()
        if pid == 0:
            _become_nspawn(machine)
        (machine.directory / "nspawn.pid").write_text(f"{pid}\n", encoding="ascii")
        if stopping:  # the signal came before `pid` was known
            os.kill(pid, signal.SIGTERM)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        print(f"testhosts: systemd-nspawn ended with status {code}", flush=True)
        if code != REBOOT or stopping:
            return code


def _become_nspawn(machine: Machine) -> None:
    """In the supervisor's child: enter the host's groups and be systemd-nspawn."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # the lock says that the supervisor lives
        # When the supervisor is killed, the guest powers off: nothing runs on unseen.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        cgroups.enter(cgroups.host_groups(machine.ident, machine.name))
        become(nspawn_argv(machine), nspawn_environment())
    except (OSError, HostsError) as error:
        print(f"testhosts: cannot start systemd-nspawn: {error}", flush=True)
    finally:
        os._exit(1)


def _propagate_on_tmpfs() -> None:
    """Make `/run/systemd/nspawn` a tmpfs where `/run` is none.

    systemd-nspawn empties its directory there on a reboot, but only on a file system that is in
    memory; elsewhere the second boot fails.
    """
    PROPAGATE.mkdir(parents=True, exist_ok=True)
    if run(["stat", "--file-system", "--format=%T", PROPAGATE]).stdout.strip() != "tmpfs":
        run(["mount", "-t", "tmpfs", "-o", "mode=0755,size=16m", "testhosts", PROPAGATE])


def unmount_propagate() -> None:
    """Undo what a supervised start did to `/run/systemd/nspawn`, unless a container uses it."""
    if any((PROPAGATE / "propagate").glob("*")):
        return
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    if any(
        f" {PROPAGATE} " in line and " - tmpfs testhosts " in line for line in text.splitlines()
    ):
        run(["umount", "--lazy", PROPAGATE])


class Unit:
    """For machines whose PID 1 is systemd: a transient unit a host, as systemd-nspawn@.service."""

    name = "systemd"

    @staticmethod
    def unit(machine: Machine) -> str:
        """The unit of a host."""
        return f"{machine.full_name}.service"

    @staticmethod
    def properties(machine: Machine) -> list[str]:
        """The unit's settings, those of systemd-nspawn@.service where they matter here."""
        settings = [
            f"Description=Throwaway host {machine.name}",
            "Type=notify",
            "NotifyAccess=all",
            "Delegate=yes",
            "KillMode=mixed",
            f"RestartForceExitStatus={REBOOT}",
            f"SuccessExitStatus={REBOOT}",
            # The default 100 ms are added to every reboot, and five reboots in ten seconds fail.
            "RestartSec=0",
            "StartLimitIntervalSec=0",
            f"TimeoutStopSec={POWEROFF_SECONDS}",
            "TasksMax=infinity",
            f"StandardOutput=append:{machine.console}",
            f"StandardError=append:{machine.console}",
        ]
        settings += [f"Environment={key}={value}" for key, value in nspawn_environment().items()]
        if machine.memory is not None:
            settings += [f"MemoryMax={machine.memory}", "MemorySwapMax=0"]
        return settings

    def start(self, machine: Machine) -> None:
        """Start the host's unit."""
        name = self.unit(machine)
        run(["systemctl", "reset-failed", name], check=False)
        properties = [f"--property={setting}" for setting in self.properties(machine)]
        run(
            [
                "systemd-run",
                "--quiet",
                f"--unit={name}",
                "--slice=machine.slice",
                "--collect",
                "--no-block",
                *properties,
                "--",
                *nspawn_argv(machine),
            ]
        )

    def _show(self, machine: Machine) -> dict[str, str]:
        done = run(
            ["systemctl", "show", "--property=ActiveState,MainPID", self.unit(machine)], check=False
        )
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    def alive(self, machine: Machine) -> bool:
        """Whether the unit is active, or about to be."""
        return self._show(machine).get("ActiveState") in ("active", "activating", "reloading")

    def nspawn_pid(self, machine: Machine) -> int | None:
        """The unit's main process."""
        return int(self._show(machine).get("MainPID", "0")) or None

    def stop(self, machine: Machine) -> None:
        """Stop the unit; systemd bounds the time and kills what is left."""
        name = self.unit(machine)
        done = run(["systemctl", "stop", name], check=False, timeout=POWEROFF_SECONDS * 4)
        if done.returncode not in (0, 5):  # 5: no such unit
            raise HostsError(f"{name} does not stop", done.stderr.strip())
        run(["systemctl", "reset-failed", name], check=False)

    def leftovers(self, ident: str) -> list[str]:
        """Names of the hosts that have a unit."""
        prefix = namespace(ident, "")
        done = run(
            ["systemctl", "list-units", "--all", "--plain", "--no-legend", f"{prefix}*.service"],
            check=False,
        )
        units = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
        return [u.removeprefix(prefix).removesuffix(".service") for u in units]


def systemd_is_running(marker: Path = Path("/run/systemd/system")) -> bool:
    """Whether this machine's PID 1 is systemd (sd_booted(3))."""
    return marker.is_dir()


def choose() -> Launcher:
    """The launcher for this machine."""
    return Unit() if systemd_is_running() else Supervised()


def enter_argv(leader_pid: int, command: Sequence[str]) -> list[str]:
    """The command line that runs a command inside a guest."""
    return [
        "nsenter",
        f"--target={leader_pid}",
        "--mount",
        "--uts",
        "--ipc",
        "--net",
        "--pid",
        "--cgroup",
        "--root",
        "--wd",
        "--",
        *command,
    ]


def enter_environment() -> dict[str, str]:
    """The environment of a command inside a guest."""
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "USER": "root",
        "LANG": "C.UTF-8",
    }
    if "TERM" in os.environ:
        environment["TERM"] = os.environ["TERM"]
    return environment
