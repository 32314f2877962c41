# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that talks to the Hub, run by the tools' Python, which has huggingface_hub.

It is a filter: one JSON request a line on its standard input, one JSON event a line on its
standard output (`fetch.Worker` is the other end). It decides nothing, retries nothing and hides
no delay: every failure is an event. When its input ends, because the module ended however it did,
it ends.

Requests: `{"op": "hello", "endpoint", "token", "threads", "timeout"}` first, then
`{"op": "list", "repo_id", "revision"}`, `{"op": "read", "repo_id", "commit", "path"}` and
`{"op": "fetch", "repo_id", "commit", "path", "size", "part", "lock"}`, each with an `id`.
Events: `{"id", "event": "done", ...}` or `{"id", "event": "failed", "code", "message", ...}`.

The client's own `hf_hub_download` is not used for the transfer: since huggingface_hub pull request
4306 it writes into a file of a random name and cannot resume after its process ended. Addresses,
authentication, sessions, redirects, metadata, locks and errors are the client's.

`HF_HUB_DISABLE_XET=1` must be in the environment before this starts.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO
from urllib.parse import urlsplit

# Written to the file in pieces of this size: what a kill loses, and how finely progress is seen.
BUFFER = 1 << 16

ANSWER_TIMEOUT = 15.0
"""Seconds to connect, and for an answer that is not a file's content."""


class Mismatch(Exception):
    """The Hub contradicts itself about a file."""


class HubClient:
    """huggingface_hub, as far as it is needed.

    Args:
        endpoint: The Hub's address.
        token: The user's token, or None. Tokens on the machine are never used.
        timeout: Seconds without a byte after which a transfer has stalled.
    """

    def __init__(self, endpoint: str, token: str | None, timeout: float) -> None:
        # Only the tools' Python has it; the module imports this file for its text.
        self.hub: Any = importlib.import_module("huggingface_hub")
        self.utils: Any = importlib.import_module("huggingface_hub.utils")
        if self.version.startswith("0."):  # its sessions are not httpx's
            raise ImportError(f"huggingface_hub {self.version} is too old, 1.0 is the first to do")
        self.endpoint = endpoint
        self.token: Any = token or False
        self.timeout = timeout

    @property
    def version(self) -> str:
        """Version of huggingface_hub."""
        return str(self.hub.__version__)

    def list(self, repo_id: str, revision: str) -> dict[str, Any]:
        """The commit that a revision is at, and all its files."""
        api = self.hub.HfApi(endpoint=self.endpoint, token=self.token)
        info = api.model_info(
            repo_id, revision=revision, files_metadata=True, timeout=ANSWER_TIMEOUT
        )
        files = []
        for file in info.siblings or []:
            lfs = file.lfs
            if lfs is not None:
                files.append([file.rfilename, lfs.size, lfs.sha256, lfs.sha256])
            else:
                files.append([file.rfilename, file.size, file.blob_id, None])
        return {"commit": info.sha, "files": files, "gated": bool(getattr(info, "gated", False))}

    def metadata(self, repo_id: str, commit: str, path: str) -> Any:
        """What the Hub says about a file of a commit (a HEAD request)."""
        url = self.hub.hf_hub_url(repo_id, path, revision=commit, endpoint=self.endpoint)
        return self.hub.get_hf_file_metadata(
            url, token=self.token, timeout=ANSWER_TIMEOUT, endpoint=self.endpoint
        )

    def _stream(self, location: str, begin: int) -> Any:
        headers = self.utils.build_hf_headers(token=self.token)
        headers["Accept-Encoding"] = "identity"
        if urlsplit(location).netloc != urlsplit(self.endpoint).netloc:
            headers.pop("authorization", None)  # a signed address of a CDN: not the CDN's business
        if begin:
            headers["Range"] = f"bytes={begin}-"
        timeout = (ANSWER_TIMEOUT, self.timeout, self.timeout, ANSWER_TIMEOUT)
        return self.utils.get_session().stream("GET", location, headers=headers, timeout=timeout)

    def read(self, repo_id: str, commit: str, path: str) -> dict[str, Any]:
        """The text of a small file."""
        metadata = self.metadata(repo_id, commit, path)
        with self._stream(metadata.location, 0) as response:
            self.utils.hf_raise_for_status(response)
            return {"text": response.read().decode("utf-8")}

    def fetch(
        self, repo_id: str, commit: str, path: str, size: int, part: str, lock: str
    ) -> dict[str, Any]:
        """Append to `part` what is missing of a file."""
        metadata = self.metadata(repo_id, commit, path)
        # Not its ETag or commit, which mirrors make up: the content is verified in the end.
        if metadata.size is not None and metadata.size != size:
            raise Mismatch(f"its size is {metadata.size}, but {size} in the list of files")
        os.makedirs(os.path.dirname(lock), mode=0o755, exist_ok=True)
        # The lock that the client's own downloads take, and the one thing that keeps the process of
        # a killed run, if it lived a moment longer, from writing to the same file.
        with self.utils.WeakFileLock(lock), open(part, "ab", buffering=BUFFER) as stream:
            return {"bytes": self._append(metadata.location, stream, size)}

    def _append(self, location: str, stream: BinaryIO, size: int) -> int:
        begin = stream.tell()
        if begin > size:
            stream.truncate(0)
            begin = 0
        if begin == size:
            return 0
        with self._stream(location, begin) as response:
            self.utils.hf_raise_for_status(response)
            if begin and response.status_code != 206:
                stream.truncate(0)  # the server ignored the range and begins at the beginning
                begin = 0
            announced = _announced(response.headers, begin)
            if announced is not None and announced != size:
                raise Mismatch(f"the server announces {announced} bytes instead of {size}")
            position = begin
            for block in response.iter_raw():
                position += len(block)
                if position > size:
                    stream.truncate(0)
                    raise Mismatch(f"the server sends more than its {size} bytes")
                stream.write(block)
        if position < size:
            raise ConnectionError(f"the connection ended after {position} of {size} bytes")
        return position - begin


