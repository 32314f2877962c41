# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor of a model on demand whose server sleeps, as a process.

The server is a substitute for vLLM, which sleeps with GPUs alone: a program that listens on the
Unix socket behind the real middleware, has developer endpoints as vLLM has them, ends when it is
asked for a token while it sleeps, and does what the files in its folder of faults say.
"""

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
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import (
    broker,
    control,
    demand,
    guard,
    sleeping,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.phases import (
    ASLEEP,
    READY,
    SLEEPING,
    STARTING,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.probe import (
    Address,
    ProbeFailed,
    UnixConnection,
)

from .program import FOLDER, MAIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Waking takes a minute and more before it is given up, and looks are seconds apart.
HASTY = (
    f"{MAIN}"
    "import supervisor.demand as demand, supervisor.process as process;"
    "demand.WAKE_TIMEOUTS = {1: 3.0, 2: 3.0}; demand.TICK = process.LOOK_AT_START = 0.2;"
    "sys.exit(main())"
)
SERVER = """#!{python}
import asyncio, http.server, importlib, json, os, socketserver, sys, time, urllib.parse
config = dict(line.split(": ", 1) for line in open(sys.argv[3]).read().splitlines())
uds, faults = json.loads(config["uds"]), {faults!r}
developer = os.environ.get("VLLM_SERVER_DEV_MODE") == "1"
sleeps, right, pid = 0, True, str(os.getpid())
def fault(name):
    return os.path.exists(os.path.join(faults, name))
def note(what):
    with open(os.path.join(os.path.dirname(uds), "asked"), "a") as stream:
        stream.write(what + chr(10))
