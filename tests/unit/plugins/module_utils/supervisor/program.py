# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor as a program of its own: `python -c f"{MAIN}sys.exit(main())" FOLDER …`."""

from __future__ import annotations

import os

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import main

FOLDER = os.path.dirname(os.path.dirname(main.__file__))
MAIN = "import sys; sys.path.insert(0, sys.argv.pop(1)); from supervisor.main import main; "
