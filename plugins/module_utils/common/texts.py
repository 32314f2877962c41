# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file's text, read and replaced."""

from __future__ import annotations

import contextlib
import os
import tempfile


def read(path: str) -> str | None:
    """The text of a file, or `None` where there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def write_atomically(
    path: str, text: str, mode: int = 0o644, owner: tuple[int, int] | None = None
) -> None:
    """Replace a file's text; whoever reads meanwhile, and a crash, sees the old or the new one.

    Args:
        path: The file.
        text: Its text.
        mode: Its mode.
        owner: Its user and group; `None` for those of this process.
    """
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if owner is not None:
            os.chown(temporary, *owner)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
