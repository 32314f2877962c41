# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server under the collection's own supervisor, planned by the collection, without systemd."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from machine import RELEASE

from ansible_collections.compute_plane.vllm.plugins.module_utils import probe
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import config_file
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.hosts import directories
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.planner import make_plan
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import Findings
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.release import os_packages
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import read_wanted
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.release_data import (
    default_releases_dir,
    load_release_data,
)

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "plugins" / "module_utils"
_MAIN = (
    f"import sys; sys.path.insert(0, {str(FOLDER)!r}); "
    "from supervisor.main import main; sys.exit(main())"
)
RESTART_SECONDS = 2.0  # as the unit has it
GAVE_UP = 69
WATCHDOG = 60

# A line of the log -> the phase that begins or ends with it. vllm 0.26.0.
PHASES = (
    ("api_server", r"vLLM API server version"),
    ("engine", r"Initializing a V1 LLM engine"),
    ("load", r"Starting to load model"),
    ("loaded", r"Model loading took"),
    ("compiled", r"torch\.compile took"),
    ("profiled", r"Available KV cache memory"),
    ("captured", r"Graph capturing finished"),
    ("initialised", r"init engine \("),
    ("listening", r"Application startup complete"),
)
FIGURES = {
    "weights_gib": r"Model loading took ([\d.]+) GiB",
    "load_seconds": r"Model loading took [\d.]+ GiB(?: memory)? and ([\d.]+) sec",
    "read_weights_seconds": r"Loading weights took ([\d.]+) sec",
    "kv_cache_gib": r"Available KV cache memory: ([\d.]+) GiB",
    "kv_cache_tokens": r"GPU KV cache size: ([\d,]+) tokens",
    "graph_estimate_gib": r"Estimated CUDA graph memory: ([\d.]+) GiB",
    "graph_gib": r"Graph capturing finished in [\d.]+ secs, took (-?[\d.]+) GiB",
    "graph_seconds": r"Graph capturing finished in ([\d.]+) secs",
    "dynamo_seconds": r"Dynamo bytecode transform time: ([\d.]+) s",
    "compile_seconds": r"torch\.compile took ([\d.]+) s",
    "init_engine_seconds": r"init engine \([^)]*\) took ([\d.]+) s",
}


class Failed(Exception):
    """A server did not do what a step needs; the message says what."""


