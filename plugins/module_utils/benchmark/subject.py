# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured: the server that runs, its flags, its model, its versions."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

_BACKEND = re.compile(r"Using (?:AttentionBackendEnum\.)?([A-Z][A-Z0-9_]+)(?: attention)? backend")
_HEADER_LIMIT = 64 << 20


def backend_in_log(log: str) -> str | None:
    """The attention backend that the engine says it uses, the last time that it says so.

    vllm 0.14.1, vllm/platforms/cuda.py: `Using AttentionBackendEnum.TRITON_ATTN backend.`, and
    `Using FLASH_ATTN attention backend out of potential backends: ...`. On a CPU it says nothing.
    """
    found = _BACKEND.findall(log)
    return found[-1] if found else None


def read_json(path: str) -> dict[str, Any]:
    """A file with a JSON object; empty where there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _tensor_names(model: str) -> set[str] | None:
    """Names of the weights, from the safetensors index or the header of the one file."""
    index = read_json(os.path.join(model, "model.safetensors.index.json")).get("weight_map")
    if isinstance(index, Mapping):
        return set(index)
    try:
        with open(os.path.join(model, "model.safetensors"), "rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size)) if size <= _HEADER_LIMIT else None
    except (OSError, ValueError):
        return None
    return set(header) if isinstance(header, dict) else None


def is_tied(model: str, config: Mapping[str, Any]) -> bool:
    """Whether the model's output layer is its embedding table.

    The weights tell it; config.json may leave it out. Where neither does it counts as tied, which
    makes the ceiling too low rather than too high.
    """
    names = _tensor_names(model)
    if names is not None:
        return not any(name.endswith("lm_head.weight") for name in names)
    return config.get("tie_word_embeddings") is not False
