# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's life: up, ready, down, and what a crash left."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import addresses, carryover, cgroups, images, network, sharing
from .common import (
    NAME_PATTERN,
    HostsError,
    Settings,
    mounts_below,
    read_json,
    run,
    say,
    write_json,
)
from .launcher import (
    INIT,
    INIT_PATH,
    Machine,
    choose,
    enter_argv,
    enter_environment,
    leader,
    unmount_propagate,
)

READY_SECONDS = 60
CONSOLE_TAIL = 30


@dataclass(frozen=True)
class Wanted:
    """What `up` was asked for; None where nothing was said.

    Attributes:
        name: The host's name.
        image: The Debian suite.
        ip: Its address.
        memory: Bytes of memory it may use in all.
        seeds: Pairs of a directory of the machine and its place in the guest.
        binds: Arguments for systemd-nspawn's `--bind=`.
        binds_ro: Arguments for systemd-nspawn's `--bind-ro=`.
    """

    name: str
    image: str | None = None
    ip: str | None = None
    memory: int | None = None
    seeds: tuple[tuple[str, str], ...] = ()
    binds: tuple[str, ...] = ()
    binds_ro: tuple[str, ...] = ()


def check_name(name: str) -> str:
    """Return a host's name.

    Raises:
        HostsError: It cannot be one.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise HostsError(
            f"{name!r} cannot be a host's name",
            "use up to 40 lower-case letters, digits and inner dashes",
        )
    return name


class Host:
    """One throwaway host, existing or not.

    Args:
        settings: Where things lie.
        name: Its name.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings = settings
        self.name = check_name(name)
        self.directory = settings.state / name
        self.launcher = choose()

    @property
    def record(self) -> dict[str, Any] | None:
        """What `up` wrote down; None when the host does not exist."""
        return read_json(self.directory / "host.json")

    def require(self) -> dict[str, Any]:
        """What `up` wrote down.

        Raises:
            HostsError: The host does not exist.
        """
        record = self.record
        if record is None:
            raise HostsError(
                f"there is no host {self.name}", "see `testhosts.py list`, or take it up"
            )
        return record

    @property
    def known_hosts(self) -> Path:
        """A known_hosts file with the host's own key; its path never changes."""
        return self.directory / "known_hosts"

    @property
    def root(self) -> Path:
        """Where the host's overlay is mounted."""
        return self.directory / "root"

    @property
    def machine(self) -> Machine:
        """The host as launchers see it."""
        record = self.record or {}
        options = [f"--bind={bind}" for bind in record.get("binds", [])]
        options += [f"--bind-ro={bind}" for bind in record.get("binds_ro", [])]
        return Machine(
            self.settings.ident, self.name, self.directory, record.get("memory"), tuple(options)
        )

    def alive(self) -> bool:
        """Whether the host runs or reboots."""
        return self.launcher.alive(self.machine)

    def leader(self) -> int:
        """The process id, on this machine, of the guest's PID 1.

        Raises:
            HostsError: The host does not run.
        """
        self.require()
        pid = leader(self.launcher.nspawn_pid(self.machine))
        if pid is None:
            raise HostsError(f"{self.name} does not run", "see `testhosts.py logs`")
        return pid

    def system_state(self) -> str:
        """What `systemctl is-system-running` says in the guest; `offline` where nobody answers."""
        pid = leader(self.launcher.nspawn_pid(self.machine))
        if pid is None:
            return "offline"
        command = enter_argv(pid, ["systemctl", "is-system-running"])
        done = run(command, check=False, env=enter_environment())
        return done.stdout.strip() or "offline"

    def up(self, wanted: Wanted, timeout: float = READY_SECONDS) -> dict[str, Any]:
        """Make the host and wait until it is ready; a host that runs is left as it is.

        Args:
            wanted: What the host shall be.
            timeout: Seconds it may take from its start until it is ready.

        Returns:
            `describe()` with `changed`.

        Raises:
            HostsError: It runs but is another than wanted; or it cannot be made. Then nothing of
                it is left.
        """
        with self.settings.lock(f"host-{self.name}"):
            record = self.record
            if record is not None and self.alive():
                self._compare(record, wanted)
                self._wait(timeout)
                return {**self.describe(), "changed": False}
            if record is not None or self.directory.exists():
                say(f"{self.name}: removing what is left of an earlier one")
            self._remove()
            image, _ = images.ensure(self.settings, wanted.image or images.SUITES[0])
            try:
                self._make(wanted, image)
                self.launcher.start(self.machine)
                self._wait(timeout)
            except BaseException:
                self._tail()
                self._remove()
                raise
            return {**self.describe(), "changed": True}

    def _compare(self, record: dict[str, Any], wanted: Wanted) -> None:
        differences = []
        for key in ("image", "ip", "memory", "seeds", "binds", "binds_ro"):
            value = getattr(wanted, key)
            if isinstance(value, tuple):
                value = [list(v) if isinstance(v, tuple) else v for v in value]
            if value and value != record[key]:
                differences.append(f"{key} is {record[key]}, not {value}")
        if differences:
            raise HostsError(
                f"{self.name} runs already and is another: {'; '.join(differences)}",
                f"`testhosts.py down {self.name}` first",
            )

    def _make(self, wanted: Wanted, image: Path) -> None:
        """Everything before the start: record, address, cable, files."""
        seeds = [(Path(source).resolve(), target) for source, target in wanted.seeds]
        with self.settings.lock("network"):
            subnet = network.up(self.settings)
            others = [host.record for host in every(self.settings)]
            taken = [record["ip"] for record in others if record]
            address = str(addresses.allocate(subnet, taken, wanted.ip))
            self.directory.mkdir(parents=True)
            write_json(
                self.directory / "host.json",
                {
                    "name": self.name,
                    "ip": address,
                    "image": wanted.image or images.SUITES[0],
                    "image_path": str(image),
                    "memory": wanted.memory,
                    "seeds": [list(pair) for pair in wanted.seeds],
                    "binds": list(wanted.binds),
                    "binds_ro": list(wanted.binds_ro),
                    "created": datetime.now(UTC).isoformat(timespec="seconds"),
                },
            )
        lower, upper, work = images.rootfs(image), self.directory / "upper", self.directory / "work"
        for directory in (upper, work, self.root):
            directory.mkdir()
        shutil.copystat(lower, upper)
        below = str(lower)
        if seeds:
            layer = self.directory / "seeds"
            layer.mkdir()
            shutil.copystat(lower, layer)
            for source, target in seeds:
                sharing.seed(layer, lower, source, target)
            below = f"{layer}:{lower}"
        # Without metacopy, each hard link to a seeded file would copy it.
        layers = f"lowerdir={below},upperdir={upper},workdir={work},metacopy=on"
        run(["mount", "-t", "overlay", self.machine.full_name, "-o", layers, self.root])
        self._configure(address, image)
        network.connect(self.settings.ident, self.name, address, subnet)

    def _configure(self, address: str, image: Path) -> None:
        """What differs from host to host, and what this machine's network asks for."""
        etc = self.root / "etc"
        servers = network.name_servers(self.settings)
        pip, uv = carryover.read_machine()
        if images.added_certificates(image):
            uv.system_certs = True
        public = _key(self.settings)
        environment = self.settings.environment
        files = {
            "hostname": f"{self.name}\n",
            "hosts": f"127.0.0.1 localhost\n::1 localhost\n{address} {self.name}\n",
            "machine-id": f"{uuid.uuid4().hex}\n",
            "resolv.conf": "".join(f"nameserver {server}\n" for server in servers),
            "environment": carryover.environment_file(os.environ, uv),
            "pip.conf": carryover.pip_conf(pip),
            "uv/uv.toml": carryover.uv_toml(uv),
            "apt/apt.conf.d/90testhost": carryover.read_apt(),
            "systemd/system.conf.d/testhost.conf": f"[Manager]\nDefaultEnvironment={environment}\n"
            if environment
            else "",
        }
        for name, text in files.items():
            if text:
                file = etc / name
                file.parent.mkdir(exist_ok=True)
                file.unlink(missing_ok=True)  # resolv.conf may be a link
                file.write_text(text, encoding="utf-8")
        init = self.root / INIT_PATH
        init.write_text(INIT, encoding="ascii")
        init.chmod(0o755)
        ssh = self.root / "root/.ssh"
        ssh.mkdir(mode=0o700, exist_ok=True)
        (ssh / "authorized_keys").write_text(public, encoding="ascii")
        (ssh / "authorized_keys").chmod(0o600)
        host_key = etc / "ssh/ssh_host_ed25519_key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", host_key])
        words = host_key.with_suffix(".pub").read_text(encoding="ascii").split()
        self.known_hosts.write_text(f"{address} {words[0]} {words[1]}\n", encoding="ascii")

    def _wait(self, timeout: float) -> None:
        """Wait until systemd has started everything and sshd answers."""
        address = self.require()["ip"]
        deadline = time.monotonic() + timeout
        while True:
            state = self.system_state()
            greeting = _ssh_greeting(address) if state in ("running", "degraded") else ""
            if greeting.startswith("SSH-"):
                return
            if not self.alive():
                raise HostsError(f"{self.name} ended while it was starting")
            if time.monotonic() > deadline:
                raise HostsError(
                    f"{self.name} is not ready after {timeout:.0f} s"
                    f" (systemd: {state}, sshd: {greeting or 'silent'})"
                )
            time.sleep(0.1)

    def _tail(self) -> None:
        with contextlib.suppress(OSError):
            text = self.machine.console.read_text(encoding="utf-8", errors="replace")
            for line in text.splitlines()[-CONSOLE_TAIL:]:
                say(f"{self.name}| {line}")

    def down(self) -> bool:
        """Power the host off and remove everything of it, whatever state it is in.

        Returns:
            Whether there was anything.

        Raises:
            HostsError: Something of it cannot be removed.
        """
        with self.settings.lock(f"host-{self.name}"):
            existed = self.directory.exists()
            self._remove()
        return existed

    def _remove(self) -> None:
        self.launcher.stop(self.machine)
        for point in mounts_below(self.directory):
            if run(["umount", point], check=False).returncode != 0:
                run(["umount", "--lazy", point])
        network.disconnect(self.settings.ident, self.name)
        if self.directory.exists():
            # Never remove files through a mount that would not go.
            if left := mounts_below(self.directory):
                raise HostsError(f"{left[0]} is still mounted", "unmount it")
            shutil.rmtree(self.directory)

    def describe(self) -> dict[str, Any]:
        """The host as plain data, for people and programs."""
        record = self.require()
        return {
            "name": self.name,
            "state": self.system_state() if self.alive() else "stopped",
            "ip": record["ip"],
            "image": record["image"],
            "memory": record["memory"],
            "created": record["created"],
            "private_key": str(self.settings.key),
            "known_hosts": str(self.known_hosts),
            "directory": str(self.directory),
        }

    def ssh_options(self) -> list[str]:
        """Options for ssh(1) that let root in and check the host's own key."""
        return [
            "-o",
            f"UserKnownHostsFile={self.known_hosts}",
            "-o",
            "GlobalKnownHostsFile=/dev/null",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "IdentitiesOnly=yes",
        ]

    def ssh_argv(self, command: Sequence[str] = ()) -> list[str]:
        """The command line that logs in as root, or runs a command there."""
        address = self.require()["ip"]
        return [
            "ssh",
            "-F",
            "none",
            "-i",
            str(self.settings.key),
            *self.ssh_options(),
            f"root@{address}",
            *command,
        ]

    def writers(self, directory: str) -> list[str]:
        """Processes of the guest that hold files below a directory open for writing.

        Args:
            directory: A path inside the guest.

        Returns:
            `PID COMMAND PATH` of each, empty when the host does not run.
        """
        pid = leader(self.launcher.nspawn_pid(self.machine))
        if pid is None:
            return []
        prefix = "/" + str(sharing.check_target(directory)) + "/"
        inside = os.stat(f"/proc/{pid}/ns/pid").st_ino
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.stat(process / "ns/pid").st_ino != inside:
                    continue
                for descriptor in (process / "fd").iterdir():
                    with contextlib.suppress(OSError):
                        path = os.readlink(descriptor)
                        flags = (process / "fdinfo" / descriptor.name).read_text().splitlines()[1]
                        mode = int(flags.split()[1], 8) & os.O_ACCMODE
                        if path.startswith(prefix) and mode != os.O_RDONLY:
                            command = (process / "comm").read_text().strip()
                            found.append(f"{process.name} {command} {path}")
        return found

    def harvest(self, source: str, target: Path) -> sharing.Tally:
        """Copy what the guest added to a directory back to the machine (see `sharing.harvest`).

        Raises:
            HostsError: There is no such host or directory, or the guest still writes there.
        """
        with self.settings.lock(f"host-{self.name}"):
            self.require()
            if writers := self.writers(source):
                raise HostsError(
                    f"{self.name} still writes below {source}: {'; '.join(writers[:3])}",
                    "wait until it has ended",
                )
            return sharing.harvest(self.root, source, target, self.name)


