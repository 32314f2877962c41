# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that `hub.testing.Module` starts: a module with the arguments of a JSON file."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from ansible.module_utils import basic

if __name__ == "__main__":
    # How ansible-core 2.19 hands arguments to a module that it has unpacked.
    arguments = json.loads(Path(sys.argv[2]).read_text())
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    importlib.import_module(
        f"ansible_collections.compute_plane.vllm.plugins.modules.{sys.argv[1]}"
    ).main()
