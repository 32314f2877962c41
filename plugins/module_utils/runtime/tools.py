# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small environment that holds uv and the Hub's client, behind a link that always works."""

from __future__ import annotations

import os

from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.locked import Locked
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.proof import lock_sha256


class Tools(Locked):
    """The tools' environment.

    Args:
        link: The symbolic link that leads to it.
        lock: The text of its lock.
        python: The interpreter that it is made for.
        full: Whether every file is read when it is compared with its manifest.
    """

    def __init__(self, link: str, lock: str, python: str, full: bool) -> None:
        super().__init__(f"{link}-{lock_sha256(lock)[:12]}", lock, python, full)
        self.link = link

    def are_current(self) -> bool:
        """Whether the link leads to a proved environment of the wanted lock."""
        return (
            os.path.realpath(self.link) == os.path.realpath(self.path)
            and os.path.islink(self.link)
            and self.record() is not None
            and not self.damage()[0]
        )
