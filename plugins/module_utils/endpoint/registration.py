# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registration of endpoint records with a registry, over HTTP with a bearer token.

A record is at one address, filled in from a template: `GET` tells what the registry has, `PUT`
puts it there, `DELETE` takes it away. Nothing is sent where the registry has the record already;
one that was restarted empty gets it again.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import re
import time
from collections.abc import Mapping
from typing import Any, Callable
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

from ansible.module_utils.urls import open_url

TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
LONGEST_PAUSE = 60.0
"""Seconds between two tries, at most, whatever the registry asks for."""

VOLATILE = ("verification", "measured")
"""Parts of a record that do not make it another one."""


class RegistryError(Exception):
    """The registry does not do what it should; the message says what, and what to do."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """What a registry answered.

    Attributes:
        status: HTTP status.
        body: The content.
        retry_after: Seconds that it asks to wait; `None` when it does not.
    """

    status: int
    body: bytes
    retry_after: float | None = None


def address(template: str, host: str, instance: str) -> str:
    """Where a record is registered.

    Args:
        template: With `{host}` and `{instance}`.
        host: The host's name.
        instance: The instance.

    Raises:
        RegistryError: The template has other words in braces, or is no address of a web server.
    """
    words = {"host": host, "instance": instance}
    unknown = set(re.findall(r"\{([^}]*)\}", template)) - set(words)
    if unknown or urlsplit(template).scheme not in ("http", "https"):
        raise RegistryError(
            f"{template!r} is no address of a registry: http or https, with {{host}} and"
            " {instance} where they belong"
        )
    if "{instance}" not in template:
        raise RegistryError(
            f"{template!r} has no {{instance}}: all records would be at one address"
        )
    return re.sub(r"\{(\w+)\}", lambda match: quote(words[match.group(1)], safe=""), template)


def same(ours: Mapping[str, Any], theirs: Any) -> bool:
    """Whether a registry has a record: what it adds of its own, and what is volatile, aside."""
    return isinstance(theirs, dict) and all(
        key in theirs and theirs[key] == value for key, value in ours.items() if key not in VOLATILE
    )


def pause(attempt: int, retry_after: float | None) -> float:
    """Seconds to wait after a try that failed (0, 1, …), unless the registry says how many."""
    wanted = 2.0**attempt if retry_after is None else retry_after
    return max(0.0, min(wanted, LONGEST_PAUSE))


class Registry:
    """A registry.

    Args:
        token: Sent as a bearer token; `None` for none.
        timeout: Seconds for one answer.
        retries: How often a request is tried again when the registry is not there, slow, or has
            trouble of its own.
        validate_certs: Whether its certificate must be right.
        ca_path: A file of certificate authorities instead of the system's.
        sleep: Waits.
    """

    def __init__(
        self,
        token: str | None,
        timeout: float = 10.0,
        retries: int = 4,
        validate_certs: bool = True,
        ca_path: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        self.timeout = timeout
        self.retries = retries
        self.validate_certs = validate_certs
        self.ca_path = ca_path
        self.sleep = sleep

    def _once(self, method: str, url: str, body: bytes | None) -> Reply:
        try:
            response = open_url(
                url,
                method=method,
                data=body,
                headers=self.headers,
                timeout=self.timeout,
                validate_certs=self.validate_certs,
                ca_path=self.ca_path,
                follow_redirects="none",
            )
            return Reply(response.status, response.read())
        except HTTPError as error:
            after = error.headers.get("Retry-After") if error.headers else None
            seconds = float(after) if after and after.isdigit() else None
            return Reply(error.code, error.read(), seconds)

    def request(self, method: str, url: str, body: bytes | None = None) -> Reply:
        """Send a request, again where the registry's trouble may pass.

        Raises:
            RegistryError: It answers nothing, or nothing but its own trouble.
        """
        problem, retry_after = "", None
        for attempt in range(self.retries + 1):
            if attempt:
                self.sleep(pause(attempt - 1, retry_after))
            try:
                reply = self._once(method, url, body)
            except URLError as error:
                problem, retry_after = f"cannot be reached: {error.reason}", None
                continue
            except (OSError, http.client.HTTPException) as error:
                problem, retry_after = f"does not answer: {error}", None
                continue
            if reply.status not in TRANSIENT:
                return reply
            problem, retry_after = f"answers {reply.status}", reply.retry_after
        raise RegistryError(f"the registry {problem} ({method} {url}, {self.retries + 1} times)")

    def _refused(self, reply: Reply, method: str, url: str) -> RegistryError:
        remedies = {
            401: "the token is missing or wrong: set vllm_endpoint_registry_token",
            403: "the token (vllm_endpoint_registry_token) may not do this",
            409: "it belongs to somebody else there; another template or instance name is needed",
        }
        remedy = remedies.get(reply.status, reply.body.decode("utf-8", "replace").strip()[:200])
        return RegistryError(f"the registry refuses {method} {url} ({reply.status}): {remedy}")

    def has(self, url: str, record: Mapping[str, Any]) -> bool:
        """Whether the registry has this record.

        Raises:
            RegistryError: It does not say.
        """
        reply = self.request("GET", url)
        if reply.status in (404, 410):
            return False
        if reply.status != 200:
            raise self._refused(reply, "GET", url)
        try:
            return same(record, json.loads(reply.body))
        except ValueError:
            return False

    def put(self, url: str, record: Mapping[str, Any]) -> None:
        """Register a record.

        Raises:
            RegistryError: It was refused, or the registry cannot be reached.
        """
        reply = self.request("PUT", url, json.dumps(record, sort_keys=True).encode())
        if not 200 <= reply.status < 300:
            raise self._refused(reply, "PUT", url)

    def delete(self, url: str) -> bool:
        """Withdraw a record; returns whether there was one.

        Raises:
            RegistryError: It was refused, or the registry cannot be reached.
        """
        reply = self.request("DELETE", url)
        if reply.status in (404, 410):
            return False
        if not 200 <= reply.status < 300:
            raise self._refused(reply, "DELETE", url)
        return True
