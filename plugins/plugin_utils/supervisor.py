# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The newest supervisor, for hosts that do not have it yet, or want to know why a server ended.

It is half as large as all else that a module is sent, and seldom needed: a host is sent its files
when the module says so (`needs_supervisor`), which then runs again.
"""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.service.supervisors import (
    content_name,
)

FOLDER = Path(__file__).resolve().parent.parent / "module_utils" / "supervisor"
MAIN = """\
import sys

from supervisor.process import main

sys.exit(main())
"""


@functools.cache
def texts() -> dict[str, str]:
    """The supervisor's files by their path in its folder on a host."""
    files = {
        f"supervisor/{path.name}": path.read_text(encoding="utf-8")
        for path in sorted(FOLDER.glob("*.py"))
    }
    return {"__main__.py": MAIN, **files}


def name() -> str:
    """The name of its folder on a host."""
    return content_name(texts())


def archive() -> bytes:
    """Its files as a zip file."""
    import zipfile  # here, because hardly any run sends it

    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as made:
        for path, text in texts().items():
            made.writestr(path, text)
    return written.getvalue()


def send(action: Any) -> str:
    """Send its files to a task's host.

    Args:
        action: The task's action.

    Returns:
        Where the zip file is on the host, until the task ends.
    """
    shell = action._connection._shell
    if shell.tmpdir is None:
        action._make_tmp_path()
    path = str(shell.join_path(shell.tmpdir, "supervisor.zip"))
    action._transfer_data(path, archive())
    action._fixup_perms2((shell.tmpdir, path))
    return path
