# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples of real processes, sockets and servers; the kernel's texts as proc(5) has them."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import fake_gpu
import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import sample as module
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.probe import Address
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.sample import (
    Completion,
    ControlGroup,
    Process,
    Sampler,
    belongs_to,
    disk_bytes,
    ended_with,
    is_listening,
    number,
    on_cards,
    parse_process,
    read_file,
    table,
)

STAT = "812 (VLLM::EngineCor) T 1 812 812 0 -1 4194560 5 6 7 8 900 100 20 3 20 0 9 0 1234 5 6"
MACHINE = """\
[machine]
driver = 590.48.01
cuda = 13.1

[gpu]
name = NVIDIA GeForce RTX 3090
capability = 8.6
memory_mib = 24576
utilization = 37
process = 4242 C 14336 VLLM::EngineCore
"""
METRICS = b"""# HELP vllm:num_requests_running x
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:generation_tokens_total{engine="0",model_name="m"} 345.0
"""


def test_a_process_as_the_kernel_shows_it():
    jiffies = os.sysconf("SC_CLK_TCK")
    found = parse_process(812, STAT, "VLLM::EngineCore\0\0\0")
    assert found == Process(812, "VLLM::EngineCore", "T", 1023 / jiffies)


def test_a_name_with_brackets_and_spaces():
    found = parse_process(7, "7 (a) b (c) R 1 7 7 0 -1 0 0 0 0 0 1 2 3 4", "/usr/bin/x\0-y")
    assert found is not None
    assert (found.name, found.state) == ("a) b (c", "R")


@pytest.mark.parametrize("stat", ["", "7", "7 (x", "7 (x) ", STAT.replace(" T ", " Z ")])
def test_what_is_no_live_process(stat):
    assert parse_process(7, stat, None) is None


def test_listening_sockets_only():
    head = "  sl  local_address rem_address   st\n"
    listens = head + "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000\n"
    connected = head + "   0: 0100007F:1F40 0100007F:C350 01 00000000:00000000\n"
    assert is_listening([listens, None], 8000) is True
    assert is_listening([connected, listens], 8001) is False
    assert is_listening([connected], 8000) is False
    assert is_listening([None, None], 8000) is None


def test_figures_of_control_groups():
    assert disk_bytes("8:0 rbytes=4096 wbytes=0 rios=1\n259:0 rbytes=1 wbytes=7\n") == (4097, 7)
    assert disk_bytes("") == (0, 0)
    assert disk_bytes(None) is None
    assert table("usage_usec 5\nread_bytes: 17\nodd line here\nmax max\n") == {
        "usage_usec": 5,
        "read_bytes": 17,
    }
    assert number("max") is None
    assert number("12\n") == 12


@pytest.mark.parametrize(
    ("show", "status"),
    [
        ({"MainPID": "0", "ExecMainCode": "1", "ExecMainStatus": "2"}, 2),
        ({"MainPID": "0", "ExecMainCode": "1", "ExecMainStatus": "0"}, 0),
        ({"MainPID": "0", "ExecMainCode": "2", "ExecMainStatus": "9"}, -9),
        ({"MainPID": "0", "ExecMainCode": "3", "ExecMainStatus": "11"}, -11),
        ({"MainPID": "0", "ExecMainCode": "0", "ExecMainStatus": "0"}, None),
        ({"MainPID": "77", "ExecMainCode": "1", "ExecMainStatus": "2"}, None),
        ({}, None),
    ],
)
def test_how_a_unit_ended(show, status):
    assert ended_with(show) == status


def test_memory_on_cards_is_of_these_processes_only():
    cards = [({1: 100, 2: None, 9: 5000}, 40.0), ({1: 10}, 70.0), ({9: 1}, 99.0)]
    assert on_cards(cards, [1, 2]) == ({1: 110}, 70.0)
    assert on_cards(cards, []) == ({}, None)
    assert on_cards(None, [1]) == ({}, None)


@pytest.mark.parametrize(
    ("command", "environment", "is_ours"),
    [
        ("/opt/x/bin/vllm\0serve\0--config\0/etc/vllm/chat.yaml\0", "", True),
        ("/opt/x/bin/vllm\0serve\0--config\0/etc/vllm/chat2.yaml\0", "", False),
        ("VLLM::EngineCore\0", "A=1\0VLLM_CACHE_ROOT=/var/cache/vllm/chat/vllm\0", True),
        ("VLLM::EngineCore\0", "VLLM_CACHE_ROOT=/var/cache/vllm/chat2/vllm\0", False),
        ("VLLM::EngineCore\0", "", False),
    ],
)
def test_whose_process_it_is(command, environment, is_ours):
    assert belongs_to("chat", command, environment) is is_ours


