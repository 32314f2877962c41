# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where what is known of a virtual environment is kept. Pure."""

from __future__ import annotations

import hashlib
import os

RELEASES = "/opt/vllm/releases"
OWN = "/opt/vllm/own"


def own_path(venv: str, suffix: str, own_dir: str = OWN) -> str:
    """A file about an environment that is somebody's own, in which nothing is written.

    Args:
        venv: The environment.
        suffix: `.json` for what was proved of it, `.pycache` for its bytecode.
        own_dir: Where such files are.
    """
    name = hashlib.sha256(venv.encode()).hexdigest()[:12]
    return os.path.join(own_dir, f"{name}{suffix}")


def bytecode(venv: str) -> str:
    """The folder of the bytecode that an environment's proof has left."""
    if os.path.dirname(venv) == RELEASES:
        return os.path.join(venv, ".pycache")
    return own_path(venv, ".pycache")
