# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throwaway host over this machine's own root, with systemd and its GPUs, for the playbooks.

Its root is an overlay in memory on the machine's: what is there is there (Python, the compiler, the
driver's libraries), and nothing that the host does stays. Where the machine has no systemd, the
host gets Debian's from the pack.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import say

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "hosts"))

from throwaway import cgroups  # noqa: E402
from throwaway.launcher import leader  # noqa: E402

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INIT = """\
#!/bin/sh
# systemd-nspawn mounts cgroup v1 controllers read-only: make them writable.
for controller in cpu cpuacct memory pids blkio devices freezer; do
    [ ! -d /sys/fs/cgroup/$controller ] || mount -o remount,bind,rw /sys/fs/cgroup/$controller
done
mount -o remount,size=50% /dev/shm
# None of the services that the machine itself has enabled.
exec /lib/systemd/systemd --unit=basic.target
"""
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "e2scrub_all.timer",
    "fstrim.timer",
    "getty.target",
    "motd-news.timer",
    "ssh.service",
    "systemd-logind.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "unattended-upgrades.service",
)
DEVICES = ("/dev/nvidia[0-9]*", "/dev/nvidiactl", "/dev/nvidia-uvm*", "/dev/nvidia-caps")


class Host:
    """The host. A context manager.

    Args:
        name: Its name; several hosts may run side by side.
        work: The run's directory, which the host sees at the same path.
        pack: Where the pack is unpacked; None on a machine with systemd-nspawn.
    """

    def __init__(self, name: str, work: Path, pack: Path | None) -> None:
        self.name = name
        self.ident = f"vllm-gpu-{name}"
        self.work = work
        self.pack = pack
        self.folder = Path("/run") / f"{self.ident}-host"
        self.root = self.folder / "root"
        self.nspawn: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Host:
        try:
            self._make()
            self._boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _make(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "-o", "mode=0755,size=32g", self.ident, str(self.folder))
        upper, layer = self.folder / "upper", self.folder / "layer"
        for one in (self.root, upper, layer):
            one.mkdir()
        options = f"lowerdir=/,upperdir={upper},workdir={layer}"
        _mount("-t", "overlay", self.ident, "-o", options, str(self.root))
        if self.pack is not None and not shutil.which("systemctl"):
            self._add_systemd(self.pack / "host")
        files = {
            "etc/machine-id": f"{uuid.uuid4().hex}\n",
            "etc/hostname": f"{self.name}\n",
            "etc/fstab": "",
            "etc/ld.so.conf.d/000-host.conf": os.environ.get("LD_LIBRARY_PATH", "").replace(
                ":", "\n"
            )
            + "\n",
            "usr/local/sbin/host-init": INIT,
        }
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_text(text, encoding="ascii")
        (self.root / "usr/local/sbin/host-init").chmod(0o755)
        units = self.root / "etc/systemd/system"
        units.mkdir(parents=True, exist_ok=True)
        for unit in MASKED:
            (units / unit).unlink(missing_ok=True)
            (units / unit).symlink_to("/dev/null")

    def _add_systemd(self, tree: Path) -> None:
        """Debian's systemd, and of its libraries those that are missing here."""
        for path in sorted(tree.rglob("*")):
            name = path.relative_to(tree)
            target = self.root / name
            if path.is_dir() and not path.is_symlink():
                target.mkdir(parents=True, exist_ok=True)
                continue
            library = name.parts[:3] == ("usr", "lib", "x86_64-linux-gnu") and len(name.parts) == 4
            if (library or name.parts[0] == "etc") and os.path.lexists(target):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(target):
                target.unlink()
            if path.is_symlink():
                target.symlink_to(os.readlink(path))
            else:
                shutil.copy(path, target)
        for line in ("messagebus:x:990:", "systemd-journal:x:989:"):
            _append(self.root / "etc/group", line)
        _append(self.root / "etc/passwd", "messagebus:x:990:990::/nonexistent:/usr/sbin/nologin")

    def _boot(self) -> None:
        Path("/run/systemd/nspawn").mkdir(parents=True, exist_ok=True)
        cgroups.create(self.ident, self.name)
        binds = [f"--bind={path}" for path in (self.work, ROOT)]
        for pattern in DEVICES:
            binds += [f"--bind={path}" for path in sorted(glob.glob(pattern))]
        # Mounts of the machine's that an overlay of its root does not show.
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
            point = line.split()[1]
            if point.startswith(("/usr/", "/opt", "/lib")) and os.path.isdir(point):
                binds.append(f"--bind-ro={point}")
        environment = {
            "PATH": PATH,
            "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
            "SYSTEMD_NSPAWN_TMPFS_TMP": "0",
        }
        program = shutil.which("systemd-nspawn")
        if program is None and self.pack is not None:
            libraries = self.pack / "host/usr/lib/x86_64-linux-gnu"
            environment["LD_LIBRARY_PATH"] = f"{libraries}/systemd:{libraries}"
            program = str(self.pack / "host/usr/bin/systemd-nspawn")
        if program is None:
            raise RuntimeError("systemd-nspawn is missing: install systemd-container")
        command = [
            program, "--quiet", "--settings=no", f"--directory={self.root}",
            f"--machine={self.ident}", f"--hostname={self.name}", "--register=no", "--keep-unit",
            "--kill-signal=SIGRTMIN+3", "--resolv-conf=off", "--timezone=off",
            "--link-journal=no", "--console=read-only", "--system-call-filter=bpf",
            *binds, "/usr/local/sbin/host-init",
        ]  # fmt: skip
        console = open(self.work / f"{self.name}-console.log", "ab")  # noqa: SIM115 - nspawn's own
        self.nspawn = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            start_new_session=True,
            preexec_fn=lambda: cgroups.enter(cgroups.host_groups(self.ident, self.name)),  # noqa: PLW1509
        )  # fmt: skip
        until = time.monotonic() + 60
        state = "offline"
        while state not in ("running", "degraded"):
            if self.nspawn.poll() is not None or time.monotonic() > until:
                text = (self.work / f"{self.name}-console.log").read_text(errors="replace")
                raise RuntimeError(f"the host did not boot ({state}): {text[-2000:]}")
            time.sleep(0.3)
            with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
                state = self.run(["systemctl", "is-system-running"], 10).stdout.strip()
        self.run(["ldconfig"], 60)
        say(f"host: {state}")

    def argv(self, command: list[str]) -> list[str]:
        """A command line that runs a command in the host."""
        pid = leader(self.nspawn.pid if self.nspawn is not None else None)
        if pid is None:
            raise RuntimeError("the host does not run")
        return ["nsenter", "--all", f"--target={pid}", "--", *command]

    def run(
        self, command: list[str], timeout: float, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host."""
        return subprocess.run(
            self.argv(command), capture_output=True, text=True, timeout=timeout, check=False,
            env=env or {"PATH": PATH},
        )  # fmt: skip

    def close(self) -> None:
        """Power it off and remove everything."""
        if self.nspawn is not None and self.nspawn.poll() is None:
            self.nspawn.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.nspawn.wait(15)
        cgroups.kill(self.ident, self.name)
        if self.nspawn is not None:
            self.nspawn.wait()
        cgroups.remove(self.ident, self.name)
        cgroups.remove_root(self.ident)
        for point in (self.root, self.folder):
            subprocess.run(["umount", "-l", point], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.folder, ignore_errors=True)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def _append(path: Path, line: str) -> None:
    text = path.read_text(encoding="utf-8")
    if line.split(":", 1)[0] + ":" not in text:
        path.write_text(text.rstrip("\n") + f"\n{line}\n", encoding="utf-8")


def ansible(
    host: Host,
    venv: Path,
    pack: Path | None,
    playbook: str,
    variables: Mapping[str, Any],
    timeout: float,
    words: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a playbook of this collection in the host, on the host itself."""
    # In the inventory, where a user has them: what a playbook sets must be able to come before.
    inventory = host.work / f"{host.name}-hosts.yml"
    machine = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    text = json.dumps({"vllm": {"hosts": {"gpu": machine}, "vars": dict(variables)}}, indent=1)
    inventory.write_text(text + "\n", encoding="utf-8")
    python = str(venv / "bin" / "python") if pack is not None else sys.executable
    environment = {
        "PATH": f"{PATH}:{os.environ['PATH']}",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCAL_TEMP": "/tmp/ansible-local",  # noqa: S108 - the host's own
        **({"PYTHONPATH": str(pack / "controller")} if pack is not None else {}),
    }
    command = [
        python, "-m", "ansible", "playbook", "-i", str(inventory), str(ROOT / playbook), *words,
    ]  # fmt: skip
    return host.run(command, timeout, environment)