# -- the real kernel -------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    answers: ClassVar = {"/metrics": (200, METRICS), "/health": (503, b"{}")}

    def do_GET(self):
        status, body = self.answers[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made.server_address[1]
        made.shutdown()
        thread.join()


@pytest.fixture
def child():
    program = "import sys; print('up', flush=True); [None for _ in iter(int, 1)]"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@pytest.fixture(params=["v1", "v2"])
def group(request, tmp_path, monkeypatch):
    """A unit's control group with files as the kernel has them, for both layouts."""
    monkeypatch.setattr(module, "CGROUPS", str(tmp_path))
    files = {
        "v1": {
            "systemd": {"cgroup.procs": ""},
            "cpuacct": {"cpuacct.usage": "2500000000\n"},
            "memory": {
                "memory.usage_in_bytes": "1000\n",
                "memory.limit_in_bytes": "9223372036854771712\n",
                "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
            },
        },
        "v2": {
            "": {
                "cgroup.procs": "",
                "cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
                "memory.current": "1000\n",
                "memory.max": "max\n",
                "memory.events": "low 0\noom 1\noom_kill 3\n",
            }
        },
    }
    for controller, contents in files[request.param].items():
        folder = tmp_path / controller / "system.slice/vllm@chat.service"
        folder.mkdir(parents=True)
        for name, text in contents.items():
            (folder / name).write_text(text)
    folder = tmp_path / ("systemd" if request.param == "v1" else "")
    return folder / "system.slice/vllm@chat.service/cgroup.procs"


UNIT_GROUP = "/system.slice/vllm@chat.service"


def test_a_control_group(group):
    group.write_text("12\n34\n")
    found = ControlGroup(UNIT_GROUP)
    assert found.pids() == [12, 34]
    assert found.cpu_seconds() == 2.5
    assert found.memory() == (1000, None, 3)
    gone = ControlGroup("/system.slice/other.service")
    assert gone.pids() is None
    assert gone.cpu_seconds() is None
    assert gone.memory() == (None, None, None)
    assert ControlGroup("").pids() is None


def test_a_sample_of_a_real_process_that_is_stopped(group, child, server):
    group.write_text(f"{child.pid}\n{os.getpid()}\n")
    sampler = Sampler(
        Address("127.0.0.1", server, "m"), UNIT_GROUP, exclude=(os.getpid(),), gpu=False
    )

    def cpu_seconds() -> float:
        return sum(process.cpu_seconds for process in sampler.take(age=5.0).processes or ())

    while cpu_seconds() <= 0.1:  # the test's own time limit ends this
        time.sleep(0.05)
    running = sampler.take(age=5.0, completion=Completion("answered", 0.1), health=True)
    assert [process.pid for process in running.processes or ()] == [child.pid]
    assert (running.processes or ())[0].state == "R"
    assert running.read_bytes is not None
    assert running.listening is True
    assert (running.health, running.running, running.waiting) == (503, 2, 1)
    assert (running.kv_cache_usage, running.generation_tokens) == (0.25, 345)
    assert running.age == 5.0

    os.kill(child.pid, signal.SIGSTOP)
    for _ in range(100):
        stopped = sampler.take()
        if (stopped.processes or ())[0].state == "T":
            break
        time.sleep(0.05)
    assert (stopped.processes or ())[0].state == "T"


def test_nobody_listens(group):
    sampler = Sampler(Address("127.0.0.1", 1, "m"), UNIT_GROUP, gpu=False)
    found = sampler.take(health=True)
    assert (found.listening, found.health, found.running, found.processes) == (
        False,
        None,
        None,
        (),
    )
    assert group.exists()


def test_a_process_of_the_instance_outside_of_its_unit(group):
    environment = {**os.environ, "VLLM_CACHE_ROOT": "/var/cache/vllm/stray-test/vllm"}
    program = "import time; print('up', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", program, "VLLM::EngineCore"], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            down = {"ActiveState": "inactive"}
            found = Sampler(None, UNIT_GROUP, gpu=False, instance="stray-test").take(show=down)
            assert [stray.pid for stray in found.strays] == [process.pid]
            group.write_text(f"{process.pid}\n")
            active = {"ActiveState": "active"}
            live = Sampler(None, UNIT_GROUP, gpu=False, instance="stray-test").take(show=active)
            assert live.strays == ()
            left = Sampler(None, UNIT_GROUP, gpu=False, instance="stray-test").take(show=down)
            assert [stray.pid for stray in left.strays] == [process.pid]
        finally:
            process.kill()


def test_a_card_that_hangs_is_asked_once(monkeypatch):
    cards = module.Cards()
    monkeypatch.setattr(cards, "_library", object())
    ended = threading.Event()
    monkeypatch.setattr(cards, "_ask", lambda: ended.wait(60))
    assert cards.read(timeout=0.05) is None
    began = time.monotonic()
    assert cards.read(timeout=60) is None
    assert time.monotonic() - began < 30
    ended.set()


def test_files_that_are_not_there():
    assert read_file("/proc/self/no-such-file") is None


def test_what_the_driver_tells_of_a_process(tmp_path):
    """The libraries of the fake GPU, through ctypes as on a real one."""
    fake_gpu.build(tmp_path)
    machine = tmp_path / "machine.ini"
    machine.write_text(MACHINE)
    program = (
        "from supervisor.sample import Cards, on_cards; found = Cards().read(); "
        "print(on_cards(found, [4242]), on_cards(found, [1]))"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(module.__file__).parents[1]),
        "LD_LIBRARY_PATH": str(tmp_path),
        "FAKE_GPU_CONF": str(machine),
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"({{4242: {14336 << 20}}}, 37.0) ({{}}, None)\n", done.stderr


def test_the_kernel_is_asked_only_of_a_server_that_has_ended(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "words", lambda since: asked.append(since) or ("Xid",))
    sampler = module.Sampler(None, gpu=False)
    assert sampler.take(age=5.0).kernel == ()
    assert not asked
    ended = sampler.take(age=5.0, exit_status=-9)
    assert ended.kernel == ("Xid",)
    assert asked == [ended.at - 5.0]
