# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of `vllm_rollback`: shows a server's start, reports a proof that failed."""

from __future__ import annotations

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.progress import ProvingAction


class ActionModule(ProvingAction):
    """Runs the module and prints what the server that is starting does."""

    module = "compute_plane.vllm.vllm_rollback"
    takes_locks = True
