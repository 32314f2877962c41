# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker with real sockets and clients, and servers of the test's own on Unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import (
    broker,
    control,
    http1,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.arbiter import (
    Limits,
    Model,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.phases import (
    ASLEEP,
    GIVEN_UP,
    READY,
    STOPPING,
)

from .program import FOLDER, MAIN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Sequence
    from pathlib import Path

# ansible-test's environment has what tests/unit/requirements.txt names; `make env` has this too.
openai = pytest.importorskip("openai")


class Server:
    """A server of one model, in place of vLLM: completions, streams, and what it was sent."""

    def __init__(self, path: str, name: str) -> None:
        self.path, self.name = path, name
        self.seen: list[tuple[bytes, bytes]] = []
        self.cut = 0
        self.server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.server = await asyncio.start_unix_server(self.serve, self.path)

    def stop(self) -> None:
        assert self.server is not None
        self.server.close()
        self.server = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await http1.read_head(reader, True)
            if head is None:
                return
            if head.path == "/early":
                writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 22\r\n\r\n")
                writer.write(b'{"detail":"Not Found"}')
                await writer.drain()
                return
            length = http1.length_of(head, True)
            body = b"".join([piece async for piece in http1.pieces(reader, length)])
            self.seen.append((b" ".join(head.first), body))
            if head.path == "/v1/chat/completions" and json.loads(body).get("stream"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
                writer.write(b"transfer-encoding: chunked\r\n\r\n")
                for number in range(5):
                    delta = {"choices": [{"index": 0, "delta": {"content": str(number)}}]}
                    event = b"data: " + json.dumps({"id": self.name, **delta}).encode() + b"\n\n"
                    writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                    await writer.drain()
                    await asyncio.sleep(0.2)
                writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            elif head.path == "/slow":
                await asyncio.wait_for(reader.read(), 20)  # until the other side goes
                self.cut += 1
            elif head.path == "/half":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            else:
                message = {"role": "assistant", "content": self.name}
                told = {"id": "1", "choices": [{"index": 0, "message": message}]}
                answer = json.dumps({**told, "length": len(body)}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
                writer.write(b"content-length: %d\r\n\r\n%b" % (len(answer), answer))
            await writer.drain()
        finally:
            writer.close()


class Place:
    """A broker in a thread with servers that start and stop as it says."""

    def __init__(self, path: Path, start_seconds: float, patience: float = 3.0) -> None:
        self.start_seconds = start_seconds
        self.path = path
        self.servers = {name: Server(str(path / f"{name}.sock"), name) for name in ("a", "b")}
        self.members = [
            broker.Member(
                name=name,
                served_model_name=f"model-{name}",
                max_model_len=4096,
                uds=server.path,
                control="",
                state="",
                secrets=str(path / f"{name}.env"),
                kept=str(path / f".{name}.kept-awake"),
                model=Model({"gpu": 1}, idle_after=900.0, patience=patience),
            )
            for name, server in self.servers.items()
        ]
        self.ports: dict[str, int] = {}
        self.orders: list[tuple[str, bytes]] = []
        self.broken: set[str] = set()
        self.doing: set[asyncio.Future[None]] = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.call(self.start())

    def end(self) -> None:
        async def ended() -> None:
            await self.broker.stop(1.0)
            for server in self.servers.values():
                if server.server is not None:
                    server.stop()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.05)

        self.call(ended())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    def call(self, what: Awaitable[Any]) -> Any:
        async def done() -> Any:
            return await what

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(20)

    async def start(self) -> None:
        limits = Limits({"gpu": 1}, residence=0.3, linger=0.1, waiting=4)
        self.broker = broker.Broker(self.members, limits, self.links)
        for member in self.members:
            given = socket.socket()
            given.bind(("127.0.0.1", 0))
            given.listen(128)
            self.ports[member.name] = given.getsockname()[1]
            await self.broker.listen(member.name, given)

    def links(
        self, members: Sequence[broker.Member], tell: Callable[[str, str, str, Any], None]
    ) -> Place:
        self.tell = lambda name, phase, why: tell(name, phase, why, {})
        for member in members:
            self.loop.call_soon(self.tell, member.name, ASLEEP, "")
        return self

    def send(self, name: str, order: bytes) -> None:
        """Carry out what the broker says, as a supervisor does."""
        self.orders.append((name, order))
        doing = asyncio.ensure_future(self.wake(name) if order == control.WAKE else self.rest(name))
        self.doing.add(doing)
        doing.add_done_callback(self.doing.discard)

    async def wake(self, name: str) -> None:
        if name not in self.broken:
            assert all(other.server is None for other in self.servers.values())
            await asyncio.sleep(self.start_seconds)
            await self.servers[name].start()
            self.tell(name, READY, "")

    async def rest(self, name: str) -> None:
        self.tell(name, STOPPING, "")
        self.servers[name].stop()
        await asyncio.sleep(0.02)
        self.tell(name, ASLEEP, "")

    def close(self) -> None:
        pass

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def client(self, name: str, **more: Any) -> Any:
        return openai.OpenAI(base_url=f"{self.url(name)}/v1", api_key="k", max_retries=0, **more)

    def ask(self, client: Any) -> str | None:
        messages: Any = [{"role": "user", "content": "who are you?"}]
        answer = client.chat.completions.create(model="m", messages=messages)
        return answer.choices[0].message.content

    def once(self, name: str) -> str | None:
        with self.client(name) as client:
            return self.ask(client)

    def raw(self, name: str, data: bytes, close: bool = False) -> bytes:
        """Send bytes, and read until the broker closes."""
        with socket.create_connection(("127.0.0.1", self.ports[name]), 10) as client:
            client.sendall(data)
            if close:
                client.shutdown(socket.SHUT_WR)
            client.settimeout(10)
            return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, 0.1)
    yield made
    made.end()


def test_the_first_request_of_a_cold_model_is_answered(place: Place) -> None:
    assert place.once("a") == "a"
    assert place.orders == [("a", control.WAKE)]


def test_forty_requests_that_alternate_are_answered_by_their_models(place: Place) -> None:
    with place.client("a") as one, place.client("b") as other:
        for number in range(40):
            assert place.ask((one, other)[number % 2]) == "ab"[number % 2]
    assert [order for order in place.orders if order[1] == control.WAKE] == [
        ("ab"[number % 2], control.WAKE) for number in range(40)
    ]


def test_clients_of_two_models_at_once_lose_nothing_and_share_the_starts(place: Place) -> None:
    answers: list[tuple[str, str | None]] = []
    end = time.monotonic() + 5

    def ask(name: str) -> None:
        with place.client(name) as client:
            while time.monotonic() < end:
                answers.append((name, place.ask(client)))

    threads = [threading.Thread(target=ask, args=("ab"[number % 2],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert all(name == said for name, said in answers)
    assert {name for name, _said in answers} == {"a", "b"}
    wakes = len([order for order in place.orders if order[1] == control.WAKE])
    assert wakes <= 5 / (0.3 + 0.1) + 2  # a residence and a start each
    assert len(answers) > 2 * wakes


def test_a_stream_comes_as_it_is_made(place: Place) -> None:
    messages: Any = [{"role": "user", "content": "count"}]
    times, said = [], ""
    with place.client("a") as client:
        for event in client.chat.completions.create(model="m", messages=messages, stream=True):
            times.append(time.monotonic())
            said += event.choices[0].delta.content or ""
    assert said == "01234"
    assert times[-1] - times[0] > 0.6  # 0.2 s between two


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_passed_on_whole(place: Place, chunked: bool) -> None:
    body = os.urandom(3_000_000)

    def parts() -> Iterator[bytes]:
        for start in range(0, len(body), 70_000):
            yield body[start : start + 70_000]

    answer = httpx.post(f"{place.url('a')}/any", content=parts() if chunked else body, timeout=20)
    assert answer.status_code == 200
    [(first, seen)] = place.servers["a"].seen
    if chunked:
        content = b""
        while seen:
            size, _line, seen = seen.partition(b"\r\n")
            content, seen = content + seen[: int(size, 16)], seen[int(size, 16) + 2 :]
        seen = content
    assert (first, seen == body) == (b"POST /any", True)


def test_an_answer_before_the_whole_request_was_read_arrives(place: Place) -> None:
    assert place.once("a") == "a"
    length = 1 << 20
    with socket.create_connection(("127.0.0.1", place.ports["a"]), 10) as client:
        client.sendall(b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % length)
        sends = threading.Thread(target=client.sendall, args=(bytes(length),), daemon=True)
        sends.start()
        time.sleep(0.2)  # the broker has answered, and has not read all
        answer = b"".join(iter(lambda: client.recv(65536), b""))
        sends.join(10)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b'{"detail":"Not Found"}')


def test_a_kept_connection_keeps_nobody_awake(place: Place) -> None:
    with httpx.Client() as kept:
        for _time in range(3):
            assert kept.get(f"{place.url('a')}/any").status_code == 200
        assert place.once("b") == "b"  # although the connection is still there
        assert kept.get(f"{place.url('a')}/any").status_code == 200


def test_what_watches_wakes_nobody(place: Place) -> None:
    url = place.url("a")
    health = httpx.get(f"{url}/health")
    assert (health.status_code, health.json()["state"]) == (200, ASLEEP)
    models = httpx.get(f"{url}/v1/models").json()["data"]
    assert [(one["id"], one["max_model_len"]) for one in models] == [("model-a", 4096)]
    metrics = httpx.get(f"{url}/metrics")
    assert 'compute_plane_broker_awake{instance_name="a"} 0' in metrics.text
    assert httpx.head(f"{url}/health").status_code == 200
    assert place.orders == []


def test_what_does_not_become_ready_in_time_is_503_in_openai_s_form(place: Place) -> None:
    place.broken.add("a")
    began = time.monotonic()
    with pytest.raises(openai.InternalServerError) as failed:
        place.once("a")
    assert 2.9 < time.monotonic() - began < 15
    assert failed.value.status_code == 503
    assert failed.value.response.headers["retry-after"] == str(broker.RETRY_AFTER)
    assert "not ready in time" in failed.value.response.json()["error"]["message"]


def test_what_was_given_up_is_503_at_once_and_not_healthy(place: Place) -> None:
    place.broken.add("a")
    place.loop.call_soon_threadsafe(place.tell, "a", GIVEN_UP, "out of memory")
    with pytest.raises(openai.InternalServerError, match="out of memory"):
        place.once("a")
    assert httpx.get(f"{place.url('a')}/health").status_code == 503


def test_one_too_many_is_refused_at_once(tmp_path: Path) -> None:
    place = Place(tmp_path, 0.1, patience=10.0)
    place.broken.add("a")
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(httpx.get(f"{place.url('a')}/any", timeout=40).status_code)

    threads = [threading.Thread(target=ask) for _number in range(4)]
    try:
        for thread in threads:
            thread.start()
        end = time.monotonic() + 8
        while place.broker.arbiter.waiting_for("a") < 4:
            assert time.monotonic() < end
            time.sleep(0.01)
        began = time.monotonic()
        answer = httpx.get(f"{place.url('a')}/any", timeout=40)
        assert (answer.status_code, time.monotonic() - began < 10) == (503, True)
        assert "too many" in answer.json()["error"]["message"]
    finally:
        for thread in threads:
            thread.join(40)
        place.end()
    assert statuses == [503] * 4


def test_a_client_that_goes_away_ends_its_request_at_the_server(place: Place) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{place.url('a')}/slow", timeout=1.0)
    end = time.monotonic() + 5
    while place.servers["a"].cut == 0:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert place.once("b") == "b"  # nothing of it keeps the model awake


def test_a_client_that_goes_away_while_it_waits_is_forgotten(place: Place) -> None:
    place.broken.add("a")
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{place.url('a')}/any", timeout=0.5)
    end = time.monotonic() + 5
    while place.broker.arbiter.waiting_for("a"):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_who_brings_no_key_wakes_nobody(place: Place, tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text('# secrets\nVLLM_API_KEY="s3c\\"ret"\n')
    url = f"{place.url('a')}/v1/any"
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": 's3c"ret'}):
        assert httpx.post(url, json={}, headers=headers).status_code == 401
        assert httpx.get(f"{place.url('a')}/v1/models", headers=headers).status_code == 401
    assert place.orders == []
    allowed = httpx.post(url, json={}, headers={"Authorization": 'Bearer s3c"ret'})
    assert allowed.status_code == 200


def test_a_server_that_ends_within_its_answer_is_an_error_and_no_short_answer(place: Place) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{place.url('a')}/half")


def test_a_server_that_is_gone_is_waited_for_again(place: Place) -> None:
    assert place.once("a") == "a"

    async def killed() -> None:
        place.servers["a"].stop()  # and nobody has noticed

    place.call(killed())
    threading.Timer(
        0.3, lambda: place.loop.call_soon_threadsafe(place.tell, "a", ASLEEP, "")
    ).start()
    assert place.once("a") == "a"


@pytest.mark.parametrize(
    "request_head",
    [
        b"POST /any HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST /any HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
        b"POST /any HTTP/1.1\r\ncontent-length: +3\r\n\r\n",
        b"POST /any HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        b"POST /any HTTP/1.1\r\ntransfer-encoding : chunked\r\n\r\n",
        b"POST /any HTTP/1.1\r\n folded: 1\r\n\r\n",
        b"POST /any HTTP/2.0\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /any HTTP/1.1\r\nx: " + b"x" * 70_000 + b"\r\n\r\n",
    ],
)
def test_what_is_ambiguous_is_refused(place: Place, request_head: bytes) -> None:
    answer = place.raw("a", request_head)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert place.servers["a"].seen == []


def test_pipelined_requests_and_100_continue(place: Place) -> None:
    one = b"POST /one HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"
    two = b"POST /two HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n"
    answer = place.raw("a", one + two + b"connection: close\r\n\r\n{}")
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.count(b"HTTP/1.1 100 Continue") == 1
    assert [first for first, _body in place.servers["a"].seen] == [b"POST /one", b"POST /two"]


def test_a_stop_ends_what_is_under_way_first(place: Place) -> None:
    messages: Any = [{"role": "user", "content": "count"}]
    with place.client("a") as client:
        stream = client.chat.completions.create(model="m", messages=messages, stream=True)
        said = next(iter(stream)).choices[0].delta.content or ""
        stopped = threading.Thread(target=lambda: place.call(place.broker.stop(10.0)))
        stopped.start()
        said += "".join(event.choices[0].delta.content or "" for event in stream)
        stopped.join(10)
    assert said == "01234"


def test_it_needs_nothing_that_its_sandbox_forbids() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import supervisor.broker;"
    code += "print('ctypes' in sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code, FOLDER]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"False\n"


# -- with supervisors, as processes, and a program of the test's own as vLLM ----------------------

SERVER = """#!{python}
import http.server, json, os, signal, socketserver, sys, time
config = dict(line.split(": ", 1) for line in open(sys.argv[3]).read().splitlines())
uds, name = json.loads(config["uds"]), json.loads(config["served-model-name"])
if os.path.exists({broken!r}):
    sys.exit(3)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def address_string(self):
        return "unix"
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b"vllm:num_requests_running 0\\nvllm:num_requests_waiting 0\\n")
    def do_POST(self):
        json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = {{"role": "assistant", "content": name}}
        told = {{"id": "1", "choices": [{{"index": 0, "message": message}}], "pid": os.getpid()}}
        self.answer(json.dumps({{**told, "usage": {{"completion_tokens": 1}}}}).encode())
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
Server(uds, Handler).serve_forever()
"""


class Host:
    """Two supervisors and a broker as systemd would run them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broken = path / "broken"
        vllm = path / "vllm"
        vllm.write_text(SERVER.format(python=sys.executable, broken=str(self.broken)))
        vllm.chmod(0o755)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.sockets: dict[str, socket.socket] = {}
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(path / "notify"))
        for name in ("a", "b"):
            (path / name).mkdir()
            uds = str(path / name / "server.sock")
            config = {"model": "m", "served-model-name": name, "port": 1, "uds": uds}
            (path / f"{name}.yaml").write_text(
                "".join(f"{key}: {json.dumps(value)}\n" for key, value in config.items())
            )
            told = {"name": name, "share": "s", "served_model_name": name, "max_model_len": None}
            told |= {"uds": uds, "size": {"gpu": 1}, "room": {"gpu": 1}}
            told |= {"idle_after": 900, "wake_timeout": 40}
            (path / f"{name}.demand.json").write_text(json.dumps(told))
            self.sockets[name] = given = socket.socket()
            given.bind(("127.0.0.1", 0))
            given.listen(128)
            self.supervise(name)
        self.broker()

    def supervise(self, name: str) -> None:
        command = [sys.executable, "-c", f"{MAIN}sys.exit(main())", FOLDER, f"--name={name}"]
        command += [f"--vllm={self.path}/vllm", f"--config={self.path}/{name}.yaml", "--on-demand"]
        self.processes[name] = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            env={
                "RUNTIME_DIRECTORY": str(self.path / name),
                "CACHE_DIRECTORY": str(self.path / "cache"),
                "PATH": os.environ["PATH"],
            },
        )

    def broker(self) -> None:
        """Start it with sockets at 3 and 4, as systemd does."""
        fds = [self.sockets[name].fileno() for name in ("a", "b")]
        code = (
            "import os, sys; fds = sys.argv.pop(1).split();"
            "[os.dup2(int(fd), 3 + place) for place, fd in enumerate(fds)];"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='a:b');"
            f"{MAIN}sys.exit(main())"
        )
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 50) for fd in fds]
        command = [
            sys.executable,
            "-c",
            code,
            " ".join(map(str, high)),
            FOLDER,
            "broker",
            "--share=s",
        ]
        command += [f"--config-dir={self.path}", f"--run-dir={self.path}"]
        command += ["--residence=1", "--linger=0.2"]
        environ = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(self.path / "notify")}
        self.processes["broker"] = subprocess.Popen(command, pass_fds=high, env=environ)
        for fd in high:
            os.close(fd)
        self.notified.settimeout(20)
        while b"READY=1" not in self.notified.recv(4096):
            continue

    def ask(self, name: str, timeout: float = 60.0) -> dict[str, Any]:
        port = self.sockets[name].getsockname()[1]
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        answer = httpx.post(url, json={"model": name}, timeout=timeout)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        assert found["choices"][0]["message"]["content"] == name
        return found

    def end(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        for given in (*self.sockets.values(), self.notified):
            given.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.end()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_supervisors_start_and_stop_servers_as_the_broker_says(host: Host) -> None:
    first = host.ask("a")["pid"]
    assert host.ask("a")["pid"] == first
    second = host.ask("b")["pid"]
    assert not is_alive(first)  # it was put out before the other was started
    assert is_alive(second)
    state = json.loads((host.path / "a" / "state.json").read_text())
    assert state["state"] == "asleep"
    assert host.processes["a"].poll() is None


def test_a_restart_of_the_broker_refuses_nobody_and_finds_who_is_awake(host: Host) -> None:
    first = host.ask("a")["pid"]
    host.processes["broker"].terminate()
    asked: list[int] = []
    thread = threading.Thread(target=lambda: asked.append(host.ask("a")["pid"]))
    host.processes["broker"].wait(20)
    thread.start()  # while nobody accepts
    time.sleep(0.5)
    host.broker()
    thread.join(30)
    assert asked == [first]


def test_a_killed_supervisor_heals_with_the_next_start(host: Host) -> None:
    first = host.ask("a")["pid"]
    supervisor = host.processes["a"]
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    os.kill(first, signal.SIGKILL)  # systemd ends what is left in the unit
    host.supervise("a")
    assert host.ask("a")["pid"] != first


def test_a_server_that_cannot_start_ends_its_supervisor_and_is_started_for_who_waits(
    host: Host,
) -> None:
    host.broken.write_text("")
    asked: list[int] = []
    thread = threading.Thread(target=lambda: asked.append(host.ask("a")["pid"]))
    thread.start()
    assert host.processes["a"].wait(20) == 1
    host.broken.unlink()
    host.supervise("a")  # as systemd does after 2 s
    thread.join(40)
    assert len(asked) == 1
