# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The newest supervisor, as hosts have it in a folder of its own."""

from __future__ import annotations

import functools

from ansible_collections.compute_plane.vllm.plugins.module_utils.service.supervisors import (
    MAIN,
    content_name,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.code import FOLDER


@functools.cache
def texts() -> dict[str, str]:
    """The supervisor's files by their path in its folder on a host."""
    files = {
        f"supervisor/{path.name}": path.read_text(encoding="utf-8")
        for path in sorted(FOLDER.glob("supervisor/*.py"))
    }
    return {"__main__.py": MAIN, **files}


def name() -> str:
    """The name of its folder on a host."""
    return content_name(texts())
