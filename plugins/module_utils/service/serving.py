# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an instance serves now, for what measures it: what was proved last, and nothing else."""

from __future__ import annotations

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import Deployment
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import needs_start
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.services import Services

FIRST = "run the site playbook first"


def proved(services: Services, name: str) -> Deployment:
    """What was proved last of an instance; ends the task where nothing was."""
    record = services.record(name)
    if record is None:
        services.fail(f"{name} was never proved here; {FIRST}")
    return record.current


def why_not(services: Services, wanted: Deployment) -> str | None:
    """Why a deployment does not serve; `None` when it does."""
    state = services.show([wanted.unit_name])[wanted.unit_name]
    return needs_start(state.get("ActiveState", ""), services.running(state), wanted.fingerprint)


def require(services: Services, wanted: Deployment) -> None:
    """End the task where a deployment does not serve."""
    reason = why_not(services, wanted)
    if reason is not None:
        services.fail(f"{wanted.unit_name} does not run as it was proved: {reason}; {FIRST}")