def _key(settings: Settings) -> str:
    """The public key that hosts let in; the pair is made the first time."""
    with settings.lock("key"):
        if not settings.key.exists():
            settings.key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            run(
                [
                    "ssh-keygen",
                    "-q",
                    "-t",
                    "ed25519",
                    "-N",
                    "",
                    "-C",
                    "testhosts",
                    "-f",
                    settings.key,
                ]
            )
        return settings.key.with_suffix(".pub").read_text(encoding="ascii")


def _ssh_greeting(address: str) -> str:
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            return connection.recv(64).decode("ascii", "replace").strip()
    except OSError:
        return ""


def every(settings: Settings) -> list[Host]:
    """The hosts that have a directory, by name."""
    if not settings.state.is_dir():
        return []
    names = sorted(p.name for p in settings.state.iterdir() if p.is_dir())
    return [Host(settings, name) for name in names if NAME_PATTERN.fullmatch(name)]


def leftovers(settings: Settings) -> list[str]:
    """Names of hosts that a crash left something of, but no directory."""
    known = {host.name for host in every(settings)}
    names = {*network.connected_hosts(settings.ident), *choose().leftovers(settings.ident)}
    return sorted(n for n in names - known if NAME_PATTERN.fullmatch(n))


def clean(settings: Settings, with_images: bool = False) -> list[str]:
    """Remove all hosts, whatever a crash left, and the bridge; with `with_images` also the images.

    Returns:
        What was removed, for people.
    """
    removed = []
    for host in [*every(settings), *(Host(settings, name) for name in leftovers(settings))]:
        host.down()
        removed.append(host.name)
    with settings.lock("network"):
        if not every(settings):
            network.down(settings)
            unmount_propagate()
            cgroups.remove_root(settings.ident)
    if with_images:
        removed += images.remove_all(settings)
    return removed
