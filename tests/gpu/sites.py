# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps on throwaway hosts with systemd: what the collection's playbooks do there."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import host
from machine import MINILM, RELEASE, SMALL, say
from server import FIGURES, Failed, plan
from steps import (
    INPUT,
    OUTPUT,
    Context,
    Gpu,
    broker_figures,
    pynvml_used,
    released,
    used_by,
)
from throwaway import cgroups

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN = "/root/hidden"
COMPILERS = " ".join(
    f"/usr/bin/{name}"
    for name in ("*gcc", "*gcc-[0-9]*", "*g++", "*g++-[0-9]*", "cc", "c++", "clang*")
)
START = 240.0
"""Seconds that a server may take until it serves again; two busy cores take longest."""


class Site:
    """A host on which the collection has deployed instances.

    Args:
        context: What all steps share.
        gpu: The instances' GPU.
        name: Of the host.
        instances: As in vllm_instances.
        variables: Of the playbooks, beside those that all hosts have.
    """

    def __init__(
        self,
        context: Context,
        gpu: Gpu,
        name: str,
        instances: list[dict[str, Any]],
        **variables: Any,
    ) -> None:
        self.context, self.gpu, self.name = context, gpu, name
        self.pack = context.work / "pack" if (context.work / "pack").is_dir() else None
        self.instances = instances
        self.variables: dict[str, Any] = {
            "vllm_release": RELEASE,
            "vllm_accelerator": context.accelerator,
            "vllm_runtime_venv": str(context.venv),
            "vllm_instances": instances,
            "vllm_service_drain": 5,
            "vllm_verify_timeout": 120,
            **variables,
        }
        if self.pack is not None:
            self.variables["vllm_runtime_environment"] = {
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": str(self.pack / "tools"),
            }
        self.deployed: dict[str, Any] = {}
        began = time.monotonic()
        self.host = host.Host(name, context.work, self.pack)
        self.host.__enter__()
        self.boot_seconds = round(time.monotonic() - began, 1)

    def close(self) -> None:
        """Power the host off."""
        self.host.close()

    def play(
        self, row: str, playbook: str, seconds: float, words: tuple[str, ...] = (), **changes: Any
    ) -> dict[str, Any]:
        """Run a playbook; returns its status, seconds and recap, and what it said when it failed.

        Args:
            row: Names its log.
            playbook: For example `site.yml`.
            seconds: How long it may take.
            words: Further arguments.
            changes: Variables that are different this time.
        """
        began = time.monotonic()
        try:
            done = host.ansible(
                self.host,
                self.context.venv,
                self.pack,
                f"playbooks/{playbook}",
                {**self.variables, **changes},
                self.context.left(seconds, 30),
                words,
            )
            status, text = done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired as late:
            status, text = None, (late.stdout or b"").decode("utf-8", "replace")
        log = self.context.results / f"playbook-{self.name}-{row}.log"
        log.write_text(text, encoding="utf-8")
        recap = re.findall(r"^\S+ +: ok=.*$", text, re.MULTILINE)
        changed = re.findall(r" changed=(\d+)", recap[-1]) if recap else []
        found: dict[str, Any] = {
            "status": status,
            "seconds": round(time.monotonic() - began, 1),
            "changed": int(changed[0]) if changed else None,
        }
        say(f"{self.name}: {row}: {status}, {found['seconds']} s, changed {found['changed']}")
        if status != 0:
            found["said"] = text[-4000:]
        return found

    def sh(self, script: str, seconds: float = 60) -> str:
        """Run a shell's script in the host; returns what it printed."""
        done = self.host.run(["sh", "-c", script], seconds)
        return (done.stdout + done.stderr).strip()

    def show(self, name: str, instance: str | None = None) -> str:
        """A property of an instance's unit."""
        unit = f"vllm@{instance or self.instances[0]['name']}.service"
        return self.sh(f"systemctl show {unit} --value --property {name}")

    def file(self, path: str) -> Path:
        """A file of the host, seen from outside."""
        return self.host.root / path.lstrip("/")

    def read_json(self, path: str) -> Any:
        """A JSON file of the host, /run too; None where there is none."""
        done = self.host.run(["cat", path], 20)
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout else None

    def config(self, instance: str | None = None) -> dict[str, str]:
        """What an instance's configuration file says."""
        path = self.file(f"/etc/vllm/{instance or self.instances[0]['name']}.yaml")
        lines = [one for one in path.read_text(encoding="utf-8").splitlines() if ": " in one]
        return dict(one.split(": ", 1) for one in lines if not one.startswith("#"))

    def verified(self, instance: str | None = None) -> dict[str, Any] | None:
        """What the suite found: check, status, and the answer's beginning."""
        name = instance or self.instances[0]["name"]
        report = self.read_json(f"/var/lib/vllm/verified/{name}.json")
        if report is None:
            return None
        text = json.dumps(report)
        return report if len(text) < 30_000 else {"text": text[:30_000]}

    def answers(self, instance: dict[str, Any], tokens: int = 1, timeout: float = 10) -> bool:
        """Whether a server answers."""
        body = {"model": instance["name"], "prompt": "Once", "max_tokens": tokens}
        body.update({"temperature": 0, "ignore_eos": True})
        request = urllib.request.Request(
            f"http://127.0.0.1:{instance['port']}/v1/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
                return int(json.load(answer)["usage"]["completion_tokens"]) == tokens
        except (OSError, ValueError):
            return False

    def wait(
        self, condition: Callable[[], bool], seconds: float, pause: float = 0.3
    ) -> float | None:
        """Seconds until a condition holds; None when it does not within the limit."""
        began = time.monotonic()
        until = began + self.context.left(seconds)
        while not condition():
            if time.monotonic() > until:
                return None
            time.sleep(pause)
        return round(time.monotonic() - began, 1)

    def verdict(self) -> dict[str, Any] | None:
        """What the supervisor said last of why a server ended."""
        found = self.read_json(f"/run/vllm/{self.instances[0]['name']}/verdict.json")
        if found is None:
            return None
        return {key: found.get(key) for key in ("state", "summary", "cause", "evidence")}

    def used(self) -> int:
        """Bytes of GPU memory that the host's processes use."""
        return used_by(cgroups.processes(self.host.ident, self.host.name))

    def released(self, seconds: float = 5) -> int:
        """What they use soon after a server has ended."""
        self.wait(lambda: self.used() == 0, seconds)
        return self.used()

    def keep_journal(self) -> None:
        """Write the units' journal to the results."""
        words = ["journalctl", "-u", "vllm@*", "-o", "short-monotonic", "--no-pager"]
        with contextlib.suppress(subprocess.TimeoutExpired, RuntimeError):
            text = self.host.run(words, 60).stdout
            path = self.context.results / f"playbook-{self.name}-journal.log"
            path.write_text(text, encoding="utf-8")


def _sweep(context: Context) -> list[dict[str, Any]]:
    """One and 16 streams, in what a processor can do in a dry run."""
    small = context.accelerator != "cuda"
    return [
        {
            "concurrency": streams,
            "input_tokens": 32 if small else INPUT,
            "output_tokens": 8 if small else OUTPUT,
            "prompts": prompts,
        }
        for streams, prompts in ((1, 4), (16, 48))
    ]


def _small(context: Context, gpu: Gpu, **keys: Any) -> dict[str, Any]:
    """The small model, with the recorded deployment's flags."""
    found = context.work / "models" / SMALL
    one = context.instance(
        gpu,
        **{
            "name": "smollm2",
            "model": str(found),
            "enforce_eager": True,
            "attention_backend": "TRITON_ATTN",
            "port": 18100,
            "max_model_len": 2048,
            **keys,
        },
    )
    if context.accelerator == "cpu":
        one["cpu_kvcache_space"] = 1
    return one


def _words(context: Context, gpu: Gpu) -> Site:
    """The host with the small model; deployed where this run has not done so yet."""
    site = context.sites.get("words")
    if site is None:
        site = Site(
            context,
            gpu,
            "words",
            [_small(context, gpu)],
            vllm_tune_goal="latency",
            vllm_tune_space={"enforce_eager": [True, False], "attention_backend": "working"},
            vllm_tune_sweep=_sweep(context),
            vllm_tune_repeats=2,
        )
        context.sites["words"] = site
        site.deployed = site.play("site", "site.yml", 420)
        if site.deployed["status"] != 0:
            site.keep_journal()
    return site


def _wrong(result: dict[str, Any], rows: dict[str, bool]) -> None:
    """Say which of some statements do not hold."""
    wrong = [what for what, holds in rows.items() if not holds]
    if wrong:
        result["failed"] = "; ".join(wrong)


def playbooks(context: Context, gpu: Gpu) -> dict[str, Any]:
    """site.yml twice and status.yml, with a model whose words mean something."""
    site = _words(context, gpu)
    result: dict[str, Any] = {"boot_seconds": site.boot_seconds}
    result["systemd"] = site.sh("systemctl --version").split("\n")[0]
    result["site"] = site.deployed
    if result["site"]["status"] == 0:
        result["again"] = site.play("again", "site.yml", 120)
        result["status"] = site.play("status", "status.yml", 60)
        result["verified"] = site.verified()
    shown = (
        "DevicePolicy",
        "DeviceAllow",
        "MemoryCurrent",
        "MemoryPeak",
        "NRestarts",
        "StatusText",
    )
    result["unit"] = {name: site.show(name).split("\n") for name in shown}
    result["nccl"] = site.sh("systemctl show vllm@smollm2 --value -p Environment | tr ' ' '\\n'")
    result["memory_used_bytes"] = pynvml_used(gpu)
    site.keep_journal()
    _wrong(
        result,
        {
            "site.yml does not end well": result["site"]["status"] == 0,
            "the second run changes something": result.get("again", {}).get("changed") == 0,
            "status.yml does not end well": result.get("status", {}).get("status") == 0,
        },
    )
    return result


def tune(context: Context, gpu: Gpu) -> dict[str, Any]:
    """tune.yml to its end, what it found applied and proved, and taken back by rollback.yml."""
    site = _words(context, gpu)
    before = site.config()
    result: dict[str, Any] = {"before": before}
    result["tune"] = site.play("tune", "tune.yml", 900, vllm_tune_apply=True)
    for path in sorted(site.file("/var/lib/vllm/benchmarks").glob("*.json")):
        result[path.name] = json.loads(path.read_text(encoding="utf-8"))
    result["applied"], result["proved"] = site.config(), site.verified()
    result["rollback"] = site.play("rollback", "rollback.yml", 300)
    result["after"] = site.config()
    result["again"] = site.play("after-rollback", "site.yml", 200)
    site.keep_journal()
    _wrong(
        result,
        {
            "tune.yml does not end well": result["tune"]["status"] == 0,
            "nothing was applied": result["applied"] != before,
            "rollback.yml does not end well": result["rollback"]["status"] == 0,
            "it is not what it was": result["after"] == before,
            "site.yml finds something to change after the rollback": result["again"]["changed"]
            == 0,
        },
    )
    return result


def auto(context: Context, gpu: Gpu) -> dict[str, Any]:
    """attention_backend: auto, to its end."""
    one = _small(context, gpu, attention_backend="auto", name="auto", port=18500)
    site = context.sites["auto"] = Site(context, gpu, "auto", [one])
    result: dict[str, Any] = {"site": site.play("site", "site.yml", 600)}
    text = (context.results / "playbook-auto-site.log").read_text(encoding="utf-8")
    shown = re.search(r"Show the attention backends.*?\n(.*?)\n(?:TASK|PLAY) ", text, re.DOTALL)
    result["tried"] = shown[1][:4000] if shown else None
    result["config"] = site.config()
    result["kept"] = site.read_json("/var/lib/vllm/attention.json")
    context.keep(result)
    result["again"] = site.play("again", "site.yml", 120)
    site.keep_journal()
    site.sh("systemctl stop vllm@auto", 60)
    site.close()
    del context.sites["auto"]
    _wrong(
        result,
        {
            "site.yml does not end well": result["site"]["status"] == 0,
            "the second run changes something": result["again"]["changed"] == 0,
        },
    )
    return result


def _load(site: Site, stop: threading.Event) -> None:
    while not stop.is_set():
        site.answers(site.instances[0], 64, 30)
        stop.wait(0.1)


def _device_policy(site: Site, gpus: list[Gpu], gpu: Gpu) -> dict[str, Any]:
    """Open devices as root in a transient unit that has the unit's own device policy.

    A process from outside cannot go into the unit's control group: a namespace is a boundary there
    (cgroups(7), nsdelegate).
    """
    program = (
        "import os,sys\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        os.close(os.open(path, os.O_RDWR)); print(path, 'opens')\n"
        "    except OSError as error:\n        print(path, error.strerror)\n"
    )
    allowed = [f"DeviceAllow={line}" for line in site.show("DeviceAllow").splitlines() if line]
    settings = [f"DevicePolicy={site.show('DevicePolicy')}", *allowed]
    paths = [f"/dev/nvidia{one.index}" for one in gpus] + ["/dev/nvidiactl", "/dev/null"]
    command = ["systemd-run", "--wait", "--pipe", "--quiet"]
    command += [f"--property={one}" for one in settings]
    done = site.host.run([*command, "python3", "-c", program, *paths], 30)
    told = dict(one.split(" ", 1) for one in done.stdout.strip().splitlines())
    row: dict[str, Any] = {"settings": settings, "told": told, "errors": done.stderr[-500:]}
    if site.context.accelerator == "cuda":
        row["own_opens"] = told.get(f"/dev/nvidia{gpu.index}") == "opens"
        row["others_do_not"] = all(
            told.get(f"/dev/nvidia{one.index}") == "Operation not permitted"
            for one in gpus
            if one.index != gpu.index
        )
    return row


def _serving(context: Context, gpu: Gpu) -> tuple[Site, str]:
    """The host with the small model, which serves, and its unit."""
    site = _words(context, gpu)
    unit = f"vllm@{site.instances[0]['name']}.service"
    if site.wait(lambda: site.answers(site.instances[0]), 60) is None:
        raise Failed(f"{unit} does not serve")
    return site, unit


def _healed(site: Site, row: dict[str, Any], since: float) -> dict[str, Any]:
    """Add to what is known of a fault how it was healed and what the supervisor said."""
    row["healed_seconds"] = site.wait(lambda: site.answers(site.instances[0]), START)
    row["memory_used_bytes"] = site.used()
    said = site.sh(f"journalctl -u 'vllm@*' --since @{since:.3f} -o cat --no-pager", 30)
    row["said"] = re.findall(r"^supervisor: .*$", said, re.MULTILINE)[-12:]
    site.keep_journal()
    if row["healed_seconds"] is None:
        row["failed"] = "it does not heal"
    return row


def unit_devices(context: Context, gpu: Gpu) -> dict[str, Any]:
    """Which devices can be opened under the unit's device policy."""
    site, _unit = _serving(context, gpu)
    result = _device_policy(site, context.gpus, gpu)
    wrong = {"its own GPU": result.get("own_opens"), "others": result.get("others_do_not")}
    _wrong(
        result,
        {f"not as it should be: {what}": holds is not False for what, holds in wrong.items()},
    )
    return result


def unit_stop(context: Context, gpu: Gpu) -> dict[str, Any]:
    """The unit stopped under load."""
    site, unit = _serving(context, gpu)
    since, stop = time.time(), threading.Event()
    for _ in range(4):
        threading.Thread(target=_load, args=(site, stop), daemon=True).start()
    time.sleep(3)
    began = time.monotonic()
    site.sh(f"systemctl stop {unit}", 120)
    row: dict[str, Any] = {"seconds": round(time.monotonic() - began, 1)}
    stop.set()
    row["result"] = site.show("Result")
    row["memory_used_after_bytes"] = site.released()
    site.sh(f"systemctl start --no-block {unit}")
    return _healed(site, row, since)


def unit_memory(context: Context, gpu: Gpu) -> dict[str, Any]:
    """MemoryMax below what the unit has in use, which the kernel cannot make room for."""
    site, unit = _serving(context, gpu)
    name, since = site.instances[0]["name"], time.time()
    told = site.sh(f"cat /sys/fs/cgroup{site.show('ControlGroup')}/memory.stat")
    anonymous = re.search(r"^anon (\d+)$", told, re.MULTILINE)
    least = int(anonymous[1]) // 2 if anonymous else 1 << 29
    restarts = site.show("NRestarts")
    site.sh(f"rm -f /run/vllm/{name}/verdict.json")
    began = time.monotonic()
    site.sh(f"systemctl set-property --runtime {unit} MemoryMax={least}")
    row: dict[str, Any] = {"memory_max": least}
    site.wait(lambda: site.verdict() is not None or site.show("NRestarts") != restarts, 60)
    row["classified_seconds"] = round(time.monotonic() - began, 1)
    site.wait(lambda: site.verdict() is not None, 10)
    row["verdict"] = site.verdict()
    row["memory_used_after_bytes"] = site.used()
    site.sh(f"rm -r /run/systemd/system.control/{unit}.d; systemctl daemon-reload")
    return _healed(site, row, since)


def _lacking(hide: str, unhide: str, *, forget: bool) -> Callable[[Context, Gpu], dict[str, Any]]:
    """A step that starts the server without something.

    Args:
        hide: A shell's script that takes it away.
        unhide: One that gives it back.
        forget: Whether compiled code is forgotten before.
    """

    def run(context: Context, gpu: Gpu) -> dict[str, Any]:
        site, unit = _serving(context, gpu)
        name = site.instances[0]["name"]
        since = time.time()
        row: dict[str, Any] = {"hidden": site.sh(f"mkdir -p {HIDDEN}; {hide}")[-500:]}
        try:
            site.sh(f"systemctl stop {unit}; rm -f /run/vllm/{name}/verdict.json", 120)
            if forget:
                site.sh(f"rm -rf /var/cache/vllm/{name}/*")
            site.sh(f"systemctl start --no-block {unit}")
            began = time.monotonic()
            told = site.play("preflight", "preflight.yml", 60)
            row["preflight"] = {"status": told["status"], "said": told.get("said", "")[-900:]}
            site.wait(
                lambda: site.verdict() is not None or site.show("ActiveState") == "active", 150
            )
            row["classified_seconds"] = round(time.monotonic() - began, 1)
            row["verdict"] = site.verdict()
            row["memory_used_after_bytes"] = site.released()
        finally:
            row["given_back"] = site.sh(unhide)[-500:]
        site.sh(f"systemctl is-failed -q {unit} && systemctl restart --no-block {unit}")
        return _healed(site, row, since)

    return run


unit_compiler = _lacking(
    f"mv {COMPILERS} {HIDDEN} 2>/dev/null; ls {HIDDEN} | tr '\\n' ' '",
    f"mv {HIDDEN}/* /usr/bin/; command -v gcc",
    forget=True,
)
unit_headers = _lacking(
    f"h=$(ls /usr/include/python3.*/Python.h | tail -1); mv $h {HIDDEN}/Python.h;"
    f" echo $h > {HIDDEN}/where",
    f"mv {HIDDEN}/Python.h $(cat {HIDDEN}/where); rm {HIDDEN}/where",
    forget=True,
)
# The driver's folder is often a mount that is read-only, so an empty one goes over it.
unit_libcuda = _lacking(
    "mkdir -p /root/none; for l in $(ldconfig -p | sed -n 's/.*libcuda.so.1 .*x86-64.* => //p');"
    " do d=$(dirname $l); case $d in *nvidia*) mount --bind /root/none $d && echo $d;;"
    f" *) mv $l {HIDDEN}/ && echo $l;; esac; done | tee {HIDDEN}/where",
    f"for l in $(cat {HIDDEN}/where); do if [ -d $l ]; then umount $l;"
    f" else mv {HIDDEN}/$(basename $l) $l; fi; done; rm {HIDDEN}/where; ls -d $l",
    forget=False,
)


def rollback(context: Context, gpu: Gpu) -> dict[str, Any]:
    """What tune.yml would propose, deployed and proved, and taken back by rollback.yml."""
    site, _unit = _serving(context, gpu)
    before = site.config()
    one = {**site.instances[0], "enforce_eager": False, "attention_backend": "FLASH_ATTN"}
    if context.accelerator == "cpu":
        one.pop("attention_backend")
    result: dict[str, Any] = {"before": before}
    result["site"] = site.play("tuned", "site.yml", 300, vllm_instances=[one])
    result["applied"] = site.config()
    result["rollback"] = site.play("rollback", "rollback.yml", 300)
    result["after"] = site.config()
    result["again"] = site.play("after-rollback", "site.yml", 200)
    _wrong(
        result,
        {
            "site.yml does not end well": result["site"]["status"] == 0,
            "nothing was applied": result["applied"] != before,
            "rollback.yml does not end well": result["rollback"]["status"] == 0,
            "it is not what it was": result["after"] == before,
            "site.yml finds something to change after it": result["again"]["changed"] == 0,
        },
    )
    return result


def _shape(context: Context, gpu: Gpu, one: dict[str, Any], goal: str = "latency") -> Site:
    """A host for the 7B shape, whose random weights say no words."""
    if context.accelerator == "cpu":
        one["cpu_kvcache_space"] = 1
    given = one["extra_args"]
    fewer = {**given, "quantization": "fp8"}
    site = Site(
        context,
        gpu,
        one["name"],
        [one],
        vllm_verify_suite=[
            "health",
            "version",
            "models",
            "streaming",
            "attention_backend",
            "gpu_memory",
        ],
        vllm_verify_questions=[],
        vllm_tune_proof=[
            {
                "name": "tokens",
                "messages": [{"role": "user", "content": "What is the capital of France?"}],
                "expect": ".",
                "max_tokens": 16,
            }
        ],
        vllm_tune_goal=goal,
        vllm_tune_space={
            "enforce_eager": [True, False],
            "extra_args": [given, *([fewer] if context.accelerator == "cuda" else [])],
        },
        vllm_tune_sweep=_sweep(context),
        vllm_tune_repeats=2,
    )
    context.sites[one["name"]] = site
    return site


def parallel_unit(context: Context, gpu: Gpu) -> dict[str, Any]:
    """The shape over two GPUs as a unit: NCCL's environment, both GPUs open, memory of each."""
    one = context.instance(gpu, full=True, name="parallel", port=18400, enforce_eager=True)
    two = context.gpus[:2]
    # No multicast over NVLink: it needs a fabric that virtual machines may lack.
    one["environment"]["VLLM_ALLREDUCE_USE_SYMM_MEM"] = "0"
    if context.accelerator == "cuda":
        one.update({"tensor_parallel_size": 2, "gpus": [each.uuid for each in two]})
    site = _shape(context, gpu, one)
    result: dict[str, Any] = {"site": site.play("site", "site.yml", 300)}
    lines = site.sh("systemctl show vllm@parallel --value -p Environment").split()
    result["environment"] = [line for line in lines if re.match(r"NCCL|VLLM|CUDA|TORCH", line)]
    result["memory_used_bytes"] = [pynvml_used(each) for each in two]
    if result["site"]["status"] == 0:
        result["device_policy"] = _device_policy(site, context.gpus, gpu)
        result["verified"] = site.verified()
    site.keep_journal()
    site.sh("systemctl stop vllm@parallel", 60)
    site.close()
    del context.sites["parallel"]
    result["memory_used_after_bytes"] = [released(each) for each in two]
    _wrong(result, {"site.yml does not end well": result["site"]["status"] == 0})
    return result


def _tuned(context: Context, gpu: Gpu, name: str, port: int, goal: str) -> dict[str, Any]:
    """tune.yml on the recorded deployment's flags with the 7B shape, to what it proposes."""
    one = context.instance(
        gpu, name=name, port=port, enforce_eager=True, attention_backend="TRITON_ATTN"
    )
    site = _shape(context, gpu, one, goal)
    result: dict[str, Any] = {"site": site.play("site", "site.yml", 420)}
    if result["site"]["status"] == 0:
        result["tune"] = site.play("tune", "tune.yml", 900)
        for path in sorted(site.file("/var/lib/vllm/benchmarks").glob("*.json")):
            result[path.name] = json.loads(path.read_text(encoding="utf-8"))
        text = (context.results / f"playbook-{name}-tune.log").read_text(encoding="utf-8")
        result["report"] = text[-6000:]
    site.keep_journal()
    site.sh(f"systemctl stop vllm@{name}", 60)
    result["memory_used_after_bytes"] = released(gpu)
    site.close()
    del context.sites[name]
    _wrong(
        result,
        {
            "site.yml does not end well": result["site"]["status"] == 0,
            "tune.yml does not end well": result.get("tune", {}).get("status") == 0,
        },
    )
    return result


def shape(context: Context, gpu: Gpu) -> dict[str, Any]:
    """What tune.yml proposes for the least time of an answer."""
    return _tuned(context, gpu, "shape", 18200, "latency")


def energy(context: Context, gpu: Gpu) -> dict[str, Any]:
    """What tune.yml proposes for the most tokens of a joule."""
    return _tuned(context, gpu, "energy", 18210, "tokens_per_joule")


DEVELOPER = ("sleep?level=1", "wake_up", "collective_rpc", "reset_prefix_cache", "is_sleeping")


def _asked(instance: dict[str, Any], path: str, body: dict[str, Any] | None) -> tuple[int, str]:
    """The status and text of an answer; a body makes it a POST."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{instance['port']}/{path}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310 - http alone
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")


def _broker_figures(site: Site) -> dict[str, dict[str, float]]:
    """What the broker counts of each instance."""
    return {one["name"]: broker_figures(_asked(one, "metrics", None)[1]) for one in site.instances}


def _woken(site: Site) -> float:
    """How often the broker started or woke a server."""
    counted = ("starts_total", "wakes_total")
    return sum(one.get(name, 0) for one in _broker_figures(site).values() for name in counted)


def demand_unit(context: Context, gpu: Gpu) -> dict[str, Any]:
    """Two models on demand as units, one of which fits: by sleep at level 1 and at level 2."""
    instances = [
        _small(
            context, gpu, name=name, port=port, on_demand=True, share="card",
            gpu_memory_utilization=0.55, **({"sleep_level": level} if gpu.uuid else {}),
        )
        for name, port, level in (("light", 18600, 1), ("deep", 18601, 2))
    ]  # fmt: skip
    site = context.sites["demand-unit"] = Site(context, gpu, "demand-unit", instances)
    result: dict[str, Any] = {"site": site.play("site", "site.yml", 600)}
    context.keep(result)
    if result["site"]["status"] == 0:
        before = _woken(site)
        result["again"] = site.play("again", "site.yml", 120)
        result["woken_by_again"] = _woken(site) - before
        result["turns"] = turns = []
        first: dict[str, str] = {}
        question = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
        for turn in range(8):
            one = instances[turn % 2]
            began = time.monotonic()
            body = {"model": one["name"], **question, "temperature": 0, "max_tokens": 32}
            status, text = _asked(one, "v1/chat/completions", body)
            row = {"name": one["name"], "status": status}
            row["seconds"] = round(time.monotonic() - began, 2)
            if status == 200:
                row["words"] = json.loads(text)["choices"][0]["message"]["content"]
                row["same"] = first.setdefault(one["name"], row["words"]) == row["words"]
            row["memory_used_bytes"] = site.used()
            turns.append(row)
            context.keep(result)
        bodies: tuple[dict[str, Any] | None, ...] = (None, {})
        result["developer"] = {
            f"{one['name']} {path}": [_asked(one, path, body)[0] for body in bodies]
            for one in instances
            for path in DEVELOPER
        }
        result["figures"] = _broker_figures(site)
        result["status"] = site.play("status", "status.yml", 60)
        result["health"] = {one["name"]: _asked(one, "health", None) for one in instances}
    site.keep_journal()
    site.sh("systemctl stop vllm-broker@card 'vllm@*'", 90)
    result["memory_used_after_bytes"] = site.released()
    site.close()
    del context.sites["demand-unit"]
    turns = result.get("turns", [])
    codes = [code for row in result.get("developer", {}).values() for code in row]
    _wrong(
        result,
        {
            "site.yml does not end well": result["site"]["status"] == 0,
            "the second run changes something": result.get("again", {}).get("changed") == 0,
            "the second run wakes one": result.get("woken_by_again") == 0,
            "an answer is another one": bool(turns) and all(row.get("same") for row in turns),
            "a developer endpoint answers": bool(codes) and set(codes) <= {401, 403, 404, 405},
        },
    )
    return result


def pair(context: Context, gpu: Gpu) -> dict[str, Any]:
    """An embedder beside a chat model on one GPU, whose memory the plan divides."""
    chat = _small(context, gpu, name="chat", port=18300)
    model = str(context.work / "models" / MINILM)
    embedder = {
        key: value
        for key, value in {**chat, "name": "embedder", "model": model, "port": 18301}.items()
        if key not in ("max_model_len", "max_num_seqs", "attention_backend")
    }
    for one in (chat, embedder):
        one.pop("gpu_memory_utilization", None)
        one["extra_args"] = {}
    instances = [chat, embedder]
    made, _facts = plan({"accelerator": context.accelerator, "instances": instances}, context.venv)
    result: dict[str, Any] = {
        "plan": {one["name"]: one.get("memory") for one in made["instances"]},
        "shares": {
            one["name"]: (one.get("config") or {}).get("gpu-memory-utilization")
            for one in made["instances"]
        },
        "told": [one["message"] for one in made["problems"] if one["code"].startswith("gpu-")],
    }
    site = Site(context, gpu, "pair", instances)
    context.sites["pair"] = site
    result["site"] = site.play("site", "site.yml", 420)
    if result["site"]["status"] == 0:
        result["again"] = site.play("again", "site.yml", 120)
        result["verified"] = {one["name"]: site.verified(one["name"]) for one in instances}
        result["memory_used_bytes"] = pynvml_used(gpu)
        result["processes"] = site.sh(
            "nvidia-smi --query-compute-apps=pid,used_memory --format=csv,noheader || true"
        )
        result["after"] = {one["name"]: site.show("After", one["name"]) for one in instances}
        # Both at once, as a boot does: one waits for the other's memory to be known.
        site.sh("systemctl stop 'vllm@*'", 90)
        result["memory_used_after_bytes"] = released(gpu)
        began = time.monotonic()
        mark = f"@{time.time():.3f}"
        site.sh("systemctl start --no-block vllm@chat vllm@embedder")
        ready: dict[str, float] = {}
        until = began + context.left(START)
        while len(ready) < 2 and time.monotonic() < until:
            for one in instances:
                if one["name"] not in ready and site.show("ActiveState", one["name"]) == "active":
                    ready[str(one["name"])] = round(time.monotonic() - began, 1)
            time.sleep(0.3)
        result["ready_seconds"] = ready
        result["engine"] = {}
        for one in instances:
            words = ["journalctl", "-u", f"vllm@{one['name']}", "--since", mark, "-o", "cat"]
            text = site.host.run([*words, "--no-pager"], 30).stdout
            result["engine"][one["name"]] = {
                key: float(match[1].replace(",", ""))
                for key, pattern in FIGURES.items()
                if (match := re.search(pattern, text))
            }
        result["memory_used_both_bytes"] = pynvml_used(gpu)
    site.keep_journal()
    site.close()
    del context.sites["pair"]
    result["memory_used_end_bytes"] = released(gpu)
    _wrong(
        result,
        {
            "site.yml does not end well": result["site"]["status"] == 0,
            "the second run changes something": result.get("again", {}).get("changed") == 0,
            "not both start": len(result.get("ready_seconds", {})) == 2,
        },
    )
    return result
