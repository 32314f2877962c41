# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root file systems: what a Debian server has when Ansible first reaches it, and no more."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from . import carryover
from .common import HostsError, Settings, mounts_below, read_json, run, say, write_json

SUITES = ("bookworm", "trixie")

PACKAGES = (
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "libnss-systemd",
    "libpam-systemd",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)
"""Installed besides Debian's essential packages. No compiler, no python3-venv: those are for the
roles to install."""

APT_OPTIONS = ('Acquire::Languages "none"',)
DPKG_OPTIONS = tuple(f"path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale"))

MASKED_UNITS = ("apt-daily.timer", "apt-daily-upgrade.timer")
"""They would take apt's lock in the middle of a test."""

NEEDED_BYTES = 1024**3
"""Free disk that building an image takes at most (about 0.5 GB at its peak, doubled)."""


def recipe(suite: str, mirror: str | None) -> dict[str, object]:
    """Everything an image depends on.

    Args:
        suite: The Debian suite.
        mirror: A mirror to use instead of the machine's own.

    Returns:
        Plain data; its digest is part of the image's name.

    Raises:
        HostsError: There is no such suite.
    """
    if suite not in SUITES:
        raise HostsError(f"there is no image {suite!r}", f"choose from {', '.join(SUITES)}")
    return {
        "format": 1,
        "suite": suite,
        "packages": PACKAGES,
        "apt_options": APT_OPTIONS,
        "dpkg_options": DPKG_OPTIONS,
        "masked_units": MASKED_UNITS,
        "mirror": mirror,
        "certificates": carryover.bundle_digest(),
    }


def digest(wanted: dict[str, object]) -> str:
    """A recipe's digest: 12 hexadecimal digits."""
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:12]


def path(settings: Settings, suite: str) -> Path:
    """Where the image of a suite lies, or will lie."""
    return settings.images / f"{suite}-{digest(recipe(suite, settings.mirror))}"


def rootfs(image: Path) -> Path:
    """The root file system in an image."""
    return image / "rootfs"


def is_built(image: Path) -> bool:
    """Whether an image is complete."""
    return read_json(image / "recipe.json") is not None


def _mirrors(settings: Settings, suite: str) -> list[str]:
    """Sources for mmdebstrap: asked for, the machine's own Debian mirror, or its default (none)."""
    if settings.mirror:
        return [settings.mirror]
    targets = run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(LABEL) $(REPO_URI)",
            "Created-By: Packages",
            "Origin: Debian",
        ],
        check=False,
    )
    return sources_lines(targets.stdout, suite)


def sources_lines(targets: str, suite: str) -> list[str]:
    """Sources of a suite on the mirror that this machine uses.

    Args:
        targets: Lines `LABEL URI` of `apt-get indextargets`.
        suite: The suite wanted; the machine's own may be another.

    Returns:
        One-line sources for the suite, its updates and its security updates; empty where the
        machine has no Debian mirror, or one that is not reached by HTTP.
    """
    uris: dict[str, str] = {}
    for line in targets.splitlines():
        label, _, uri = line.partition(" ")
        if label in ("Debian", "Debian-Security") and re.match(r"https?://", uri):
            uris.setdefault(label, uri)
    if set(uris) != {"Debian", "Debian-Security"}:
        return []
    keyring = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    return [
        f"deb {keyring} {uris['Debian']} {suite} main",
        f"deb {keyring} {uris['Debian']} {suite}-updates main",
        f"deb {keyring} {uris['Debian-Security']} {suite}-security main",
    ]


def ensure(settings: Settings, suite: str) -> tuple[Path, bool]:
    """Build an image unless it is there.

    Args:
        settings: Where images lie.
        suite: The Debian suite.

    Returns:
        The image, and whether it was built now.

    Raises:
        HostsError: It cannot be built.
    """
    image = path(settings, suite)
    if is_built(image):
        return image, False
    settings.images.mkdir(parents=True, exist_ok=True)
    with settings.lock(f"image-{suite}"):
        if is_built(image):
            return image, False
        _remove_leftovers(settings, suite)
        free = shutil.disk_usage(settings.images).free
        if free < NEEDED_BYTES:
            raise HostsError(
                f"{settings.images} has {free >> 20} MiB free, an image needs {NEEDED_BYTES >> 20}",
                "make room, or set XDG_CACHE_HOME",
            )
        started = time.monotonic()
        say(f"{suite}: building the image (about 80 MB to download, a minute or two)")
        part = Path(tempfile.mkdtemp(prefix=f".{suite}-", dir=settings.images))
        try:
            part.chmod(0o755)
            _build(settings, suite, part)
            write_json(part / "recipe.json", recipe(suite, settings.mirror))
            part.rename(image)
        except BaseException:
            remove(part)
            raise
        say(f"{suite}: image built in {time.monotonic() - started:.0f} s: {image}")
    return image, True


