# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An environment that somebody else made: verified, and left alone."""

from __future__ import annotations

import json
import os

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import (
    read,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.locked import Versions
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.proof import (
    own_fingerprint,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.venvs import own_path

# What ProtectHome=yes of the unit hides: systemd.exec(5).
_HIDDEN = ("/home", "/root", "/run/user")


class Own:
    """Somebody's own environment.

    Args:
        path: Where it is.
        folder: Where proofs of such environments are kept.
    """

    def __init__(self, path: str, folder: str) -> None:
        self.path = path
        self.folder = folder
        self.proof = own_path(path, ".json", folder)

    def versions(self) -> Versions | None:
        """Its versions, if it is as when it was proved."""
        try:
            record = json.loads(read(self.proof) or "{}")
        except ValueError:  # cut off half way
            return None
        if record.get("fingerprint") != own_fingerprint(self.path):
            return None
        versions: Versions = record["versions"]
        return versions

    def check(self) -> None:
        """See that it is there, and that the service's user can reach it.

        Raises:
            Failed: It is not, or cannot.
        """
        python = os.path.join(self.path, "bin", "python")
        if not os.access(python, os.X_OK):
            raise Failed(
                f"vllm_runtime_venv: there is no virtual environment in {self.path} (bin/python is "
                "missing); give the path of one that holds vLLM, or leave the variable out"
            )
        # A venv's bin/python is a link to the Python that made it.
        for place in (os.path.realpath(self.path), os.path.dirname(os.path.realpath(python))):
            hidden = [home for home in _HIDDEN if f"{place}/".startswith(f"{home}/")]
            if hidden:
                raise Failed(
                    f"vllm_runtime_venv: the service cannot see {place}, since ProtectHome=yes "
                    f"hides {hidden[0]} from it; make the venv elsewhere, with a Python that is "
                    "installed for all users"
                )
            path = place
            while path != "/":
                mode = os.stat(path).st_mode
                if not mode & 0o001:
                    raise Failed(
                        f"vllm_runtime_venv: the service's user cannot enter {path} (mode "
                        f"{mode & 0o7777:04o}); chmod o+x it, or keep the venv elsewhere"
                    )
                path = os.path.dirname(path)