def plan(wanted: dict[str, Any], venv: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The collection's plan of this machine and the facts it was made of."""
    data = load_release_data(default_releases_dir(), RELEASE)
    raw = {"release": RELEASE, "runtime_venv": str(venv), **wanted}
    read = read_wanted(raw, Findings())
    questions = probe.Questions(
        paths=directories(read),
        packages=os_packages(data),
        models=[one["model"] for one in wanted["instances"]],
        python=[f"{venv}/bin/python"],
    )
    facts = probe.collect(Host(), questions)
    return make_plan(raw, facts, data), facts


class Server:
    """A vLLM server. A context manager that starts nothing by itself.

    Args:
        name: Names its files.
        work: Where they are.
        venv: The release's environment.
        instance: As in vllm_instances.
        accelerator: `cuda` or `cpu`.
        environment: Variables beside the plan's.
        caches: Directory of compiled code; servers of the same name share it.
    """

    def __init__(
        self,
        name: str,
        work: Path,
        venv: Path,
        instance: dict[str, Any],
        accelerator: str,
        environment: dict[str, str] | None = None,
        caches: str | None = None,
    ) -> None:
        self.name, self.venv = name, venv
        self.folder = work / "servers" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.caches = work / "caches" / (caches or name)
        self.caches.mkdir(parents=True, exist_ok=True)
        self.port = instance["port"]
        self.url = f"http://127.0.0.1:{self.port}"
        made, self.facts = plan({"accelerator": accelerator, "instances": [instance]}, venv)
        entry = next(iter(made["instances"]), None)
        # What systemd would be needed for is none of a plain process's problems.
        self.problems = [
            f"{one['code']}: {one['message']}"
            for one in made["problems"]
            if "systemd" not in one["code"] and not one["where"].startswith("host")
        ]
        if entry is None or not entry.get("config"):
            raise Failed(f"no plan: {made['problems']}")
        self.plan = entry
        self.config: dict[str, Any] = dict(entry["config"])
        self.kind = entry["kind"]
        self.served_model_name = self.config["served-model-name"]
        self.options: list[str] = []
        if entry["on_demand"] is not None:
            self.config["uds"] = str(self.folder / "server.sock")
            self.options += ["--on-demand", f"--sleep-level={instance.get('sleep_level', 0)}"]
            self.options.append(f"--sleep-memory={entry['on_demand'].get('sleep_memory', 0)}")
        if accelerator == "cpu":
            self.config.pop("enable-sleep-mode", None)  # it would not start
        inherited = {
            key: value
            for key, value in os.environ.items()
            if key.startswith(("NCCL_", "TORCH_SYMM", "NVSHMEM_", "LD_LIBRARY", "CUDA_HOME"))
        }
        self.environment = {
            **inherited,
            **entry["environment"],
            # No multicast over NVLink: it needs a fabric that virtual machines may lack.
            "VLLM_ALLREDUCE_USE_SYMM_MEM": "0",
            "PATH": f"{venv}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "VIRTUAL_ENV": str(venv),
            "HOME": str(self.caches),
            "XDG_CACHE_HOME": str(self.caches),
            "VLLM_CACHE_ROOT": str(self.caches / "vllm"),
            "TRITON_CACHE_DIR": str(self.caches / "triton"),
            "TORCHINDUCTOR_CACHE_DIR": str(self.caches / "inductor"),
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
            "RUNTIME_DIRECTORY": str(self.folder),
            "WATCHDOG_USEC": str(WATCHDOG * 1_000_000),
            "COMPUTE_PLANE_FINGERPRINT": "measured",
            **(environment or {}),
        }
        self.lines: list[tuple[float, str]] = []
        self.statuses: list[tuple[float, str]] = []
        self.began = 0.0
        self.ready_at: float | None = None
        self.readies: list[float] = []
        self.ends: list[tuple[float, int]] = []
        self.stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = f"/tmp/gpu-notify-{os.getpid()}-{id(self)}"  # noqa: S108 - a short path is needed
        self._socket.bind(path)
        self._notify_path = path
        self.environment["NOTIFY_SOCKET"] = path
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
        with contextlib.suppress(OSError):
            os.unlink(self._notify_path)

    def _listen(self) -> None:
        while True:
            try:
                text = self._socket.recv(65536).decode("utf-8", "replace")
            except OSError:
                return
            for line in text.splitlines():
                if line == "READY=1":
                    self.ready_at = time.monotonic()
                    self.readies.append(self.ready_at)
                elif line.startswith("STATUS="):
                    self.statuses.append((time.monotonic(), line[7:]))

    def start(self) -> None:
        """Start the supervisor, again whenever it fails, as the unit would."""
        config = self.folder / "config.yaml"
        config.write_text(config_file(f"vllm@{self.name}.service", self.config), encoding="utf-8")
        self.stopping = False
        self._thread = threading.Thread(target=self._run, args=(config,), daemon=True)
        self.began = time.monotonic()
        self._thread.start()

    def _run(self, config: Path) -> None:
        command = [str(self.venv / "bin" / "python"), "-I", "-S", "-c", _MAIN]
        command += [f"--name={self.name}", f"--vllm={self.venv}/bin/vllm", f"--config={config}"]
        command += ["--drain=5", "--start-timeout=400", *self.options]
        if "gpu-memory-utilization" in self.config:
            command += ["--device=/dev/nvidiactl", "--device=/dev/nvidia-uvm"]
        while not self.stopping:
            self.ready_at = None
            self._process = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            for line in self._process.stdout or ():
                self.lines.append((time.monotonic(), line.decode("utf-8", "replace").rstrip()))
            status = self._process.wait()
            self.ends.append((time.monotonic(), status))
            if status in (0, GAVE_UP):
                return
            time.sleep(RESTART_SECONDS)

    def wait_ready(self, timeout: float) -> float:
        """Wait for the first token; returns the seconds since the start."""
        until = time.monotonic() + timeout
        while self.ready_at is None:
            if time.monotonic() > until:
                raise Failed(f"no token within {timeout:.0f} s: {self.tail()}")
            if self.ends and (self.ends[-1][1] in (0, GAVE_UP) or len(self.ends) > 1):
                raise Failed(f"the server ended: {self.ends}: {self.tail()}")
            time.sleep(0.05)
        return self.ready_at - self.began

    def tail(self, count: int = 25) -> str:
        """The end of the log."""
        return "\n".join(line for _at, line in self.lines[-count:])

    def stop(self) -> float:
        """Stop it; returns the seconds that took."""
        began = time.monotonic()
        self.stopping = True
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(45)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if self._thread is not None:
            self._thread.join(5)
        return time.monotonic() - began

    def pids(self, pattern: str) -> list[int]:
        """Its processes whose title has a pattern."""
        process = self._process
        if process is None:
            return []
        table: dict[int, tuple[int, str]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, IndexError, ValueError):
                    stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                    title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    title += " " + (entry / "comm").read_text()
                    table[int(entry.name)] = (int(stat[1]), title)
        ours, grown = {process.pid}, True
        while grown:
            more = {pid for pid, (parent, _t) in table.items() if parent in ours} - ours
            grown = bool(more)
            ours |= more
        return sorted(pid for pid in ours if pid in table and re.search(pattern, table[pid][1]))

    def request(self, path: str, body: Any = None, timeout: float = 120.0) -> Any:
        """A request; POST where there is a body. Returns the JSON, or the text."""
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(  # noqa: S310 - our own server
            self.url + path, data=data, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=timeout) as answer:  # noqa: S310
            text = answer.read().decode("utf-8", "replace")
        try:
            return json.loads(text)
        except ValueError:
            return text

    def complete(self, tokens: int, prompt: Any = None, timeout: float = 120.0) -> list[int]:
        """The ids of the most likely tokens after a prompt of ids."""
        answer = self.request(
            "/v1/completions",
            {
                "model": self.served_model_name,
                "prompt": prompt or list(range(100, 164)),
                "max_tokens": tokens,
                "temperature": 0,
                "ignore_eos": True,
                "return_token_ids": True,
            },
            timeout,
        )
        ids = answer["choices"][0].get("token_ids")
        return list(ids) if ids else [answer["choices"][0]["text"]]

    def text(self, prompt: str, tokens: int = 24) -> str:
        """The most likely words after a prompt."""
        answer = self.request(
            "/v1/completions",
            {
                "model": self.served_model_name,
                "prompt": prompt,
                "max_tokens": tokens,
                "temperature": 0,
            },
        )
        return str(answer["choices"][0]["text"])

    def phases(self) -> dict[str, float]:
        """Seconds from the start at which each phase was seen first in the log."""
        found: dict[str, float] = {}
        for at, line in self.lines:
            for name, pattern in PHASES:
                if name not in found and re.search(pattern, line):
                    found[name] = round(at - self.began, 2)
        if self.readies:
            found["first_token"] = round(self.readies[0] - self.began, 2)
        return found

    def figures(self) -> dict[str, float]:
        """What the engine says of its memory and its start."""
        found: dict[str, float] = {}
        for _at, line in self.lines:
            for name, pattern in FIGURES.items():
                match = re.search(pattern, line)
                if match:
                    found[name] = float(match[1].replace(",", ""))
        return found
