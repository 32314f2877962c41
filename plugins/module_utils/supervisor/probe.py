# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tells that a vLLM server computes: an answer of its kind, and counters that move."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from .kinds import question_of


@dataclass(frozen=True)
class Address:
    """Where a server answers and how it is asked.

    Attributes:
        host: An address that this host itself reaches.
        port: The TCP port.
        model: The name that requests give.
        api_key: Sent as a bearer token; `None` for none.
        tls: Whether the server speaks TLS. Its certificate names the outside's host, not this
            one, and is not checked.
        kind: What it is asked for; see `kinds.KINDS`.
        uds: The Unix socket on which it listens instead, behind a broker; `None` for the port.
    """

    host: str
    port: int
    model: str
    api_key: str | None = None
    tls: bool = False
    kind: str = "chat"
    uds: str | None = None


class ProbeFailed(Exception):
    """There was no answer, or not the right one; the message says how."""


def read_config(text: str) -> dict[str, object]:
    """The flags in vLLM's `--config` file as this collection writes it: `key: JSON` lines."""
    config: dict[str, object] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon or line.startswith((" ", "#")):
            continue
        try:
            config[key.strip()] = json.loads(value)
        except ValueError:  # somebody edited it, in YAML
            config[key.strip()] = value.strip().strip("'\"")
    return config


def address_of(config: Mapping[str, object], api_key: str | None, kind: str = "chat") -> Address:
    """Where the server with this configuration will answer.

    The defaults are vLLM's: every interface, port 8000, the model's own name
    (vllm/entrypoints/openai/cli_args.py).
    """
    host = str(config.get("host") or "0.0.0.0")  # noqa: S104 - replaced in the next line
    names = config.get("served-model-name")
    name = names[0] if isinstance(names, list) and names else names or config.get("model")
    return Address(
        host={"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host),  # noqa: S104
        port=int(str(config.get("port") or 8000)),
        model=str(name),
        api_key=api_key,
        tls="ssl-certfile" in config,
        kind=kind,
        uds=str(config["uds"]) if config.get("uds") else None,
    )


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket.

    Args:
        path: The socket's.
        timeout: Seconds for each step.
    """

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Reach the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        except OSError:
            self.close()
            raise


def is_served(path: str) -> bool:
    """Whether somebody listens on a Unix socket."""
    try:
        with contextlib.closing(UnixConnection(path, 5.0)) as connection:
            connection.connect()
    except OSError:
        return False
    return True


def connect(address: Address, timeout: float) -> http.client.HTTPConnection:
    """A connection to the server, made with the first request over it. No proxy is ever asked."""
    if address.uds is not None:
        return UnixConnection(address.uds, timeout)
    if not address.tls:
        return http.client.HTTPConnection(address.host, address.port, timeout=timeout)
    context = ssl._create_unverified_context()  # noqa: S323 - see Address.tls
    return http.client.HTTPSConnection(address.host, address.port, timeout=timeout, context=context)


def ask(
    connection: http.client.HTTPConnection,
    address: Address,
    path: str,
    body: bytes | None = None,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Ask for a path over a connection, which stays open: `GET`, or `POST` with a body.

    Raises:
        ProbeFailed: There was no answer within the connection's time, or its status is not 200.
    """
    fields = {"Content-Type": content_type, **(headers or {})}
    if address.api_key:
        fields["Authorization"] = f"Bearer {address.api_key}"
    try:
        connection.request("GET" if body is None else "POST", path, body, fields)
        response = connection.getresponse()
        answer = response.read()
    except socket.timeout as error:
        timeout = f"{connection.timeout:g}" if connection.timeout else "?"
        raise ProbeFailed(f"{path} did not answer within {timeout} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise ProbeFailed(f"{path} cannot be reached: {error}") from error
    if response.status != 200:
        text = answer.decode("utf-8", "replace").strip()[:300]
        raise ProbeFailed(f"{path} answered {response.status}: {text}")
    return answer


def request(
    address: Address,
    path: str,
    body: bytes | None,
    timeout: float,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Ask for a path over a connection of its own; see :func:`ask`."""
    with contextlib.closing(connect(address, timeout)) as connection:
        return ask(connection, address, path, body, content_type, headers)


def compute_once(address: Address, timeout: float) -> None:
    """Have the engine compute the least that its kind can: one token, one vector, one score.

    Raises:
        ProbeFailed: Nothing came back, or something else.
    """
    question = question_of(address.kind, address.model)
    answer = request(address, question.path, question.body, timeout, question.content_type)
    problem = question.problem(answer)
    if problem is not None:
        raise ProbeFailed(problem)


@dataclass(frozen=True)
class Counters:
    """What `/metrics` says of the engine.

    Attributes:
        running: Requests that are being computed.
        waiting: Requests that wait for that.
        work: Everything that moves while the engine computes, to be compared with another reading:
            tokens, iterations, and how much of the KV cache is used, which alone moves during the
            prefill of a long prompt.
        tokens: Tokens generated since the start.
    """

    running: int
    waiting: int
    work: tuple[tuple[str, float], ...]
    tokens: int

    @property
    def idle(self) -> bool:
        """Whether no request is there."""
        return self.running == 0 and self.waiting == 0


# vllm/v1/metrics/loggers.py; prometheus_client adds _total to a counter's name.
_WORK = (
    "vllm:generation_tokens_total",
    "vllm:prompt_tokens_total",
    "vllm:iteration_tokens_total_count",
    "vllm:request_success_total",
    "vllm:num_preemptions_total",
    "vllm:kv_cache_usage_perc",
)
_SAMPLE = re.compile(r"^(vllm:\w+)(?:\{[^}]*\})? (\S+)", re.MULTILINE)


def read_counters(text: str) -> Counters:
    """Read what `/metrics` answered, summed over engines and labels."""
    sums: dict[str, float] = {}
    for name, value in _SAMPLE.findall(text):
        sums[name] = sums.get(name, 0.0) + float(value)
    return Counters(
        running=int(sums.get("vllm:num_requests_running", 0)),
        waiting=int(sums.get("vllm:num_requests_waiting", 0)),
        work=tuple((name, sums[name]) for name in _WORK if name in sums),
        tokens=int(sums.get("vllm:generation_tokens_total", 0)),
    )


def counters(address: Address, timeout: float) -> Counters:
    """Ask for the counters.

    Raises:
        ProbeFailed: There was no answer.
    """
    return read_counters(request(address, "/metrics", None, timeout).decode("utf-8", "replace"))
