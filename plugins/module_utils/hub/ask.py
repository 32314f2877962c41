# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small questions to the Hub, with the standard library alone.

Before the first change a host has no huggingface_hub, and nothing may be installed to look. So the
few documented requests that tell what a model is (https://huggingface.co/docs/hub/api) are made
here; files of models are fetched by `fetch`, with huggingface_hub.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, Callable
from urllib.parse import quote, urljoin, urlsplit

# Where distributions keep the certificates that the host trusts, its company's among them.
CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
_BLOCK = 1 << 16


class HubRefusal(Exception):
    """The Hub does not answer, or refuses.

    Attributes:
        event: `code` (one of `errors`), `status` (HTTP, or None), `message` and `retry_after`
            (seconds, or None), as `worker.failure` has them.
    """

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.event: dict[str, Any] = {
            "code": code,
            "status": status,
            "message": message,
            "retry_after": None,
        }


def certificates(
    environ: Mapping[str, str], exists: Callable[[str], bool] = os.path.exists
) -> str | None:
    """The file of certificates to trust; None where the environment names some, or none is there.

    Args:
        environ: The process's environment.
        exists: Whether the host has a file.
    """
    if "SSL_CERT_FILE" in environ or "SSL_CERT_DIR" in environ:
        return None
    return next(filter(exists, CERTIFICATES), None)


def refusal_code(status: int, headers: Any) -> str:
    """The code of a refusal, as `errors` knows it.

    The rules are those of `hf_raise_for_status` in huggingface_hub/utils/_http.py (1.33.0), for
    which `worker.failure` has the same codes.

    Args:
        status: HTTP status.
        headers: Of the answer; `get` takes their names in any case.
    """
    error = headers.get("X-Error-Code")
    said = headers.get("X-Error-Message") or ""
    named = {
        "GatedRepo": "gated",
        "RevisionNotFound": "revision",
        "EntryNotFound": "entry",
        "RepoNotFound": "repository",
    }
    if error in named:
        return named[error]
    if said == "Access to this resource is disabled.":
        return "disabled"
    if status == 401:
        return "token" if said.startswith("Invalid credentials") else "repository"
    return {403: "forbidden", 404: "endpoint", 429: "rate", 416: "range"}.get(status, "server")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to `Asker`, which keeps the token from other hosts."""

    def redirect_request(self, *_arguments: Any, **_more: Any) -> None:
        return None


class Asker:
    """One Hub, as far as small questions go; may be used from several threads.

    Args:
        endpoint: The Hub's address.
        token: The user's token, or None. It is sent to the endpoint alone.
        timeout: Seconds from now on that all questions together may take.
        agent: What it calls itself.
    """

    def __init__(
        self, endpoint: str, token: str | None, timeout: float, agent: str = "compute_plane.vllm"
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._token = token
        self._timeout = timeout
        self._until = time.monotonic() + timeout
        self._agent = agent
        context = ssl.create_default_context(cafile=certificates(os.environ))
        self._opener = urllib.request.build_opener(
            _NoRedirects(), urllib.request.HTTPSHandler(context=context)
        )

    def info(self, repo_id: str, revision: str) -> dict[str, Any]:
        """What the Hub says of a revision: its commit (`sha`), its files (`siblings`) and more.

        Raises:
            HubRefusal: It says nothing.
        """
        path = f"/api/models/{repo_id}/revision/{quote(revision, safe='')}?blobs=true"
        try:
            answer = json.loads(self.get(path))
        except ValueError as error:
            raise HubRefusal("endpoint", f"its answer is not JSON: {error}", 200) from error
        if not isinstance(answer, dict):
            raise HubRefusal("endpoint", "its answer is not a JSON object", 200)
        return answer

    def text(self, repo_id: str, commit: str, path: str, limit: int) -> str:
        """The text of a small file.

        Raises:
            HubRefusal: It cannot be had, or is larger.
        """
        return self.get(self._file(repo_id, commit, path), limit=limit).decode("utf-8", "replace")

    def part(self, repo_id: str, commit: str, path: str, begin: int, end: int) -> bytes:
        """The bytes of a file from `begin` on, up to and without `end`.

        Raises:
            HubRefusal: They cannot be had.
        """
        return self.get(self._file(repo_id, commit, path), (begin, end), end - begin)

    def _file(self, repo_id: str, commit: str, path: str) -> str:
        return f"/{repo_id}/resolve/{commit}/{quote(path)}"

    def get(
        self, path: str, span: tuple[int, int] | None = None, limit: int | None = None
    ) -> bytes:
        """The answer to a question.

        Args:
            path: Address below the endpoint.
            span: First byte and the one after the last; all of them when None.
            limit: Bytes beyond which an answer is refused; with `span` no more are read.

        Raises:
            HubRefusal: There is none.
        """
        url = self.endpoint + path
        for _redirect in range(_MOST_REDIRECTS):
            try:
                with contextlib.closing(self._open(url, span)) as response:
                    if span is not None and span[0] and response.status != 206:
                        raise HubRefusal("mismatch", "it does not send parts of files")
                    return self._read(response, span is None, limit)
            except urllib.error.HTTPError as error:
                with contextlib.closing(error):
                    location = error.headers.get("Location")
                    if error.code not in _REDIRECTS or not location:
                        raise self._refused(error) from error
                    url = urljoin(url, location)
            except (OSError, HTTPException, ValueError) as error:
                raise HubRefusal("network", self._why(error)) from error
        raise HubRefusal("endpoint", "it redirects without an end")

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _open(self, url: str, span: tuple[int, int] | None) -> Any:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"{url} is not an address of the web")
        request = urllib.request.Request(url, headers={"User-Agent": self._agent})  # noqa: S310
        if self._token and urlsplit(url)[:2] == urlsplit(self.endpoint)[:2]:
            request.add_header("Authorization", f"Bearer {self._token}")
        if span is not None:
            request.add_header("Range", f"bytes={span[0]}-{span[1] - 1}")
        return self._opener.open(request, timeout=self._left())

    def _read(self, response: Any, whole: bool, limit: int | None) -> bytes:
        found = bytearray()
        while limit is None or len(found) <= limit:
            self._left()
            block = response.read(_BLOCK)
            if not block:
                if response.length:  # bytes that were announced and have not come
                    raise HTTPException("the connection ended before the answer did")
                break
            found += block
        if limit is not None and len(found) > limit:
            if whole:
                raise HubRefusal("mismatch", f"it is larger than {limit} bytes")
            del found[limit:]
        return bytes(found)

    def _refused(self, error: urllib.error.HTTPError) -> HubRefusal:
        said = error.headers.get("X-Error-Message") or str(error.reason)
        return HubRefusal(refusal_code(error.code, error.headers), said, error.code)

    def _why(self, error: Exception) -> str:
        reason = getattr(error, "reason", error)
        if isinstance(reason, (TimeoutError, socket.timeout)):  # one and the same from 3.10 on
            return f"no answer within {self._timeout:g} s"
        return str(reason) or type(reason).__name__
