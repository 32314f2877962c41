# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running the programs that build an environment, with progress and what they may inherit."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.children import dies_with
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.proving import (
    explain_failure,
)


class CallFailed(Failed):
    """A program failed.

    Attributes:
        output: What it printed.
    """

    def __init__(self, step: str, output: str) -> None:
        super().__init__(explain_failure(step, output))
        self.output = output


def bytes_written(pid: int) -> int:
    """How many bytes a process has written to files so far; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as stream:
            fields = dict(line.split(": ") for line in stream.read().splitlines())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields["wchar"])


class Steps:
    """Runs one program after the other.

    Args:
        progress: Where it says what is being done.
        environment: The user's variables for uv and pip.

    Attributes:
        seconds: How long each part took.
        guard: The file whose lock keeps other runs out; programs inherit it, so that after a kill
            the next run waits for the last of them.
    """

    def __init__(self, progress: Progress, environment: Mapping[str, str]) -> None:
        self.progress = progress
        self.environment = environment
        self.seconds: dict[str, float] = {}
        self.guard: IO[str] | None = None

    @contextlib.contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Note how long a part took, where it did not fail."""
        started = time.monotonic()
        yield
        self.seconds[part] = round(time.monotonic() - started, 1)

    def call(self, argv: list[str], step: str, environment: dict[str, str], total: int = 0) -> str:
        """Run a program to its end, keeping the progress file up to date; returns its output.

        Args:
            argv: The program and its arguments.
            step: What is being done, as a person would name it.
            environment: Variables beside those of this process and the user's.
            total: About how many bytes it writes, for the progress; 0 where that is not known.

        Raises:
            CallFailed: It did.
        """
        started = time.monotonic()
        # PYTHONPATH would show pip packages that the venv itself lacks.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            # Its input is the lock file, which is empty. What it starts in turn (ensurepip)
            # inherits that, and with it the lock: after a kill, the next run waits for the last.
            process = subprocess.Popen(
                argv,
                stdout=out,
                stderr=err,
                stdin=self.guard,
                env={**inherited, **self.environment, **environment},
                preexec_fn=dies_with(os.getpid()),  # noqa: PLW1509 - there is one thread
            )
            while process.poll() is None:
                done = bytes_written(process.pid)
                elapsed = time.monotonic() - started
                fields: dict[str, Any] = {"elapsed": elapsed}
                if total:
                    fields.update(
                        bytes_done=min(done, total), bytes_total=total, rate=done / (elapsed + 0.1)
                    )
                self.progress.update(step, **fields)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
            out.seek(0)
            err.seek(0)
            if process.returncode != 0:
                raise CallFailed(step, err.read() + out.read())
            return out.read()

    def prove(
        self, venv: str, script: str, step: str, pycache: str | None = None
    ) -> dict[str, str | None]:
        """Let an environment's own Python import what it holds and name the versions.

        Raises:
            CallFailed: It cannot.
        """
        # Bytecode is kept apart from the installed files.
        prefix = pycache or os.path.join(venv, ".pycache")
        # torch leaves a directory in TMPDIR when it is killed.
        scratch = f"{prefix}.tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        os.makedirs(scratch, mode=0o755)
        python = os.path.join(venv, "bin", "python")
        output = self.call(
            [python, "-I", "-X", f"pycache_prefix={prefix}", "-c", script],
            step,
            {
                "VLLM_NO_USAGE_STATS": "1",
                "DO_NOT_TRACK": "1",
                "HF_HUB_OFFLINE": "1",
                "TMPDIR": scratch,
            },
        )
        shutil.rmtree(scratch)
        # vLLM logs to stdout while it is imported; the answer is the last line.
        versions: dict[str, str | None] = json.loads(output.strip().splitlines()[-1])
        return versions