note("start")
def answer(method, path, query, body):
    global sleeps, right
    if path == "/v1/completions":
        if sleeps:
            os._exit(9)
        asked = json.loads(body)
        count = asked["max_tokens"]
        note("%d tokens" % count)
        tokens = [number if right else 13 for number in range(count)]
        choices = [{{"text": pid, "token_ids": tokens}}]
        return 200, {{"choices": choices, "usage": {{"completion_tokens": count}}}}
    if path == "/metrics":
        return 200, "vllm:num_requests_running 0\\nvllm:num_requests_waiting 0\\n"
    if not developer or method != "POST":
        return (200, "fine") if path == "/health" else (404, "")
    note(path + ("?" + query if query else ""))
    parameters = urllib.parse.parse_qs(query)
    if path == "/sleep":
        if fault("sleep fails"):
            return 500, "out of memory"
        sleeps = int(parameters["level"][0])
        right = sleeps == 1 and not fault("level 1 spoils")
    elif path == "/wake_up":
        if fault("wake fails"):
            return 500, "CUDA Error: out of memory"
        if fault("wake hangs"):
            time.sleep(3600)
        if fault("wake ends"):
            os._exit(9)
        if parameters.get("tags") != ["weights"]:
            sleeps = 0
    elif path == "/collective_rpc":
        assert json.loads(body) == {{"method": "reload_weights"}}
        right = not fault("level 2 spoils")
    return 200, ""
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def address_string(self):
        return "unix"
    def log_message(self, *told):
        print(*told, flush=True)
    def any(self):
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fields = [(key.lower().encode(), value.encode()) for key, value in self.headers.items()]
        scope = {{"type": "http", "method": self.command, "path": path, "headers": fields}}
        sent = []
        async def receive():
            return {{"type": "http.request", "body": body}}
        async def send(message):
            sent.append(message)
        async def app(scope, receive, send):
            status, content = answer(self.command, path, query, body)
            content = content if isinstance(content, str) else json.dumps(content)
            await send({{"status": status, "headers": []}})
            await send({{"body": content.encode()}})
        for place, word in enumerate(sys.argv):
            if word == "--middleware":
                module, name = sys.argv[place + 1].rsplit(".", 1)
                app = getattr(importlib.import_module(module), name)(app)
        asyncio.run(app(scope, receive, send))
        self.send_response(sent[0]["status"])
        self.send_header("Content-Length", str(len(sent[1]["body"])))
        self.end_headers()
        self.wfile.write(sent[1]["body"])
    do_GET = do_POST = any
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
Server(uds, Handler).serve_forever()
"""


class Unit:
    """A supervisor as systemd runs it, and a broker of the test's own."""

    def __init__(self, path: Path, name: str = "a") -> None:
        self.name, self.run_dir, self.faults = name, path / name, path / "faults"
        self.run_dir.mkdir()
        self.faults.mkdir(exist_ok=True)
        self.vllm = path / "vllm"
        self.vllm.write_text(SERVER.format(python=sys.executable, faults=str(self.faults)))
        self.vllm.chmod(0o755)
        self.uds = str(self.run_dir / "server.sock")
        self.config = path / f"{name}.yaml"
        self.config.write_text(f'model: "m"\nport: 1\nuds: {json.dumps(self.uds)}\n')
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(str(self.run_dir / "notify"))
        self.heard: list[str] = []
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()
        self.said: list[str] = []
        self.told: list[dict[str, Any]] = []
        self.process: subprocess.Popen[str] | None = None
        self.client: socket.socket | None = None

    def start(self, *options: str, **variables: str) -> None:
        command = [sys.executable, "-c", HASTY, FOLDER, f"--name={self.name}", "--on-demand"]
        command += [f"--vllm={self.vllm}", f"--config={self.config}", *options]
        environ = {"RUNTIME_DIRECTORY": str(self.run_dir), "PATH": os.environ["PATH"]}
        environ |= {"NOTIFY_SOCKET": str(self.run_dir / "notify")}
        environ |= {"CACHE_DIRECTORY": str(self.run_dir / "cache"), **variables}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _listen(self) -> None:
        while datagram := self.systemd.recv(4096):
            self.heard += datagram.decode().splitlines()

    def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.said += self.process.stdout

    def hear(self) -> None:
        """Be its broker."""
        self.client = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + 20
        while True:
            try:
                self.client.connect(str(self.run_dir / control.CONTROL))
                break
            except OSError:
                assert time.monotonic() < end, self.said
                time.sleep(0.05)
        self.client.settimeout(40)
        self.lines = self.client.makefile("rb")

    def until(self, phase: str) -> dict[str, float]:
        """Wait until it is in a phase; returns its figures."""
        while True:
            try:
                self.told.append(json.loads(next(self.lines)))
            except (OSError, StopIteration) as error:
                raise AssertionError([self.told[-3:], self.said]) from error
            if self.told[-1]["phase"] == phase:
                return dict(self.told[-1].get("figures", {}))

    def order(self, order: bytes, phase: str) -> dict[str, float]:
        assert self.client is not None
        self.client.sendall(order)
        return self.until(phase)

    def awake(self) -> None:
        """Have a server, for the first time."""
        self.hear()
        self.until(ASLEEP)
        self.order(control.WAKE, READY)

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, bytes]:
        with contextlib.closing(UnixConnection(self.uds, 10)) as connection:
            body = json.dumps({"max_tokens": 1}) if method == "POST" else None
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def pid(self) -> int:
        answer = json.loads(self.ask("POST", "/v1/completions")[1])
        return int(answer["choices"][0]["text"])

    def asked(self) -> list[str]:
        """What reached the server, but for tokens that a watch asks for."""
        lines = (self.run_dir / "asked").read_text().splitlines()
        return [line for line in lines if line != "1 tokens"]

    def state(self) -> str:
        return str(json.loads((self.run_dir / "state.json").read_text())["state"])

    def end(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self.process.kill()
            self.process.wait()
            self.reader.join(10)
            assert self.process.stdout is not None
            self.process.stdout.close()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.run_dir / "notify"))
        self.listener.join(10)
        self.systemd.close()
        if self.client is not None:
            self.lines.close()
            self.client.close()


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Unit]:
    one = Unit(tmp_path)
    yield one
    one.end()


WAKES = {
    1: ["/wake_up"],
    2: ["/wake_up?tags=weights", "/collective_rpc", "/wake_up?tags=kv_cache"],
}


