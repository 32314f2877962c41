# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small environment that holds uv and the Hub's client, behind a link that always works."""

from __future__ import annotations

import os
import shutil

from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime import (
    manifest as venv_manifest,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.locked import Locked
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.proof import (
    PROVE_TOOLS,
    lock_sha256,
    only_from,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.steps import Steps


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

    def build(self, steps: Steps, bundle: str | None) -> None:
        """Make it with pip, and turn the link to it in one step.

        Raises:
            Failed: It cannot be made; nothing of it is left.
        """
        with steps.timed("tools"):
            if self.record() is None or self.damage()[0]:
                shutil.rmtree(self.path, ignore_errors=True)
                try:
                    self._install(steps, bundle)
                except BaseException:
                    shutil.rmtree(self.path, ignore_errors=True)
                    raise
            temporary = f"{self.link}.new"
            if os.path.lexists(temporary):
                os.unlink(temporary)
            os.symlink(os.path.basename(self.path), temporary)
            os.replace(temporary, self.link)

    def _install(self, steps: Steps, bundle: str | None) -> None:
        # What a kill leaves of pip's own goes with the unproved venv.
        scratch = os.path.join(self.path, ".tmp")
        os.makedirs(scratch, mode=0o755)
        variables = {"TMPDIR": scratch, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        steps.call([self.python, "-m", "venv", self.path], "making the tools' venv", variables)
        lock = self.write_lock()
        pip = [os.path.join(self.path, "bin", "python"), "-m", "pip", "--quiet", "--no-input"]
        exactly = ["--require-hashes", "--only-binary", ":all:", "--no-deps", *only_from(bundle)]
        steps.call(
            [*pip, "install", *exactly, "--requirement", lock], "installing the tools", variables
        )
        shutil.rmtree(scratch)
        versions = steps.prove(self.path, PROVE_TOOLS, "proving the tools")
        self.mark(versions, venv_manifest.make(self.path, venv_manifest.scan(self.path)))
