# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Supervisors as they are kept on a host: each in a folder that is named by its content."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Mapping

MAIN = """\
import sys

from supervisor.main import main

sys.exit(main())
"""
"""The program in a supervisor's folder; the package beside it is a copy of module_utils' own."""


def content_name(files: Mapping[str, str]) -> str:
    """The name of a supervisor's folder: 12 hexadecimal digits of SHA-256.

    Args:
        files: Texts by their paths in it.
    """
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode("utf-8")).hexdigest()[:12]


def _text(path: str) -> str:
    # A damaged one need not be UTF-8.
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def texts_in(folder: str) -> dict[str, str]:
    """The texts of a supervisor's folder by their paths in it."""
    escaped = glob.escape(folder)
    paths = [path for end in ("*.py", "*/*.py") for path in glob.glob(os.path.join(escaped, end))]
    return {os.path.relpath(path, folder): _text(path) for path in paths}


def is_whole(supervisor: str) -> bool:
    """Whether a supervisor's folder holds what its name says."""
    return content_name(texts_in(supervisor)) == os.path.basename(supervisor)


def sent_texts(archive: str) -> dict[str, str]:
    """The texts of the supervisor in the code that was sent, by their paths in its folder.

    Args:
        archive: The zip file; see `common/late.py`.
    """
    import zipfile  # here, because hardly any run is sent one

    with zipfile.ZipFile(archive) as sent:
        names = [name for name in sent.namelist() if name.startswith("supervisor/")]
        return {"__main__.py": MAIN, **{name: sent.read(name).decode("utf-8") for name in names}}
