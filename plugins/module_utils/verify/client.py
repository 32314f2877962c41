# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An OpenAI-compatible endpoint as the checks see it: questions, whole answers, times.

The module's own process never talks to the network; `worker` does, with httpx.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import inspect
import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.verify import (
    worker as verify_worker,
)

START_TIMEOUT = 60.0
"""Seconds for the worker to import httpx, on a slow disk."""

GRACE = 5.0
"""Seconds that the worker may be late with an answer whose time is over."""

_BOOT = (
    "import sys; n = int(sys.stdin.buffer.readline()); "
    "exec(compile(sys.stdin.buffer.read(n), 'verify_worker', 'exec'), {'__name__': '__main__'})"
)

CHAT = "/v1/chat/completions"


class ClientError(Exception):
    """The worker cannot be used; the message says why and what to do."""


class Wrong(Exception):
    """An answer is not what it should be; the message says what is wrong with it."""


@dataclasses.dataclass(frozen=True)
class Request:
    """One HTTP request.

    Attributes:
        path: With its leading slash.
        body: Sent as JSON by `POST`; `None` for `GET`.
        auth: `key` for the endpoint's key (where it has one), `none`, or `wrong`.
        timeout: Seconds for the whole answer; `None` for the client's.
        content: What is posted instead of `body`, as it is.
        content_type: Of `content`.
    """

    path: str
    body: Mapping[str, Any] | None = None
    auth: str = "key"
    timeout: float | None = None
    content: bytes | None = None
    content_type: str = "application/json"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        path: What was asked.
        status: HTTP status; `None` where there was none.
        text: The body, as far as it came.
        problem: Why the body is not whole; `None` when it is.
        seconds: Until the end.
        first: Seconds to the first byte of generated content, `None` where none came.
    """

    path: str
    status: int | None
    text: str
    problem: str | None
    seconds: float
    first: float | None = None

    def must_be(self, *statuses: int) -> Answer:
        """This answer, when it is whole and has one of these statuses.

        Raises:
            Wrong: It is not.
        """
        if self.problem is not None:
            raise Wrong(f"{self.path} {self.problem}")
        if self.status not in statuses:
            wanted = " or ".join(map(str, statuses))
            raise Wrong(
                f"{self.path} answered {self.status}, expected {wanted}: {self.text.strip()[:300]}"
            )
        return self

    def json(self) -> dict[str, Any]:
        """The body as a JSON object, of an answer of status 200.

        Raises:
            Wrong: It is none.
        """
        self.must_be(200)
        try:
            value = json.loads(self.text)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Wrong(f"{self.path} did not answer with a JSON object: {self.text[:200]!r}")
        return value


def _content(request: Request) -> dict[str, str]:
    if request.content is None:
        return {}
    content = base64.b64encode(request.content).decode()
    return {"content": content, "content_type": request.content_type}


THOUGHT = re.compile(r"\A\s*(?:<think>)?(.*?)</think>\s*(.*)\Z", re.DOTALL)
"""Thought and answer where the server does not tell them apart; a template may open the thought."""


def told_apart(content: str | None, thought: str | None) -> tuple[str, str]:
    """Thought and answer of what a model said.

    Args:
        content: The message's content.
        thought: Its `reasoning`, or `reasoning_content` of older releases.
    """
    content = content or ""
    if thought:
        return thought.strip(), content
    found = THOUGHT.match(content)
    if found:
        return found.group(1).strip(), found.group(2)
    opened = content.lstrip().startswith("<think>")
    return (content.lstrip()[len("<think>") :].strip(), "") if opened else ("", content)


def thought_and_answer(answer: Answer) -> tuple[str, str]:
    """Thought and answer of a chat completion.

    Raises:
        Wrong: The answer has no message.
    """
    message = message_of(answer)
    content = message.get("content")
    thought = message.get("reasoning") or message.get("reasoning_content")
    return told_apart(
        content if isinstance(content, str) else None, thought if isinstance(thought, str) else None
    )


def message_of(answer: Answer) -> dict[str, Any]:
    """The first choice's message of a chat completion.

    Raises:
        Wrong: There is none.
    """
    value = answer.json()
    try:
        message = value["choices"][0]["message"]
    except (KeyError, IndexError, TypeError):
        message = None
    if not isinstance(message, dict):
        raise Wrong(f"{answer.path} has no choice in it: {answer.text[:200]!r}")
    return message


class Client:
    """One endpoint.

    Args:
        python: A Python that has httpx and fastjsonschema.
        url: The server's address without a path, such as `http://127.0.0.1:8000`.
        model: The served model's name.
        key: The API key, or `None`.
        timeout: Seconds for an answer, where a request says nothing else.
        threads: Requests at once.
        ca_path: A file of certificate authorities instead of the system's.
        validate_certs: Whether a server's certificate must be right.

    Raises:
        ClientError: The worker does not start.
    """

    def __init__(
        self,
        python: str,
        url: str,
        model: str,
        key: str | None = None,
        timeout: float = 60.0,
        threads: int = 16,
        ca_path: str | None = None,
        validate_certs: bool = True,
    ) -> None:
        self.url = url.rstrip("/")
        self.model = model
        self.key = key
        self.timeout = timeout
        self.model_seconds = 0.0
        """Time spent waiting for the endpoint, in seconds."""
        self._number = 0
        self._buffer = b""
        # From the file system, or from the archive in which Ansible ships modules.
        source = inspect.getsource(verify_worker).encode()
        try:
            self._process = subprocess.Popen(
                [python, "-I", "-c", _BOOT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8"},
                start_new_session=True,
            )
        except OSError as error:
            raise ClientError(
                f"{python} cannot be run: {error.strerror}; site.yml installs a host's tools"
            ) from error
        self._write(b"%d\n" % len(source) + source)
        number = self._send(
            "hello",
            url=self.url,
            key=key,
            threads=threads,
            ca_path=ca_path,
            validate_certs=validate_certs,
        )
        problem = self._receive({number}, START_TIMEOUT)[number].get("problem")
        if problem:
            self.close()
            raise ClientError(
                f"{python} cannot ask {self.url}: {problem}. It needs httpx and fastjsonschema"
                " (requirements/tools.in)"
            )

    def __enter__(self) -> Client:
        """The client; the worker ends with the block."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """End the worker."""
        self.close()

    def close(self) -> None:
        """End the worker, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def ask_all(self, requests: Sequence[Request]) -> list[Answer]:
        """Send requests at once; their answers in the same order."""
        began = time.monotonic()
        numbers, longest = [], 0.0
        for request in requests:
            timeout = request.timeout or self.timeout
            longest = max(longest, timeout)
            numbers.append(
                self._send(
                    "ask",
                    method="GET" if request.body is None and request.content is None else "POST",
                    path=request.path,
                    body=request.body,
                    **_content(request),
                    auth=request.auth,
                    timeout=timeout,
                )
            )
        events = self._receive(set(numbers), longest + GRACE)
        self.model_seconds += time.monotonic() - began
        return [
            Answer(
                request.path,
                events[number].get("status"),
                events[number].get("text", ""),
                events[number].get("problem"),
                events[number].get("seconds", 0.0),
                events[number].get("first"),
            )
            for request, number in zip(requests, numbers)
        ]

    def ask(self, request: Request) -> Answer:
        """Send one request."""
        return self.ask_all([request])[0]

    def chat_request(self, messages: Sequence[Mapping[str, Any]], **parameters: Any) -> Request:
        """The request for a chat completion."""
        return Request(
            CHAT, {"model": self.model, "messages": list(messages), "temperature": 0, **parameters}
        )

    def chat(self, messages: Sequence[Mapping[str, Any]], **parameters: Any) -> Answer:
        """Ask for a chat completion."""
        return self.ask(self.chat_request(messages, **parameters))

    def validate(self, schema: Mapping[str, Any], value: Any) -> str | None:
        """What is wrong with a value by a JSON schema; `None` when nothing is."""
        number = self._send("validate", schema=schema, value=value)
        problem = self._receive({number}, START_TIMEOUT)[number].get("problem")
        return None if problem is None else str(problem)

    def _send(self, operation: str, **request: Any) -> int:
        self._number += 1
        line = json.dumps({"id": self._number, "op": operation, **request})
        self._write(line.encode() + b"\n")
        return self._number

    def _write(self, data: bytes) -> None:
        # A worker that died is noticed by the end of its output.
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.write(data)
                self._process.stdin.flush()

    def _receive(self, numbers: set[int], timeout: float) -> dict[int, dict[str, Any]]:
        deadline = time.monotonic() + timeout
        events: dict[int, dict[str, Any]] = {}
        descriptor = self._process.stdout.fileno() if self._process.stdout is not None else -1
        while numbers - set(events):
            line, separator, rest = self._buffer.partition(b"\n")
            if separator:
                self._buffer = rest
                event = json.loads(line)
                events[event.pop("id")] = event
                continue
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                problem = "did not answer in time, nor did the process that asked"
                break
            block = os.read(descriptor, 1 << 16)
            if not block:
                problem = "cannot be asked: the process that asks has ended"
                break
            self._buffer += block
        for number in numbers - set(events):
            events[number] = {"problem": problem}
        return events


def told_models(client: Client) -> list[str]:
    """The names of the models that a server has.

    Raises:
        Wrong: It does not tell.
    """
    answer = client.ask(Request("/v1/models"))
    if answer.status in (401, 403):
        key = "the API key is wrong" if client.key is not None else "it wants an API key"
        raise Wrong(f"/v1/models answered {answer.status}: {key}")
    data = answer.json().get("data")
    if not isinstance(data, list):
        raise Wrong("/v1/models has no list of models")
    return [str(entry["id"]) for entry in data if isinstance(entry, dict) and "id" in entry]
