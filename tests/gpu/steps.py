# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps: each measures one thing on one GPU and returns what it saw."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import profiles
from machine import RELEASE, fill, make_model, say
from server import ROOT, Failed, Server

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import (
    ceiling,
    client,
    measure,
    subject,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark.sweep import Point

RTX_3090_BUDGET = 20.4 * (1 << 30)
"""0.85 of the 24 GiB that an RTX 3090 has."""
INPUT, OUTPUT = 512, 128
START_SECONDS = 900.0
"""A start may take so long; a GPU needs 60 to 180, two busy cores far more."""


@dataclass
class Gpu:
    """One lane of work: a GPU, or the CPU."""

    index: int
    uuid: str | None
    total_bytes: int | None


@dataclass
class Context:
    """What all steps share."""

    work: Path
    results: Path
    venv: Path
    accelerator: str
    shape: str
    deadline: float
    gpus: list[Gpu]
    tokenizer: Path
    facts: dict[str, Any] = field(default_factory=dict)
    servers: list[Server] = field(default_factory=list)
    runners: dict[int, client.BenchClient] = field(default_factory=dict)
    importing: set[int] = field(default_factory=set)

    def left(self, most: float, reserve: float = 0.0) -> float:
        """Seconds that something may take: the least of a limit and what is left of the run.

        Args:
            most: The limit.
            reserve: Seconds that are needed after it.
        """
        return max(5.0, min(most, self.deadline - reserve - time.monotonic()))

    def model(self, name: str = "dummy") -> Path:
        """The model with weights that vLLM draws by itself, or `random`, with a file of them."""
        return self.work / "models" / f"{self.shape}-{name}"

    def clean_environment(self) -> dict[str, str]:
        """For programs in the release's environment."""
        return {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}

    def instance(self, gpu: Gpu, *, full: bool = False, **keys: Any) -> dict[str, Any]:
        """An instance of the shape: the recorded deployment's settings, and changes to them.

        Args:
            gpu: Where.
            full: The GPU's whole memory (0.85 of it) instead of what an RTX 3090 has.
            keys: Keys of the instance; `extra_args` are added to the shape's own.
        """
        extra = {"load-format": "dummy", **keys.pop("extra_args", {})}
        one: dict[str, Any] = {
            "name": "measured",
            "model": str(self.model()),
            "port": 18000 + gpu.index,
            "dtype": "float16",
            "max_model_len": 4096,
            "environment": {
                "VLLM_USE_FLASHINFER_SAMPLER": "0",
                # What the machine says of NVLink's multicast holds for every program on it.
                **{
                    key: value
                    for key, value in os.environ.items()
                    if re.match(r"NCCL_NVLS_|TORCH_SYMM_MEM_|NVSHMEM_DISABLE_", key)
                },
            },
        }
        if self.accelerator == "cuda":
            one["gpus"] = [gpu.uuid]
            if not full and gpu.total_bytes:
                one["gpu_memory_utilization"] = round(RTX_3090_BUDGET / gpu.total_bytes, 4)
                # What vLLM takes by itself on a card of that size.
                one["max_num_seqs"] = 256
                extra.setdefault("max-num-batched-tokens", 2048)
        one.update(keys)
        if self.accelerator == "cpu":
            for key in ("attention_backend", "gpu_memory_utilization", "tensor_parallel_size"):
                one.pop(key, None)
            extra.pop("kv-cache-dtype", None)
        if one.get("model") != str(self.model()):
            extra.pop("load-format")
        return {**one, "extra_args": extra}

    @contextlib.contextmanager
    def serve(self, name: str, instance: dict[str, Any], **more: Any) -> Iterator[Server]:
        """A server that is stopped, and whose log is kept, whatever happens."""
        server = Server(name, self.work, self.venv, instance, self.accelerator, **more)
        self.servers.append(server)
        try:
            with server:
                yield server
        finally:
            self.servers.remove(server)
            log = "\n".join(f"{at - server.began:8.2f} {line}" for at, line in server.lines)
            (self.results / f"{name}.log").write_text(log + "\n", encoding="utf-8")

    def runner(self, gpu: Gpu) -> client.BenchClient:
        """VLLM's client, imported once a lane, as a plain process."""
        self.begin_runner(gpu)
        if gpu.index in self.importing:
            self.importing.discard(gpu.index)
            self.runners[gpu.index].wait_until_ready()
        return self.runners[gpu.index]

    def begin_runner(self, gpu: Gpu) -> None:
        """Have the client import vLLM while a server starts."""
        if gpu.index not in self.runners:
            self.importing.add(gpu.index)
            self.runners[gpu.index] = client.BenchClient(f"lane{gpu.index}", str(self.venv), "", 0)

    def bench(
        self, server: Server, gpu: Gpu, streams: tuple[int, ...], repeats: int = 2
    ) -> dict[str, Any]:
        """Measure a server's speed by the collection's own benchmark."""
        factor = 1 if self.accelerator == "cuda" else 8
        eager = "enforce-eager" in server.config
        prompts = {1: 4 if eager else 8, 16: 32 if eager else 48, 64: 128}
        points = [
            Point(one, INPUT // factor, OUTPUT // factor, prompts[one] // factor or 1, stated=True)
            for one in streams
        ]
        stated = self.facts.get("copy_bytes_per_second")
        config = subject.read_json(os.path.join(str(server.config["model"]), "config.json"))
        limits = ceiling.make(server.plan["memory"], config, False, server.config, [], stated)
        uuids = [gpu.uuid] if gpu.uuid else []
        with client.GpuWatch(uuids, f"{self.venv}/bin/python") as watch:
            made = measure.measure(
                self.runner(gpu),
                watch,
                server,  # type: ignore[arg-type]
                points,
                {
                    "repeats": repeats,
                    "time_limit": self.left(120),
                    "run_timeout": self.left(90),
                },
                seed=measure.new_seed(),
                limits=limits,
                tell=lambda *_: None,
            )
        short = []
        for point in made:
            figures = {key: value for key, value in point["figures"].items() if value}
            short.append(
                {
                    **{k: point[k] for k in ("concurrency", "input_tokens", "output_tokens")},
                    "prompts": point["prompts"],
                    "repeats": len(point["runs"]),
                    "figures": {
                        key: figures[key]
                        for key in ("output_throughput", "ttft_ms", "tpot_ms", "e2el_ms")
                        if key in figures
                    },
                    "ceiling": point["ceiling"],
                    "reached_percent": point["reached_percent"],
                    "gpus": [run["gpus"] for run in point["runs"]][-1:],
                }
            )
        return {"points": short, "ceiling": limits}


Step = Callable[[Context, Gpu], "dict[str, Any]"]


def pynvml_used(gpu: Gpu) -> int | None:
    """Bytes of a GPU that are in use, as nvidia-smi tells them."""
    if gpu.uuid is None:
        return None
    answer = subprocess.run(
        ["nvidia-smi", "-i", gpu.uuid, "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return int(answer.stdout) << 20 if answer.stdout.strip().isdigit() else None


def described(server: Server) -> dict[str, Any]:
    """A server's settings, what the plan says of its memory, and what the engine says."""
    log = "\n".join(line for _at, line in server.lines)
    return {
        "config": {k: v for k, v in server.config.items() if k not in ("model", "host", "port")},
        "environment": {
            key: value
            for key, value in server.environment.items()
            if key.startswith(("VLLM_", "NCCL_", "TORCH_")) and "CACHE" not in key
        },
        "attention_backend": subject.backend_in_log(log),
        "plan": server.plan.get("memory"),
        "plan_problems": server.problems,
        "engine": server.figures(),
        "phases_seconds": server.phases(),
    }


_SMOKE = textwrap.dedent("""
    import json, sys, time, torch
    found = {"torch": torch.__version__, "gpus": []}
    import vllm, triton
    found["vllm"], found["triton"] = vllm.__version__, triton.__version__
    for index in range(torch.cuda.device_count()):
        torch.cuda.set_device(index)
        free, total = torch.cuda.mem_get_info()
        one = {"name": torch.cuda.get_device_name(), "cuda_total_bytes": total,
               "cuda_free_bytes": free}
        from vllm import _custom_ops as ops
        x = torch.randn(64, 3584, device="cuda", dtype=torch.float16)
        out, weight = torch.empty_like(x), torch.ones(3584, device="cuda", dtype=torch.float16)
        ops.rms_norm(out, x, weight, 1e-6)
        wanted = x.float() / (x.float().pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
        one["rms_norm_error"] = float((out.float() - wanted).norm() / wanted.norm())
        a = torch.empty(4 << 30, dtype=torch.uint8, device="cuda").random_()
        b = torch.empty_like(a)
        w = torch.randn(152064, 3584, device="cuda", dtype=torch.float16)
        v = torch.randn(3584, device="cuda", dtype=torch.float16)
        def median(run, count=15):
            times = []
            for _ in range(count):
                s, e = torch.cuda.Event(True), torch.cuda.Event(True)
                s.record(); run(); e.record(); e.synchronize()
                times.append(s.elapsed_time(e) / 1e3)
            return sorted(times[3:])[(count - 3) // 2]
        one["copy_bytes_per_second"] = 2 * a.numel() / median(lambda: b.copy_(a))
        one["matvec_bytes_per_second"] = w.numel() * 2 / median(lambda: torch.mv(w, v))
        one["read_bytes_per_second"] = a.numel() / median(lambda: a.view(torch.int32).max())
        pinned = torch.empty(1 << 30, dtype=torch.uint8).pin_memory()
        c = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
        one["host_to_gpu_bytes_per_second"] = pinned.numel() / median(
            lambda: c.copy_(pinned, non_blocking=True), 8)
        one["gpu_to_host_bytes_per_second"] = pinned.numel() / median(
            lambda: pinned.copy_(c, non_blocking=True), 8)
        found["gpus"].append(one)
        del a, b, c, w, v, pinned, x, out
        torch.cuda.empty_cache()
    if torch.cuda.device_count() > 1:
        found["peer_access"] = torch.cuda.can_device_access_peer(0, 1)
        a = torch.empty(1 << 30, dtype=torch.uint8, device="cuda:0")
        b = torch.empty(1 << 30, dtype=torch.uint8, device="cuda:1")
        b.copy_(a); torch.cuda.synchronize(0); torch.cuda.synchronize(1)
        t = time.perf_counter(); b.copy_(a)
        torch.cuda.synchronize(0); torch.cuda.synchronize(1)
        found["peer_bytes_per_second"] = a.numel() / (time.perf_counter() - t)
    print(json.dumps(found))
""")


def facts(context: Context, gpu: Gpu) -> dict[str, Any]:
    """The machine: the collection's facts, CUDA's memory beside NVML's, measured bandwidths."""
    path = context.results / "facts.json"
    about = f"Read on real hardware by tests/gpu/run on {time.strftime('%Y-%m-%d')}."
    collector = [sys.executable, str(ROOT / "tests/fixtures/collect_facts.py")]
    site = next((context.venv / "lib").glob("python3*/site-packages"))
    nvml = next(
        (p for p in (site, *_other_sites(site)) if (p / "pynvml.py").exists()), site
    )  # fmt: skip
    collected = subprocess.run(
        [*collector, "--output", str(path), "--about", about, "--pynvml", str(nvml)],
        capture_output=True, text=True, timeout=context.left(60), check=False,
    )  # fmt: skip
    result: dict[str, Any] = {
        "collector": {"status": collected.returncode, "said": collected.stderr[-2000:]},
        "facts": json.loads(path.read_text()) if path.exists() else None,
    }
    if path.exists():
        path.unlink()
    if context.accelerator == "cuda":
        smoke = subprocess.run(
            [context.venv / "bin/python", "-c", _SMOKE],
            capture_output=True, text=True, timeout=context.left(120), check=False,
            env=context.clean_environment(),
        )  # fmt: skip
        if smoke.returncode != 0:
            raise Failed(f"the smoke test failed: {smoke.stderr[-3000:]}")
        result["torch"] = json.loads(smoke.stdout.splitlines()[-1])
        first = result["torch"]["gpus"][gpu.index]
        context.facts["copy_bytes_per_second"] = first["copy_bytes_per_second"]
        for command in (["nvidia-smi"], ["nvidia-smi", "topo", "-m"], ["nvidia-smi", "-q"]):
            said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
            text = re.sub(r"GPU-[0-9a-f-]{36}", "GPU-…", said.stdout)
            result[" ".join(command)] = re.sub(r"(?i)(serial number\s*: ).*", r"\1…", text)
    else:
        context.facts["copy_bytes_per_second"] = None
    return result


def _other_sites(site: Path) -> list[Path]:
    pth = site / "zz_machine.pth"
    return [Path(pth.read_text().strip())] if pth.exists() else []


def _serve_and_measure(
    context: Context,
    gpu: Gpu,
    name: str,
    streams: tuple[int, ...],
    caches: str | None = None,
    repeats: int = 2,
    **keys: Any,
) -> dict[str, Any]:
    result: dict[str, Any] = {"shape": context.shape, "streams": list(streams)}
    context.begin_runner(gpu)
    with context.serve(name, context.instance(gpu, **keys), caches=caches) as server:
        server.start()
        result["ready_seconds"] = round(server.wait_ready(context.left(START_SECONDS)), 2)
        result["memory_used_bytes"] = pynvml_used(gpu)
        result.update(described(server))
        try:
            result["benchmark"] = context.bench(server, gpu, streams, repeats)
        except client.BenchClientError as error:
            result["benchmark_error"] = str(error)
        with contextlib.suppress(OSError, KeyError, ValueError):
            text = str(server.request("/metrics"))
            result["metrics"] = {
                found[1]: float(found[2])
                for found in re.finditer(
                    r"^vllm:(spec_decode_num_\w+_total|num_preemptions_total"
                    r"|prefix_cache_(?:queries|hits)_total)\{[^}]*\} ([\d.e+]+)",
                    text, re.MULTILINE,
                )
            }  # fmt: skip
        result["stop_seconds"] = round(server.stop(), 2)
    result["memory_used_after_bytes"] = _released(gpu)
    return result


def _released(gpu: Gpu, seconds: float = 10) -> int | None:
    """What is in use of a GPU soon after a server has ended."""
    until, used = time.monotonic() + seconds, pynvml_used(gpu)
    while used and used > 64 << 20 and time.monotonic() < until:
        time.sleep(0.5)
        used = pynvml_used(gpu)
    return used


def recorded(context: Context, gpu: Gpu) -> dict[str, Any]:
    """The deployment record's flags: TRITON_ATTN, fp16, no graphs, an RTX 3090's budget."""
    return _serve_and_measure(
        context,
        gpu,
        "recorded",
        (1, 16, 64),
        caches="common",
        enforce_eager=True,
        attention_backend="TRITON_ATTN",
    )


def graphs(context: Context, gpu: Gpu) -> dict[str, Any]:
    """The same with torch.compile and CUDA graphs, nothing compiled before."""
    return _serve_and_measure(context, gpu, "graphs", (1, 16, 64), attention_backend="TRITON_ATTN")


def profile(context: Context, gpu: Gpu) -> dict[str, Any]:
    """The same with filled caches: the start's phases, and where a decode step's time goes."""
    folder = context.work / "profile"
    folder.mkdir(exist_ok=True)
    asked = {
        "profiler": "torch",
        "torch_profiler_dir": str(folder),
        "torch_profiler_with_stack": False,
        "ignore_frontend": True,
        "delay_iterations": 10,
        "max_iterations": 16,
    }
    instance = context.instance(
        gpu, attention_backend="TRITON_ATTN", extra_args={"profiler-config": asked}
    )
    result: dict[str, Any] = {}
    with context.serve("profile", instance, caches="graphs") as server:
        server.start()
        result["ready_seconds"] = round(server.wait_ready(context.left(START_SECONDS)), 2)
        result.update(described(server))
        for streams in (1, 16):
            for path in folder.rglob("*.json*"):
                path.unlink()
            server.request("/start_profile", {})
            threads = [
                threading.Thread(
                    target=server.complete, args=(48, [100 + n] * 448 + list(range(64)))
                )
                for n in range(streams)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(context.left(60))
            server.request("/stop_profile", {})
            time.sleep(1)
            result[f"streams_{streams}"] = profiles.summarise(profiles.read(folder), 16)
    return result


def flash(context: Context, gpu: Gpu) -> dict[str, Any]:
    """FLASH_ATTN with the whole card: the memory plan at full budget."""
    return _serve_and_measure(
        context,
        gpu,
        "flash",
        (1, 16, 64),
        caches="common",
        full=True,
        attention_backend="FLASH_ATTN",
    )


def _option(name: str, streams: tuple[int, ...] = (1, 16), **keys: Any) -> Step:
    def run(context: Context, gpu: Gpu) -> dict[str, Any]:
        given = {"attention_backend": "TRITON_ATTN", **keys}
        return _serve_and_measure(context, gpu, name, streams, caches="common", **given)

    run.__doc__ = f"TRITON_ATTN and graphs with {keys}."
    return run


def weights(context: Context, gpu: Gpu) -> dict[str, Any]:
    """Write random weights to the disk, for what needs weights that can be read again."""
    make_model(context.model("random"), context.shape, context.tokenizer)
    began = time.monotonic()
    device = f"cuda:{gpu.index}" if context.accelerator == "cuda" else "cpu"
    fill(context.model("random"), context.venv, device, context.clean_environment())
    seconds = time.monotonic() - began
    size = (context.model("random") / "model.safetensors").stat().st_size
    return {"seconds": round(seconds, 1), "bytes": size}


def sleep(context: Context, gpu: Gpu) -> dict[str, Any]:
    """Sleep and wake at levels 1 and 2 with weights from a file, beside a stop and a start."""
    instance = context.instance(
        gpu,
        model=str(context.model("random")),
        attention_backend="TRITON_ATTN",
        extra_args={"enable-sleep-mode": True, "enable-prefix-caching": False},
    )
    result: dict[str, Any] = {}
    # The supervisor would take sleep for a hang.
    environment = {"VLLM_SERVER_DEV_MODE": "1", "WATCHDOG_USEC": str(3_600_000_000)}
    with context.serve("sleep", instance, environment=environment, caches="graphs") as server:
        server.start()
        result["ready_seconds"] = round(server.wait_ready(context.left(START_SECONDS)), 2)
        result.update(described(server))
        result["load_page_cache"] = "warm"
        before = server.complete(32)
        result["answers_repeat"] = server.complete(32) == before
        awake = pynvml_used(gpu)
        result["awake_bytes"] = awake
        for level in (1, 2):
            for turn in range(2):
                row: dict[str, Any] = {}
                began = time.monotonic()
                server.request(f"/sleep?level={level}", {}, 60)
                row["sleep_seconds"] = round(time.monotonic() - began, 3)
                time.sleep(1)
                asleep = pynvml_used(gpu)
                row["asleep_bytes"] = asleep
                if awake and asleep is not None:
                    row["freed_percent"] = round(100 * (awake - asleep) / awake, 1)
                began = time.monotonic()
                if level == 1:
                    server.request("/wake_up", {}, 60)
                else:
                    server.request("/wake_up?tags=weights", {}, 60)
                    row["wake_weights_seconds"] = round(time.monotonic() - began, 3)
                    server.request("/collective_rpc", {"method": "reload_weights"}, 120)
                    row["reload_seconds"] = round(time.monotonic() - began, 3)
                    server.request("/wake_up?tags=kv_cache", {}, 60)
                row["wake_seconds"] = round(time.monotonic() - began, 3)
                after = server.complete(32)
                row["first_token_seconds"] = round(time.monotonic() - began, 3)
                row["same_answer"] = after == before
                result[f"level_{level}_turn_{turn}"] = row
        result["stop_seconds"] = round(server.stop(), 2)
        server.lines.append((time.monotonic(), "--- stopped, started again with warm caches ---"))
        first = len(server.lines)
        server.readies.clear()
        server.ends.clear()
        server.ready_at = None
        server.start()
        result["warm_ready_seconds"] = round(server.wait_ready(context.left(200)), 2)
        server.lines = server.lines[first:]
        result["warm_phases_seconds"], result["warm_engine"] = server.phases(), server.figures()
        result["same_answer_after_start"] = server.complete(32) == before
    return result


def faults(context: Context, gpu: Gpu) -> dict[str, Any]:
    """EngineCore stopped and killed under load; GPU memory taken before the start."""
    result: dict[str, Any] = {}
    instance = context.instance(gpu, attention_backend="TRITON_ATTN", enforce_eager=True)
    with context.serve("faults", instance, caches="common") as server:
        server.start()
        result["ready_seconds"] = round(server.wait_ready(context.left(START_SECONDS)), 2)
        result["memory_used_bytes"] = pynvml_used(gpu)
        for name, number in (("SIGKILL", signal.SIGKILL), ("SIGSTOP", signal.SIGSTOP)):
            stop = threading.Event()
            threading.Thread(target=_load, args=(server, stop), daemon=True).start()
            time.sleep(4)
            engines = server.pids("EngineCore")
            row: dict[str, Any] = {"engines": len(engines)}
            readies, ends = len(server.readies), len(server.ends)
            began = time.monotonic()
            for pid in engines:
                os.kill(pid, number)
            until = began + context.left(240)
            while time.monotonic() < until and len(server.readies) == readies:
                if len(server.ends) > ends and "ended_seconds" not in row:
                    row["ended_seconds"] = round(server.ends[-1][0] - began, 1)
                    row["memory_used_after_bytes"] = _released(gpu, 3)
                time.sleep(0.2)
            stop.set()
            if len(server.readies) > readies:
                row["healed_seconds"] = round(server.readies[-1] - began, 1)
            with contextlib.suppress(OSError, ValueError):
                verdict = json.loads((server.folder / "verdict.json").read_text())
                row["verdict"] = {
                    key: verdict[key] for key in ("state", "summary", "cause", "evidence")
                }
            row["memory_used_bytes"] = pynvml_used(gpu)
            result[name] = row
            if "healed_seconds" not in row:
                break
        result["stop_under_load"] = _stop_under_load(server, gpu)
    if context.accelerator == "cuda" and gpu.total_bytes:
        result["memory_taken"] = _memory_taken(context, gpu)
    return result


def _load(server: Server, stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(Exception):
            server.complete(64, timeout=30)
        stop.wait(0.1)


def _stop_under_load(server: Server, gpu: Gpu) -> dict[str, Any]:
    stop = threading.Event()
    for _ in range(4):
        threading.Thread(target=_load, args=(server, stop), daemon=True).start()
    time.sleep(2)
    seconds = server.stop()
    stop.set()
    return {"seconds": round(seconds, 2), "memory_used_bytes": _released(gpu, 5)}


_HOLD = (
    "import torch,sys,time; x=torch.empty(int(sys.argv[1]),dtype=torch.uint8,device='cuda');"
    "print('held',flush=True); time.sleep(300)"
)


def _memory_taken(context: Context, gpu: Gpu) -> dict[str, Any]:
    """Start while another process holds so much that the budget is not free."""
    hold = int((gpu.total_bytes or 0) - RTX_3090_BUDGET / 2)
    holder = subprocess.Popen(
        [context.venv / "bin/python", "-c", _HOLD, str(hold)],
        stdout=subprocess.PIPE,
        env={**context.clean_environment(), "CUDA_VISIBLE_DEVICES": str(gpu.uuid)},
    )
    try:
        if holder.stdout is None or not holder.stdout.readline():
            raise Failed("the memory could not be taken")
        instance = context.instance(gpu, attention_backend="TRITON_ATTN", enforce_eager=True)
        with context.serve("taken", instance, caches="common") as server:
            row: dict[str, Any] = {"plan_problems": server.problems, "held_bytes": hold}
            began = time.monotonic()
            server.start()
            until = began + context.left(120)
            while not server.ends and time.monotonic() < until:
                time.sleep(0.2)
            row["ended_seconds"] = round(time.monotonic() - began, 1)
            with contextlib.suppress(OSError, ValueError):
                verdict = json.loads((server.folder / "verdict.json").read_text())
                row["verdict"] = {
                    key: verdict[key] for key in ("state", "summary", "cause", "evidence")
                }
            holder.kill()
            holder.wait()
            gone, readies = time.monotonic(), len(server.readies)
            until = gone + context.left(150)
            while len(server.readies) == readies and time.monotonic() < until:
                time.sleep(0.2)
            if len(server.readies) > readies:
                row["healed_seconds"] = round(server.readies[-1] - gone, 1)
            return row
    finally:
        holder.kill()
        holder.wait()


def parallel(context: Context, gpu: Gpu) -> dict[str, Any]:
    """Tensor parallel over two GPUs."""
    two = context.gpus[:2]
    return _serve_and_measure(
        context,
        gpu,
        "parallel",
        (1, 16, 64),
        caches="common",
        full=True,
        attention_backend="TRITON_ATTN",
        tensor_parallel_size=2,
        gpus=[one.uuid for one in two],
    )


def playbooks(context: Context, gpu: Gpu) -> dict[str, Any]:
    """site.yml twice, status.yml and tune.yml on a throwaway host with systemd over this machine.

    With the small model, since the suite of checks asks for words that mean something.
    """
    import host

    pack = context.work / "pack" if (context.work / "pack").is_dir() else None
    model = context.work / "pack" / "model" if pack is not None else context.tokenizer
    if not (model / "model.safetensors").exists():
        raise Failed("the pack has no model whose words mean something: tests/gpu/pack --model")
    served = context.work / "models" / "SmolLM2-135M-Instruct"
    if not served.exists():  # where the service's user can read it
        shutil.copytree(model, served)
    one = context.instance(
        gpu,
        name="smollm2",
        model=str(served),
        enforce_eager=True,
        attention_backend="TRITON_ATTN",
        port=18100,
        max_model_len=2048,
    )
    if context.accelerator == "cpu":
        one["cpu_kvcache_space"] = 1
    variables: dict[str, Any] = {
        "vllm_release": RELEASE,
        "vllm_accelerator": context.accelerator,
        "vllm_runtime_venv": str(context.venv),
        "vllm_instances": [one],
        "vllm_service_drain": 5,
        "vllm_tune_goal": "latency",
        "vllm_tune_space": {
            "enforce_eager": [True, False],
            "attention_backend": ["TRITON_ATTN", "FLASH_ATTN"],
        },
        "vllm_tune_sweep": [
            {
                "concurrency": streams,
                "input_tokens": INPUT if context.accelerator == "cuda" else 32,
                "output_tokens": OUTPUT if context.accelerator == "cuda" else 8,
                "prompts": prompts,
            }
            for streams, prompts in ((1, 4), (16, 48))
        ],
        "vllm_tune_repeats": 2,
    }
    if pack is not None:
        variables["vllm_runtime_environment"] = {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(pack / "tools"),
        }
    result: dict[str, Any] = {}
    began = time.monotonic()
    with host.Host(context.work, pack) as made:
        result["boot_seconds"] = round(time.monotonic() - began, 1)
        result["systemd"] = made.run(["systemctl", "--version"], 20).stdout.split("\n")[0]
        runs: tuple[tuple[str, str, list[str], float], ...] = (
            ("site", "playbooks/site.yml", [], 300),
            ("again", "playbooks/site.yml", [], 120),
            ("status", "playbooks/status.yml", [], 60),
            ("tune", "playbooks/tune.yml", [], 900),
            ("after", "playbooks/status.yml", [], 60),
        )
        for name, playbook, words, seconds in runs:
            began = time.monotonic()
            try:
                done = host.ansible(
                    made,
                    context.venv,
                    pack,
                    playbook,
                    variables,
                    context.left(seconds, 30),
                    words,
                )
                status, text = done.returncode, done.stdout + done.stderr
            except subprocess.TimeoutExpired as late:
                status, text = None, (late.stdout or b"").decode("utf-8", "replace")
            (context.results / f"playbook-{name}.log").write_text(text, encoding="utf-8")
            recap = re.findall(r"^\S+ +: ok=.*$", text, re.MULTILINE)
            say(f"playbooks: {name}: {status}, {time.monotonic() - began:.0f} s")
            result[name] = {
                "status": status,
                "seconds": round(time.monotonic() - began, 1),
                "recap": recap[-1] if recap else None,
            }
            for path in sorted((made.root / "var/lib/vllm/benchmarks").glob("*.json")):
                result[path.name] = json.loads(path.read_text(encoding="utf-8"))
            if status != 0:
                result[name]["said"] = text[-4000:]
                result["failed"] = f"{playbook} ended with status {status}"
                if name in ("site", "tune"):
                    break
        unit = f"vllm@{one['name']}.service"
        journal = made.run(["journalctl", "-u", unit, "-o", "short-monotonic", "--no-pager"], 30)
        (context.results / "playbook-journal.log").write_text(journal.stdout, encoding="utf-8")
        shown = "DevicePolicy,DeviceAllow,MemoryCurrent,MemoryPeak,NRestarts,StatusText"
        result["unit"] = made.run(["systemctl", "show", unit, "-p", shown], 20).stdout.split("\n")
        result["memory_used_bytes"] = pynvml_used(gpu)
        began = time.monotonic()
        made.run(["systemctl", "stop", unit], 90)
        result["stop_seconds"] = round(time.monotonic() - began, 1)
        result["memory_used_after_bytes"] = _released(gpu)
    return result


# Name -> the step, about how many seconds it takes, and what must have been done before.
STEPS: dict[str, tuple[Step, float, str | None]] = {
    "facts": (facts, 40, None),
    "recorded": (recorded, 150, None),
    "graphs": (graphs, 170, None),
    "profile": (profile, 90, "graphs"),
    "flash": (flash, 150, None),
    "weights": (weights, 45, None),
    "sleep": (sleep, 200, "weights"),
    "fp8": (_option("fp8", extra_args={"quantization": "fp8"}), 110, None),
    "fp8-kv": (_option("fp8-kv", extra_args={"kv-cache-dtype": "fp8"}), 110, None),
    "full-graphs": (
        _option("full-graphs", extra_args={"compilation-config": {"cudagraph_mode": "FULL"}}),
        100,
        None,
    ),
    "o3": (_option("o3", extra_args={"optimization-level": "3"}), 120, None),
    "o1": (_option("o1", extra_args={"optimization-level": "1"}), 100, None),
    "no-async": (_option("no-async", extra_args={"async-scheduling": False}), 90, None),
    "batched-8192": (
        _option("batched-8192", (1, 64), extra_args={"max-num-batched-tokens": 8192}), 90, None
    ),
    "ngram": (
        _option(
            "ngram",
            extra_args={
                "speculative-config": {
                    "method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4,
                },
            },
        ),
        100,
        None,
    ),
    "playbooks": (playbooks, 300, None),
    "faults": (faults, 240, None),
    "parallel": (parallel, 150, None),
}  # fmt: skip
WHOLE_MACHINE = ("facts", "parallel")
"""Steps beside which nothing else runs."""
