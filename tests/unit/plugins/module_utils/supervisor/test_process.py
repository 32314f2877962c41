# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor as a process, with a stand-in for vLLM; the real one is in molecule's faults."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import fake_gpu
import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import (
    draining,
    health,
    main,
    process,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.classify import (
    Limits,
    Verdict,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.pulse import Pulse
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.sample import (
    Cards,
    Glance,
    Process,
    Sample,
    Sampler,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.watch import Questions

from .program import FOLDER, MAIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVER = """#!{python}
import http.server, json, os, socket, sys, time
running = 0
refuses = lambda: os.path.exists(os.environ["COMPUTE_PLANE_DRAINING"])
assert sys.argv[1:5] == ["serve", "--config", {config!r}, "--middleware"]
assert sys.argv[5:] in ({middlewares!r}, {middlewares!r}[:1])
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b"vllm:num_requests_running %d\\nvllm:num_requests_waiting 0\\n" % running)
    def do_POST(self):
        global running
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if refuses():  # as the middleware does
            return self.send_error(503)
        running += 1
        time.sleep(body["max_tokens"] / 20)
        running -= 1
        self.answer(json.dumps({{"usage": {{"completion_tokens": body["max_tokens"]}}}}).encode())
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()
Server(("127.0.0.1", {port}), Handler).serve_forever()
"""


class Unit:
    """What systemd gives a service, as far as the supervisor needs it."""

    def __init__(self, path: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.path = path
        (path / "a.yaml").write_text(f'model: "m"\nhost: "127.0.0.1"\nport: {self.port}\n')
        self.vllm = path / "vllm"
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(str(path / "notify"))
        self.heard: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        self.process: subprocess.Popen[str] | None = None
        self.before = ""

    def server(self, text: str) -> None:
        """The program that is started as vLLM."""
        self.vllm.write_text(text)
        self.vllm.chmod(0o755)

    def stand_in(self) -> str:
        """A program that answers like vLLM."""
        return SERVER.format(
            python=sys.executable,
            port=self.port,
            config=f"{self.path}/a.yaml",
            middlewares=[draining.MIDDLEWARE, "--middleware", health.MIDDLEWARE],
        )

    def start(self, *options: str, **variables: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", f"{MAIN}{self.before}sys.exit(main())", FOLDER]
        command += ["--name=a", f"--vllm={self.vllm}", f"--config={self.path}/a.yaml", *options]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            env={
                "NOTIFY_SOCKET": str(self.path / "notify"),
                "RUNTIME_DIRECTORY": str(self.path),
                "CACHE_DIRECTORY": str(self.path / "cache"),
                "VLLM_CACHE_ROOT": str(self.path / "cache" / "vllm"),
                "PATH": os.environ["PATH"],
                **variables,
            },
        )
        return self.process

    def _listen(self) -> None:
        while True:
            self.heard += self.systemd.recv(4096).decode().splitlines()

    def hears(self, line: str) -> None:
        """Wait until the supervisor says this to systemd."""
        end = time.monotonic() + 30
        while line not in self.heard:
            assert time.monotonic() < end, self.heard
            time.sleep(0.05)

    def complete(self, tokens: int) -> int:
        """Ask the server as a client does."""
        body = json.dumps({"max_tokens": tokens}).encode()
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/v1/completions", body, timeout=30
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


def ask(connection: http.client.HTTPConnection, tokens: int) -> int:
    """Ask the server over a connection that stays open."""
    connection.request("POST", "/v1/completions", json.dumps({"max_tokens": tokens}))
    response = connection.getresponse()
    response.read()
    return response.status


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Unit]:
    one = Unit(tmp_path)
    yield one
    if one.process is not None:
        one.process.kill()
        one.process.communicate()


def test_a_server_that_ends_with_status_0_has_failed(unit: Unit) -> None:
    unit.server("#!/bin/sh\necho bye\n")
    supervisor = unit.start()
    output, _ = supervisor.communicate(timeout=30)
    assert supervisor.returncode == 1
    assert "bye\n" in output
    assert "<3>supervisor: crashed: " in output
    verdict = json.loads((unit.path / "verdict.json").read_text())
    assert (verdict["state"], verdict["exit_status"]) == ("crashed", 0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, {"crashed": 1}),
        ("{", {"crashed": 1}),
        ('{"state": "crashed"}', {"crashed": 1}),
        ('{"ends": {"crashed": "x"}}', {"crashed": 1}),
        (
            '{"ends": {"crashed": 2, "hung while serving": 1}}',
            {"crashed": 3, "hung while serving": 1},
        ),
    ],
)
def test_ends_are_counted_by_their_state(
    before: str | None, after: dict[str, int], tmp_path: Path
) -> None:
    if before is not None:
        (tmp_path / "verdict.json").write_text(before)
    assert process.ends(str(tmp_path / "verdict.json"), "crashed") == after


def test_a_verdict_counts_on_from_the_one_before(unit: Unit) -> None:
    (unit.path / "verdict.json").write_text('{"ends": {"hung while serving": 4}}')
    unit.server("#!/bin/sh\nexit 3\n")
    unit.start().communicate(timeout=30)
    verdict = json.loads((unit.path / "verdict.json").read_text())
    assert verdict["ends"] == {"hung while serving": 4, "crashed": 1}


def test_it_is_given_up_with_a_last_word(unit: Unit) -> None:
    unit.server("#!/bin/sh\nexit 3\n")
    supervisor = unit.start("--starts=1")
    output, _ = supervisor.communicate(timeout=30)
    assert supervisor.returncode == process.GAVE_UP
    assert output.splitlines()[-1].startswith("<2>supervisor: remedy: ")
    assert "systemctl start vllm@a.service" in output
    assert not (unit.path / "failed-starts.json").exists()


def test_a_port_that_another_program_has_is_told_before_the_start(unit: Unit) -> None:
    unit.server("#!/bin/sh\necho started\n")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", unit.port))
        other.listen()
        output, _ = unit.start().communicate(timeout=30)
    assert f"another program listens on 127.0.0.1:{unit.port}" in output
    assert "started" not in output


def test_a_server_that_does_nothing_is_ended(unit: Unit) -> None:
    unit.server("#!/bin/sh\nexec sleep 60\n")
    supervisor = unit.start("--start-stall=2", "--start-timeout=5")
    output, _ = supervisor.communicate(timeout=40)
    assert supervisor.returncode == 1
    assert "<3>supervisor: hung at start: " in output


def test_the_first_token_is_asked_for_and_seen_without_waiting_for_the_next_look(
    unit: Unit,
) -> None:
    unit.before = "from supervisor import process; process.LOOK_AT_START = 1e6; "
    unit.server(unit.stand_in())
    unit.start()
    unit.hears("READY=1")


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        pytest.param(True, ", 1 refused meanwhile", id="0.14.1"),
        # vllm/entrypoints/cli/serve.py: reuse_port=num_api_servers > 1
        pytest.param(False, "", id="0.26.0, which keeps the port to itself"),
    ],
)
def test_requests_under_way_are_answered_before_a_stop_and_new_ones_refused(
    unit: Unit, shares: bool, told: str
) -> None:
    asks = "self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)"
    unit.server(unit.stand_in() if shares else unit.stand_in().replace(asks, "pass"))
    supervisor = unit.start("--drain=20")
    unit.hears("READY=1")
    statuses: list[int] = []
    client = threading.Thread(target=lambda: statuses.append(unit.complete(80)))
    client.start()
    time.sleep(1)
    supervisor.send_signal(signal.SIGTERM)
    unit.hears("STOPPING=1")
    time.sleep(0.5)
    assert unit.complete(1) == 503
    client.join(30)
    output, _ = supervisor.communicate(timeout=30)
    assert statuses == [200]
    assert supervisor.returncode == 0
    assert f"supervisor: stopping: 0 requests left{told}\n" in output


