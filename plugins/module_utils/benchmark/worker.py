# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs `vllm bench serve` again and again without importing vLLM each time.

This file's text runs in the Python of a release, in a unit of its own. It imports what the command
`vllm` imports, then makes a child process for each run, in which the command's own entry point
gets the arguments that it would get on a command line. A child is to a run what a new process is,
less the ten seconds and more that importing takes.

One JSON object a line: in `{"argv": [...], "timeout": SECONDS}`; out `{"ready": true}` once,
then for each request `{"rc": STATUS, "saved": {...}, "tail": "..."}`: the exit status (null at
the time limit), what the run saved, and the end of what it printed.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import tempfile
import time
from typing import Any

# What vllm/entrypoints/cli/main.py imports before it reads the arguments, and the tokenizers.
_IMPORTS = (
    "vllm.entrypoints.cli.main",
    "vllm.entrypoints.cli.benchmark.main",
    "vllm.entrypoints.cli.serve",
    "vllm.entrypoints.cli.openai",
    "vllm.entrypoints.cli.run_batch",
    "vllm.benchmarks.serve",
    "transformers.models.auto.tokenization_auto",
)
_TAIL = 4000


def _child(argv: list[str], printed: int) -> None:
    """Be `vllm bench serve`."""
    status = 1
    try:
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        sys.argv = ["vllm", "bench", "serve", *argv]
        try:
            importlib.import_module("vllm.entrypoints.cli.main").main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001 - what the command would end with
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _wait(pid: int, timeout: float) -> int | None:
    """The child's exit status, negative for a signal; None when it was ended at the time limit."""
    until = time.monotonic() + timeout
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        # Nothing is asked while a run is under way, so what can be read there is the end.
        gone = bool(select.select([0], [], [], 0.1)[0])
        if gone or time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if gone:
                os._exit(0)
            return None


def run(argv: list[str], timeout: float) -> dict[str, Any]:
    """Make one run."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as printed:
        save = ["--save-result", "--result-dir", folder, "--result-filename", "result.json"]
        pid = os.fork()
        if pid == 0:
            _child([*argv, *save], printed.fileno())
        status = _wait(pid, timeout)
        printed.seek(max(0, printed.seek(0, os.SEEK_END) - _TAIL))
        answer: dict[str, Any] = {"rc": status, "saved": None}
        answer["tail"] = printed.read().decode("utf-8", "replace")
        with (
            contextlib.suppress(OSError, ValueError),
            open(os.path.join(folder, "result.json"), encoding="utf-8") as stream,
        ):
            answer["saved"] = json.load(stream)
    return answer


def main() -> None:
    """Serve requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print; the answers have a line of their own
    for name in _IMPORTS:
        with contextlib.suppress(ImportError):  # a release without it imports it when it must
            importlib.import_module(name)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    requests = os.fdopen(0, "rb", buffering=0, closefd=False)
    for line in iter(requests.readline, b""):
        request = json.loads(line)
        print(json.dumps(run(request["argv"], request["timeout"])), file=answers, flush=True)


if __name__ == "__main__":
    main()
