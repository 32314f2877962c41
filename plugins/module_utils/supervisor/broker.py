# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker of a share: takes its models' requests, has the right ones awake, and passes them on.

systemd holds the ports (`vllm@NAME.socket`) and gives them to this process, so a restart of it
refuses nobody. Servers listen on Unix sockets that no other user may open. Requests are passed on
one by one, so what counts is a request, not a connection that a client keeps. When the broker
shall stop, it takes nothing more, and ends when what is under way has ended.

It runs as the servers' user and needs no right: units are started and stopped by nobody, see
demand.py.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import glob
import hmac
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, cast

from . import guard, health
from .arbiter import Arbiter, Limits, Model
from .control import (
    ASLEEP_SUMMARY,
    CONTROL,
    LONGEST_KEPT,
    REST,
    SLEEP,
    SLEEPING_SUMMARY,
    WAKE,
    kept_path,
)
from .http1 import CHUNKED, PIECE, UNTIL_CLOSE, BadMessage, Head, length_of, pieces, read_head
from .notify import Notifier
from .phases import ASLEEP, AWAKE, GIVEN_UP, GONE, READY, SLEEPING

KEPT = 75.0
"""Seconds that a connection without a request is kept."""
STALL = 120.0
"""Seconds that a client may take for the next piece of what it sends or takes; it keeps a model
awake meanwhile."""
LOOK = 2.0
"""Seconds between two looks at who is to be kept awake."""
ARRIVAL = 1.0
"""Seconds that the first request of a connection may take at a stop."""
NEW, BUSY, IDLE = "new", "busy", "idle"
"""A connection before its first request, within one, and between two."""
RECONNECT = 0.5
"""Seconds until a supervisor that is not there is looked for again."""
RETRY_AFTER = 10
"""Seconds after which a client may come again."""
LOOKS = frozenset({"/health", "/ping", "/metrics", "/v1/models"})
"""What is asked by those who watch: it wakes nobody, and keeps nobody awake."""


@dataclass(frozen=True)
class Member:
    """A model of the share, as the broker's configuration has it.

    Attributes:
        name: The instance.
        served_model_name: The name that requests give.
        max_model_len: The context length in tokens; `None` where the server decides.
        uds: The Unix socket on which the server listens.
        control: The one of its supervisor.
        state: The file in which its supervisor says what it sees.
        secrets: The file of its API key.
        kept: The file that keeps it awake while it is there.
        model: What the arbiter knows of it.
    """

    name: str
    served_model_name: str
    max_model_len: int | None
    uds: str
    control: str
    state: str
    secrets: str
    kept: str
    model: Model


def read_members(config_dir: str, run_dir: str, share: str) -> tuple[list[Member], dict[str, int]]:
    """The models of a share, and what there is of each resource.

    Args:
        config_dir: Where `NAME.demand.json` are.
        run_dir: Where the units' runtime directories are.
        share: The share's name.
    """
    members, room = [], {}
    for path in sorted(glob.glob(os.path.join(glob.escape(config_dir), "*.demand.json"))):
        with open(path, encoding="utf-8") as stream:
            told = json.load(stream)
        if told["share"] != share:
            continue
        room.update(told["room"])
        folder = os.path.join(run_dir, told["name"])
        members.append(
            Member(
                name=told["name"],
                served_model_name=told["served_model_name"],
                max_model_len=told["max_model_len"],
                uds=told["uds"],
                control=os.path.join(folder, CONTROL),
                state=os.path.join(folder, "state.json"),
                secrets=os.path.join(config_dir, f"{told['name']}.env"),
                kept=kept_path(run_dir, told["name"]),
                # One that was deployed before there was sleep says nothing of it.
                model=Model(
                    told["size"], told["idle_after"], told["wake_timeout"], told.get("asleep")
                ),
            )
        )
    return members, room


