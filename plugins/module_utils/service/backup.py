# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a host cannot be downloaded or made again: found, and put back.

Only small text files: what was proved, verified, measured and chosen, keys, and drop-ins of the
user's. Releases, models and caches come from elsewhere; configurations and units from the
inventory.
"""

from __future__ import annotations

import glob
import grp
import os
import pwd
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.directories import (
    DIRECTORIES,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import (
    read,
    write_atomically,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.paths import DROP_IN
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.removal import HUB

ARGUMENTS: dict[str, dict[str, Any]] = {
    **DIRECTORIES,
    "file": {"type": "path", "required": True},
    "paths": {"type": "list", "elements": "path", "default": []},
    "model_hub": {"type": "path", "default": HUB},
}
"""Parameters of both modules; documented in the fragment `backup`."""

LARGEST = 16 << 20
"""Bytes of one file at most, and of all together; nothing that is kept comes near."""


class Kept(NamedTuple):
    """One file of a backup.

    Attributes:
        path: Where it is on the host.
        text: What it says.
        mode: Its mode, as a number.
        user: Its owner's name.
        group: Its group's name.
    """

    path: str
    text: str
    mode: int
    user: str
    group: str


class Places(NamedTuple):
    """Where a host keeps what is worth a backup.

    Attributes:
        etc_dir: Secrets; configurations and endpoint records stay out of it.
        state_dir: What was proved, verified and measured.
        unit_dir: Units, with drop-ins of the user's.
        further: More files and directories, of the user's choice.
        skipped: What stays out, with all below it: models.
    """

    etc_dir: str
    state_dir: str
    unit_dir: str
    further: Sequence[str] = ()
    skipped: Sequence[str] = ()

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Places:
        """Those that a module was given."""
        state_dir = params["state_dir"]
        hubs = (params["model_hub"], os.path.join(state_dir, "hub"))
        return cls(params["etc_dir"], state_dir, params["unit_dir"], params["paths"], hubs)

    def covers(self, path: str) -> bool:
        """Whether a file belongs to a backup of this host, by its path alone."""
        if path != os.path.normpath(path) or not os.path.isabs(path):
            return False
        folder, name = os.path.split(path)
        if name.startswith(".") or any(_is_in(path, other) for other in self.skipped):
            return False
        if any(_is_in(path, other) for other in self.further):
            return True
        if folder == self.etc_dir:
            return name.endswith(".env")
        if _is_in(path, self.state_dir):
            return True
        unit = os.path.basename(folder)
        of_instance = unit.startswith("vllm@") and unit.endswith(".service.d")
        return os.path.dirname(folder) == self.unit_dir and of_instance and name != DROP_IN


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def find(places: Places) -> list[Kept]:
    """Read all that is worth a backup, sorted by path.

    Raises:
        Failed: A file is no text, or there is too much; all that is wrong, a line each.
    """
    found, wrong, total = [], [], 0
    for path in sorted(_candidates(places)):
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            continue
        total += status.st_size
        if total > LARGEST:
            wrong.append(f"{path}: more than {LARGEST >> 20} MiB with those before it")
            break
        try:
            text = read(path)
        except UnicodeDecodeError:
            wrong.append(f"{path}: is no text")
            continue
        if text is not None:
            mode = stat.S_IMODE(status.st_mode)
            found.append(Kept(path, text, mode, _user(status.st_uid), _group(status.st_gid)))
    if wrong:
        raise Failed("a backup holds small texts alone:\n" + "\n".join(wrong))
    return found


def _candidates(places: Places) -> set[str]:
    units = glob.glob(os.path.join(glob.escape(places.unit_dir), "vllm@*.service.d"))
    paths = set()
    for root in (places.etc_dir, places.state_dir, *units, *places.further):
        if os.path.isfile(root):
            paths.add(root)
        for folder, folders, names in os.walk(root):
            below = {name: os.path.join(folder, name) for name in folders}
            folders[:] = [
                name
                for name, path in below.items()
                if not any(_is_in(path, other) for other in places.skipped)
            ]
            paths.update(os.path.join(folder, name) for name in names)
    return {path for path in paths if places.covers(path)}


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def read_files(files: Iterable[Mapping[str, Any]], places: Places) -> list[Kept]:
    """The files of a backup, as it was written.

    Raises:
        Failed: It holds what no backup of this host holds; all of it, a line each.
    """
    kept, wrong = [], []
    for entry in files:
        try:
            one = Kept(**{field: entry[field] for field in Kept._fields})
        except (KeyError, TypeError):
            wrong.append(f"{entry!r:.80}: is no file of a backup")
            continue
        if not isinstance(one.path, str) or not places.covers(one.path):
            wrong.append(
                f"{one.path}: is outside of what is restored — if it is yours, name it or a "
                "directory above it in vllm_backup_paths"
            )
        kept.append(one)
    if wrong:
        raise Failed("nothing was restored:\n" + "\n".join(wrong))
    return kept


class Decision(NamedTuple):
    """What restoring changes.

    Attributes:
        write: The files that are written.
        differing: Those that are there with another content, and stay as they are.
    """

    write: list[Kept]
    differing: list[str]


def decide(kept: Iterable[Kept], present: Mapping[str, str | None], overwrite: bool) -> Decision:
    """Which files are written: those that are missing, and others where that is wanted.

    Args:
        kept: The backup's files.
        present: What each path says on the host; `None` where there is no file.
        overwrite: Whether a file with another content is replaced.
    """
    other = [one for one in kept if present[one.path] != one.text]
    missing = [one for one in other if present[one.path] is None]
    differing = [one for one in other if present[one.path] is not None]
    if overwrite:
        return Decision([*missing, *differing], [])
    return Decision(missing, [one.path for one in differing])


def text_of(path: str) -> str | None:
    """What a file of the host says; `None` where there is none."""
    try:
        return read(path)
    except UnicodeDecodeError:
        return ""  # something else than a backup ever holds


def write(one: Kept) -> None:
    """Put a file back. Where its owner or group is unknown here, only root may read it."""
    mode = one.mode & 0o777
    try:
        owner = (pwd.getpwnam(one.user).pw_uid, grp.getgrnam(one.group).gr_gid)
    except KeyError:
        owner, mode = (0, 0), mode & 0o700
    os.makedirs(os.path.dirname(one.path), mode=0o755, exist_ok=True)
    write_atomically(one.path, one.text, mode, owner)
