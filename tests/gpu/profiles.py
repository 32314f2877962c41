# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a decode step is made of: torch's profile of a server, summed by kind of kernel."""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

KINDS = (
    ("attention", r"attention|flash|fmha|reduce_segments|prepare_varlen"),
    ("kv_cache", r"reshape_and_cache|cache_kernel"),
    ("matmul", r"gemm|gemv|nvjet|cutlass|cublas|splitK|sm90_xmma|dot_kernel|matmul"),
    ("communication", r"nccl|all_reduce|allreduce|cross_device"),
    ("sampling", r"softmax|topk|top_k|argmax|sort|multinomial|penalt|sampl|gumbel|logit"),
    ("copy", r"memcpy|memset|copy|index_|gather|scatter|arange|fill"),
    ("fused", r"triton_|rms_norm|silu|rotary|act_and_mul|layernorm|elementwise"),
)


def kind_of(name: str) -> str:
    """The kind of a kernel, by its name."""
    for kind, pattern in KINDS:
        if re.search(pattern, name, re.IGNORECASE):
            return kind
    return "other"


def summarise(events: Sequence[Mapping[str, Any]], steps: int, top: int = 25) -> dict[str, Any]:
    """Microseconds of a step by kind and by kernel.

    Args:
        events: `traceEvents` of a trace that covers whole steps.
        steps: How many those are.
        top: How many kernels are named.
    """
    kernels = [
        one
        for one in events
        if one.get("ph") == "X" and one.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")
    ]
    if not kernels or steps < 1:
        return {"steps": steps, "kernels": 0}
    by_kind: dict[str, float] = defaultdict(float)
    by_name: dict[str, list[float]] = defaultdict(list)
    for one in kernels:
        by_kind[kind_of(one["name"])] += one["dur"]
        by_name[one["name"]].append(one["dur"])
    spans = sorted((one["ts"], one["ts"] + one["dur"]) for one in kernels)
    busy, end = 0.0, spans[0][0]
    for begin, until in spans:
        busy += max(0.0, until - max(begin, end))
        end = max(end, until)
    whole = end - spans[0][0]
    largest = sorted(by_name.items(), key=lambda item: -sum(item[1]))[:top]
    return {
        "steps": steps,
        "kernels": round(len(kernels) / steps, 1),
        "step_us": round(whole / steps, 1),
        "busy_us": round(busy / steps, 1),
        "idle_us": round((whole - busy) / steps, 1),
        "kinds_us": {kind: round(value / steps, 1) for kind, value in sorted(by_kind.items())},
        "largest": [
            {
                "name": name[:160],
                "kind": kind_of(name),
                "us": round(sum(times) / steps, 1),
                "times": round(len(times) / steps, 2),
            }
            for name, times in largest
        ],
    }


def read(folder: Path) -> list[dict[str, Any]]:
    """The events of the newest trace with kernels in a directory; empty without one."""
    for path in sorted(folder.rglob("*.json*"), key=lambda one: -one.stat().st_mtime):
        data = path.read_bytes()
        text = gzip.decompress(data) if path.suffix == ".gz" else data
        events: list[dict[str, Any]] = json.loads(text).get("traceEvents", [])
        if any(one.get("cat") == "kernel" for one in events):
            return events
    return []
