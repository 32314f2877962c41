# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Code that hardly any run needs: sent to a host when a module asks for it, not with the module.

A module ends before it has changed anything, and asks; the action plugin sends all of module_utils
(`plugins/plugin_utils/code.py`), and the module runs again.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from typing import Any

ARGUMENTS: dict[str, dict[str, Any]] = {"code_archive": {"type": "path"}}
"""Parameters of every module that takes code late; documented in the fragment `code`."""

ASKS = {"needs_code": True, "msg": "what this run needs of the collection's code was not sent"}
"""What a module that lacks code fails with; the action plugin understands it."""

_ROOT = __name__.rpartition(".common.")[0]


class CodeNeeded(Exception):
    """This run needs code that was not sent; nothing has been changed."""


def use(archive: str | None) -> None:
    """Take late code from what was sent.

    Args:
        archive: The parameter `code_archive`: a zip file of module_utils, if one was sent.
    """
    if archive is None:
        return
    importlib.import_module(_ROOT).__path__.append(archive)
    for found in pkgutil.iter_modules([archive]):
        if found.ispkg:
            folder = importlib.import_module(f"{_ROOT}.{found.name}")
            folder.__path__.append(os.path.join(archive, found.name))


def late(name: str) -> Any:
    """A module of module_utils that not every run is sent.

    Args:
        name: Its name there, such as `verify.client`.

    Raises:
        CodeNeeded: It was not sent.
    """
    try:
        return importlib.import_module(f"{_ROOT}.{name}")
    except ModuleNotFoundError as missing:
        if not str(missing.name).startswith(_ROOT):
            raise
        raise CodeNeeded(name) from missing