@pytest.mark.parametrize("level", [1, 2])
def test_a_server_sleeps_and_is_the_same_afterwards(unit: Unit, level: int) -> None:
    unit.start(f"--sleep-level={level}")
    unit.awake()
    pid = unit.pid()
    for turn in (1, 2):
        figures = unit.order(control.SLEEP, SLEEPING)
        assert (figures["sleeps"], figures["wakes"]) == (turn, turn - 1)
        assert unit.state() == "asleep"
        status, body = unit.ask("GET", "/health")
        assert (status, json.loads(body)["state"]) == (503, "asleep")
        figures = unit.order(control.WAKE, READY)
        assert (figures["sleeps"], figures["wakes"], figures["fall_backs"]) == (turn, turn, 0)
        assert figures["level"] == level
        assert figures["sleep_seconds"] > 0 < figures["wake_seconds"]
        assert (unit.state(), unit.pid()) == ("serving", pid)
    turns = [f"/sleep?level={level}", *WAKES[level], "16 tokens"]
    assert unit.asked() == ["start", "16 tokens", *turns, *turns]
    assert [one["phase"] for one in unit.told].count(STARTING) == 3


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("fault", ["wake fails", "wake hangs", "wake ends"])
def test_one_that_does_not_wake_is_stopped_and_started(unit: Unit, level: int, fault: str) -> None:
    unit.start(f"--sleep-level={level}")
    unit.awake()
    pid = unit.pid()
    unit.order(control.SLEEP, SLEEPING)
    (unit.faults / fault).touch()
    figures = unit.order(control.WAKE, ASLEEP)
    assert (figures["fall_backs"], figures["wakes"], figures["level"]) == (1, 0, level)
    assert not os.path.exists(f"/proc/{pid}")
    (unit.faults / fault).unlink()
    unit.order(control.WAKE, READY)
    assert unit.pid() != pid
    assert unit.order(control.SLEEP, SLEEPING)["sleeps"] == 2
    assert [
        line for line in unit.said if line.startswith("<4>supervisor: stopped instead of asleep")
    ]
    assert not (unit.run_dir / "verdict.json").exists()


def test_gibberish_after_level_2_is_let_in_to_nobody_and_level_1_follows(unit: Unit) -> None:
    unit.start("--sleep-level=2")
    unit.awake()
    pid = unit.pid()
    (unit.faults / "level 2 spoils").touch()
    unit.order(control.SLEEP, SLEEPING)
    figures = unit.order(control.WAKE, ASLEEP)
    assert READY not in [one["phase"] for one in unit.told[-3:]]
    assert (figures["fall_backs"], figures["level"], figures["wakes"]) == (1, 1, 0)
    unit.order(control.WAKE, READY)
    assert unit.pid() != pid
    unit.order(control.SLEEP, SLEEPING)
    assert unit.order(control.WAKE, READY)["wakes"] == 1
    levels = [line for line in unit.asked() if line.startswith("/sleep")]
    assert levels == ["/sleep?level=2", "/sleep?level=1"]
    assert [line for line in unit.said if "after sleep at level 2 it computes something" in line]


def test_gibberish_after_level_1_ends_sleep_until_the_unit_s_next_start(unit: Unit) -> None:
    unit.start("--sleep-level=1")
    unit.awake()
    (unit.faults / "level 1 spoils").touch()
    unit.order(control.SLEEP, SLEEPING)
    assert unit.order(control.WAKE, ASLEEP)["level"] == 0
    unit.order(control.WAKE, READY)
    assert unit.order(control.SLEEP, ASLEEP)["sleeps"] == 1


def test_one_that_dies_asleep_is_one_that_was_stopped(unit: Unit) -> None:
    unit.start("--sleep-level=1")
    unit.awake()
    pid = unit.pid()
    unit.order(control.SLEEP, SLEEPING)
    os.kill(pid, signal.SIGKILL)
    assert unit.until(ASLEEP)["fall_backs"] == 1
    assert unit.state() == "asleep"
    assert unit.process is not None
    assert unit.process.poll() is None
    assert not (unit.run_dir / "verdict.json").exists()
    unit.order(control.WAKE, READY)
    assert unit.pid() != pid


def test_sleep_is_no_hang_and_nobody_asks_for_a_token_meanwhile(unit: Unit) -> None:
    unit.start("--sleep-level=1", WATCHDOG_USEC="2000000")  # a hang is told after one second
    unit.awake()
    pid = unit.pid()
    unit.order(control.SLEEP, SLEEPING)
    before = (unit.run_dir / "asked").read_text()
    heard = len(unit.heard)
    time.sleep(6)
    assert (unit.run_dir / "asked").read_text() == before
    assert unit.heard[heard:].count("WATCHDOG=1") >= 4
    assert unit.state() == "asleep"
    unit.order(control.WAKE, READY)
    time.sleep(4)
    assert (unit.pid(), unit.state()) == (pid, "serving")
    assert not (unit.run_dir / "verdict.json").exists()


def test_one_that_cannot_fall_asleep_is_stopped(unit: Unit) -> None:
    unit.start("--sleep-level=1")
    unit.awake()
    (unit.faults / "sleep fails").touch()
    figures = unit.order(control.SLEEP, ASLEEP)
    assert (figures["sleeps"], figures["fall_backs"], figures["level"]) == (0, 1, 1)
    assert [line for line in unit.said if "/sleep?level=1 answered 500: out of memory" in line]