def test_what_is_seen_is_told_where_health_reads_it(unit: Unit) -> None:
    unit.server(
        unit.stand_in().replace("import http", "import time; time.sleep(3); import http", 1)
    )

    def seen() -> str:
        told: str = json.loads((unit.path / "state.json").read_text())["state"]
        return told

    supervisor = unit.start("--drain=20")
    end = time.monotonic() + 20
    while not (unit.path / "state.json").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert seen() == "starting"
    unit.hears("READY=1")
    assert seen() == health.SERVING
    client = threading.Thread(target=unit.complete, args=(40,))
    client.start()
    time.sleep(1)
    supervisor.send_signal(signal.SIGTERM)
    unit.hears("STOPPING=1")
    time.sleep(0.2)
    assert seen() == "draining"
    client.join(30)
    supervisor.communicate(timeout=30)


@pytest.mark.parametrize("options", [(), ("--no-truthful-health",)])
def test_health_is_left_to_vllm_where_it_shall_be(unit: Unit, options: tuple[str, ...]) -> None:
    unit.server(
        f"#!{sys.executable}\nimport os, sys; print(sys.argv, dict(os.environ)); sys.exit(1)\n"
    )
    output, _ = unit.start(*options).communicate(timeout=30)
    assert (health.MIDDLEWARE in output) is (not options)
    assert (health.STATE in output) is (not options)
    assert draining.MIDDLEWARE in output


