# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sharing files between the machine and a host by hard links.

The machine's directory and the host's overlay lie on one file system, so a guest finds gigabytes of
packages without one byte being copied, and can itself hard-link from them. The price: inodes are
shared. A guest that writes into such a file in place writes into the machine's.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .common import HostsError, say

PART = ".harvest-"
"""What names of unfinished transfers begin with."""


@dataclass
class Tally:
    """What a transfer did.

    Attributes:
        linked: Files that share their inode with the source.
        copied: Files that had to be copied, because the file systems differ.
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


def make_directories(upper: Path, lower: Path, target: PurePosixPath) -> Path:
    """Make a directory in an overlay's upper layer before it is mounted.

    A directory in the upper layer brings its own owner and mode, so those that the image has keep
    the image's.

    Args:
        upper: The upper layer.
        lower: The image.
        target: The directory, relative to the root.

    Returns:
        The directory in the upper layer.

    Raises:
        HostsError: A part of it is something else than a directory in the image.
    """
    here, below = upper, lower
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


def link_tree(source: Path, target: Path) -> Tally:
    """Copy a tree by hard links, like `cp -al`; by copying where links are not possible.

    Args:
        source: An existing directory.
        target: An existing directory; files it already has are left alone.

    Returns:
        How many files were linked and copied. Sockets, devices and FIFOs are left out.
    """
    tally = Tally()
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.name.startswith(PART):
                continue
            to = target / entry.name
            if entry.is_dir(follow_symlinks=False):
                if not to.is_dir():
                    to.mkdir()
                    like = entry.stat(follow_symlinks=False)
                    os.chown(to, like.st_uid, like.st_gid)
                    os.chmod(to, stat.S_IMODE(like.st_mode))
                inner = link_tree(Path(entry.path), to)
                tally.linked += inner.linked
                tally.copied += inner.copied
            elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
                if os.path.lexists(to):
                    continue
                try:
                    os.link(entry.path, to, follow_symlinks=False)
                    tally.linked += 1
                except OSError as error:
                    if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                        raise
                    shutil.copy2(entry.path, to, follow_symlinks=False)
                    tally.copied += 1
    return tally


def seed(upper: Path, lower: Path, source: Path, target: str) -> Tally:
    """Put a directory of the machine into a host that is not mounted yet.

    Args:
        upper: The upper layer of the host's overlay.
        lower: The host's image.
        source: The directory; one that does not exist yet counts as empty.
        target: Where it appears in the guest.

    Returns:
        How many files were linked and copied.

    Raises:
        HostsError: The target cannot be.
    """
    into = make_directories(upper, lower, check_target(target))
    if not source.is_dir():
        return Tally()
    tally = link_tree(source, into)
    if tally.copied:
        say(f"{source}: {tally.copied} files copied, not linked: {upper} is on another file system")
    return tally


def harvest(upper: Path, source: str, target: Path, name: str) -> Tally:
    """Take what a guest added to a directory back to the machine.

    Everything appears at its place at once, whole directories too: a reader of the target never
    sees one that is half there. What the target already has stays as it is.

    Args:
        upper: The upper layer of the host's overlay.
        source: The directory inside the guest.
        target: The directory on the machine; made where it does not exist.
        name: The host's name; two transfers under one name must not run at once.

    Returns:
        How many files were linked and copied.

    Raises:
        HostsError: The guest has no such directory of its own.
    """
    taken = upper / check_target(source)
    if not taken.is_dir() or taken.is_symlink():
        raise HostsError(f"the host has written no directory {source}")
    target.mkdir(parents=True, exist_ok=True)
    part = target / f"{PART}{name}"
    if part.exists():  # of one that was killed
        shutil.rmtree(part)
    part.mkdir()
    try:
        return _link_new(taken, target, part)
    finally:
        shutil.rmtree(part)


def _link_new(source: Path, target: Path, part: Path) -> Tally:
    tally = Tally()
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        to = target / entry.name
        if entry.name.startswith(PART):
            continue
        is_directory = entry.is_dir(follow_symlinks=False)
        if is_directory and to.is_dir() and not to.is_symlink():
            inner = _link_new(Path(entry.path), to, part)
        elif os.path.lexists(to):
            continue
        elif is_directory:
            whole = Path(tempfile.mkdtemp(dir=part))
            inner = link_tree(Path(entry.path), whole)
            os.chmod(whole, stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode))
            whole.rename(to)
        elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
            whole = Path(tempfile.mkdtemp(dir=part)) / entry.name
            try:
                os.link(entry.path, whole, follow_symlinks=False)
                inner = Tally(linked=1)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                shutil.copy2(entry.path, whole, follow_symlinks=False)
                inner = Tally(copied=1)
            whole.rename(to)
        else:
            continue  # an overlay's whiteout, a socket
        tally.linked += inner.linked
        tally.copied += inner.copied
    return tally