def given_sockets(environ: Mapping[str, str]) -> dict[str, list[socket.socket]]:
    """The listening sockets that systemd gives, by their names: sd_listen_fds_with_names(3)."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    given: dict[str, list[socket.socket]] = {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    for number, name in zip(range(3, 3 + int(environ.get("LISTEN_FDS", "0"))), names):
        os.set_inheritable(number, False)
        given.setdefault(name, []).append(socket.socket(fileno=number))
    return given


def given_up(path: str) -> str | None:
    """Why a supervisor has given up its server, by the file it left; `None` where it has not."""
    try:
        with open(path, encoding="utf-8") as stream:
            told = json.load(stream)
        return str(told["summary"]) if told["state"] == health.GIVEN_UP else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def is_kept(path: str) -> bool:
    """Whether a model is to be kept awake; a run that was killed does so no longer."""
    try:
        return time.time() - os.stat(path).st_mtime < LONGEST_KEPT
    except OSError:
        return False


def key_in(path: str) -> str | None:
    """The API key in an instance's secrets, as `deploy/environment.py` writes them."""
    try:
        with open(path, encoding="utf-8") as stream:
            found = re.search(r'^VLLM_API_KEY="?(.*?)"?$', stream.read(), re.MULTILINE)
    except OSError:
        return None
    return re.sub(r"\\(.)", r"\1", found.group(1)) if found else None


def error_body(message: str, status: int) -> bytes:
    """An error in OpenAI's form."""
    kind = "service_unavailable" if status == 503 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": None, "code": status}
    return json.dumps({"error": error}).encode()


REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
}


class Reader(asyncio.StreamReader):
    """A stream that tells when the other side has gone, however much of it is unread."""

    def __init__(self) -> None:
        super().__init__(limit=PIECE, loop=asyncio.get_running_loop())
        self.gone = asyncio.Event()

    def feed_eof(self) -> None:
        """The other side sends no more."""
        self.gone.set()
        super().feed_eof()

    def set_exception(self, exc: BaseException) -> None:
        """The connection is lost."""
        self.gone.set()
        super().set_exception(exc)  # type: ignore[arg-type]


class Answer(asyncio.StreamReader):
    """A server's stream, of which all that has come can be read, however it ended.

    A server that closes its socket with a part of the request unread resets the connection, and
    asyncio's own reader then raises that instead of what it has.
    """

    def set_exception(self, exc: BaseException) -> None:  # noqa: ARG002 - asyncio's signature
        """The connection is lost."""
        self.feed_eof()


