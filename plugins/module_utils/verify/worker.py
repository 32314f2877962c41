# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that talks to an endpoint, run by a Python that has httpx and fastjsonschema.

It is a filter: one JSON request a line on its standard input, one JSON event a line on its standard
output (`client.Client` is the other end). It judges nothing. Requests run side by side, as
they come; each has a time in which it must be answered whole, however slowly it drips. When its
input ends, it ends.

The key comes with the first request: not on the command line, not in the environment.
"""

from __future__ import annotations

import base64
import importlib
import json
import re
import ssl
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

LONGEST_ANSWER = 8 << 20
"""Bytes."""

CONTENT = re.compile(rb'"(?:content|reasoning|reasoning_content|text)":\s*"[^"]')
"""In a stream, the first chunk with generated text."""


class TooLate(Exception):
    """The answer is not whole in time."""


class Worker:
    """What one connection to an endpoint needs.

    Args:
        hello: The first request: `url`, `key`, `threads`, `ca_path`, `validate_certs`.
    """

    def __init__(self, hello: dict[str, Any]) -> None:
        self.httpx: Any = importlib.import_module("httpx")
        importlib.import_module("fastjsonschema")  # missing: said at once
        context: Any = True
        if hello["url"].startswith("https:"):
            context = ssl.create_default_context(cafile=hello["ca_path"])
            if not hello["validate_certs"]:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
        limits = self.httpx.Limits(max_connections=hello["threads"])
        self.client = self.httpx.Client(
            base_url=hello["url"], verify=context, trust_env=False, limits=limits
        )
        self.key: str | None = hello["key"]

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One HTTP request; the event that tells its answer."""
        began = time.monotonic()
        deadline = began + request["timeout"]
        seen = bytearray()
        event: dict[str, Any] = {"first": None}
        try:
            self._read(request, began, deadline, seen, event)
        except TooLate:
            event["problem"] = f"did not answer within {request['timeout']:g} s"
        except self.httpx.TimeoutException:
            event["problem"] = f"did not answer within {request['timeout']:g} s"
        except self.httpx.ConnectError as error:
            event["problem"] = f"cannot be reached: {error}"
        except self.httpx.HTTPError as error:
            event["problem"] = f"broke off: {error or type(error).__name__}"
        event["seconds"] = round(time.monotonic() - began, 4)
        event["text"] = seen.decode("utf-8", "replace")
        return event

    def _read(
        self,
        request: dict[str, Any],
        began: float,
        deadline: float,
        seen: bytearray,
        event: dict[str, Any],
    ) -> None:
        headers = {}
        sent: dict[str, Any] = {"json": request["body"]}
        if "content" in request:
            sent = {"content": base64.b64decode(request["content"])}
            headers["Content-Type"] = request["content_type"]
        key = {"key": self.key, "wrong": "not-the-key", "none": None}[request["auth"]]
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        with self.client.stream(
            request["method"],
            request["path"],
            headers=headers,
            **sent,
            timeout=request["timeout"],
        ) as response:
            event["status"] = response.status_code
            for block in response.iter_bytes():
                seen += block
                now = time.monotonic()
                if event["first"] is None and CONTENT.search(seen):
                    event["first"] = round(now - began, 4)
                if now > deadline:
                    raise TooLate
                if len(seen) > LONGEST_ANSWER:
                    event["problem"] = f"sends more than {LONGEST_ANSWER} bytes"
                    return


def validate(request: dict[str, Any]) -> dict[str, Any]:
    """Check a value against a JSON schema; the event has `problem` when it does not hold."""
    fastjsonschema: Any = importlib.import_module("fastjsonschema")
    try:
        fastjsonschema.validate(request["schema"], request["value"])
    except fastjsonschema.JsonSchemaValueException as error:
        return {"problem": error.message}
    except fastjsonschema.JsonSchemaDefinitionException as error:
        return {"problem": f"the schema itself is wrong: {error}"}
    return {}


def main() -> None:
    """Answer requests until the input ends."""
    lock = threading.Lock()
    worker: Worker | None = None

    def tell(number: int, event: dict[str, Any]) -> None:
        line = json.dumps({"id": number, **event})
        with lock:
            print(line, flush=True)

    def serve(request: dict[str, Any]) -> None:
        try:
            if request["op"] == "ask" and worker is not None:
                event = worker.ask(request)
            else:
                event = validate(request)
        except Exception as error:  # noqa: BLE001 - everything is an event
            event = {"problem": f"{type(error).__name__}: {error}", "seconds": 0.0, "text": ""}
        tell(request["id"], event)

    hello = json.loads(sys.stdin.readline())
    try:
        worker = Worker(hello)
    except Exception as error:  # noqa: BLE001 - everything is an event
        tell(hello["id"], {"problem": f"{type(error).__name__}: {error}"})
        return
    tell(hello["id"], {})
    with ThreadPoolExecutor(hello["threads"]) as pool:
        for line in sys.stdin:
            pool.submit(serve, json.loads(line))


if __name__ == "__main__":
    main()
