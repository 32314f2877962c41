# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What engines have measured on the host before, and what a plan of the same takes from it.

A measurement refines what the plan says and what it refuses. It changes nothing that runs: a share
of a GPU follows from the estimate alone, and a context that the plan has written is only ever made
shorter by one, where a start has failed for want of memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.gpus import Gpu
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import Model

# What the memory beside the KV cache does not depend on. The attention backend is not here in all
# plans: with `auto` the host finds it.
_OTHER_FLAGS = frozenset(
    {
        "model",
        "served-model-name",
        "host",
        "port",
        "max-model-len",
        "gpu-memory-utilization",
        "attention-backend",
        "enable-auto-tool-choice",
        "tool-call-parser",
        "reasoning-parser",
        "chat-template",
    }
)
_OTHER_VARIABLES = frozenset({"VLLM_API_KEY", "VLLM_ATTENTION_BACKEND", "VLLM_LOGGING_LEVEL"})


def stands_for(
    release: str,
    accelerator: str,
    gpus: list[Gpu],
    model: Model | None,
    path: str | None,
    config: Mapping[str, Any],
    environment: Mapping[str, str],
) -> dict[str, Any] | None:
    """Return what a measurement holds for, or None where the model is not known.

    Args:
        release: vLLM's version.
        accelerator: `cuda` or `cpu`.
        gpus: The instance's GPUs.
        model: Its model.
        path: The model's directory; of the Hub's models it names the commit.
        config: vLLM's flags.
        environment: The user's variables of the server.
    """
    if model is None or path is None or model.weights_bytes is None:
        return None
    return {
        "release": release,
        "accelerator": accelerator,
        "gpus": [gpu.name for gpu in gpus],
        "gpu_memory_bytes": min((gpu.total for gpu in gpus), default=None),
        "model": path,
        "weights_bytes": model.weights_bytes,
        "flags": {key: config[key] for key in sorted(config) if key not in _OTHER_FLAGS},
        "environment": {
            key: environment[key]
            for key in sorted(environment)
            if key.startswith("VLLM_") and key not in _OTHER_VARIABLES
        },
    }


def key_of(what: Mapping[str, Any]) -> str:
    """Return the key under which the host keeps what was measured."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def measured(facts: Mapping[str, Any], what: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the host's row of what was measured of the same, or None where nothing was."""
    if what is None:
        return None
    rows = fact.rows(facts, "deployed", "measured")
    key = key_of(what)
    return next((row for row in rows if fact.text(row, "key") == key), None)


def expected(
    what: Mapping[str, Any] | None, memory: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Return what a host keeps a measurement beside, or None where nothing was planned."""
    if what is None or memory is None:
        return None
    return {"key": key_of(what), "for": dict(what), "predicted": dict(memory["predicted"])}
