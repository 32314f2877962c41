# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that a task's host gets from the controller."""

from __future__ import annotations

from typing import Any


def send_file(action: Any, name: str, data: bytes) -> str:
    """Send a file to a task's host, into the task's own directory, which others cannot read.

    Args:
        action: The task's action.
        name: The file's name.
        data: What it holds.

    Returns:
        Where it is on the host, until the task ends.
    """
    shell = action._connection._shell
    if shell.tmpdir is None:
        action._make_tmp_path()
    path = str(shell.join_path(shell.tmpdir, name))
    action._transfer_data(path, data)
    action._fixup_perms2((shell.tmpdir, path))
    return path
