# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts the processes that measure: vLLM's client in a unit of its own, and the reader of GPUs."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import select
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import (
    gpu_sampler,
    worker,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark.sweep import Point
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import SYSTEM_PATH
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.venvs import bytecode

START_TIMEOUT = 300.0
"""Seconds that importing vLLM may take; on a cold disk it takes a minute."""
SPARE = 600.0
"""Seconds beyond the time limit after which systemd ends the client by itself."""
SAMPLE_INTERVAL = 1.0

CANNOT = {
    "classify": "vLLM's own client, which measures, asks no /classify",
    "transcribe": "vLLM's own client measures speech with recordings alone, and none are at hand",
}
"""Kinds that are not measured, and why not.

vllm 0.14.1, vllm/benchmarks/lib/endpoint_request_func.py and vllm/benchmarks/datasets.py.
"""

_BOOT = (
    "import sys; n = int(sys.stdin.buffer.readline()); "
    "exec(compile(sys.stdin.buffer.read(n), 'worker', 'exec'), {'__name__': '__main__'})"
)

# What the server's unit has too, where it means something to a client; and no way to anywhere else.
_PROPERTIES = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectControlGroups=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "WorkingDirectory=/tmp",
    "UMask=0077",
    "KillMode=control-group",
)


class BenchClientError(Exception):
    """A run could not be made, or its figures are of no use; the message says why."""


def environment(venv: str) -> dict[str, str]:
    """The client's environment: nothing leaves the host, and all it writes goes to its own /tmp."""
    return {
        "HOME": "/tmp",  # noqa: S108 - the unit's own, PrivateTmp=yes
        "PATH": f"{venv}/bin:{SYSTEM_PATH}",
        "VIRTUAL_ENV": venv,
        "VLLM_CACHE_ROOT": "/tmp/vllm",  # noqa: S108
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_XET": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "NO_COLOR": "1",
    }


def unit_argv(name: str, venv: str, user: str, lifetime: float, key_file: str | None) -> list[str]:
    """The command that starts the client in a transient unit of the service's user.

    Args:
        name: The instance.
        venv: The release's virtual environment.
        user: The service's user.
        lifetime: Seconds after which systemd ends it, should nobody else have.
        key_file: A file of systemd's `EnvironmentFile=` form with the API key, or `None`.
    """
    properties = [
        *_PROPERTIES,
        f"User={user}",
        f"Group={user}",
        f"RuntimeMaxSec={lifetime:.0f}",
        f"Description=vLLM benchmark client of {name}",
    ]
    if key_file is not None:
        properties.append(f"EnvironmentFile={key_file}")
    return [
        "systemd-run",
        "--quiet",
        "--collect",
        "--pipe",
        f"--unit=vllm-benchmark-{name}",
        *[f"--property={one}" for one in properties],
        *[f"--setenv={key}={value}" for key, value in sorted(environment(venv).items())],
        f"{venv}/bin/python",
        "-I",
        "-X",
        f"pycache_prefix={bytecode(venv)}",
        "-c",
        _BOOT,
    ]


def _asks(kind: str, point: Point) -> list[str]:
    """The arguments of `vllm bench serve` for what a model of a kind is asked.

    vllm 0.14.1, vllm/benchmarks/serve.py: of backends with "embeddings" or "rerank" in their names
    it takes requests and tokens a second and the time of an answer, and no other metric.
    """
    if kind == "embed":
        return [
            *("--backend", "openai-embeddings", "--endpoint", "/v1/embeddings"),
            *("--dataset-name", "random", "--random-output-len", "1"),
            *("--percentile-metrics", "e2el"),
        ]
    if kind == "rerank":
        # One query and one document a request, of the wanted length together.
        return [
            *("--backend", "vllm-rerank", "--endpoint", "/rerank"),
            *("--dataset-name", "random-rerank", "--percentile-metrics", "e2el"),
        ]
    return [
        *("--backend", "openai", "--endpoint", "/v1/completions", "--dataset-name", "random"),
        *("--random-output-len", str(point.output_tokens)),
        *("--percentile-metrics", "ttft,tpot,itl,e2el", "--temperature", "0"),
        # The answer's length is the load's, whatever the model would say.
        "--ignore-eos",
    ]


def run_argv(
    url: str,
    served_model_name: str,
    flags: Mapping[str, Any],
    point: Point,
    seed: int,
    kind: str = "chat",
) -> list[str]:
    """The arguments of `vllm bench serve` for one run.

    Prompts of random tokens are the same for the same seed, and the server keeps the KV cache of
    prompts it has seen (automatic prefix caching), so every run has a seed of its own.

    Args:
        url: The server.
        served_model_name: The name that requests give.
        flags: The server's flags, of which those about the tokenizer are the client's too.
        point: The load.
        seed: For the prompts.
        kind: What the model is asked for.
    """
    arguments = [
        *("--base-url", url),
        *("--model", served_model_name),
        *("--tokenizer", str(flags.get("tokenizer") or flags["model"])),
        *("--random-range-ratio", "0", "--random-input-len", str(point.input_tokens)),
        *("--num-prompts", str(point.prompts)),
        *("--max-concurrency", str(point.concurrency)),
        *("--seed", str(seed), "--metric-percentiles", "50,95,99"),
        *_asks(kind, point),
        # Its own trial request is the first prompt, whose KV cache would then be there already.
        *("--ready-check-timeout-sec", "0", "--disable-tqdm"),
    ]
    if flags.get("tokenizer-mode"):
        arguments += ["--tokenizer-mode", str(flags["tokenizer-mode"])]
    if flags.get("trust-remote-code"):
        arguments.append("--trust-remote-code")
    return arguments


