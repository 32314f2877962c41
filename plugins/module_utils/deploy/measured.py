# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vLLM's engine measured at its start, and what the host keeps of it. Pure.

The plan estimates what an instance needs; the engine measures it and writes it to its log. What it
measured is kept with what was expected, by the key that the plan gave it (release, GPUs, model and
flags), so that both can be shown and the next plan of the same knows better.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

SCHEMA = 1
KEPT = 64
"""Rows that a host keeps; the oldest go."""
_GIB = 1 << 30

LINES = (
    "Model loading took|KV cache memory:|KV cache size:|Graph capturing finished"
    "|Actual usage is|Auto-fit max_model_len"
)
"""Finds the lines of a log that :func:`figures` reads (a pattern for journalctl, too)."""

# vllm 0.14.1 and 0.26.0: vllm/v1/worker/gpu_model_runner.py and gpu_worker.py,
# vllm/v1/core/kv_cache_utils.py; 0.32.0 says the tokens and the concurrency in one line, and
# weights with what is not torch's; 0.33.0 fits in kv_cache_planning.py. Every worker writes its
# own: after the pattern and its unit stands which of several counts.
_FIGURES = {
    "weights_bytes": (r"Model loading took ([\d.]+) GiB", _GIB, max),
    "kv_cache_bytes": (r"Available KV cache memory: (-?[\d.]+) GiB", _GIB, min),
    "kv_cache_tokens": (r"KV cache size: ([\d,]+) tokens", 1, min),
    "cuda_graph_bytes": (r"Graph capturing finished in \d+ secs, took (-?[\d.]+) GiB", _GIB, max),
    "activation_bytes": (r"([\d.]+) GiB for peak activation", _GIB, max),
    "non_torch_bytes": (r"([\d.]+) GiB for non-torch memory", _GIB, max),
    "max_model_len": (r"Auto-fit max_model_len: (?:full\D*|reduced from \d+ to )(\d+)", 1, min),
}


def figures(lines: Iterable[str]) -> dict[str, int]:
    """What the engine says of its memory, in bytes and tokens; what it does not say is left out.

    Args:
        lines: The log of one start.
    """
    text = "\n".join(lines)
    found: dict[str, int] = {}
    for name, (pattern, unit, choose) in _FIGURES.items():
        values = [float(value.replace(",", "")) for value in re.findall(pattern, text)]
        if values:
            found[name] = round(choose(values) * unit)
    return found


def read_rows(text: str | None) -> list[dict[str, Any]]:
    """The rows that a host keeps, oldest first; none where the file is not readable."""
    try:
        data = json.loads(text or "")
        rows = data["rows"] if data["schema"] == SCHEMA else []
        return [row for row in rows if isinstance(row["key"], str) and isinstance(row["is"], dict)]
    except (ValueError, KeyError, TypeError):
        return []


def rows_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """The file of the rows."""
    return json.dumps({"schema": SCHEMA, "rows": list(rows)}, indent=1, sort_keys=True) + "\n"


def with_row(
    rows: Iterable[Mapping[str, Any]],
    expected: Mapping[str, Any],
    measured: Mapping[str, int],
    at: str,
) -> list[dict[str, Any]]:
    """The rows with what was measured now.

    A start that has to compile its code has less KV cache than a later one. What is left for it
    beside everything else follows from the least that was seen (`beside_bytes`), so that a plan
    does not promise what the next such start cannot hold.

    Args:
        rows: Those that are kept.
        expected: Of the plan: `key`, `for` (what the key stands for) and `predicted`.
        measured: Of :func:`figures`.
        at: When, in ISO 8601.
    """
    kept = [dict(row) for row in rows if row["key"] != expected["key"]]
    former = next((row for row in rows if row["key"] == expected["key"]), None)
    row: dict[str, Any] = {
        **{name: expected[name] for name in ("key", "for", "predicted")},
        "is": dict(measured),
        "at": at,
    }
    budget, cache = expected["predicted"].get("budget_bytes"), measured.get("kv_cache_bytes")
    beside = [one["beside_bytes"] for one in [former or {}] if "beside_bytes" in one]
    if budget is not None and cache is not None:
        beside.append(budget - cache)
    if beside:
        row["beside_bytes"] = max(beside)
    return [*kept, row][-KEPT:]
