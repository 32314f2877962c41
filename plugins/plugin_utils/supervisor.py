# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The newest supervisor, for hosts that do not have it yet.

It is half as large as all else that a module is sent, and seldom news: a host is told its name, and
sent its files when it says that it has to write them.
"""

from __future__ import annotations

import functools
import io
import zipfile
from pathlib import Path

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
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as made:
        for path, text in texts().items():
            made.writestr(path, text)
    return written.getvalue()