def test_one_for_which_the_host_has_no_memory_is_stopped(unit: Unit) -> None:
    unit.start("--sleep-level=1", f"--sleep-memory={1 << 60}")
    unit.awake()
    assert unit.order(control.SLEEP, ASLEEP)["fall_backs"] == 1
    assert unit.asked() == ["start"]


@pytest.mark.parametrize("order", [control.REST, None])
def test_one_that_sleeps_is_stopped_by_the_broker_and_with_its_unit(
    unit: Unit, order: bytes | None
) -> None:
    unit.start("--sleep-level=1")
    unit.awake()
    pid = unit.pid()
    unit.order(control.SLEEP, SLEEPING)
    if order is not None:
        assert unit.order(order, ASLEEP)["fall_backs"] == 0
    else:
        assert unit.process is not None
        unit.process.send_signal(signal.SIGTERM)
        assert unit.process.wait(30) == 0
    assert not os.path.exists(f"/proc/{pid}")


def test_the_secret_is_where_no_other_user_looks(unit: Unit) -> None:
    unit.start("--sleep-level=2")
    unit.awake()
    pid = unit.pid()
    secret = (unit.run_dir / demand.SECRET).read_text()
    unit.order(control.SLEEP, SLEEPING)
    unit.order(control.WAKE, READY)
    assert unit.process is not None
    for process in (pid, unit.process.pid):
        for file in ("cmdline", "environ"):
            with open(f"/proc/{process}/{file}", "rb") as stream:
                assert secret.encode() not in stream.read()
    assert not [line for line in unit.said if secret in line]
    assert unit.ask("POST", "/sleep?level=1")[0] == 404
    assert unit.ask("POST", "/sleep?level=1", Authorization=f"Bearer {secret}")[0] == 404
    assert unit.ask("POST", "/collective_rpc", **{guard.HEADER: "x" * len(secret)})[0] == 404
    unit.order(control.REST, ASLEEP)
    unit.order(control.WAKE, READY)
    assert (unit.run_dir / demand.SECRET).read_text() != secret
    assert unit.ask("POST", "/sleep?level=1", **{guard.HEADER: secret})[0] == 404


def test_without_sleep_nothing_is_opened(unit: Unit) -> None:
    unit.start()
    unit.awake()
    with open(f"/proc/{unit.pid()}/environ", "rb") as stream:
        assert b"VLLM_SERVER_DEV_MODE" not in stream.read()
    assert not (unit.run_dir / demand.SECRET).exists()
    assert unit.order(control.SLEEP, ASLEEP) == {}


# -- with a broker --------------------------------------------------------------------------------


