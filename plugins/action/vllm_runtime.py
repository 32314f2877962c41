# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of `vllm_runtime`: shows the progress of an installation."""

from __future__ import annotations

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.progress import ProgressAction


class ActionModule(ProgressAction):
    """Runs the module and prints how far it is."""

    module = "compute_plane.vllm.vllm_runtime"
    takes_locks = True
