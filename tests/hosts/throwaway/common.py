# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors, settings, and running programs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

DEFAULT_STATE = Path("/var/lib/compute_plane.vllm/hosts")

NAME_PATTERN = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
"""What a host may be called: a DNS label, short enough for a unit and a cgroup."""


class HostsError(Exception):
    """Something the user can act on; printed as one line, exit status 2.

    Args:
        message: What is wrong.
        remedy: What to do about it.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}: {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


def say(text: str) -> None:
    """Tell progress on standard error; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Settings:
    """Where things lie and which addresses may be used.

    Attributes:
        cache: Downloaded and built things; may be removed at any time no host runs.
        state: Hosts that exist now, the SSH key, locks.
        subnet: The subnet asked for (`10.77.0.0/24`), or None to choose a free one.
        mirror: A Debian mirror to use instead of the machine's own or mmdebstrap's default.
        dns: Name servers for the guests, or empty for the machine's own.
        environment: Variables of all services on new hosts, as systemd's `DefaultEnvironment=`
            takes them.
    """

    cache: Path
    state: Path
    subnet: str | None
    mirror: str | None
    dns: tuple[str, ...]
    environment: str | None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read `XDG_CACHE_HOME` and `TESTHOSTS_{STATE,SUBNET,MIRROR,DNS,ENVIRONMENT}`.

        Args:
            environ: The environment to read; the process's own by default.

        Returns:
            The settings.
        """
        env = os.environ if environ is None else environ
        home = Path(env.get("HOME") or "/root")
        cache = Path(env.get("XDG_CACHE_HOME") or home / ".cache")
        return cls(
            cache=cache / "compute_plane.vllm",
            state=Path(env.get("TESTHOSTS_STATE") or DEFAULT_STATE).absolute(),
            subnet=env.get("TESTHOSTS_SUBNET") or None,
            mirror=env.get("TESTHOSTS_MIRROR") or None,
            dns=tuple((env.get("TESTHOSTS_DNS") or "").replace(",", " ").split()),
            environment=env.get("TESTHOSTS_ENVIRONMENT") or None,
        )

    @property
    def ident(self) -> str:
        """What names of interfaces, namespaces, control groups and units begin with.

        Each state directory has its own, so two sets of hosts on one machine (a test of this tool
        beside a demo, say) never touch each other: `testhosts0` for the default one.
        """
        if self.state == DEFAULT_STATE:
            return "testhosts0"
        return "testhosts" + hashlib.sha256(str(self.state).encode()).hexdigest()[:4]

    @property
    def images(self) -> Path:
        """Root file systems that hosts are made from."""
        return self.cache / "images"

    @property
    def key(self) -> Path:
        """The private key that every host lets in as root."""
        return self.state / ".ssh" / "id_ed25519"

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold an exclusive lock among all runs of the tool.

        Args:
            name: `network`, `key`, `host-NAME` or `image-SUITE`; an image's is shared by all who
                share the cache. Taken in the order host, image, network, key.
        """
        directory = (self.images if name.startswith("image-") else self.state) / ".locks"
        directory.mkdir(parents=True, exist_ok=True)
        with open(directory / name, "w", encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    stdin: str | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    timeout: float | None = 60,
) -> subprocess.CompletedProcess[str]:
    """Run a program and collect what it says.

    Args:
        argv: Program and arguments; no shell.
        stdin: Text for its standard input; none by default.
        check: Raise when it fails.
        env: Its environment; the process's own by default.
        timeout: Seconds it may take.

    Returns:
        The completed process, both outputs as text.

    Raises:
        HostsError: It is not installed, failed (with `check`), or took too long.
    """
    words = [os.fspath(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            env=env,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise HostsError(f"{words[0]} is not installed", "run `testhosts.py check`") from None
    except subprocess.TimeoutExpired:
        raise HostsError(f"`{' '.join(words)}` took more than {timeout} s") from None
    if check and done.returncode != 0:
        told = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise HostsError(
            f"`{' '.join(words)}` failed with status {done.returncode}: {'; '.join(told[-3:])}"
        )
    return done


def become(argv: Sequence[str], env: Mapping[str, str] | None = None) -> NoReturn:
    """Replace this process by a program.

    Args:
        argv: Program and arguments.
        env: Its environment; the process's own by default.
    """
    sys.stdout.flush()
    os.execvpe(argv[0], list(argv), os.environ if env is None else env)  # noqa: S606 - no shell meant


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file that is either the old or the new one, never half."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None where the file does not exist or was cut short."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def mounts_below(directory: Path, mountinfo: str | None = None) -> list[Path]:
    """Mount points at or below a directory, deepest first.

    Args:
        directory: Where to look.
        mountinfo: The text of `/proc/self/mountinfo` (proc(5)); read by default.

    Returns:
        The mount points.
    """
    if mountinfo is None:
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    points = []
    for line in mountinfo.splitlines():
        point = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), line.split()[4]))
        if point == directory or directory in point.parents:
            points.append(point)
    return sorted(points, key=lambda point: len(point.parts), reverse=True)


def parse_size(text: str) -> int:
    """Read a size such as `512M` or `2G`.

    Args:
        text: A whole number with an optional suffix K, M, G or T (powers of 1024).

    Returns:
        Bytes.

    Raises:
        HostsError: It is not such a size.
    """
    match = re.fullmatch(r"([1-9][0-9]*)([KMGT]?)(i?B)?", text, re.IGNORECASE)
    if not match:
        raise HostsError(f"{text!r} is not a size", "write it like 512M or 2G")
    return int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ")
