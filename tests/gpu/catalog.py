# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All steps, in the order of their worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import shares
import sites
import steps


@dataclass(frozen=True)
class Entry:
    """A step and what it needs.

    Attributes:
        run: The step.
        seconds: About how many it takes; it is not begun when less is left.
        before: The step that must have been done before.
        site: The host or the caches that it goes on with; such steps run one after the other, on
            the host's GPU.
        alone: Whether nothing else may run beside it.
        models: Whether it needs models whose answers mean something.
    """

    run: steps.Step
    seconds: float
    before: str | None = None
    site: str | None = None
    alone: bool = False
    models: bool = False


def _option(
    name: str, seconds: float, extra: dict[str, Any], streams: tuple[int, ...] = (1, 16)
) -> Entry:
    return Entry(steps.option(name, streams, extra_args=extra), seconds)


_SIZES = [1, 2, 4, 8, 16, 32, 64]
_THREADS = {"enable_multithread_load": True, "num_threads": 8}

STEPS: dict[str, Entry] = {
    "facts": Entry(steps.facts, 40, alone=True),
    "recorded": Entry(steps.recorded, 150),
    "graphs": Entry(steps.graphs, 170),
    "playbooks": Entry(sites.playbooks, 150, site="words", models=True),
    "tune": Entry(sites.tune, 300, "playbooks", site="words", models=True),
    "rollback": Entry(sites.rollback, 120, "playbooks", site="words", models=True),
    "unit-devices": Entry(sites.unit_devices, 10, "playbooks", site="words", models=True),
    "unit-memory": Entry(sites.unit_memory, 50, "playbooks", site="words", models=True),
    "unit-headers": Entry(sites.unit_headers, 65, "playbooks", site="words", models=True),
    "unit-libcuda": Entry(sites.unit_libcuda, 65, "playbooks", site="words", models=True),
    "unit-stop": Entry(sites.unit_stop, 50, "playbooks", site="words", models=True),
    "unit-compiler": Entry(sites.unit_compiler, 80, "playbooks", site="words", models=True),
    "auto": Entry(sites.auto, 250, models=True),
    "shape": Entry(sites.shape, 450),
    "energy": Entry(sites.energy, 450),
    "profile": Entry(steps.profile, 90, "graphs"),
    "flash": Entry(steps.flash, 150),
    "weights": Entry(steps.weights, 45),
    "sleep": Entry(steps.sleep, 200, "weights"),
    "switch": Entry(steps.switch, 200, "weights"),
    "demand": Entry(shares.demand, 500, "weights"),
    "sleep-words": Entry(steps.sleep_words, 80, models=True),
    "demand-unit": Entry(sites.demand_unit, 260, models=True),
    "pair": Entry(sites.pair, 200, models=True),
    "parallel-unit": Entry(sites.parallel_unit, 140, alone=True),
    "start-cold": Entry(
        steps.starting("start-cold", cold_pages=True), 110, "weights", site="starts"
    ),
    "start-warm": Entry(steps.starting("start-warm"), 60, "start-cold", site="starts"),
    "start-sizes": Entry(
        steps.starting(
            "start-sizes", extra_args={"compilation-config": {"cudagraph_capture_sizes": _SIZES}}
        ),
        60,
        "start-warm",
        site="starts",
    ),
    "start-moved": Entry(
        steps.starting("start-moved", moved=True), 70, "start-warm", site="starts"
    ),
    "start-disk": Entry(
        steps.starting("start-disk", cold_pages=True), 60, "start-warm", site="starts"
    ),
    "start-prefetch": Entry(
        steps.starting(
            "start-prefetch",
            cold_pages=True,
            extra_args={"safetensors-load-strategy": "prefetch"},
        ),
        60,
        "start-warm",
        site="starts",
    ),
    "start-threads": Entry(
        steps.starting(
            "start-threads", cold_pages=True, extra_args={"model-loader-extra-config": _THREADS}
        ),
        60,
        "start-warm",
        site="starts",
    ),
    "imports": Entry(steps.imports, 50),
    "fp8": _option("fp8", 110, {"quantization": "fp8"}),
    "fp8-kv": _option("fp8-kv", 110, {"kv-cache-dtype": "fp8"}),
    "full-graphs": _option(
        "full-graphs", 100, {"compilation-config": {"cudagraph_mode": "FULL"}}
    ),
    "o3": _option("o3", 120, {"optimization-level": "3"}),
    "o1": _option("o1", 100, {"optimization-level": "1"}),
    "no-async": _option("no-async", 90, {"async-scheduling": False}),
    "batched-8192": _option("batched-8192", 90, {"max-num-batched-tokens": 8192}, (1, 64)),
    "ngram": _option(
        "ngram",
        100,
        {
            "speculative-config": {
                "method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4,
            },
        },
    ),
    "faults": Entry(steps.faults, 240),
    "parallel": Entry(steps.parallel, 150, alone=True),
}  # fmt: skip