def _announced(headers: Any, begin: int) -> int | None:
    """The whole size of a file, as the answer to a request from `begin` on announces it."""
    content_range = headers.get("content-range", "")
    if content_range.startswith("bytes ") and content_range.rsplit("/", 1)[-1].isdigit():
        first = content_range[len("bytes ") :].split("-", 1)[0]
        if first != str(begin):
            raise Mismatch(f"the server sends from byte {first} on instead of {begin}")
        return int(content_range.rsplit("/", 1)[-1])
    length = headers.get("content-length", "")
    return begin + int(length) if length.isdigit() else None


def failure(error: BaseException, operation: str) -> dict[str, Any]:
    """An exception as an event: a code that `errors` knows, and the client's own words."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    headers = getattr(response, "headers", {})
    names = {cls.__name__ for cls in type(error).__mro__}
    modules = {cls.__module__.split(".")[0] for cls in type(error).__mro__}
    event: dict[str, Any] = {
        "event": "failed",
        "status": status,
        "message": str(getattr(error, "server_message", None) or error) or type(error).__name__,
        "retry_after": _retry_after(headers),
    }
    if "GatedRepoError" in names:
        code = "gated"
    elif "RevisionNotFoundError" in names:
        code = "revision"
    elif "EntryNotFoundError" in names:
        code = "entry"
    elif "DisabledRepoError" in names:
        code = "disabled"
    elif status == 401 and headers.get("x-error-message", "").startswith("Invalid credentials"):
        code = "token"
    elif "RepositoryNotFoundError" in names or status == 401:
        code = "repository"
    elif status == 403:
        code = "forbidden"
    elif status == 404:
        code = "endpoint"
    elif status == 429:
        code = "rate"
    elif status == 416:
        code = "range"
    elif status is not None:
        code = "server"
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        code = "space"
    elif isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        code = "unwritable"
    elif isinstance(error, Mismatch):
        code = "mismatch"
    elif "ReadTimeout" in names and operation == "fetch":
        code = "stalled"
    elif modules & {"httpx", "httpx2", "httpcore", "requests"} or isinstance(
        error, ConnectionError
    ):
        code = "network"
        event["message"] = f"{type(error).__name__}: {event['message']}"
    else:
        code = "other"
        event["message"] = "".join(traceback.format_exception_only(type(error), error)).strip()
        event["trace"] = "".join(traceback.format_tb(error.__traceback__)[-3:])
    event["code"] = code
    return event


def _retry_after(headers: Any) -> float | None:
    """Seconds that the server asks to wait.

    RFC 9110 section 10.2.3 (its form in seconds), and the Hub's `RateLimit` header
    (https://huggingface.co/docs/hub/rate-limits).
    """
    value = headers.get("retry-after", "").strip()
    if value.isdigit():
        return float(value)
    for part in headers.get("ratelimit", "").split(";"):
        name, _equals, seconds = part.strip().partition("=")
        if name == "t" and seconds.isdigit():
            return float(seconds)
    return None


def serve(requests: BinaryIO, events: BinaryIO) -> None:
    """Answer requests until they end."""
    writing = threading.Lock()

    def emit(number: Any, event: dict[str, Any]) -> None:
        with writing:
            events.write(json.dumps({"id": number, **event}).encode() + b"\n")
            events.flush()

    def answer(client: HubClient, request: dict[str, Any]) -> None:
        number, operation = request.pop("id"), request.pop("op")
        try:
            result = getattr(client, operation)(**request)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the module must hear of it
            emit(number, failure(error, operation))
        else:
            emit(number, {"event": "done", **result})

    hello = json.loads(requests.readline())
    try:
        client = HubClient(hello["endpoint"], hello["token"], hello["timeout"])
    except BaseException as error:  # noqa: BLE001 - as above
        emit(hello["id"], failure(error, "hello"))
        return
    emit(hello["id"], {"event": "done", "version": client.version})
    pool = ThreadPoolExecutor(max_workers=hello["threads"])
    for line in requests:
        pool.submit(answer, client, json.loads(line))


def main() -> None:
    """Serve standard input; nothing but events goes to standard output."""
    os.umask(0o022)
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, events)
    os._exit(0)  # transfers under way end here: nobody waits for them


if __name__ == "__main__":
    main()
