# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of an OpenAI-compatible server.

Over the standard library: to bring Ansible's own client along costs a run that changes nothing more
than its requests do.

The paths are vLLM's (https://docs.vllm.ai/en/latest/serving/openai_compatible_server/).
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener


class EndpointError(Exception):
    """The server did not answer, or not as it should; the message says how."""


class Endpoint:
    """One server.

    Args:
        url: Its address without a path, such as `http://127.0.0.1:8000`.
        api_key: Sent as a bearer token; `None` for none.
        timeout: Longest wait for an answer, in seconds.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.headers = {}
        if api_key is not None:
            self.headers["Authorization"] = f"Bearer {api_key}"

    def request(
        self,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """Ask for a path: `GET`, or `POST` with a body, which is sent as JSON unless it is bytes.

        Raises:
            EndpointError: There was no answer, or its status is not 200.
        """
        try:
            request = Request(  # noqa: S310 - the caller's own server
                self.url + path,
                method="GET" if body is None else "POST",
                data=body if body is None or isinstance(body, bytes) else json.dumps(body).encode(),
                headers={"Content-Type": content_type, **self.headers},
            )
            with build_opener(ProxyHandler({})).open(request, timeout=self.timeout) as response:
                content: bytes = response.read()
        except HTTPError as error:
            detail = error.read().decode("utf-8", "replace").strip()[:500]
            raise EndpointError(f"{path} answered {error.code}: {detail}") from error
        except URLError as error:
            raise EndpointError(f"{path} cannot be reached: {error.reason}") from error
        except socket.timeout as error:
            raise EndpointError(f"{path} did not answer within {self.timeout:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise EndpointError(f"{path} broke off: {error}") from error
        return content

    def json(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Like :meth:`request`, for an answer that is a JSON object."""
        content = self.request(path, body)
        try:
            answer = json.loads(content)
        except ValueError as error:
            raise EndpointError(f"{path} did not answer with JSON: {content[:200]!r}") from error
        if not isinstance(answer, dict):
            raise EndpointError(f"{path} did not answer with a JSON object: {content[:200]!r}")
        return answer

    def health(self) -> None:
        """`/health`: returns when the answer is 200."""
        self.request("/health")

    def version(self) -> str:
        """`/version`: vLLM's version, such as `0.14.1`."""
        return str(self.json("/version").get("version"))

    def models(self) -> list[dict[str, Any]]:
        """`/v1/models`: the models served."""
        data = self.json("/v1/models").get("data")
        if not isinstance(data, list):
            raise EndpointError("/v1/models has no list of models")
        return data

    def chat(self, model: str, messages: list[dict[str, str]], **parameters: Any) -> str:
        """`/v1/chat/completions`: the text of the first choice.

        Args:
            model: The served model's name.
            messages: The conversation so far.
            parameters: Sampling parameters, such as `max_tokens` and `temperature`.
        """
        body = {"model": model, "messages": messages, **parameters}
        answer = self.json("/v1/chat/completions", body)
        try:
            return answer["choices"][0]["message"]["content"] or ""
        except (KeyError, IndexError, TypeError) as error:
            raise EndpointError(f"/v1/chat/completions has no choice in it: {answer}") from error

    def complete_one_token(self, model: str) -> None:
        """Prove that the engine computes: one token of a completion.

        `/health` and `/v1/models` answer 200 also when the engine hangs (vllm issue 42897). Greedy,
        for on a CPU the first that samples has C++ compiled, 10 s of two cores.

        Raises:
            EndpointError: No token came back.
        """
        body = {"model": model, "prompt": "1", "max_tokens": 1, "temperature": 0}
        answer = self.json("/v1/completions", body)
        usage = answer.get("usage") or {}
        if usage.get("completion_tokens") != 1:
            raise EndpointError(f"/v1/completions computed no token: {answer}")
