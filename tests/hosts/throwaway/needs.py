# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tool needs of a machine, told all at once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import cgroups, images, network
from .common import HostsError, Settings, run
from .launcher import systemd_is_running

COMMANDS = {
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
}
"""Programs, and the Debian packages that bring them (packages.txt names the same)."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
KEYRING_PACKAGE = "debian-archive-keyring"

NOT_ROOT = "this needs root: run it with sudo"

HOST_BYTES = 256 * 1024**2
"""Free disk below which making a host makes no sense."""


def missing_packages(
    which: Callable[[str], str | None] = shutil.which, keyring: Path = KEYRING
) -> dict[str, list[str]]:
    """Packages that are not installed.

    Args:
        which: Finds a program.
        keyring: The file with Debian's archive keys, which only another distribution lacks.

    Returns:
        Package: what of it was not found.
    """
    missing: dict[str, list[str]] = {}
    for command, package in COMMANDS.items():
        if which(command) is None:
            missing.setdefault(package, []).append(command)
    if not keyring.exists():
        missing.setdefault(KEYRING_PACKAGE, []).append(str(keyring))
    return missing


def package_need(missing: dict[str, list[str]]) -> str | None:
    """One line for all missing packages, with the line that installs them; None for none."""
    if not missing:
        return None
    found = ", ".join(what for package in sorted(missing) for what in missing[package])
    install = " ".join(sorted(missing))
    return f"not installed: {found}: apt-get install --no-install-recommends {install}"


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def disk_needs(settings: Settings) -> list[str]:
    """What is missing of disk."""
    needs = []
    unbuilt = [s for s in images.SUITES if not images.is_built(images.path(settings, s))]
    for path, size, remedy in (
        (settings.images, images.NEEDED_BYTES if unbuilt else 0, "XDG_CACHE_HOME"),
        (settings.state, HOST_BYTES, "TESTHOSTS_STATE"),
    ):
        free = shutil.disk_usage(_existing(path)).free
        if free < size:
            needs.append(
                f"{path} has {free >> 20} MiB of disk free, {size >> 20} are needed: "
                f"make room, or set {remedy} to another place"
            )
    return needs


def kernel_needs() -> list[str]:
    """What is missing of the kernel, tried out in namespaces of its own where it leaves no trace.

    Needs root and the packages.
    """
    needs = []
    for what, command in (
        ("network namespaces and bridges", ["ip", "link", "add", "probe", "type", "bridge"]),
        ("virtual cables (veth)", ["ip", "link", "add", "probe", "type", "veth"]),
        (
            "nftables with NAT",
            [
                "nft",
                "table ip t { chain c { type nat hook postrouting priority 100; masquerade; }; }",
            ],
        ),
    ):
        done = run(["unshare", "--net", "--", *command], check=False)
        if done.returncode != 0:
            needs.append(f"the kernel has no {what}: {' '.join(done.stderr.split())}")
    done = run(
        ["unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "true"], check=False
    )
    if done.returncode != 0:
        needs.append(f"namespaces cannot be made: {' '.join(done.stderr.split())}")
    return needs


def overlay_need(settings: Settings) -> str | None:
    """Whether a host's overlay can be mounted where hosts would lie."""
    settings.state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".probe-", dir=settings.state) as text:
        here = Path(text)
        for name in ("lower", "upper", "work", "root"):
            (here / name).mkdir()
        layers = f"lowerdir={here}/lower,upperdir={here}/upper,workdir={here}/work,metacopy=on"
        done = run(
            [
                "unshare",
                "--mount",
                "--propagation=private",
                "--",
                "mount",
                "-t",
                "overlay",
                "probe",
                "-o",
                layers,
                here / "root",
            ],
            check=False,
        )
    if done.returncode == 0:
        return None
    return (
        f"no overlay file system on {settings.state} ({' '.join(done.stderr.split())}): "
        "set TESTHOSTS_STATE to a directory on ext4, xfs or btrfs"
    )


def missing(settings: Settings, thorough: bool = False) -> list[str]:
    """Everything that is missing on this machine.

    Args:
        settings: Where things lie.
        thorough: Also try the kernel and the file system out (about 0.2 s).

    Returns:
        One line each: what is missing, and what to do.
    """
    needs = []
    is_root = os.geteuid() == 0
    if not is_root:
        needs.append(NOT_ROOT)
    package = package_need(missing_packages())
    if package:
        needs.append(package)
    needs += disk_needs(settings)
    if not systemd_is_running():
        lacking = cgroups.missing_controllers()
        if lacking:
            needs.append(
                f"no cgroup controller {', '.join(lacking)}: limits would not be real; "
                "mount the cgroup file systems"
            )
    if not network.name_servers(settings):
        needs.append("/etc/resolv.conf names no server that a host could reach: set TESTHOSTS_DNS")
    if thorough and is_root and not package:
        needs += kernel_needs()
        overlay = overlay_need(settings)
        if overlay:
            needs.append(overlay)
        try:
            network.free_subnet(settings)
        except HostsError as error:
            needs.append(str(error))
    return needs


def require_root() -> None:
    """Raise unless this is root, which is all that looking and taking away needs.

    Raises:
        HostsError: It is not.
    """
    if os.geteuid() != 0:
        raise HostsError(NOT_ROOT)


def require(settings: Settings) -> None:
    """Raise when anything is missing that making a host or an image needs.

    Raises:
        HostsError: All that is missing.
    """
    found = missing(settings)
    if found:
        raise HostsError("\n           ".join(found))
