# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of `vllm_probe`: what a host need not be sent code for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.known import (
    Request,
    recorded,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.code import run_with_code

MODULE = "compute_plane.vllm.vllm_probe"


def finished(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the module returned, with `facts.hub` made of the hosts' records of models.

    Args:
        result: The module's result.
    """
    told = dict(result)
    records = told.pop("records", None)
    if records is not None:
        hub = [
            recorded(Request(one["repo_id"], one["revision"], one["trust_remote_code"]), one)
            for one in records
        ]
        told["facts"] = {**told["facts"], "hub": hub}
    return told


def probe(
    action: Any, arguments: Mapping[str, Any], task_vars: dict[str, Any] | None
) -> dict[str, Any]:
    """Probe a task's host, in one round trip where it has been probed before.

    Args:
        action: The task's action.
        arguments: The parameters of `vllm_probe`.
        task_vars: The task's variables.

    Returns:
        What `vllm_probe` is documented to return.
    """
    return finished(run_with_code(action, MODULE, arguments, task_vars))
