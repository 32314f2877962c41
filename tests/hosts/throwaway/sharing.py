# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sharing files between the machine and a host, which cannot change what the machine has.

A seeded directory is hard-linked into a layer of the host's overlay that is only read: a guest
finds gigabytes of packages without one byte being copied. When it writes into such a file, changes
its owner or links to it, the overlay gives it a file of its own; with `metacopy` a link costs no
byte.
What a guest has added is copied back, so that no later write of it reaches the machine.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .common import HostsError, say

PART = ".harvest-"
"""What names of unfinished transfers begin with."""

UVS_PART = ".tmp"
"""The same for uv, another one of which may be at work in the cache: tempfile's default prefix
(https://docs.rs/tempfile/latest/tempfile/struct.Builder.html#method.prefix)."""


@dataclass
class Tally:
    """What a transfer did.

    Attributes:
        linked: Files that share their inode with the source.
        copied: Files that were copied: back to the machine, or because the file systems differ.
    """

    linked: int = 0
    copied: int = 0


def check_target(target: str) -> PurePosixPath:
    """Check a path inside a guest.

    Args:
        target: The path.

    Returns:
        The path without its leading slash.

    Raises:
        HostsError: It is not absolute, the root itself, or has `..`.
    """
    path = PurePosixPath(target)
    if not path.is_absolute() or ".." in path.parts or path == PurePosixPath("/"):
        raise HostsError(f"{target!r} is not an absolute path inside a host")
    return path.relative_to("/")


def make_directories(layer: Path, lower: Path, target: PurePosixPath) -> Path:
    """Make a directory in an overlay's layer before it is mounted.

    A directory in a higher layer brings its own owner and mode, so those that the image has keep
    the image's.

    Args:
        layer: The layer.
        lower: The image.
        target: The directory, relative to the root.

    Returns:
        The directory in the layer.

    Raises:
        HostsError: A part of it is something else than a directory in the image.
    """
    here, below = layer, lower
    for part in target.parts:
        here, below = here / part, below / part
        if below.is_symlink() or (below.exists() and not below.is_dir()):
            raise HostsError(f"/{below.relative_to(lower)} is not a directory in the image")
        if not here.exists():
            here.mkdir(mode=0o755)
            if below.exists():
                like = below.stat()
                os.chown(here, like.st_uid, like.st_gid)
                os.chmod(here, stat.S_IMODE(like.st_mode))
    return here


def link(source: str, target: Path) -> Tally:
    """Give a file a second name; where that is not possible, copy it."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        return copy(source, target)
    return Tally(linked=1)


def copy(source: str, target: Path) -> Tally:
    """Copy a file with its owner, mode and times."""
    shutil.copy2(source, target, follow_symlinks=False)
    like = os.lstat(source)
    os.chown(target, like.st_uid, like.st_gid, follow_symlinks=False)
    return Tally(copied=1)


def put_tree(source: Path, target: Path, put: Callable[[str, Path], Tally]) -> Tally:
    """Bring a tree to another place, file by file.

    Args:
        source: An existing directory.
        target: An existing directory; files it already has are left alone.
        put: How a file is brought: `link` or `copy`.

    Returns:
        How many files were linked and copied. Sockets, devices and FIFOs are left out.
    """
    tally = Tally()
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.name.startswith((PART, UVS_PART)):
                continue
            to = target / entry.name
            if entry.is_dir(follow_symlinks=False):
                if not to.is_dir():
                    to.mkdir()
                    like = entry.stat(follow_symlinks=False)
                    os.chown(to, like.st_uid, like.st_gid)
                    os.chmod(to, stat.S_IMODE(like.st_mode))
                inner = put_tree(Path(entry.path), to, put)
            elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
                if os.path.lexists(to):
                    continue
                inner = put(entry.path, to)
            else:
                continue
            tally.linked += inner.linked
            tally.copied += inner.copied
    return tally


def seed(layer: Path, lower: Path, source: Path, target: str) -> Tally:
    """Put a directory of the machine into a host that is not mounted yet.

    Args:
        layer: A layer of the host's overlay that is only read.
        lower: The host's image, below it.
        source: The directory; one that does not exist yet counts as empty.
        target: Where it appears in the guest.

    Returns:
        How many files were linked and copied.

    Raises:
        HostsError: The target cannot be.
    """
    into = make_directories(layer, lower, check_target(target))
    if not source.is_dir():
        return Tally()
    tally = put_tree(source, into, link)
    if tally.copied:
        say(f"{source}: {tally.copied} files copied, not linked: {layer} is on another file system")
    return tally


def harvest(root: Path, source: str, target: Path, name: str) -> Tally:
    """Copy what a guest added to a directory back to the machine.

    Everything appears at its place at once, whole directories too: a reader of the target never
    sees one that is half there. What the target already has stays as it is.

    Args:
        root: Where the host's overlay is mounted.
        source: The directory inside the guest.
        target: The directory on the machine; made where it does not exist.
        name: The host's name; two transfers under one name must not run at once.

    Returns:
        How many files were linked and copied.

    Raises:
        HostsError: The guest has no such directory.
    """
    taken = root / check_target(source)
    if not taken.is_dir() or taken.is_symlink():
        raise HostsError(f"the host has no directory {source}")
    target.mkdir(parents=True, exist_ok=True)
    part = target / f"{PART}{name}"
    if part.exists():  # of one that was killed
        shutil.rmtree(part)
    part.mkdir()
    try:
        return _copy_new(taken, target, part)
    finally:
        shutil.rmtree(part)


def _copy_new(source: Path, target: Path, part: Path) -> Tally:
    tally = Tally()
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        to = target / entry.name
        if entry.name.startswith((PART, UVS_PART)):
            continue
        is_directory = entry.is_dir(follow_symlinks=False)
        if is_directory and to.is_dir() and not to.is_symlink():
            inner = _copy_new(Path(entry.path), to, part)
        elif os.path.lexists(to):
            continue
        elif is_directory:
            whole = Path(tempfile.mkdtemp(dir=part))
            inner = put_tree(Path(entry.path), whole, copy)
            os.chmod(whole, stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode))
            whole.rename(to)
        elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
            whole = Path(tempfile.mkdtemp(dir=part)) / entry.name
            inner = copy(entry.path, whole)
            whole.rename(to)
        else:
            continue  # a socket
        tally.linked += inner.linked
        tally.copied += inner.copied
    return tally
