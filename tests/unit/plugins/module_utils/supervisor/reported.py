# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole logs around the excerpts of tests/fixtures/classify/reported.yml, as vLLM 0.14.1 writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

API, ENGINE, WORKER = (
    "(APIServer pid=1001) ",
    "(EngineCore_DP0 pid=1100) ",
    "(Worker_TP0 pid=1201) ",
)
AT = "11-22 22:05:28"
BEGIN = "Traceback (most recent call last):"

START = [
    f"{API}INFO {AT} [api_server.py:1870] vLLM API server version 0.14.1",
    f"{API}INFO {AT} [utils.py:233] non-default args: {{'model': '/srv/models/a'}}",
    f"{ENGINE}INFO {AT} [core.py:96] Initializing a V1 LLM engine (v0.14.1) with config: model='a'",
    f"{ENGINE}INFO {AT} [gpu_model_runner.py:3808] Starting to load model /srv/models/a...",
    "Loading safetensors checkpoint shards: 100% Completed | 4/4 [00:05<00:00,  1.31s/it]",
    f"{ENGINE}INFO {AT} [default_loader.py:291] Loading weights took 5.31 seconds",
]
UP = [
    f"{API}INFO:     Waiting for application startup.",
    f"{API}INFO:     Application startup complete.",
    f'{API}INFO:     127.0.0.1:4242 - "POST /v1/chat/completions HTTP/1.1" 200 OK',
]
NEVER_UP = [
    f"{API}{BEGIN}",
    f'{API}  File "/opt/vllm/current/bin/vllm", line 7, in <module>',
    f"{API}    sys.exit(main())",
    f'{API}  File "/v/vllm/v1/engine/utils.py", line 921, in wait_for_engine_startup',
    f"{API}    raise RuntimeError(",
    f"{API}RuntimeError: Engine core initialization failed. See root cause above. Failed {{}}",
]
DEAD = "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace"


def _request_error(number: int) -> list[str]:
    said = f"{API}ERROR {AT} [serving_chat.py:1310] "
    return [
        f"{said}Error in chat completion stream generator.",
        f"{said}{BEGIN}",
        f'{said}  File "/v/vllm/entrypoints/openai/serving_chat.py", line 676, in stream',
        f"{said}    async for res in result_generator:",
        *(f'{said}  File "/v/vllm/v1/engine/part{part}.py", line 447, in get' for part in range(8)),
        f"{said}{DEAD} (above) for the root cause.",
        f'{API}INFO:     127.0.0.1:{5000 + number} - "POST /v1/chat/completions HTTP/1.1" 500',
    ]


def _logged(process: str, source: str, headline: str, raised: Sequence[str]) -> list[str]:
    said = f"{process}ERROR {AT} [{source}] "
    return [said + headline, said + BEGIN, *(said + line for line in raised)]


def composed(case: Mapping[str, Any]) -> list[str]:
    """The whole log of a case."""
    if "lines" in case:
        return list(case["lines"])
    serving = case.get("serving", False)
    log = [*START, *(UP if serving else []), *case.get("before", [])]
    if "server" in case:
        return [*log, f"{API}{BEGIN}", *(API + line for line in case["server"])]
    if "worker" in case:
        headline = "WorkerProc hit an exception." if serving else "WorkerProc failed to start."
        log += _logged(WORKER, "multiproc_executor.py:751", headline, case["worker"])
        raised = [
            '  File "/v/vllm/v1/executor/multiproc_executor.py", line 622, in wait_for_ready',
            "Exception: WorkerProc initialization failed due to an exception in a process.",
        ]
    else:
        raised = list(case["engine"])
    headline = "EngineCore encountered a fatal error." if serving else "EngineCore failed to start."
    log += _logged(ENGINE, "core.py:936", headline, raised)
    log += [f"{ENGINE}Process EngineCore_DP0:", ENGINE + BEGIN, *(ENGINE + line for line in raised)]
    if not serving:
        return [*log, *NEVER_UP]
    log += _logged(API, "async_llm.py:708", "AsyncLLM output_handler failed.", [DEAD + " (above)"])
    for number in range(40):
        log += _request_error(number)
    return [*log, f"{API}INFO:     Shutting down", f"{API}INFO:     Finished server process [1001]"]
