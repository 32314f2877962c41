# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is the same on all hosts of an instance that spans several, and what is not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import fingerprint

MEMBERS_OWN_FLAGS = (
    "model",
    "host",
    "port",
    "node-rank",
    "headless",
    "master-addr",
    "gpu-memory-utilization",
    "lora-modules",
)
"""Flags that may differ between members, for each host has its own of what they name."""
MEMBERS_OWN_VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_HOME", "VLLM_USE_FLASHINFER_SAMPLER")
"""Variables that may differ between members."""


def group_fingerprint(
    name: str,
    release: str,
    group: Mapping[str, Any],
    model: Mapping[str, Any],
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> str:
    """What tells two configurations of a group apart, the same on all of its members.

    Args:
        name: The instance.
        release: vLLM's version.
        group: `port` and `members`.
        model: Its `repo_id` and commit.
        config: vLLM's flags of one member.
        environment: The variables of one member.
    """
    return fingerprint(
        name,
        release,
        [group["port"], group["members"]],
        dict(model),
        {flag: value for flag, value in config.items() if flag not in MEMBERS_OWN_FLAGS},
        {key: str(value) for key, value in environment.items() if key not in MEMBERS_OWN_VARIABLES},
    )
