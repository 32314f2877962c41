#!/usr/bin/env python3
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure hf_model beside `hf download`, against a local hub with the real client.

Usage: benchmarks/hf_model.py [--rounds N] [--megabytes N] [--workdir DIR] [--json FILE]

Throughput: the module and `hf download` (xet off, as for the module) fetch the same model from the
same hub, in turn, each round in the other order; at the speed of a 1 Gbit/s line and as fast as it
goes. The module's time includes the verification of every SHA-256 and bringing all of it to the
disk; `hf download` does neither. Memory: the peaks of the module and of its worker, added. No-op:
on 15 GB of weights in sparse files. Cut: how much comes twice when each file's first connection
breaks at 90 %.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from timing import ROOT, machine

sys.path[:0] = [str(ROOT / "tests" / "hosts"), str(ROOT / "collections")]

from hub.testing import Module, children, client_environment, tools  # noqa: E402

GIGABIT = 125_000_000
SPARSE = [3_750_000_000, 3_750_000_001, 3_750_000_002, 3_750_000_003]


class Peak(threading.Thread):
    """Watches the peak memory of a process and of its children, in bytes."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._peaks: dict[int, int] = {}

    def run(self) -> None:
        """Look every 20 ms, until the process is gone."""
        while Path(f"/proc/{self._pid}/status").exists():
            for pid in [self._pid, *children(self._pid)]:
                with contextlib.suppress(OSError, StopIteration):
                    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                    line = next(line for line in lines if line.startswith("VmHWM:"))
                    self._peaks[pid] = int(line.split()[1]) * 1024
            time.sleep(0.02)

    @property
    def total(self) -> int:
        """The peaks of all of them, as if they had come at the same moment."""
        return sum(self._peaks.values())


class Hub:
    """A hub in a process of its own.

    Args:
        root: Its models.
    """

    def __init__(self, root: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hub", str(root)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "hosts")},
        )
        if self._process.stdout is None:
            raise RuntimeError("no output to read the address from")
        self.url = self._process.stdout.readline().strip()

    def call(self, method: str, name: str, **body: Any) -> Any:
        """Order something of it, see `hub.server`."""
        request = urllib.request.Request(  # noqa: S310 - the address is this machine's own
            f"{self.url}/_hub/{name}", json.dumps(body).encode() if body else None, method=method
        )
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - as above
            return json.load(answer)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.communicate()


def write_weights(directory: Path, megabytes: int) -> None:
    """A model of four files of random bytes."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    rng = random.Random(1)  # noqa: S311 - not a secret
    for number in range(4):
        with (directory / f"model-{number}.safetensors").open("wb") as stream:
            for _ in range(megabytes // 4):
                stream.write(rng.randbytes(1_000_000))


def settle() -> None:
    """Let the disk come to rest, so that one measurement does not pay for the last."""
    os.sync()
    time.sleep(0.5)


def throughput(hub: Hub, workdir: Path, venv: Path, rounds: int, rate: int) -> dict[str, Any]:
    """Seconds of both, and the module's memory."""
    hub.call("POST", "rate", rate=rate)
    module = Module(workdir, {"repo_id": "bench/weights", "endpoint": hub.url})
    seconds: dict[str, list[float]] = {"hf_model": [], "hf download": []}
    memory = []
    for number in range(rounds + 1):
        order = ["hf_model", "hf download"]
        for name in order if number % 2 else order[::-1]:
            cache = workdir / "cache"
            shutil.rmtree(cache, ignore_errors=True)
            settle()
            began = time.monotonic()
            if name == "hf_model":
                process = module.start(cache_dir=str(cache), tools_path=str(venv))
                peak = Peak(process.pid)
                peak.start()
                result = module.finish(process, 600)
                if result.get("failed"):
                    sys.exit(result["msg"])
                memory.append(peak.total)
            else:
                environment = client_environment(
                    hub.url, workdir, HF_HUB_CACHE=str(cache), HF_HUB_DISABLE_XET="1"
                )
                subprocess.run(
                    [str(venv / "bin" / "hf"), "download", "bench/weights"],
                    env=environment,
                    check=True,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            seconds[name].append(time.monotonic() - began)
    # The first round reads the hub's files and the programs from disk.
    medians = {name: statistics.median(measured[1:]) for name, measured in seconds.items()}
    return {
        "rate_bytes_per_second": rate or None,
        "seconds": {
            name: [round(s, 2) for s in measured[1:]] for name, measured in seconds.items()
        },
        "median_seconds": {name: round(median, 2) for name, median in medians.items()},
        "throughput_of_hf_download": round(medians["hf download"] / medians["hf_model"], 3),
        "peak_memory_bytes": max(memory),
    }


def noop(hub: Hub, workdir: Path, venv: Path, rounds: int) -> dict[str, Any]:
    """Seconds in the module of a run that changes nothing on 15 GB."""
    info_url = f"{hub.url}/api/models/bench/sparse?blobs=true"
    with urllib.request.urlopen(info_url) as answer:  # noqa: S310 - this machine's own
        info = json.load(answer)
    blobs = workdir / "sparse-cache" / "models--bench--sparse" / "blobs"
    blobs.mkdir(parents=True)
    for sibling in info["siblings"]:
        if "lfs" in sibling:
            # Instead of 15 GB over the wire: files as another tool may have left them.
            with (blobs / sibling["lfs"]["sha256"]).open("wb") as stream:
                stream.truncate(sibling["lfs"]["size"])
    module = Module(workdir, {"repo_id": "bench/sparse", "cache_dir": str(blobs.parents[1])})
    first = module(timeout=600, endpoint=hub.url, tools_path=str(venv))
    if first.get("failed") or first["files_fetched"] != ["config.json"]:
        sys.exit(f"the first run did not take the files over: {first}")
    hub.call("DELETE", "log")
    runs = [module(endpoint=hub.url, tools_path="/nonexistent") for _ in range(rounds)]
    if any(run["changed"] for run in runs):
        sys.exit("this was no no-op")
    return {
        "bytes": runs[0]["bytes"],
        "median_seconds_in_module": statistics.median(run["seconds"] for run in runs),
        "requests": len(hub.call("GET", "log")),
        "first_verification_seconds": first["seconds"],
    }


def cut(hub: Hub, workdir: Path, venv: Path) -> dict[str, Any]:
    """Bytes that come twice when every file's first connection breaks at 90 %."""
    hub.call("POST", "rate", rate=0)
    hub.call("DELETE", "log")
    directory = workdir / "models" / "bench" / "weights"
    for path in directory.glob("*.safetensors"):
        size = path.stat().st_size
        hub.call("POST", "faults", kind="cut", path=path.name, after=int(size * 0.9))
    module = Module(workdir, {"repo_id": "bench/weights", "endpoint": hub.url})
    shutil.rmtree(workdir / "cache", ignore_errors=True)
    result = module(timeout=600, cache_dir=str(workdir / "cache"), tools_path=str(venv))
    if result.get("failed"):
        sys.exit(result["msg"])
    sent = sum(r["sent"] for r in hub.call("GET", "log") if r["route"] == "content")
    return {"bytes": result["bytes"], "sent": sent, "twice": round(sent / result["bytes"] - 1, 4)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the model")
    parser.add_argument("--workdir", type=Path, help="on the disk to measure with")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    venv = tools()
    with tempfile.TemporaryDirectory(dir=arguments.workdir) as name:
        workdir = Path(name)
        write_weights(workdir / "models" / "bench" / "weights", arguments.megabytes)
        sparse = workdir / "models" / "bench" / "sparse"
        sparse.mkdir()
        (sparse / "config.json").write_text("{}")
        for number, size in enumerate(SPARSE):
            with (sparse / f"model-{number}.safetensors").open("wb") as stream:
                stream.truncate(size)
        hub = Hub(workdir / "models")
        try:
            figures = {
                "machine": machine(),
                "megabytes": arguments.megabytes,
                "gigabit": throughput(hub, workdir, venv, arguments.rounds, GIGABIT),
                "unlimited": throughput(hub, workdir, venv, arguments.rounds, 0),
                "cut_at_90_percent": cut(hub, workdir, venv),
                "noop": noop(hub, workdir, venv, arguments.rounds),
            }
        finally:
            hub.stop()
    text = json.dumps(figures, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