async def to_server_at(path: str) -> tuple[Answer, asyncio.StreamWriter]:
    """Connect to a server's Unix socket."""
    loop = asyncio.get_running_loop()
    reader = Answer(limit=PIECE, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _protocol = await loop.create_unix_connection(lambda: protocol, path)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


_SUMMARIES = {ASLEEP: ASLEEP_SUMMARY, SLEEPING: SLEEPING_SUMMARY}


class ClientGone(Exception):
    """The client has closed its connection, or does not go on."""


class NotThere(Exception):
    """Nobody listens where a server should; the message says why."""


_Tell = Callable[[str, str, str, Mapping[str, float]], None]


class Links:
    """The supervisors of a share's models.

    Args:
        members: The models.
        tell: Takes a model's name, its phase, one sentence, and the supervisor's figures.
    """

    def __init__(self, members: Sequence[Member], tell: _Tell) -> None:
        self._tell = tell
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._tasks = [asyncio.ensure_future(self._keep(member)) for member in members]

    def send(self, name: str, order: bytes) -> None:
        """Tell a supervisor what to do; one that is gone is asked again when it is back."""
        writer = self._writers.get(name)
        if writer is not None:
            writer.write(order)

    async def _keep(self, member: Member) -> None:
        while True:
            with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
                await self._hear(member)
            why = given_up(member.state)
            self._tell(member.name, GONE if why is None else GIVEN_UP, why or "", {})
            await asyncio.sleep(RECONNECT)

    async def _hear(self, member: Member) -> None:
        reader, writer = await asyncio.open_unix_connection(member.control)
        self._writers[member.name] = writer
        try:
            async for line in reader:
                told = json.loads(line)
                why, figures = str(told.get("why", "")), dict(told.get("figures", {}))
                self._tell(member.name, str(told["phase"]), why, figures)
        finally:
            del self._writers[member.name]
            writer.close()

    def close(self) -> None:
        """Hear no more."""
        for task in self._tasks:
            task.cancel()


_SLEEP = {
    "level": ("sleep_level", "gauge", "At which it sleeps now; 0 where it is stopped."),
    "sleeps": ("sleeps_total", "counter", "Sleeps of the server."),
    "sleep_seconds": ("sleep_seconds_total", "counter", "What falling asleep took together."),
    "wakes": ("wakes_total", "counter", "Wakes with the same answer as before."),
    "wake_seconds": ("wake_seconds_total", "counter", "What they took together."),
    "fall_backs": ("sleep_fall_backs_total", "counter", "Stops because sleep did not go well."),
}
"""A supervisor's figure to the metric's name, its type and what it is."""


def _say(level: int, what: str) -> None:
    """A line for the journal, with sd-daemon(3)'s level."""
    sys.stdout.write(f"<{level}>broker: {what}\n")
    sys.stdout.flush()


class Broker:
    """One share.

    Args:
        members: Its models.
        limits: What holds for all of them.
        links: Makes what reaches their supervisors; takes the members, and who is told.
    """

    def __init__(
        self,
        members: Sequence[Member],
        limits: Limits,
        links: Callable[[Sequence[Member], _Tell], Any] = Links,
    ) -> None:
        self.members = {member.name: member for member in members}
        self.arbiter = Arbiter({member.name: member.model for member in members}, limits)
        self._now = asyncio.get_running_loop().time
        self._waiting: dict[int, asyncio.Future[str | None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._servers: list[asyncio.AbstractServer] = []
        self._clients: dict[asyncio.Task[None], str] = {}
        self.stopping = False
        self._figures: dict[str, Mapping[str, float]] = {}
        self._links = links(members, self._told)

    # -- who is awake -----------------------------------------------------------------------------

    def _told(self, name: str, phase: str, why: str, figures: Mapping[str, float]) -> None:
        self._figures[name] = figures
        before = self.arbiter.phase_of(name)
        self.arbiter.phase(self._now(), name, phase, why)
        if phase != before:
            _say(6, f"{name} is {phase}")
        self.step()

    def step(self) -> None:
        """Do what is to be done now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._now()
        self.arbiter.keep(now, [one.name for one in self.members.values() if is_kept(one.kept)])
        decision = self.arbiter.decide(now)
        if decision.wake is not None:
            self._links.send(decision.wake, WAKE)
        for name in decision.sleep:
            self._links.send(name, SLEEP)
        for name in decision.rest:
            self._links.send(name, REST)
        for ticket in decision.admit:
            self._answer(ticket, None)
        for ticket, why in decision.refuse.items():
            self._answer(ticket, why)
        if decision.again is not None:
            self._timer = asyncio.get_running_loop().call_at(decision.again + 0.005, self.step)

    def _answer(self, ticket: int, why: str | None) -> None:
        waiting = self._waiting.pop(ticket, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(why)

    async def admitted(self, name: str, gone: Awaitable[Any]) -> str | None:
        """Wait until a request may go to its model; returns why it may not.

        Args:
            name: The model.
            gone: Ends when its client has gone.

        Raises:
            ClientGone: It has.
        """
        ticket = self.arbiter.arrive(self._now(), name)
        waiting: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = waiting
        self.step()
        leaves = asyncio.ensure_future(gone)
        try:
            await asyncio.wait({waiting, leaves}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._withdraw(name, ticket, waiting)
            raise
        finally:
            leaves.cancel()
        if not waiting.done():
            self._withdraw(name, ticket, waiting)
            raise ClientGone
        return waiting.result()

    def _withdraw(self, name: str, ticket: int, waiting: asyncio.Future[str | None]) -> None:
        """Take a request back for which nobody waits any more."""
        if not waiting.done():
            self._waiting.pop(ticket, None)
            self.arbiter.leave(ticket)
        elif waiting.result() is None:  # it was admitted at that moment
            self.arbiter.finish(self._now(), name)
        self.step()

    def finish(self, name: str) -> None:
        """A request that was admitted has ended."""
        self.arbiter.finish(self._now(), name)
        self.step()

    # -- what is asked ----------------------------------------------------------------------------

    def look(self, member: Member, path: str) -> tuple[int, bytes, bytes]:
        """The answer about a model that is not awake: status, content type, body."""
        phase, why = self.arbiter.phase_of(member.name), self.arbiter.why(member.name)
        kind = b"application/json"
        if path == "/metrics":
            return 200, b"text/plain; version=0.0.4; charset=utf-8", self.metrics(member)
        if path == "/v1/models":
            row: dict[str, Any] = {"id": member.served_model_name, "object": "model"}
            row.update(created=0, owned_by="vllm", root=member.served_model_name, parent=None)
            row.update(max_model_len=member.max_model_len)
            return 200, kind, json.dumps({"object": "list", "data": [row]}).encode()
        is_there = phase not in (GONE, GIVEN_UP)
        told = {
            "status": "ok" if is_there else "unavailable",
            # Whether a server sleeps or there is none is no matter to who asks for the model.
            "state": ASLEEP if phase == SLEEPING else phase,
            "summary": why or _SUMMARIES.get(phase, f"it is {phase}"),
            "told_by": "broker",
        }
        return (200 if is_there else 503), kind, json.dumps(told).encode()

    def metrics(self, member: Member) -> bytes:
        """What Prometheus is told of a model's requests here."""
        name, figures = member.name, self.arbiter.figures[member.name]
        awake = self.arbiter.phase_of(name) in AWAKE
        rows: list[tuple[str, str, str, float]] = [
            ("awake", "gauge", "Whether a server is there and does not sleep.", int(awake)),
            ("starts_total", "counter", "Starts of the server for a request.", figures.starts),
            ("held_total", "counter", "Requests that waited and were answered.", figures.held),
            ("held_seconds_total", "counter", "Their waits together.", figures.held_seconds),
            ("held_longest_seconds", "gauge", "The longest of them.", figures.longest),
            ("refused_total", "counter", "Requests that were refused.", figures.refused),
            ("waiting", "gauge", "Requests that wait.", self.arbiter.waiting_for(name)),
            ("under_way", "gauge", "Requests under way.", self.arbiter.under_way(name)),
        ]
        told = self._figures.get(name, {})
        rows += [(*row, told[key]) for key, row in _SLEEP.items() if key in told]
        lines = []
        for what, kind, text, value in rows:
            metric = f"compute_plane_broker_{what}"
            lines += [f"# HELP {metric} {text}", f"# TYPE {metric} {kind}"]
            lines.append(f'{metric}{{instance_name="{name}"}} {value}')
        return ("\n".join(lines) + "\n").encode()

    # -- its life ---------------------------------------------------------------------------------

    async def listen(self, name: str, given: socket.socket) -> None:
        """Serve a model on a socket."""
        member = self.members[name]
        given.setblocking(False)

        def made() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(Reader(), connected)

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served = Client(self, member, cast("Reader", reader), writer).serve()
            task = asyncio.ensure_future(served)
            self._clients[task] = NEW
            task.add_done_callback(self._clients.pop)

        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_server(made, sock=given, backlog=1024))

    def mark(self, what: str) -> None:
        """Say what the connection that runs is doing, `BUSY` or `IDLE`."""
        task = asyncio.current_task()
        if task in self._clients:
            self._clients[task] = what

    async def stop(self, within: float) -> None:
        """Take nothing more, and end when what is under way has ended, at most so many seconds."""
        self.stopping = True
        for server in self._servers:
            # Not close() of the socket's listening: systemd has it, too, and it goes on queueing.
            server.close()
        for task, what in list(self._clients.items()):
            if what == IDLE:
                task.cancel()
        # A new one has been taken from systemd's queue, and its request is on its way.
        new = [task for task, what in self._clients.items() if what == NEW]
        if new:
            await asyncio.wait(new, timeout=min(ARRIVAL, within))
        left = [task for task, what in self._clients.items() if what == BUSY]
        if left:
            await asyncio.wait(left, timeout=within)
        for task in list(self._clients):
            task.cancel()
        self._links.close()
        if self._timer is not None:
            self._timer.cancel()


class Client:
    """One connection of a client.

    Args:
        broker: Who decides.
        member: The model that it asks.
        reader: What it sends.
        writer: What it is sent.
    """

    def __init__(
        self, broker: Broker, member: Member, reader: Reader, writer: asyncio.StreamWriter
    ) -> None:
        self.broker = broker
        self.member = member
        self.reader = reader
        self.writer = writer
        self.began = False  # a response

    async def serve(self) -> None:
        """Answer one request after the other."""
        try:
            while not self.broker.stopping:
                self.began = False
                try:
                    head = await asyncio.wait_for(read_head(self.reader, True), KEPT)
                    if head is None:
                        break
                    self.broker.mark(BUSY)
                    keeps = await self.request(head)
                except BadMessage as problem:
                    if not self.began:
                        await self.say(400, error_body(str(problem), 400), close=True)
                    break
                self.broker.mark(IDLE)
                if not keeps:
                    break
            await self._linger()
        except (OSError, ClientGone, asyncio.TimeoutError, asyncio.CancelledError):
            pass  # nobody is there to be told anything
        finally:
            self.writer.close()

    async def write(self, data: bytes) -> None:
        """Send, as fast as the client takes it."""
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), STALL)

    async def say(
        self,
        status: int,
        body: bytes,
        kind: bytes = b"application/json",
        close: bool = False,
        only_head: bool = False,
    ) -> None:
        """Answer by ourselves."""
        self.began = True
        lines = [b"HTTP/1.1 %d %s" % (status, REASONS.get(status, b"-"))]
        lines += [b"content-type: " + kind, b"content-length: %d" % len(body)]
        lines += [b"retry-after: %d" % RETRY_AFTER] if status == 503 else []
        lines += [b"www-authenticate: Bearer"] if status == 401 else []
        lines += [b"connection: close"] if close else []
        await self.write(b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if only_head else body))

    async def _linger(self) -> None:
        """Read what is still sent, for a while.

        What is unread when a socket is closed makes the kernel reset the connection, and the client
        may lose the answer: one of ours, or of a server that did not read the whole request.
        """
        self.writer.write_eof()
        await asyncio.wait_for(self._discard(), 2.0)

    async def _discard(self) -> None:
        while await self.reader.read(PIECE):
            continue

    def is_allowed(self, head: Head) -> bool:
        """Whether a request brings the key; who does not wakes nobody.

        As vLLM itself asks for it: vllm/entrypoints/openai/server_utils.py (0.26.0),
        AuthenticationMiddleware, below `/v1` and not for `OPTIONS`.
        """
        key = key_in(self.member.secrets)
        if key is None or not head.path.startswith("/v1") or head.first[0] == b"OPTIONS":
            return True
        said = b"".join(head.all(b"authorization")[:1]).partition(b" ")
        return said[0].lower() == b"bearer" and hmac.compare_digest(said[2], key.encode())

    async def request(self, head: Head) -> bool:
        """Answer one request; returns whether the connection lasts."""
        length = length_of(head, True)
        phase = self.broker.arbiter.phase_of(self.member.name)
        looks = head.path in LOOKS and head.first[0] in (b"GET", b"HEAD")
        no_body = length == 0
        keeps = head.keeps and no_body and not self.broker.stopping
        if self.member.model.asleep is not None and not guard.is_public(head.path):
            # The server says so, too (guard.py); nobody is woken for it.
            await self.say(404, guard.NOT_FOUND, close=not keeps)
            return keeps
        if not self.is_allowed(head):
            await self.say(401, error_body("Unauthorized", 401), close=not keeps)
            return keeps
        if looks and (phase != READY or head.path == "/metrics"):
            status, kind, body = self.broker.look(self.member, head.path)
            if phase == READY:
                body = await self.vllms_metrics() + body
            only_head = head.first[0] == b"HEAD"
            await self.say(status, body, kind, close=not keeps, only_head=only_head)
            return keeps
        if looks:
            try:
                return await self.pass_on(head, length)
            except NotThere as problem:
                await self.say(502, error_body(str(problem), 502), close=True)
                return False
        for last in (False, False, True):
            why = await self.broker.admitted(self.member.name, self.reader.gone.wait())
            if why is not None:
                message = f"{self.member.served_model_name}: {why}"
                await self.say(503, error_body(message, 503), close=not keeps)
                return keeps
            try:
                return await self.pass_on(head, length)
            except NotThere as problem:
                # Its supervisor has not said so yet. Nothing of the request was read.
                if last:
                    await self.say(502, error_body(str(problem), 502), close=True)
            finally:
                self.broker.finish(self.member.name)
            await asyncio.sleep(2 * RECONNECT)
        return False

    async def vllms_metrics(self) -> bytes:
        """What the server itself says at `/metrics`; empty where it does not."""
        with contextlib.suppress(OSError, BadMessage, asyncio.TimeoutError):
            reader, writer = await to_server_at(self.member.uds)
            try:
                writer.write(
                    b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
                )
                answer = await asyncio.wait_for(read_head(reader, False), STALL)
                if answer is not None and answer.status == 200:
                    length = length_of(answer, False, b"GET")
                    body = b"".join([piece async for piece in pieces(reader, length)])
                    return body if length != CHUNKED else _unchunked(body)
            finally:
                writer.close()
        return b""

    async def pass_on(self, head: Head, length: int) -> bool:
        """Have the server answer; returns whether the connection lasts.

        Raises:
            NotThere: It cannot be reached.
        """
        try:
            server, to_server = await to_server_at(self.member.uds)
        except OSError as problem:
            raise NotThere(f"the server is not there: {problem}") from problem
        sends: asyncio.Task[None] | None = None
        gone = asyncio.ensure_future(self.reader.gone.wait())
        try:
            lines = [b"%s %s HTTP/1.%d" % (*head.first, head.minor)]
            lines += [name + b": " + value for name, value in head.passed_on()]
            to_server.write(b"\r\n".join([*lines, b"connection: close"]) + b"\r\n\r\n")
            if b"100-continue" in head.words(b"expect"):
                await self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            sends = asyncio.ensure_future(self._send_body(to_server, length))
            answers = asyncio.ensure_future(self._answer(head, server, sends))
            try:
                await asyncio.wait({answers, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not answers.done():
                    raise ClientGone  # the server sees it, too, and computes no further
                return await answers
            finally:
                answers.cancel()
        finally:
            gone.cancel()
            to_server.close()
            if sends is not None:
                sends.cancel()
                # It reads what the client sends, and no two can.
                await asyncio.gather(sends, return_exceptions=True)

    async def _send_body(self, to_server: asyncio.StreamWriter, length: int) -> None:
        body = pieces(self.reader, length)
        while True:
            try:
                piece = await asyncio.wait_for(body.__anext__(), STALL)
            except StopAsyncIteration:
                return
            to_server.write(piece)
            await to_server.drain()

    async def _answer(
        self, head: Head, server: asyncio.StreamReader, sends: asyncio.Task[None]
    ) -> bool:
        answer = asyncio.ensure_future(self._first_answer(server))
        try:
            await asyncio.wait({answer, sends}, return_when=asyncio.FIRST_COMPLETED)
            wrong = sends.exception() if sends.done() else None
            if not answer.done() and isinstance(wrong, BadMessage):
                raise wrong
            if not answer.done() and isinstance(wrong, asyncio.TimeoutError):
                raise ClientGone
            try:
                # One that cannot be sent the rest may have answered all the same.
                said = await answer
            except (OSError, BadMessage) as problem:
                await self.say(502, error_body(f"the server ended: {problem}", 502), close=True)
                return False
        finally:
            answer.cancel()
        length = length_of(said, False, head.first[0])
        whole = sends.done() and sends.exception() is None
        keeps = head.keeps and whole and length != UNTIL_CLOSE and not self.broker.stopping
        lines = [b"HTTP/1.%d %s %s" % (said.minor, *said.first)]
        lines += [name + b": " + value for name, value in said.passed_on()]
        lines += [b"connection: keep-alive" if keeps else b"connection: close"]
        self.began = True
        await self.write(b"\r\n".join(lines) + b"\r\n\r\n")
        async for piece in pieces(server, length):
            await self.write(piece)
        return keeps

    async def _first_answer(self, server: asyncio.StreamReader) -> Head:
        while True:
            said = await read_head(server, False)
            if said is None:
                raise BadMessage("it closed the connection without an answer")
            if said.status >= 200:
                return said


def _unchunked(body: bytes) -> bytes:
    """The content of a body in chunks."""
    content = b""
    while body:
        size, _line, body = body.partition(b"\r\n")
        length = int(size, 16)
        content, body = content + body[:length], body[length + 2 :]
    return content


async def serve(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Serve a share until somebody stops it."""
    members, room = read_members(options.config_dir, options.run_dir, options.share)
    sockets = given_sockets(environ)
    broker = Broker(members, Limits(room, options.residence, options.linger, options.waiting))
    for member in members:
        for given in sockets.get(member.name, []):
            await broker.listen(member.name, given)
        if member.name not in sockets:
            _say(4, f"systemd gave no socket for {member.name}")
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    notifier = Notifier()
    notifier.send("READY=1")
    notifier.status(f"{', '.join(member.name for member in members)} on demand")
    while not stopped.is_set():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stopped.wait(), LOOK)
        broker.step()  # who is to be kept awake may have changed
        notifier.send("WATCHDOG=1")
    notifier.send("STOPPING=1")
    await broker.stop(options.drain)
    return 0


def main(argv: Sequence[str]) -> int:
    """Run the broker."""
    parser = argparse.ArgumentParser(prog="broker", description=__doc__.splitlines()[0])
    parser.add_argument("--share", required=True, help="whose models it serves")
    parser.add_argument("--config-dir", default="/etc/vllm", help="where their files are")
    parser.add_argument("--run-dir", default="/run/vllm", help="where their supervisors are")
    parser.add_argument("--residence", type=float, default=10.0, help="seconds awake at least")
    parser.add_argument("--linger", type=float, default=2.0, help="of these without work at most")
    parser.add_argument("--waiting", type=int, default=256, help="requests that may wait")
    parser.add_argument("--drain", type=float, default=30.0, help="seconds for requests at a stop")
    return asyncio.run(serve(parser.parse_args(argv), os.environ))