def http_ask(port: int, path: str, method: str = "POST", **headers: str) -> tuple[int, bytes]:
    """Ask a broker as a client does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        body = json.dumps({"max_tokens": 1}) if method == "POST" else None
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_two_take_turns_without_a_start_and_nobody_reaches_their_developer_endpoints(
    tmp_path: Path,
) -> None:
    units = {name: Unit(tmp_path, name) for name in "ab"}
    ports: dict[str, int] = {}
    given: list[socket.socket] = []
    for name, unit in units.items():
        told = {"name": name, "share": "s", "served_model_name": name, "max_model_len": None}
        told |= {"uds": unit.uds, "size": {"gpu": 8}, "room": {"gpu": 10}, "asleep": {"gpu": 2}}
        told |= {"idle_after": 900, "wake_timeout": 40}
        (tmp_path / f"{name}.demand.json").write_text(json.dumps(told))
        one = socket.socket()
        one.bind(("127.0.0.1", 0))
        one.listen(8)
        given.append(one)
        ports[name] = one.getsockname()[1]
        unit.start("--sleep-level=1")
    code = (
        "import os, sys; [os.dup2(int(fd), 3 + place) for place, fd in"
        " enumerate(sys.argv.pop(1).split())];"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='a:b');"
        "sys.path.insert(0, sys.argv.pop(1)); from supervisor.main import main; sys.exit(main())"
    )
    high = [os.dup(one.fileno()) for one in given]
    for _again in range(2):  # above 3 and 4
        high = [os.dup(fd) for fd in high]
    command = [sys.executable, "-c", code, " ".join(map(str, high)), FOLDER, "broker", "--share=s"]
    command += [f"--config-dir={tmp_path}", f"--run-dir={tmp_path}", "--residence=0.2"]
    process = subprocess.Popen([*command, "--linger=0.1"], pass_fds=high)
    try:
        pids: dict[str, set[str]] = {"a": set(), "b": set()}
        for number in range(8):
            name = "ab"[number % 2]
            status, body = http_ask(ports[name], "/v1/completions")
            assert status == 200, body
            pids[name].add(json.loads(body)["choices"][0]["text"])
        assert [len(one) for one in pids.values()] == [1, 1]  # each was started once
        status, body = http_ask(ports["a"], "/health", "GET")
        assert (status, json.loads(body)["state"]) == (200, "asleep")
        before = units["a"].asked()
        for path in ("/sleep", "/wake_up", "/collective_rpc", "/%73leep", "//sleep", "/pause"):
            for name in "ab":  # one sleeps, one is awake
                assert http_ask(ports[name], path)[0] == 404
                assert http_ask(ports[name], path, Authorization="Bearer k")[0] == 404
        assert units["a"].asked() == before  # and nobody was woken for it
        status, body = http_ask(ports["a"], "/metrics", "GET")
        figures = dict(line.rsplit(" ", 1) for line in body.decode().splitlines() if line[0] != "#")
        value = {key.removeprefix("compute_plane_broker_"): one for key, one in figures.items()}
        assert float(value['sleeps_total{instance_name="a"}']) == 4
        assert float(value['wakes_total{instance_name="a"}']) == 3
        assert float(value['starts_total{instance_name="a"}']) == 1
        assert float(value['sleep_fall_backs_total{instance_name="a"}']) == 0
        assert float(value['sleep_level{instance_name="a"}']) == 1
    finally:
        process.terminate()
        process.wait(20)
        for unit in units.values():
            unit.end()
        for fd in high:
            os.close(fd)
        for one in given:
            one.close()


def test_a_share_of_before_there_was_sleep_is_read(tmp_path: Path) -> None:
    told = {"name": "a", "share": "s", "served_model_name": "a", "max_model_len": None}
    told |= {"uds": "u", "size": {"gpu": 8}, "room": {"gpu": 10}}
    told |= {"idle_after": 900, "wake_timeout": 40}
    (tmp_path / "a.demand.json").write_text(json.dumps(told))
    members, _room = broker.read_members(str(tmp_path), str(tmp_path), "s")
    assert members[0].model.asleep is None


# -- the proof ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ([1, 2, 3], [1, 2, 3], True),
        ([1, 2, 3], [1, 2, 4], False),
        ([1, 2, 3], [1, 2], False),
        (["the text"], ["the text"], True),
        (["the text"], ["the test"], False),
        # Vectors, within a hundredth of their largest.
        ([1.0, -0.5], [1.004, -0.504], True),
        ([1.0, -0.5], [1.0, -0.52], False),
        ([1.0, 0.5], [1.0, float("nan")], False),
        ([1.0, 0.5], [1.0, float("inf")], False),
        ([0.0], [0.0], True),
        ([0.0], [0.1], False),
    ],
)
def test_what_is_the_same(before: list[Any], after: list[Any], same: bool) -> None:
    assert sleeping.is_same(before, after) is same


@pytest.mark.parametrize(
    ("kind", "answer", "values"),
    [
        ("chat", {"choices": [{"token_ids": [5, 6]}]}, [5, 6]),
        ("multimodal", {"choices": [{"token_ids": [5]}]}, [5]),
        ("embed", {"data": [{"embedding": [1, 0.5]}]}, [1.0, 0.5]),
        ("rerank", {"data": [{"score": 1}]}, [1.0]),
        ("classify", {"data": [{"probs": [0.2, 0.8]}]}, [0.2, 0.8]),
        ("transcribe", {"text": "You"}, ["You"]),
        ("chat", {"choices": [{"token_ids": []}]}, None),
        ("chat", {"choices": [{"text": "no tokens"}]}, None),
        ("embed", {"data": [{"embedding": []}]}, None),
    ],
)
def test_what_is_compared(
    kind: str, answer: Any, values: list[Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sleeping, "request", lambda *_, **__: json.dumps(answer).encode())
    address = Address("127.0.0.1", 1, "m", kind=kind)
    if values is None:
        with pytest.raises(ProbeFailed):
            sleeping.answer_of(address)
    else:
        found = sleeping.answer_of(address)
        assert found == values
        assert [type(one) for one in found] == [type(one) for one in values]