def _build(settings: Settings, suite: str, part: Path) -> None:
    root = rootfs(part)
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"]
    argv += [f"--include={','.join(PACKAGES)}"]
    # Proxies on this machine's loopback are fine here: the build runs outside of any guest.
    apt = carryover.read_apt(for_guest=False)
    argv += [f"--aptopt={option}" for option in (*APT_OPTIONS, *apt.splitlines())]
    argv += [f"--dpkgopt={option}" for option in DPKG_OPTIONS]
    argv += [suite, str(root), *_mirrors(settings, suite)]
    log = settings.images / f"{suite}.log"
    with (
        open(log, "w", encoding="utf-8") as output,
        subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        ) as process,
    ):
        try:
            for line in process.stderr or ():
                output.write(line)
                if line.startswith("I: "):
                    say(f"{suite}: {line[3:].strip()}")
            status = process.wait()
        except BaseException:
            process.terminate()  # it unmounts what it has mounted
            process.wait()
            raise
    if status != 0:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
        raise HostsError(
            f"mmdebstrap failed with status {status} (all of it: {log})\n  " + "\n  ".join(tail)
        )
    _finish(root)


def _finish(root: Path) -> None:
    """Make a fresh installation a template: nothing in it that two hosts must not share."""
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "etc/machine-id").write_text("", encoding="ascii")
    (root / "etc/default/locale").write_text("LANG=C.UTF-8\n", encoding="ascii")
    for unit in MASKED_UNITS:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")

    bundle = root / carryover.GUEST_BUNDLE.lstrip("/")
    have = set(carryover.certificates(bundle.read_text(encoding="utf-8")))
    added = [c for c in carryover.certificates(carryover.machine_bundle()) if c not in have]
    for number, certificate in enumerate(added):
        file = root / f"usr/local/share/ca-certificates/machine-{number}.crt"
        file.write_text(certificate + "\n", encoding="utf-8")
    if added:
        run(["chroot", root, "update-ca-certificates"])
    (root.parent / "added-certificates").write_text(f"{len(added)}\n", encoding="ascii")

    for directory in ("var/cache/apt/archives", "var/lib/apt/lists"):
        for file in (root / directory).iterdir():
            if file.is_file() and file.name != "lock":
                file.unlink()
    # Ansible's apt module takes this directory's age for the age of the package lists; an image
    # without lists must not look fresh.
    os.utime(root / "var/lib/apt/lists", (0, 0))


def added_certificates(image: Path) -> int:
    """How many certificate authorities of this machine the image trusts beside Debian's own."""
    return int((image / "added-certificates").read_text(encoding="ascii"))


def remove(image: Path) -> None:
    """Remove an image, and whatever a killed build left mounted in it."""
    for point in mounts_below(image):
        run(["umount", point])
    shutil.rmtree(image, ignore_errors=False)


def _remove_leftovers(settings: Settings, suite: str) -> None:
    """Remove what an interrupted build left; call it under the lock of the suite's image."""
    for part in settings.images.glob(f".{suite}-*"):
        say(f"{suite}: removing what an interrupted build left: {part}")
        remove(part)


def remove_all(settings: Settings) -> list[str]:
    """Remove all images and leftovers of builds, except what a host runs on.

    Returns:
        What was removed.
    """
    removed = []
    for suite in SUITES:
        with settings.lock(f"image-{suite}"):
            _remove_leftovers(settings, suite)
            for image in sorted(settings.images.glob(f"{suite}-*")):
                if _in_use(image):
                    say(f"{image} stays: a host of another TESTHOSTS_STATE runs on it")
                else:
                    remove(image)
                    removed.append(str(image))
            (settings.images / f"{suite}.log").unlink(missing_ok=True)
    return removed


def _in_use(image: Path) -> bool:
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    # Below it may be seeds: `lowerdir=SEEDS:IMAGE,`.
    return any(f"{before}{rootfs(image)}," in mounts for before in ("lowerdir=", ":"))
