# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The caches of compiled code of one instance, which a start makes anew where they are gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Mapping

AGAIN = 3600.0
"""Seconds after a removal within which there is no other: what fails then is something else."""
_MARKER = "caches-removed"


def compile_caches(environ: Mapping[str, str]) -> list[str]:
    """The folders of compiled code that there are below the unit's own cache directory.

    Folders elsewhere, where a drop-in of the user's has put them, may be others' too.

    Args:
        environ: The unit's environment: `CACHE_DIRECTORY` (systemd.exec(5)), and the variables by
            which vLLM (vllm/compilation/backends.py, decorators.py), Triton and torch's inductor
            find their caches.
    """
    own = environ.get("CACHE_DIRECTORY", "")
    root = environ.get("VLLM_CACHE_ROOT", "")
    found = []
    for path in (
        os.path.join(root, "torch_compile_cache"),
        os.path.join(root, "torch_aot_compile"),
        environ.get("TRITON_CACHE_DIR", ""),
        environ.get("TORCHINDUCTOR_CACHE_DIR", ""),
    ):
        real = os.path.realpath(path)
        if own and os.path.isdir(real) and real.startswith(os.path.realpath(own) + os.sep):
            found.append(real)
    return found


def _bytes_in(folder: str) -> int:
    total = 0
    for parent, _folders, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def remove_compile_caches(environ: Mapping[str, str], run_dir: str) -> dict[str, int] | None:
    """Remove an instance's compiled code, at most once within :data:`AGAIN`.

    Args:
        environ: The unit's environment.
        run_dir: The unit's runtime directory, where it is kept when that was done last.

    Returns:
        Bytes by folder of what was removed; `None` where it was removed a short time ago, or there
        is nothing to remove.
    """
    marker = os.path.join(run_dir, _MARKER)
    with contextlib.suppress(OSError):
        if 0 <= time.time() - os.stat(marker).st_mtime < AGAIN:
            return None
    folders = compile_caches(environ)
    if not folders:
        return None
    with open(marker, "w", encoding="utf-8"):  # first: a removal that fails is not repeated either
        os.utime(marker)
    sizes = {folder: _bytes_in(folder) for folder in folders}
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return {folder: size for folder, size in sizes.items() if not os.path.exists(folder)} or None
