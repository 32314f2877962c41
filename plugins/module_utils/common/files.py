# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small files of a host: what they hold, and what they are wanted to hold."""

from __future__ import annotations

import grp
import os

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import (
    read,
    write_atomically,
)

OWNER, GROUP = 0, "root"
"""To whom a file belongs, unless it is said: a user's number and a group's name."""


class FileError(Exception):
    """A file cannot be as it is wanted; the message says why."""


class File:
    """One file that is wanted with a content, an owner and a mode, or wanted absent.

    Args:
        path: Where it is.
        text: Its content; `None` for absent.
        mode: Its mode.
        group: Its group; `None` for root's. Its owner is root.
        is_secret: Whether its content must not be shown.
    """

    def __init__(
        self,
        path: str,
        text: str | None,
        mode: int = 0o644,
        group: str | None = None,
        is_secret: bool = False,
    ) -> None:
        self.path = path
        self.text = text
        self.mode = mode
        self.group = group or GROUP
        self.is_secret = is_secret
        self.before = read(path)

    def gid(self) -> int:
        """The number of its group.

        Raises:
            FileError: There is no group of that name.
        """
        try:
            return grp.getgrnam(self.group).gr_gid
        except KeyError as error:
            raise FileError(
                f"{self.path} is to belong to the group {self.group}, which this host does not have"
            ) from error

    def is_right(self) -> bool:
        """Whether content, mode and owner are as wanted."""
        if self.before != self.text:
            return False
        if self.text is None:
            return True
        status = os.stat(self.path)
        try:
            owned = (status.st_uid, status.st_gid) == (OWNER, self.gid())
        except FileError:  # the group is yet to be made
            return False
        return owned and status.st_mode & 0o7777 == self.mode

    def write(self) -> None:
        """Put the content in place atomically, or remove the file.

        Raises:
            FileError: There is no group of that name.
        """
        directory = os.path.dirname(self.path)
        if self.text is None:
            if not os.path.lexists(self.path):
                return
            os.unlink(self.path)
            # Another file in the drop-in folder is the user's.
            if directory.endswith(".service.d") and not os.listdir(directory):
                os.rmdir(directory)
            return
        gid = self.gid()
        os.makedirs(directory, mode=0o755, exist_ok=True)
        write_atomically(self.path, self.text, self.mode, (OWNER, gid))

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
