# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small files of a host: what they hold, and what they are wanted to hold."""

from __future__ import annotations

import contextlib
import grp
import os
import tempfile
from typing import Any

DIRECTORIES: dict[str, dict[str, Any]] = {
    "etc_dir": {"type": "path", "default": "/etc/vllm"},
    "state_dir": {"type": "path", "default": "/var/lib/vllm"},
    "unit_dir": {"type": "path", "default": "/etc/systemd/system"},
}
"""Parameters of every module that looks at what is deployed."""


class File:
    """One file that is wanted with a content, an owner and a mode, or wanted absent.

    Args:
        path: Where it is.
        text: Its content; C(None) for absent.
        mode: Its mode.
        group: Its group; its owner is root.
        is_secret: Whether its content must not be shown.
    """

    def __init__(
        self,
        path: str,
        text: str | None,
        mode: int = 0o644,
        group: str = "root",
        is_secret: bool = False,
    ) -> None:
        self.path = path
        self.text = text
        self.mode = mode
        self.group = group
        self.is_secret = is_secret
        self.before = read(path)

    def _gid(self) -> int:
        return grp.getgrnam(self.group).gr_gid

    def is_right(self) -> bool:
        """Whether content, mode and owner are as wanted."""
        if self.before != self.text:
            return False
        if self.text is None:
            return True
        status = os.stat(self.path)
        try:
            owned = (status.st_uid, status.st_gid) == (0, self._gid())
        except KeyError:  # the group is yet to be made
            return False
        return owned and status.st_mode & 0o7777 == self.mode

    def write(self) -> None:
        """Put the content in place atomically, or remove the file."""
        directory = os.path.dirname(self.path)
        if self.text is None:
            if not os.path.lexists(self.path):
                return
            os.unlink(self.path)
            # Another file in the drop-in folder is the user's.
            if directory.endswith(".service.d") and not os.listdir(directory):
                os.rmdir(directory)
            return
        os.makedirs(directory, mode=0o755, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=directory, prefix=".")
        os.chmod(temporary, self.mode & 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as stream:
            stream.write(self.text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chown(temporary, 0, self._gid())
        os.chmod(temporary, self.mode)
        os.replace(temporary, self.path)

    def diff(self) -> dict[str, str]:
        """Ansible's diff of this file."""
        before, after = self.before or "", self.text or ""
        if self.is_secret:
            before, after = ("not shown\n" if text else "" for text in (before, after))
        return {
            "before_header": self.path,
            "after_header": self.path,
            "before": before,
            "after": after,
        }


def read(path: str) -> str | None:
    """The text of a file, or C(None) where there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def write_atomically(path: str, text: str) -> None:
    """Replace a file's text; whoever reads meanwhile, and a crash, sees the old or the new one."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
