# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Building, proving and repairing environments, taken late: most runs find them proved."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from typing import IO, Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import (
    write_atomically,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime import (
    manifest as venv_manifest,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.locked import now
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.own import Own
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.proof import (
    own_fingerprint,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.proving import (
    PROVE_TOOLS,
    only_from,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.release import (
    Release,
    prove_release,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.steps import Steps
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.tools import Tools
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.venvs import own_path


def build_tools(tools: Tools, steps: Steps, bundle: str | None) -> None:
    """Make the tools' environment with pip, and turn the link to it in one step.

    Raises:
        Failed: It cannot be made; nothing of it is left.
    """
    with steps.timed("tools"):
        if tools.record() is None or tools.damage()[0]:
            shutil.rmtree(tools.path, ignore_errors=True)
            try:
                _install(tools, steps, bundle)
            except BaseException:
                shutil.rmtree(tools.path, ignore_errors=True)
                raise
        temporary = f"{tools.link}.new"
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.symlink(os.path.basename(tools.path), temporary)
        os.replace(temporary, tools.link)


def _install(tools: Tools, steps: Steps, bundle: str | None) -> None:
    # What a kill leaves of pip's own goes with the unproved venv.
    scratch = os.path.join(tools.path, ".tmp")
    os.makedirs(scratch, mode=0o755)
    variables = {"TMPDIR": scratch, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    steps.call([tools.python, "-m", "venv", tools.path], "making the tools' venv", variables)
    lock = tools.write_lock()
    pip = [os.path.join(tools.path, "bin", "python"), "-m", "pip", "--quiet", "--no-input"]
    exactly = ["--require-hashes", "--only-binary", ":all:", "--no-deps", *only_from(bundle)]
    steps.call(
        [*pip, "install", *exactly, "--requirement", lock], "installing the tools", variables
    )
    shutil.rmtree(scratch)
    versions = steps.prove(tools.path, PROVE_TOOLS, "proving the tools")
    tools.mark(versions, venv_manifest.make(tools.path, venv_manifest.scan(tools.path)))


def prove_own(own: Own, steps: Steps, expect: Mapping[str, Any]) -> None:
    """Prove an environment that somebody else made, and keep the answer.

    Raises:
        Failed: It is not what is expected.
    """
    with steps.timed("prove"):
        os.makedirs(own.folder, mode=0o755, exist_ok=True)
        pycache = own_path(own.path, ".pycache", own.folder)
        versions = prove_release(steps, own.path, expect, pycache)
        # After the first import, which may write.
        content = {
            "venv": own.path,
            "versions": versions,
            "proved_at": now(),
            "fingerprint": own_fingerprint(own.path),
        }
        write_atomically(own.proof, json.dumps(content, indent=2, sort_keys=True) + "\n")


class Work:
    """What a run of `vllm_runtime` has to do.

    Args:
        params: The module's.
        tools: The tools' environment.
        own: The environment that somebody else made.
        environment: The user's variables for uv and pip.
        progress: Where it says what is being done.

    Attributes:
        release: The release's environment.
        seconds: How long each step took.
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        tools: Tools,
        own: Own,
        environment: Mapping[str, str],
        progress: Progress,
    ) -> None:
        self.params = params
        self.tools = tools
        self.own = own
        self.steps = Steps(progress, environment)
        self.seconds = self.steps.seconds
        self.release = Release(
            params["venv"], params["lock"] or "", tools.python, tools.full, self.steps, params
        )

    def carry_out(self, guard: IO[str]) -> None:
        """Do what is to be done, as it is found now that nobody else does.

        Args:
            guard: The lock that keeps other runs out.
        """
        self.steps.guard = guard
        if not self.tools.are_current():
            build_tools(self.tools, self.steps, self.params["bundle"])
        if self.params["only_tools"]:
            return
        if not self.params["managed"]:
            if self.own.versions() is None or self.params["verify"] == "full":
                prove_own(self.own, self.steps, self.params["expect"])
        elif self.release.record() is None:
            self.release.build()
        else:
            self.release.restore()
