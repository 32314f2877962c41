# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order servers that share a GPU start. Pure.

vLLM measures at its start how much of a GPU is free, and again after its profile run (vllm 0.14.1,
vllm/v1/worker/gpu_worker.py, determine_available_memory): what another server takes in between it
counts as its own, and where another gives memory back it ends with "Error in memory profiling".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import Deployment


def gpus_of(environment: Mapping[str, Any]) -> set[str]:
    """The UUIDs of the GPUs that an instance with these variables sees."""
    return {gpu for gpu in str(environment.get("CUDA_VISIBLE_DEVICES") or "").split(",") if gpu}


def started_before(instances: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The units that each instance waits for where they start together, as at boot.

    Those that share a GPU, by name: so there is never a circle, also where one of them was
    written in an earlier run and the inventory's order has changed.

    Args:
        instances: Each with `name` and `environment`.
    """
    seen = sorted((one["name"], gpus_of(one["environment"])) for one in instances)
    return {
        name: [f"vllm@{other}.service" for other, theirs in seen if other < name and theirs & gpus]
        for name, gpus in seen
    }


def _shares(one: Deployment | None) -> dict[str, float]:
    """The share of each GPU that a server takes."""
    if one is None:
        return {}
    return dict.fromkeys(one.gpus, float(one.config.get("gpu-memory-utilization", 1.0)))


def in_order(wanted: Sequence[Deployment], running: Mapping[str, Deployment]) -> list[Deployment]:
    """The order in which servers start anew so that each finds its memory free.

    Who gives memory of a GPU back comes before who takes more of it; else they stay as they are.

    Args:
        wanted: What is wanted, in the inventory's order.
        running: What serves at this moment, by the instance's name.
    """
    more: dict[str, dict[str, float]] = {}
    for one in wanted:
        now, then = _shares(running.get(one.name)), _shares(one)
        more[one.name] = {gpu: then.get(gpu, 0) - now.get(gpu, 0) for gpu in {*now, *then}}

    def waits(one: Deployment) -> bool:
        takes = {gpu for gpu, change in more[one.name].items() if change > 0}
        return any(
            other is not one and any(more[other.name].get(gpu, 0) < 0 for gpu in takes)
            for other in left
        )

    left, ordered = list(wanted), []
    while left:
        # Two that change places wait for each other: the first then has to try.
        following = next((one for one in left if not waits(one)), left[0])
        left.remove(following)
        ordered.append(following)
    return ordered
