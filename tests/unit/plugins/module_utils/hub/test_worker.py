# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's view of the client's exceptions and of a server's headers."""

from __future__ import annotations

import errno
import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub import worker as hf_worker
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.worker import (
    HubClient,
    Mismatch,
    _announced,
    failure,
)

if TYPE_CHECKING:
    from pathlib import Path


class Response:
    def __init__(self, status: int, **headers: str) -> None:
        self.status_code = status
        self.headers = {name.replace("_", "-").lower(): text for name, text in headers.items()}


def error(name: str, response: Response | None = None, module: str = "huggingface_hub") -> Any:
    made = type(name, (Exception,), {"__module__": module})("its words")
    if response is not None:
        made.response = response
    return made


@pytest.mark.parametrize(
    ("exception", "operation", "code"),
    [
        (error("GatedRepoError", Response(403)), "fetch", "gated"),
        (error("RevisionNotFoundError", Response(404)), "list", "revision"),
        (error("EntryNotFoundError", Response(404)), "fetch", "entry"),
        (error("DisabledRepoError", Response(403)), "list", "disabled"),
        (
            error(
                "HfHubHTTPError",
                Response(401, X_Error_Message="Invalid credentials in Authorization header"),
            ),
            "list",
            "token",
        ),
        (error("RepositoryNotFoundError", Response(404)), "list", "repository"),
        (error("HfHubHTTPError", Response(401)), "list", "repository"),
        (error("HfHubHTTPError", Response(403)), "list", "forbidden"),
        (error("HfHubHTTPError", Response(404)), "list", "endpoint"),
        (error("HfHubHTTPError", Response(429)), "list", "rate"),
        (error("HfHubHTTPError", Response(416)), "fetch", "range"),
        (error("HfHubHTTPError", Response(502)), "fetch", "server"),
        (error("ReadTimeout", module="httpx"), "fetch", "stalled"),
        (error("ReadTimeout", module="httpx"), "list", "network"),
        (error("ConnectError", module="httpx"), "list", "network"),
        (ConnectionError("cut"), "fetch", "network"),
        (OSError(errno.ENOSPC, "No space left on device"), "fetch", "space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "fetch", "space"),
        (OSError(errno.EROFS, "Read-only file system"), "fetch", "unwritable"),
        (Mismatch("contradiction"), "fetch", "mismatch"),
        (KeyError("bug"), "fetch", "other"),
    ],
)
def test_codes(exception: BaseException, operation: str, code: str) -> None:
    event = failure(exception, operation)
    assert event["event"] == "failed"
    assert event["code"] == code
    assert event["message"]
    json.dumps(event)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"RateLimit": '"api";r=0;t=55'}, 55.0),
        ({"RateLimit": '"api";r=0'}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    event = failure(error("HfHubHTTPError", Response(429, **headers)), "list")
    assert event["retry_after"] == seconds


@pytest.mark.parametrize(
    ("headers", "begin", "size"),
    [
        ({"content-length": "10"}, 0, 10),
        ({"content-length": "4", "content-range": "bytes 6-9/10"}, 6, 10),
        ({"content-length": "4", "content-range": "bytes 6-9/*"}, 6, 10),
        ({}, 0, None),
    ],
)
def test_announced_size(headers: dict[str, str], begin: int, size: int | None) -> None:
    assert _announced(headers, begin) == size


def test_a_range_from_elsewhere_is_refused() -> None:
    with pytest.raises(Mismatch, match="from byte 5 on instead of 6"):
        _announced({"content-range": "bytes 5-9/10"}, 6)


def test_a_client_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    old = type("huggingface_hub", (), {"__version__": "0.36.2"})
    monkeypatch.setattr("importlib.import_module", lambda _name: old)
    with pytest.raises(ImportError, match=r"huggingface_hub 0\.36\.2 is too old"):
        HubClient("http://x", None, 1.0)


class Stream:
    """A response as httpx streams it."""

    def __init__(self, status: int, blocks: list[bytes], headers: dict[str, str]) -> None:
        self.status_code = status
        self.headers = headers
        self._blocks = blocks

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def iter_raw(self) -> list[bytes]:
        return self._blocks


def append(tmp_path: Path, have: bytes, size: int, stream: Stream) -> tuple[int, bytes]:
    client = object.__new__(HubClient)
    client.utils = type("utils", (), {"hf_raise_for_status": staticmethod(lambda _r: None)})
    asked = []

    def _stream(_location: str, begin: int) -> Stream:
        asked.append(begin)
        return stream

    client._stream = _stream  # type: ignore[assignment,method-assign]
    part = tmp_path / "part"
    part.write_bytes(have)
    with part.open("ab") as file:
        try:
            brought = client._append("http://x", file, size)
        finally:
            file.flush()
    return brought, part.read_bytes()


def test_appending(tmp_path: Path) -> None:
    rest = Stream(206, [b"456", b"789"], {"content-range": "bytes 4-9/10"})
    assert append(tmp_path, b"0123", 10, rest) == (6, b"0123456789")
    ignored = Stream(200, [b"0123456789"], {"content-length": "10"})
    assert append(tmp_path, b"0123", 10, ignored) == (10, b"0123456789")
    assert append(tmp_path, b"too much of it", 10, ignored) == (10, b"0123456789")
    assert append(tmp_path, b"0123456789", 10, rest) == (0, b"0123456789")


def test_a_stream_that_is_too_long_or_too_short(tmp_path: Path) -> None:
    with pytest.raises(Mismatch, match="more than its 3 bytes"):
        append(tmp_path, b"", 3, Stream(200, [b"01", b"23"], {}))
    assert (tmp_path / "part").read_bytes() == b""
    with pytest.raises(ConnectionError, match="ended after 2 of 3 bytes"):
        append(tmp_path, b"", 3, Stream(200, [b"01"], {}))
    assert (tmp_path / "part").read_bytes() == b"01"


def test_no_client_is_an_event_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", missing)
    hello = {"id": 0, "op": "hello", "endpoint": "http://x", "token": None, "timeout": 1.0}
    events = io.BytesIO()
    hf_worker.serve(io.BytesIO(json.dumps({**hello, "threads": 1}).encode()), events)
    event = json.loads(events.getvalue())
    assert event["event"] == "failed"
    assert "No module named 'huggingface_hub'" in event["message"]


def test_it_ends_when_its_input_ends() -> None:
    worker = subprocess.run(
        [sys.executable, "-I", hf_worker.__file__],
        input=b'{"id": 0, "op": "hello", "endpoint": "x", "token": null, "timeout": 1}\n',
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert worker.returncode == 0