def test_a_hang_is_told_before_the_server_is_ended(unit: Unit) -> None:
    from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import classify

    options = main.arguments().parse_args(["--name=a", "--vllm=v", f"--config={unit.path}/a.yaml"])
    supervisor = process.Supervisor(options, {"RUNTIME_DIRECTORY": str(unit.path)})
    told = unit.path / "state.json"
    supervisor.say_ready()
    hung = classify.Verdict(classify.HUNG_WHILE_SERVING, "EngineCore is stopped")
    supervisor.tell_health(hung)
    assert json.loads(told.read_text())["state"] == "hung while serving"
    supervisor.tell_health(classify.Verdict(classify.READY, "it goes on"))
    assert json.loads(told.read_text())["state"] == health.SERVING


def test_what_is_amiss_is_told_at_once_and_over_as_soon(
    unit: Unit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor, pulse = supervisor_of(unit), Pulse(Limits(), 1)
    supervisor.say_ready()
    states = iter("STTTS")

    def glance() -> Glance:
        return Glance(time.monotonic(), (Process(7, "VLLM::EngineCore", next(states)),))

    def seen() -> str:
        told: str = json.loads((unit.path / "state.json").read_text())["state"]
        return told

    monkeypatch.setattr(supervisor.sampler, "glance", glance)
    busy = Verdict("busy", "it has requests")
    told = []
    for _step in range(5):
        goes_on = supervisor.feel(pulse)
        if _step == 3:
            supervisor.tell_health(busy)  # the counters have moved since the look before
        told.append((goes_on, seen()))
        if goes_on:
            supervisor.tell_health(busy)
    hung = "hung while serving"
    serves = health.SERVING
    assert told == [(False, serves), (False, serves), (False, hung), (False, hung), (True, hung)]
    assert seen() == serves
    output = capsys.readouterr().out
    assert output.count("VLLM::EngineCore is stopped and computes nothing; /health says so") == 1
    assert output.count("supervisor: it goes on") == 1


@pytest.mark.parametrize(("answers", "seconds"), [(False, True), (True, False)])
def test_a_token_that_does_not_come_counts_as_a_request(
    unit: Unit, monkeypatch: pytest.MonkeyPatch, answers: bool, seconds: bool
) -> None:
    supervisor, let_go = supervisor_of(unit), threading.Event()
    told: list[float] = []
    monkeypatch.setattr(Pulse, "see", lambda _pulse, _now, _look, waits: told.append(waits))
    supervisor.questions = Questions(supervisor.address, 9.0, lambda *_: let_go.wait(9) and None)
    supervisor.standing_still(Pulse(Limits(), 1))
    supervisor.questions.ask()
    if answers:
        let_go.set()
        assert supervisor.questions.wait()
    supervisor.standing_still(Pulse(Limits(), 1))
    let_go.set()
    assert [wait > 0 for wait in told] == [False, seconds]


def test_what_comes_over_a_connection_that_was_kept_is_refused_while_it_stops(unit: Unit) -> None:
    unit.server(unit.stand_in())
    (unit.path / "draining").touch()  # left over by a supervisor that was killed
    supervisor = unit.start("--drain=20")
    unit.hears("READY=1")
    kept = http.client.HTTPConnection("127.0.0.1", unit.port, timeout=30)
    idle = http.client.HTTPConnection("127.0.0.1", unit.port, timeout=30)
    with contextlib.closing(kept), contextlib.closing(idle):
        assert ask(kept, 1) == ask(idle, 1) == 200
        client = threading.Thread(target=unit.complete, args=(60,))
        client.start()
        time.sleep(1)
        supervisor.send_signal(signal.SIGTERM)
        unit.hears("STOPPING=1")
        time.sleep(0.5)
        assert ask(kept, 1) == 503
        client.join(30)
        began = time.monotonic()
        supervisor.communicate(timeout=30)
        # The connection that is idle, and still open, holds up nothing.
        assert time.monotonic() - began < 10


def broken_pickle(reader: str) -> str:
    """A traceback over a pickle that ends too early, as a shell script's here-document."""
    return (
        "cat <<'END'\nTraceback (most recent call last):\n"
        f'  File "/v/site-packages/{reader}", line 1132, in iterate\n    pickle.loads(content)\n'
        "_pickle.UnpicklingError: pickle data was truncated\nEND\n"
    )


CORRUPT = broken_pickle("torch/_inductor/codecache.py")


def test_a_corrupt_compile_cache_is_removed_and_the_server_started_again(unit: Unit) -> None:
    cache = unit.path / "cache" / "vllm" / "torch_compile_cache"
    cache.mkdir(parents=True)
    (cache / "artifact").write_bytes(b"x" * 2048)
    unit.server(
        f'#!/bin/sh\nif [ -d {cache} ]; then\n{CORRUPT}exit 1\nfi\nexec {unit.path}/server "$@"\n'
    )
    (unit.path / "server").write_text(unit.stand_in())
    (unit.path / "server").chmod(0o755)
    supervisor = unit.start()
    unit.hears("READY=1")
    verdict = json.loads((unit.path / "verdict.json").read_text())
    supervisor.send_signal(signal.SIGTERM)
    output, _ = supervisor.communicate(timeout=30)
    assert verdict["cause"] == "corrupt_compile_cache"
    assert f"removed: {cache} (2.0 KiB)" in verdict["evidence"]
    assert f"<3>supervisor:   removed: {cache} (2.0 KiB)\n" in output
    assert "EXTEND_TIMEOUT_USEC=660000000" in unit.heard
    assert not (unit.path / "failed-starts.json").exists()


def test_a_cache_that_is_corrupt_again_is_not_removed_again(unit: Unit) -> None:
    cache = unit.path / "cache" / "vllm" / "torch_compile_cache"
    unit.server(f"#!/bin/sh\necho started\nmkdir -p {cache}\n{CORRUPT}exit 1\n")
    first, _ = unit.start().communicate(timeout=30)
    assert first.count("started\n") == 2
    assert cache.exists()
    (unit.path / "failed-starts.json").unlink()
    second, _ = unit.start().communicate(timeout=30)
    assert second.count("started\n") == 1
    assert cache.exists()


@pytest.mark.parametrize(
    "reader",
    ["vllm/model_executor/model_loader/weight_utils.py", "torch/serialization.py", "somebody.py"],
)
def test_a_file_that_is_none_of_the_caches_keeps_them(unit: Unit, reader: str) -> None:
    cache = unit.path / "cache" / "vllm" / "torch_compile_cache"
    cache.mkdir(parents=True)
    (cache / "artifact").write_bytes(b"x")
    unit.server(f"#!/bin/sh\necho started\n{broken_pickle(reader)}exit 1\n")
    output, _ = unit.start().communicate(timeout=30)
    assert output.count("started\n") == 1
    assert (cache / "artifact").exists()


def supervisor_of(unit: Unit, *options: str) -> process.Supervisor:
    """The supervisor in this process, before it runs."""
    command = ["--name=a", "--vllm=/none", f"--config={unit.path}/a.yaml", *options]
    return process.Supervisor(
        main.arguments().parse_args(command), {"RUNTIME_DIRECTORY": str(unit.path)}
    )


@pytest.mark.parametrize(("held_for", "freed"), [(0, True), (2, True), (99, False)])
def test_a_start_waits_a_while_for_the_gpu_memory_of_the_former_engine(
    unit: Unit,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    held_for: int,
    freed: bool,
) -> None:
    former = supervisor_of(unit)
    engine = Process(4242, "VLLM::EngineCore", gpu_bytes=1 << 30)
    former.remember(Sample(at=0, processes=(engine, Process(4243, "vllm"))))
    looks = 0

    def holders(pids: object) -> list[int]:
        nonlocal looks
        looks += 1
        assert pids == {4242}
        return [4242] if looks <= held_for else []

    monkeypatch.setattr(process, "TICK", 0.01)
    monkeypatch.setattr(process, "GPU_MEMORY_TIMEOUT", 0.1)
    following = supervisor_of(unit)
    monkeypatch.setattr(following.sampler, "holders", holders)
    following.wait_for_gpu_memory()
    assert ("starting all the same" not in capsys.readouterr().out) is freed
    assert looks > held_for or not freed
    looks = 0
    supervisor_of(unit).wait_for_gpu_memory()  # what the former engine held is waited for once
    assert looks == 0


def test_the_holders_of_gpu_memory_are_told_by_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Sampler(None, gpu=False)
    assert sampler.holders([1, 2]) == set()
    cards = Cards()
    monkeypatch.setattr(cards, "read", lambda: [({1: 5, 7: None}, 0.0), ({2: None}, None)])
    monkeypatch.setattr(sampler, "_cards", cards)
    assert sampler.holders([1, 2, 3]) == {1, 2}


@pytest.mark.parametrize(
    ("verdict", "line"),
    [
        (Verdict("loading", "it loads", percent=43), "loading 43 %"),
        (Verdict("compiling", "it compiles"), "compiling"),
        (Verdict("busy", "it has requests"), "busy: 3 running, 4 waiting"),
        (Verdict("crashed", "no compiler"), "crashed: no compiler"),
    ],
)
def test_what_systemctl_status_shows(verdict: Verdict, line: str) -> None:
    assert process.status_line(verdict, Sample(at=0, running=3, waiting=4)) == line


# -- lost cards -----------------------------------------------------------------------------------


@pytest.fixture
def driver(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables by which the supervisor finds the fake GPU's library; with one card."""
    folder = tmp_path_factory.mktemp("fake-gpu")
    fake_gpu.build(folder)
    machine = folder / "machine.ini"
    machine.write_text("[machine]\n[gpu]\n")
    return {
        "LD_LIBRARY_PATH": str(folder),
        "FAKE_GPU_CONF": str(machine),
        "CUDA_VISIBLE_DEVICES": "GPU-00000000-0000-4000-8000-000000000001",
    }


def lose(driver: dict[str, str]) -> None:
    with open(driver["FAKE_GPU_CONF"], "w", encoding="utf-8") as stream:
        stream.write("[machine]\n[gpu]\nxid = 79\nlost = 1\n")


def test_a_card_that_is_lost_ends_its_server_which_stays_down(
    unit: Unit, driver: dict[str, str]
) -> None:
    unit.server(unit.stand_in())
    supervisor = unit.start("--device=/dev/null", "--starts=5", **driver)
    unit.hears("READY=1")
    lose(driver)
    output, _none = supervisor.communicate(timeout=40)
    assert supervisor.returncode == process.GAVE_UP, output
    verdict = json.loads((unit.path / "verdict.json").read_text())
    assert (verdict["state"], verdict["cause"]) == ("crashed", "gpu_lost")
    assert "GPU-00000000-0000-4000-8000-000000000001 is lost" in verdict["evidence"][0]
    assert "Reboot" in verdict["remedy"]
    state = json.loads((unit.path / "state.json").read_text())
    assert (state["state"], "the GPU is lost" in state["summary"]) == ("given up", True)
    assert "not started again: the GPU is lost" in output


def test_a_server_is_not_started_on_a_lost_card(unit: Unit, driver: dict[str, str]) -> None:
    unit.server(f"#!/bin/sh\ntouch {unit.path}/started\n")
    lose(driver)
    supervisor = unit.start("--device=/dev/null", **driver)
    output, _none = supervisor.communicate(timeout=30)
    assert supervisor.returncode == process.GAVE_UP, output
    assert json.loads((unit.path / "verdict.json").read_text())["cause"] == "gpu_lost"
    assert not (unit.path / "started").exists()


def test_where_it_is_allowed_a_unit_is_started_again_once(
    unit: Unit, driver: dict[str, str]
) -> None:
    unit.server("#!/bin/sh\nexit 1\n")
    lose(driver)
    kept = {**driver, "STATE_DIRECTORY": str(unit.path)}
    options = ("--device=/dev/null", "--gpu-lost=restart")
    first = unit.start(*options, **kept)
    first.communicate(timeout=30)
    assert first.returncode == 1
    second = unit.start(*options, **kept)
    output, _none = second.communicate(timeout=30)
    assert second.returncode == process.GAVE_UP
    assert "not started again, within 60 min of attempt 1 with a card" in output
    assert json.loads((unit.path / "gpu-lost.json").read_text())["count"] == 1


def test_an_end_is_told_by_the_card_where_the_log_tells_no_other_cause(
    unit: Unit, driver: dict[str, str]
) -> None:
    unit.server("#!/bin/sh\nsleep 5\nexit 1\n")
    supervisor = unit.start("--device=/dev/null", **driver)
    time.sleep(3)  # it listens to the driver from its first look on
    with open(driver["FAKE_GPU_CONF"], "w", encoding="utf-8") as stream:
        stream.write("[machine]\n[gpu]\nxid = 95\n")
    supervisor.communicate(timeout=40)
    assert supervisor.returncode == process.GAVE_UP
    verdict = json.loads((unit.path / "verdict.json").read_text())
    assert verdict["cause"] == "gpu_memory_error"
    assert "Xid 95" in verdict["evidence"][0]


def test_a_mistake_of_the_configuration_is_told_although_a_card_asks_for_a_reset(
    unit: Unit, driver: dict[str, str]
) -> None:
    with open(driver["FAKE_GPU_CONF"], "w", encoding="utf-8") as stream:
        stream.write("[machine]\n[gpu]\nrecovery_action = 1\n")
    unit.server("#!/bin/sh\necho 'vllm: error: unrecognized arguments: --max-modle-len'\nexit 2\n")
    supervisor = unit.start("--device=/dev/null", **driver)
    supervisor.communicate(timeout=30)
    assert supervisor.returncode == 1
    assert json.loads((unit.path / "verdict.json").read_text())["cause"] == "unknown_flag"
