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
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import profiles
from machine import SMALL, fill, make_model
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
    sites: dict[str, Any] = field(default_factory=dict)
    step: threading.local = field(default_factory=threading.local)

    def keep(self, result: Mapping[str, Any]) -> None:
        """Write what the present step has found so far, which may be cut off."""
        path = self.results / f"{self.step.name}.partial"
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

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
        venv = more.pop("venv", self.venv)
        server = Server(name, self.work, venv, instance, self.accelerator, **more)
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


def used_by(pids: Collection[int]) -> int:
    """Bytes of GPU memory that processes use, others on the same GPU left out."""
    if not shutil.which("nvidia-smi"):  # a dry run
        return 0
    answer = subprocess.run(
        ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.findall(r"^(\d+), (\d+)$", answer.stdout, re.MULTILINE)
    return sum(int(size) << 20 for pid, size in found if int(pid) in pids)


def broker_figures(metrics: str) -> dict[str, float]:
    """What a broker tells of one instance, from the instance's `/metrics`."""
    rows = re.findall(r"^compute_plane_broker_(\w+){[^}]*} (\S+)$", metrics, re.MULTILINE)
    return {name: float(value) for name, value in rows}


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
    try:
        import pynvml
        pynvml.nvmlInit()
        def ask(name, *arguments):
            try:
                return getattr(pynvml, name)(*arguments)
            except (pynvml.NVMLError, AttributeError) as error:
                return str(error)
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        found["nvml"] = {
            "links": [[ask("nvmlDeviceGetNvLinkState", h, n) for n in range(18)] for h in handles],
            "link_versions": [ask("nvmlDeviceGetNvLinkVersion", h, 0) for h in handles],
            "pairs": [
                {"ancestor": ask("nvmlDeviceGetTopologyCommonAncestor", a, b),
                 "p2p": {name: ask("nvmlDeviceGetP2PStatus", a, b, number) for number, name in
                         enumerate(("read", "write", "nvlink", "atomics", "pci"))}}
                for a in handles for b in handles if a is not b
            ],
        }
    except Exception as error:
        found["nvml"] = repr(error)
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


def _started(context: Context, server: Server, seconds: float = START_SECONDS) -> dict[str, Any]:
    """Start a server; returns how long it took and what it says of itself."""
    server.start()
    ready = round(server.wait_ready(context.left(seconds)), 2)
    return {"ready_seconds": ready, **described(server)}


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
        result.update(_started(context, server))
        result["memory_used_bytes"] = pynvml_used(gpu)
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
    result["memory_used_after_bytes"] = released(gpu)
    return result


def released(gpu: Gpu, seconds: float = 10) -> int | None:
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
        result.update(_started(context, server))
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


def option(name: str, streams: tuple[int, ...] = (1, 16), **keys: Any) -> Step:
    """A step that measures one change of the settings with graphs.

    Args:
        name: Of the step.
        streams: The loads.
        keys: Of the instance.
    """

    def run(context: Context, gpu: Gpu) -> dict[str, Any]:
        given = {"attention_backend": "TRITON_ATTN", **keys}
        return _serve_and_measure(context, gpu, name, streams, caches="common", **given)

    run.__doc__ = f"TRITON_ATTN and graphs with {keys}."
    return run


def weights(context: Context, gpu: Gpu) -> dict[str, Any]:
    """Write random weights to the disk, for what needs weights that can be read again."""
    make_model(context.model("random"), context.shape, context.tokenizer, files=4)
    began = time.monotonic()
    device = f"cuda:{gpu.index}" if context.accelerator == "cuda" else "cpu"
    fill(context.model("random"), context.venv, device, context.clean_environment())
    seconds = time.monotonic() - began
    size = sum(one.stat().st_size for one in context.model("random").glob("*.safetensors"))
    return {"seconds": round(seconds, 1), "bytes": size}


SLEEPS = {"VLLM_SERVER_DEV_MODE": "1", "WATCHDOG_USEC": str(3_600_000_000)}
"""Opens the paths for sleep; the supervisor would take sleep for a hang."""


def _sleeper(context: Context, gpu: Gpu, **keys: Any) -> dict[str, Any]:
    """An instance that can sleep."""
    extra = {"enable-sleep-mode": True, "enable-prefix-caching": False}
    return context.instance(gpu, attention_backend="TRITON_ATTN", **{"extra_args": extra, **keys})


def _to_sleep(server: Server, level: int) -> float:
    """Put a server to sleep; returns the seconds that took."""
    began = time.monotonic()
    server.request(f"/sleep?level={level}", {}, 60)
    return round(time.monotonic() - began, 3)


def _wake(server: Server, level: int) -> dict[str, Any]:
    """Wake a server up and have it compute 32 tokens; returns the seconds and the tokens."""
    row: dict[str, Any] = {}
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
    server.complete(1)
    row["first_token_seconds"] = round(time.monotonic() - began, 3)
    row["answer"] = server.complete(32)
    return row


def _turns(server: Server, gpu: Gpu, result: dict[str, Any]) -> list[int]:
    """Sleep and wake twice at either level; returns what the server answered before."""
    before = server.complete(32)
    result["answers_repeat"] = server.complete(32) == before
    awake = pynvml_used(gpu)
    result["awake_bytes"] = awake
    for level in (1, 2):
        for turn in range(2):
            row: dict[str, Any] = {"sleep_seconds": _to_sleep(server, level)}
            time.sleep(1)
            asleep = pynvml_used(gpu)
            row["asleep_bytes"] = asleep
            if awake and asleep is not None:
                row["freed_percent"] = round(100 * (awake - asleep) / awake, 1)
            row.update(_wake(server, level))
            row["same_answer"] = row.pop("answer") == before
            result[f"level_{level}_turn_{turn}"] = row
    return before


def sleep(context: Context, gpu: Gpu) -> dict[str, Any]:
    """Sleep and wake at levels 1 and 2 with weights from a file, beside a stop and a start."""
    instance = _sleeper(context, gpu, model=str(context.model("random")))
    result: dict[str, Any] = {}
    with context.serve("sleep", instance, environment=SLEEPS, caches="graphs") as server:
        result.update(_started(context, server))
        result["load_page_cache"] = "warm"
        before = _turns(server, gpu, result)
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


def sleep_words(context: Context, gpu: Gpu) -> dict[str, Any]:
    """Sleep and wake of the small model, whose answer after it must be the one before."""
    model = str(context.work / "models" / SMALL)
    extra = {"enable-sleep-mode": True, "enable-prefix-caching": False}
    instance = _sleeper(context, gpu, model=model, max_model_len=2048, extra_args=extra)
    result: dict[str, Any] = {}
    question = "The capital of France is"
    with context.serve("sleep-words", instance, environment=SLEEPS, caches="words") as server:
        server.start()
        result["ready_seconds"] = round(server.wait_ready(context.left(START_SECONDS)), 2)
        result["words"] = server.text(question)
        _turns(server, gpu, result)
        result["same_words"] = server.text(question) == result["words"]
    turns = [row for key, row in result.items() if key.startswith("level_")]
    if not (result["same_words"] and all(row["same_answer"] for row in turns)):
        result["failed"] = "the answers after sleep are not those before"
    return result


def switch(context: Context, gpu: Gpu) -> dict[str, Any]:
    """Two servers of the shape on one GPU, one asleep while the other serves; and one robbed."""
    result: dict[str, Any] = {"turns": []}

    def used() -> int | None:
        """What both take together."""
        return used_by([pid for one, _answer in servers for pid in one.pids(".")])

    path = str(context.model("random"))
    servers: list[tuple[Server, list[int]]] = []
    with contextlib.ExitStack() as stack:
        for number, name in enumerate(("switch-a", "switch-b")):
            instance = _sleeper(
                context, gpu, model=path, name=name, port=18040 + 2 * gpu.index + number
            )
            one = stack.enter_context(
                context.serve(name, instance, environment=SLEEPS, caches="starts")
            )
            one.start()
            result[f"{name}_ready_seconds"] = round(one.wait_ready(context.left(300)), 2)
            servers.append((one, one.complete(32)))
            result[f"{name}_awake_bytes"] = used()
            result[f"{name}_first_sleep_seconds"] = _to_sleep(one, 1)
            result[f"{name}_asleep_bytes"] = used()
            context.keep(result)
        _wake(servers[0][0], 1)
        awake = 0
        for level in (1, 1, 2, 2):
            away, (back, answer) = servers[awake][0], servers[1 - awake]
            began = time.monotonic()
            row: dict[str, Any] = {"level": level, "sleep_seconds": _to_sleep(away, level)}
            row["both_asleep_bytes"] = used()
            slept = 1 if len(result["turns"]) < 3 else 2  # at which level the other one sleeps
            row["woken_from"] = slept
            row.update(_wake(back, slept))
            row["same_answer"] = row.pop("answer") == answer
            row["switch_seconds"] = round(row["sleep_seconds"] + row["first_token_seconds"], 3)
            row["with_answers_seconds"] = round(time.monotonic() - began, 3)
            row["awake_bytes"] = used()
            result["turns"].append(row)
            awake = 1 - awake
        context.keep(result)
        if gpu.total_bytes:
            sleeping, answer = servers[1 - awake]
            result["robbed"] = _robbed(context, gpu, sleeping, answer)
    return result


def _robbed(context: Context, gpu: Gpu, server: Server, answer: list[int]) -> dict[str, Any]:
    """Wake a server up whose memory another process has taken meanwhile; it sleeps at level 2."""
    # So much that 6 GiB stay free.
    row: dict[str, Any] = {
        "held_bytes": (gpu.total_bytes or 0) - (pynvml_used(gpu) or 0) - (6 << 30)
    }
    readies, ends = len(server.readies), len(server.ends)
    holder = hold(context, gpu, row["held_bytes"])
    try:
        began = time.monotonic()
        try:
            server.request("/wake_up?tags=weights", {}, 60)
            row["wake_up"] = "200"
        except OSError as error:
            row["wake_up"] = str(error)
        until = time.monotonic() + context.left(20)
        while len(server.ends) == ends and time.monotonic() < until:
            time.sleep(0.2)
        row["ended_seconds"] = (
            round(server.ends[-1][0] - began, 1) if len(server.ends) > ends else None
        )
        with contextlib.suppress(OSError, ValueError):
            row["verdict"] = _short(json.loads((server.folder / "verdict.json").read_text()))
        row["log"] = [line for _at, line in server.lines if re.search(r"rror|out of memory", line)][
            -12:
        ]
    finally:
        holder.kill()
        holder.wait()
    gone = time.monotonic()
    if row["ended_seconds"] is None:
        try:
            woken = _wake(server, 2)
            row["same_answer"] = woken.pop("answer") == answer
            row["woken_again"] = woken
        except OSError as error:
            row["woken_again"] = str(error)
    until = gone + context.left(150)
    while row["ended_seconds"] is not None and time.monotonic() < until:
        if len(server.readies) > readies:
            row["healed_seconds"] = round(server.readies[-1] - gone, 1)
            break
        time.sleep(0.2)
    return row


def _short(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """What of a verdict is kept."""
    return {key: verdict.get(key) for key in ("state", "summary", "cause", "evidence")}


def forget_pages(folder: Path) -> None:
    """Have the kernel drop a model's files from its page cache."""
    for path in folder.glob("*.safetensors"):
        with open(path, "rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def starting(
    name: str,
    *,
    caches: str = "starts",
    cold_pages: bool = False,
    moved: bool = False,
    **keys: Any,
) -> Callable[[Context, Gpu], dict[str, Any]]:
    """A step that starts a server of the shape with weights from files, until its first token.

    Args:
        name: Of the step.
        caches: Directory of compiled code.
        cold_pages: Whether the weights are dropped from the page cache before.
        moved: Whether the environment is another copy, as after an installation.
        keys: Of the instance.
    """

    def run(context: Context, gpu: Gpu) -> dict[str, Any]:
        instance = context.instance(
            gpu, model=str(context.model("random")), attention_backend="TRITON_ATTN", **keys
        )
        venv = context.venv
        if moved:
            venv = context.work / "copied" / context.venv.name
            if not venv.exists():
                shutil.copytree(context.venv, venv, symlinks=True)
                script = venv / "bin" / "vllm"
                text = script.read_text(encoding="utf-8")
                script.write_text(text.replace(str(context.venv), str(venv)), encoding="utf-8")
        if cold_pages:
            forget_pages(context.model("random"))
        result: dict[str, Any] = {"cold_pages": cold_pages}
        with context.serve(name, instance, caches=caches, venv=venv) as server:
            result.update(_started(context, server, 300))
            result.pop("plan", None)
            result["stop_seconds"] = round(server.stop(), 2)
        return result

    run.__doc__ = f"A start: {name}."
    return run


_IMPORTS = """
import sys, time
began = time.perf_counter()
import torch
torch_at = time.perf_counter() - began
import vllm.entrypoints.openai.api_server
print(torch_at, time.perf_counter() - began, len(sys.modules))
"""


def imports(context: Context, gpu: Gpu) -> dict[str, Any]:  # noqa: ARG001 - no GPU is used
    """What importing the server costs, and what of it."""
    result: dict[str, Any] = {"seconds": []}
    python = str(context.venv / "bin/python")
    for _turn in range(3):
        done = subprocess.run(
            [python, "-I", "-c", _IMPORTS], capture_output=True, text=True, check=True,
            env=context.clean_environment(), timeout=context.left(120),
        )  # fmt: skip
        words = done.stdout.split()[-3:]
        result["seconds"].append([round(float(words[0]), 2), round(float(words[1]), 2)])
        result["modules"] = int(words[2])
    done = subprocess.run(
        [python, "-I", "-X", "importtime", "-c", _IMPORTS], capture_output=True, text=True,
        check=True, env=context.clean_environment(), timeout=context.left(120),
    )  # fmt: skip
    own: dict[str, float] = {}
    for found in re.finditer(
        r"^import time:\s+(\d+) \|\s+\d+ \| *([\w.]+)$", done.stderr, re.MULTILINE
    ):
        package = found[2].split(".")[0]
        own[package] = own.get(package, 0.0) + int(found[1]) / 1e6
    largest = sorted(own.items(), key=lambda item: -item[1])[:15]
    result["packages_seconds"] = {name: round(value, 2) for name, value in largest}
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
                    row["memory_used_after_bytes"] = released(gpu, 3)
                time.sleep(0.2)
            stop.set()
            if len(server.readies) > readies:
                row["healed_seconds"] = round(server.readies[-1] - began, 1)
            with contextlib.suppress(OSError, ValueError):
                verdict = json.loads((server.folder / "verdict.json").read_text())
                row["verdict"] = _short(verdict)
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
    return {"seconds": round(seconds, 2), "memory_used_bytes": released(gpu, 5)}


HOLD = (
    "import torch,sys,time; x=torch.empty(int(sys.argv[1]),dtype=torch.uint8,device='cuda');"
    "print('held',flush=True); time.sleep(300)"
)


def hold(context: Context, gpu: Gpu, size: int) -> subprocess.Popen[bytes]:
    """A process that holds memory of a GPU; it ends by itself after five minutes.

    Args:
        context: What all steps share.
        gpu: Which.
        size: Bytes.
    """
    holder = subprocess.Popen(
        [context.venv / "bin/python", "-c", HOLD, str(size)],
        stdout=subprocess.PIPE,
        env={**context.clean_environment(), "CUDA_VISIBLE_DEVICES": str(gpu.uuid)},
    )
    if holder.stdout is None or not holder.stdout.readline():
        raise Failed("the memory could not be taken")
    return holder


def _memory_taken(context: Context, gpu: Gpu) -> dict[str, Any]:
    """Start while another process holds so much that the budget is not free."""
    size = int((gpu.total_bytes or 0) - RTX_3090_BUDGET / 2)
    holder = hold(context, gpu, size)
    try:
        instance = context.instance(gpu, attention_backend="TRITON_ATTN", enforce_eager=True)
        with context.serve("taken", instance, caches="common") as server:
            row: dict[str, Any] = {"plan_problems": server.problems, "held_bytes": size}
            began = time.monotonic()
            server.start()
            until = began + context.left(120)
            while not server.ends and time.monotonic() < until:
                time.sleep(0.2)
            row["ended_seconds"] = round(time.monotonic() - began, 1)
            with contextlib.suppress(OSError, ValueError):
                verdict = json.loads((server.folder / "verdict.json").read_text())
                row["verdict"] = _short(verdict)
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
