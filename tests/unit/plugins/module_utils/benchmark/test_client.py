# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import inspect
import json
import subprocess
import sys
import time

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import client, worker
from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark.sweep import Point

# A command that does what its first argument says, in the place of vLLM's.
COMMAND = """
import json, os, signal, sys, time

def main():
    assert sys.argv[:3] == ["vllm", "bench", "serve"]
    what = sys.argv[3]
    print("doing", what)
    if what == "save":
        folder = sys.argv[sys.argv.index("--result-dir") + 1]
        with open(os.path.join(folder, "result.json"), "w") as stream:
            json.dump({"pid": os.getpid(), "argv": sys.argv[4:5]}, stream)
    elif what == "exit":
        sys.exit(3)
    elif what == "raise":
        raise ValueError("odd")
    elif what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "hang":
        with open(sys.argv[4], "w") as stream:
            stream.write(str(os.getpid()))
        time.sleep(60)
"""


@pytest.fixture
def process(tmp_path):
    folder = tmp_path / "site" / "vllm" / "entrypoints" / "cli"
    folder.mkdir(parents=True)
    (folder / "main.py").write_text(COMMAND)
    source = inspect.getsource(worker).encode()
    with subprocess.Popen(
        [sys.executable, "-c", client._BOOT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env={"PYTHONPATH": str(tmp_path / "site"), "TMPDIR": str(tmp_path)},
    ) as process:
        process.stdin.write(b"%d\n" % len(source) + source)
        assert json.loads(process.stdout.readline()) == {"ready": True}
        yield process
        process.kill()


def ask(process, *argv, timeout=30.0):
    process.stdin.write(json.dumps({"argv": argv, "timeout": timeout}).encode() + b"\n")
    return json.loads(process.stdout.readline())


def test_each_run_is_a_process_of_its_own_with_its_arguments(process):
    first, second = ask(process, "save", "a"), ask(process, "save", "b")
    assert (first["rc"], first["saved"]["argv"], second["saved"]["argv"]) == (0, ["a"], ["b"])
    assert len({first["saved"]["pid"], second["saved"]["pid"], process.pid}) == 3


@pytest.mark.parametrize(
    ("what", "status", "text"),
    [("exit", 3, "doing exit"), ("raise", 1, "ValueError: odd"), ("crash", -11, "")],
)
def test_a_run_that_fails_tells_how_and_the_next_one_works(process, what, status, text):
    answer = ask(process, what)
    assert (answer["rc"], answer["saved"]) == (status, None)
    assert text in answer["tail"]
    assert ask(process, "save", "a")["rc"] == 0


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pid_in(path):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.02)
    raise AssertionError("the run did not begin")


def test_a_run_that_takes_too_long_is_ended(process, tmp_path):
    answer = ask(process, "hang", str(tmp_path / "pid"), timeout=1.0)
    assert (answer["rc"], answer["saved"]) == (None, None)
    assert not alive(pid_in(tmp_path / "pid"))


def test_who_asked_is_gone_and_so_is_the_run(process, tmp_path):
    request = {"argv": ["hang", str(tmp_path / "pid")], "timeout": 60.0}
    process.stdin.write(json.dumps(request).encode() + b"\n")
    pid = pid_in(tmp_path / "pid")
    process.stdin.close()
    process.stdin = None
    assert process.wait(20) == 0
    assert not alive(pid)


def test_the_command_line_of_a_run():
    argv = client.run_argv("http://h:8000", "m", {"model": "/m"}, Point(4, 512, 128, 8), 7)
    pairs = dict(zip(argv[::2], argv[1::2], strict=False))
    assert pairs["--model"] == "m"
    assert pairs["--tokenizer"] == "/m"
    assert pairs["--base-url"] == "http://h:8000"
    assert (pairs["--random-input-len"], pairs["--random-output-len"]) == ("512", "128")
    assert (pairs["--num-prompts"], pairs["--max-concurrency"]) == ("8", "4")
    assert "--trust-remote-code" not in argv
    assert "7" in argv[argv.index("--seed") :]


def test_the_servers_flags_about_the_tokenizer_are_the_clients_too():
    flags = {
        "model": "/m",
        "tokenizer": "/t",
        "tokenizer-mode": "mistral",
        "trust-remote-code": True,
    }
    argv = client.run_argv("http://h", "m", flags, Point(1, 1, 1, 1), 0)
    assert argv[argv.index("--tokenizer") + 1] == "/t"
    assert argv[argv.index("--tokenizer-mode") + 1] == "mistral"
    assert "--trust-remote-code" in argv


def test_the_client_runs_without_privileges_and_without_a_key_on_its_command_line():
    argv = client.unit_argv("a", "/opt/v", "vllm", 60.0, "/run/key")
    for needed in ("User=vllm", "NoNewPrivileges=yes", "CapabilityBoundingSet="):
        assert f"--property={needed}" in argv
    assert "--property=EnvironmentFile=/run/key" in argv
    assert "--setenv=HF_HUB_OFFLINE=1" in argv
    assert argv[argv.index("-I") - 1] == "/opt/v/bin/python"
    assert not any("EnvironmentFile" in word for word in client.unit_argv("a", "/o", "u", 1, None))


def test_samples_of_a_run_become_figures_of_each_gpu():
    def row(at, power, heat, memory=1):
        one = {
            "sm_clock_mhz": 1900,
            "memory_clock_mhz": 9501,
            "power_watts": power,
            "utilization_percent": None,
            "memory_used_bytes": memory,
            "temperature_celsius": heat,
            "throttle_reasons": 4 if power > 300 else 1,
        }
        return {"at": at, "gpus": {"GPU-1": one}}

    rows = [row(1.0, 100.0, 40), row(2.0, 340.0, 66, 5), row(3.0, 300.0, 70, 4)]
    assert client.summarise_samples(rows) == {
        "GPU-1": {
            "sm_clock_mhz": 1900,
            "memory_clock_mhz": 9501,
            "power_watts": 300.0,
            "power_watts_mean": pytest.approx(740 / 3),
            "utilization_percent": None,
            "memory_used_bytes_max": 5,
            "power_watts_max": 340.0,
            "temperature_celsius_max": 70,
            "throttle_reasons": 5,
        }
    }
    assert client.summarise_samples([]) == {}
    watch = client.GpuWatch([], "/nowhere")
    watch.samples = rows
    assert watch.between(1.5, 2.5)["GPU-1"]["power_watts"] == 340.0
    assert watch.between(5.0, 6.0) == {}


@pytest.mark.parametrize(
    ("kind", "backend", "endpoint", "dataset"),
    [
        ("embed", "openai-embeddings", "/v1/embeddings", "random"),
        ("rerank", "vllm-rerank", "/rerank", "random-rerank"),
    ],
)
def test_a_model_that_generates_nothing_is_asked_what_it_is_for(kind, backend, endpoint, dataset):
    argv = client.run_argv("http://h", "m", {"model": "/m"}, Point(4, 64, 0, 8), 7, kind)
    for flag, value in (
        ("--backend", backend),
        ("--endpoint", endpoint),
        ("--dataset-name", dataset),
        ("--random-input-len", "64"),
        ("--percentile-metrics", "e2el"),
    ):
        assert argv[argv.index(flag) + 1] == value
    # vllm 0.14.1 has these for what generates alone.
    assert not {"--ignore-eos", "--temperature"} & set(argv)
