# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.compute_plane.vllm.plugins.module_utils.status.diagnose import (
    diagnose,
    starts,
)

AT = "11-20 10:15:42"
VERSION = f"(APIServer pid=1) INFO {AT} [api_server.py:1870] vLLM API server version 0.14.1"
UP = "(APIServer pid=1) INFO:     Application startup complete."
FAILS = [
    f"(EngineCore_DP0 pid=9) ERROR {AT} [core.py:936] EngineCore failed to start.",
    f"(EngineCore_DP0 pid=9) ERROR {AT} [core.py:936] Traceback (most recent call last):",
    f'(EngineCore_DP0 pid=9) ERROR {AT} [core.py:936]   File "/v/x.py", line 1, in init',
    f"(EngineCore_DP0 pid=9) ERROR {AT} [core.py:936] RuntimeError: No CUDA GPUs are available",
    "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.",
]
WAITS = (
    f"(EngineCore_DP0 pid=9) INFO {AT} [shm_broadcast.py:466] No available shared memory "
    "broadcast block found in 60 seconds."
)


def test_the_cause_and_the_part_of_the_log_that_tells_it() -> None:
    found = diagnose([VERSION, *FAILS])
    assert found["cause"] == "no_gpu"
    assert found["evidence"] == ["log: RuntimeError: No CUDA GPUs are available"]
    assert FAILS[3] in found["telling"]


def test_the_last_start_that_failed_counts() -> None:
    well = [VERSION, *["INFO a"] * 60, UP, "INFO b"]
    log = [VERSION, *FAILS, *["x"] * 60, *well]
    assert len(starts(log)) == 2
    found = diagnose(log)
    assert (found["cause"], found["start"], found["starts"]) == ("no_gpu", 1, 2)


def test_a_log_that_tells_of_no_end() -> None:
    found = diagnose([VERSION, UP])
    assert found["cause"] is None
    assert "neither" in found["summary"]
    assert "exit_status" in found["remedy"]


def test_workers_that_waited_until_the_log_ends() -> None:
    assert diagnose([VERSION, WAITS, WAITS])["cause"] == "workers_wait"
    loading = "Loading safetensors checkpoint shards:  25% Completed | 10/40 [09:25<28:25]"
    assert diagnose([VERSION, loading, WAITS, WAITS])["cause"] is None


def test_how_it_ended_is_evidence_where_it_is_known() -> None:
    found = diagnose([VERSION, UP], exit_status=137)
    assert found["cause"] == "killed"
    assert found["evidence"] == ["exit status 137: signal 9 (SIGKILL)"]


def test_a_flood_does_not_hide_the_end() -> None:
    flood = [f"(APIServer pid=1) INFO {AT} [a.py:1] request {number}" for number in range(9000)]
    assert diagnose([VERSION, UP, *FAILS, *flood])["cause"] == "no_gpu"
