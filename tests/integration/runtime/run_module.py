# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run `vllm_runtime` on a host as ansible-core 2.19 does, with the arguments of a JSON file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ansible.module_utils import basic

from ansible_collections.compute_plane.vllm.plugins.modules import vllm_runtime

if __name__ == "__main__":
    arguments = json.loads(Path(sys.argv[1]).read_text())
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    vllm_runtime.main()
