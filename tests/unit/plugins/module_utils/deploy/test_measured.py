# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine measured, read from logs of real servers, and what is kept of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.measured import (
    KEPT,
    LINES,
    figures,
    read_rows,
    rows_text,
    with_row,
)

LOGS = Path(__file__).parents[4] / "fixtures" / "classify" / "logs"
GIB = 1 << 30
EXPECTED = {
    "key": "a",
    "for": {"release": "0.26.0"},
    "predicted": {"budget_bytes": 20 * GIB, "kv_cache_tokens": 90704},
}

# 0.14.1's form of the lines that only a GPU writes (vllm/v1/worker/gpu_model_runner.py and
# gpu_worker.py): no log of it from a GPU is here.
OF_0_14_1 = """\
[gpu_model_runner.py:3905] Model loading took 14.2480 GiB memory and 3.120000 seconds
[gpu_worker.py:358] Available KV cache memory: 4.31 GiB
[kv_cache_utils.py:1305] GPU KV cache size: 80,704 tokens
""".splitlines()
# The same of 0.32.0 and 0.33.0, where kv_cache_utils.py says tokens and concurrency in one line.
OF_0_32_0 = """\
[model_runner.py:425] Model loading took 14.25 GiB memory and 3.120000 seconds
[gpu_worker.py:760] Available KV cache memory: 4.31 GiB
[kv_cache_utils.py:2478] Auto-fit max_model_len: reduced from 131072 to 80704 to fit in available
[kv_cache_utils.py:2327] GPU KV cache size: 80,704 tokens, Maximum concurrency for 80,704 tokens
[gpu_worker.py:1018] Actual usage is 14.58 GiB for consumed memory (weights + non-torch), 1.04 GiB \
for peak activation, and 0.44 GiB for CUDAGraph memory.
""".splitlines()
# Of a real start of 0.14.1 on a CPU with `max-model-len: auto`; /v1/models said 131072 all the
# same, and a prompt of 60000 tokens was never answered.
AUTO_0_14_1 = """\
(EngineCore_DP0 pid=24788) INFO 11-29 13:39:45 [kv_cache_utils.py:1442] Auto-fit max_model_len: \
reduced from 131072 to 46592 to fit in available GPU memory (1.0 GiB available for KV cache)
(EngineCore_DP0 pid=24788) INFO 11-29 13:39:45 [kv_cache_utils.py:1305] GPU KV cache size: 46,592 \
tokens
""".splitlines()
# The same with 0.32.0, whose /v1/models said 46464 and which refused that prompt with 400.
AUTO_0_32_0 = """\
(EngineCore pid=30004) INFO 11-29 13:45:46 [kv_cache_utils.py:2477] Auto-fit max_model_len: \
reduced from 131072 to 46464 to fit in available KV cache memory (1.0 GiB CPU)
(EngineCore pid=30004) INFO 11-29 13:45:46 [kv_cache_utils.py:2327] CPU KV cache size: 46,591 \
tokens, Maximum concurrency for 46,464 tokens per request: 1.00x
""".splitlines()


def log(name: str) -> list[str]:
    """A log of a real server."""
    return (LOGS / name).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        pytest.param(
            log("good_h100.log"),
            {
                "weights_bytes": 0.26,
                "kv_cache_bytes": 19.97,
                "kv_cache_tokens": 930688,
                "cuda_graph_bytes": 0.36,
                "activation_bytes": 0.14,
                "non_torch_bytes": 0.22,
            },
            id="0.26.0 on an H100",
        ),
        pytest.param(log("good_compile.log"), {"kv_cache_tokens": 46592}, id="0.14.1 on a CPU"),
        pytest.param(
            AUTO_0_14_1,
            {"kv_cache_tokens": 46592, "max_model_len": 46592},
            id="0.14.1 on a CPU, which had to shorten the context",
        ),
        pytest.param(
            AUTO_0_32_0,
            {"kv_cache_tokens": 46591, "max_model_len": 46464},
            id="0.32.0 on a CPU, which had to shorten the context",
        ),
        pytest.param(
            OF_0_32_0,
            {
                "weights_bytes": 14.25,
                "kv_cache_bytes": 4.31,
                "kv_cache_tokens": 80704,
                "activation_bytes": 1.04,
                "max_model_len": 80704,
            },
            id="0.32.0 on a GPU, which had to shorten the context",
        ),
        pytest.param(
            OF_0_14_1,
            {"weights_bytes": 14.248, "kv_cache_bytes": 4.31, "kv_cache_tokens": 80704},
            id="0.14.1 on a GPU",
        ),
        pytest.param([], {}, id="nothing"),
    ],
)
def test_figures(lines: list[str], found: dict[str, float]) -> None:
    in_bytes = {
        name: round(value * GIB) if name.endswith("_bytes") else value
        for name, value in found.items()
    }
    assert figures(lines) == in_bytes
    # What the journal is asked for has all of it.
    assert figures([line for line in lines if re.search(LINES, line)]) == in_bytes


def test_of_several_workers_the_one_with_the_least_room_counts() -> None:
    lines = [
        "(Worker_TP0 pid=1) INFO [gpu_worker.py:560] Available KV cache memory: 5.10 GiB",
        "(Worker_TP1 pid=2) INFO [gpu_worker.py:560] Available KV cache memory: 4.90 GiB",
        "(Worker_TP0 pid=1) INFO [model_runner.py:305] Model loading took 7.16 GiB and 2.2 seconds",
        "(Worker_TP1 pid=2) INFO [model_runner.py:305] Model loading took 7.18 GiB and 2.2 seconds",
    ]
    assert figures(lines) == {
        "kv_cache_bytes": round(4.9 * GIB),
        "weights_bytes": round(7.18 * GIB),
    }


def test_a_row_is_kept_and_read_again() -> None:
    rows = with_row([], EXPECTED, {"kv_cache_bytes": 5 * GIB}, "2026-11-29T12:00:00+00:00")
    assert read_rows(rows_text(rows)) == rows
    (row,) = rows
    assert row["for"] == {"release": "0.26.0"}
    assert row["beside_bytes"] == 15 * GIB


def test_the_least_room_that_was_seen_stays_with_the_newest_figures() -> None:
    rows: list[dict[str, Any]] = []
    for cache in (5, 6):
        rows = with_row(rows, EXPECTED, {"kv_cache_bytes": cache * GIB}, "2026-11-29")
    (row,) = rows
    assert row["is"] == {"kv_cache_bytes": 6 * GIB}
    assert row["beside_bytes"] == 15 * GIB


def test_without_a_budget_only_the_figures_are_kept() -> None:
    expected = {**EXPECTED, "predicted": {"budget_bytes": None}}
    (row,) = with_row([], expected, {"kv_cache_tokens": 46592}, "2026-11-29")
    assert "beside_bytes" not in row


def test_the_oldest_go() -> None:
    rows: list[dict[str, Any]] = []
    for number in range(KEPT + 1):
        rows = with_row(rows, {**EXPECTED, "key": str(number)}, {}, "2026-11-29")
    assert len(rows) == KEPT
    assert rows[0]["key"] == "1"


@pytest.mark.parametrize(
    "text", [None, "", "{}", "[]", '{"schema": 2, "rows": []}', '{"schema": 1, "rows": [{}]}']
)
def test_what_cannot_be_read_is_nothing(text: str | None) -> None:
    assert read_rows(text) == []
