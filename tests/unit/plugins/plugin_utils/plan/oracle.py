# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vLLM itself answered (`scripts/kv-oracle`), and what the plan says of the same models."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.gpus import Gpu
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.kvcache import Cache
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.memory import (
    Setting,
    read_cache,
    read_shape,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import Model
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import Findings
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.release import ReleaseData
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import read_wanted
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.release_data import (
    default_releases_dir,
    load_release_data,
)

FIXTURES = Path(__file__).parents[4] / "fixtures" / "oracle"
GIB = 1 << 30
MODELS = yaml.safe_load((FIXTURES / "models.yml").read_text(encoding="utf-8"))
ANSWERS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))["models"]
    for path in sorted(FIXTURES.glob("*.json"))
}
SIZE = {"float16": 2, "bfloat16": 2, "float32": 4}


def card(index: int) -> Gpu:
    """An RTX 3090."""
    return Gpu(index, f"GPU-{index}", "RTX 3090", (8, 6), 25327304704, 25325207552, {})


@functools.cache
def data_of(release: str) -> ReleaseData:
    """The collection's data of a release."""
    return load_release_data(default_releases_dir(), release)


def planned(release: str, name: str, size: str) -> tuple[Cache | None, Model]:
    """What the plan says of a model's KV cache."""
    one, tensor = MODELS[name], int(size.removeprefix("tp"))
    raw = {
        "name": "m",
        "model": "/srv/m",
        "tensor_parallel_size": tensor,
        "extra_args": one.get("flags", {}),
    }
    instance = read_wanted({"instances": [raw]}, Findings()).instances[0]
    model = Model("/srv/m", one["config"], 1)
    rules = data_of(release).rules
    dtype = ANSWERS[release][name][size]["dtype"]
    setting = Setting("cuda", release, False, dtype, [card(index) for index in range(tensor)])
    shape = read_shape(model, rules["memory"], release)
    if shape is None:
        return None, model
    sizes = rules["dtypes"]["bytes"]
    return read_cache(instance, model, shape, setting, rules["memory"], sizes), model


def bytes_of_a_token(layers: list[dict[str, Any]]) -> int:
    """Bytes of one token over all of vLLM's layers that keep tokens."""
    return sum(
        row["layers"] * row["page_bytes"] // row["block_size"]
        for row in layers
        if row["kind"] not in ("MambaSpec", "CrossAttentionSpec")
    )


def bytes_of_states(layers: list[dict[str, Any]]) -> int:
    """Bytes of the states of one request in vLLM, without what fills up their pages."""
    return sum(
        row["layers"]
        * sum(
            math.prod(shape) * SIZE[dtype]
            for shape, dtype in zip(row["shapes"], row["dtypes"], strict=True)
        )
        for row in layers
        if row["kind"] == "MambaSpec"
    )