class BenchClient:
    """vLLM's client, started once for many runs. A context manager.

    Args:
        name: The instance.
        venv: The release's virtual environment.
        user: The service's user.
        lifetime: Seconds after which it is ended in any case.
        api_key: The server's key, or `None`.
    """

    def __init__(
        self, name: str, venv: str, user: str, lifetime: float, api_key: str | None = None
    ) -> None:
        self._key_file: str | None = None
        self._unit = f"vllm-benchmark-{name}.service"
        if api_key is not None:
            fd, self._key_file = tempfile.mkstemp(dir="/run", prefix="vllm-benchmark-")
            with os.fdopen(fd, "w", encoding="utf-8") as stream:
                escaped = api_key.replace("\\", "\\\\").replace('"', '\\"')
                stream.write(f'OPENAI_API_KEY="{escaped}"\n')
        source = inspect.getsource(worker).encode()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            unit_argv(name, venv, user, lifetime, self._key_file),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        self._rest = b""
        self._write(b"%d\n" % len(source) + source)

    def __enter__(self) -> BenchClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        stream = self._process.stdin
        if stream is not None:
            # A process that has ended is noticed, with its reason, when its answer is read.
            with contextlib.suppress(BrokenPipeError):
                stream.write(data)

    def _said(self) -> str:
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 2000))
        return self._errors.read().decode("utf-8", "replace").strip()

    def _answer(self, timeout: float) -> dict[str, Any]:
        until = time.monotonic() + timeout
        stream = self._process.stdout
        while stream is not None and b"\n" not in self._rest:
            left = until - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                raise BenchClientError(f"the client did not answer within {timeout:.0f} s")
            block = os.read(stream.fileno(), 1 << 20)
            if not block:
                raise BenchClientError(f"the client ended: {self._said()}")
            self._rest += block
        line, _newline, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def wait_until_ready(self) -> None:
        """Wait until vLLM is imported.

        Raises:
            BenchClientError: It did not come to that.
        """
        self._answer(START_TIMEOUT)

    def run(self, argv: Sequence[str], timeout: float) -> dict[str, Any]:
        """Make one run.

        Args:
            argv: Arguments of `vllm bench serve`.
            timeout: Seconds it may take.

        Returns:
            What it saved.

        Raises:
            BenchClientError: It failed; what it printed last is in the message.
        """
        self._write(json.dumps({"argv": list(argv), "timeout": timeout}).encode() + b"\n")
        answer = self._answer(timeout + 30)
        if answer["rc"] is None:
            raise BenchClientError(f"vllm bench serve was ended after {timeout:.0f} s")
        if answer["rc"] != 0 or answer["saved"] is None:
            tail = "\n".join(answer["tail"].strip().splitlines()[-15:])
            raise BenchClientError(f"vllm bench serve ended with status {answer['rc']}:\n{tail}")
        saved: dict[str, Any] = answer["saved"]
        return saved

    def close(self) -> None:
        """End the client and whatever it started."""
        if self._process.stdin is not None:
            self._process.stdin.close()  # with nothing to read it ends
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            subprocess.run(["systemctl", "kill", "--signal=KILL", self._unit], check=False)
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()
        if self._key_file is not None:
            os.unlink(self._key_file)


class GpuWatch:
    """Reads the instance's GPUs in the background. A context manager.

    Args:
        uuids: The GPUs; with none nothing is read.
        python: A Python that has pynvml.
    """

    def __init__(self, uuids: Sequence[str], python: str) -> None:
        self.gpus: list[dict[str, Any]] = []
        self.samples: list[dict[str, Any]] = []
        self._described = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        if not uuids or not os.path.exists(python):
            return
        self._process = subprocess.Popen(
            [python, "-I", "-c", inspect.getsource(gpu_sampler), str(SAMPLE_INTERVAL), *uuids],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        threading.Thread(target=self._read, daemon=True).start()
        self._described.wait(30.0)

    def _read(self) -> None:
        stream = self._process.stdout if self._process is not None else None
        if stream is None:
            return
        for line in stream:
            row = json.loads(line)
            if "at" in row:
                self.samples.append(row)
            else:
                self.gpus = row["gpus"]
                self._described.set()
        self._described.set()

    def __enter__(self) -> GpuWatch:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)

    def between(self, begin: float, end: float) -> dict[str, dict[str, Any]]:
        """What the GPUs did from one time to another; empty without a reading then."""
        return summarise_samples([row for row in self.samples if begin <= row["at"] <= end])


def summarise_samples(samples: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Readings of one run as figures of each GPU.

    Returns:
        By UUID the median of clocks, power and utilization, the mean of power, the
        highest memory, power and temperature, and the union of NVML's reasons for lower clocks
        (nvmlClocksThrottleReasons, a bit field).
    """
    figures: dict[str, dict[str, Any]] = {}
    for uuid in samples[0]["gpus"] if samples else ():
        rows = [row["gpus"][uuid] for row in samples if uuid in row["gpus"]]

        def known(name: str, rows: list[dict[str, Any]] = rows) -> list[Any]:
            return [row[name] for row in rows if row.get(name) is not None]

        figures[uuid] = {
            name: statistics.median(known(name)) if known(name) else None
            for name in ("sm_clock_mhz", "memory_clock_mhz", "power_watts", "utilization_percent")
        }
        powers = known("power_watts")
        figures[uuid]["power_watts_mean"] = statistics.fmean(powers) if powers else None
        for name in ("memory_used_bytes", "power_watts", "temperature_celsius"):
            figures[uuid][f"{name}_max"] = max(known(name), default=None)
        reasons = 0
        for one in known("throttle_reasons"):
            reasons |= int(one)
        figures[uuid]["throttle_reasons"] = reasons if known("throttle_reasons") else None
    return figures
