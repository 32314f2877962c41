# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The local hub itself: what it answers to plain HTTP, and its faults."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from hub import Hub, Store
from hub.faults import Fault, Pace
from hub.testing import ROOT, write_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WEIGHTS = "model-00001-of-00001.safetensors"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    store = Store()
    store.tokens |= {"reader", "stranger"}
    store.add("org/name", write_model(tmp_path / "name", [300_000]))
    with Hub(store) as running:
        yield running


def ask(
    url: str, path: str, method: str = "GET", body: Any = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    address = urlsplit(url)
    assert address.hostname
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return response.status, names, response.read()
    finally:
        connection.close()


def test_info_and_tree(hub: Hub, tmp_path: Path) -> None:
    status, _headers, body = ask(hub.url, "/api/models/org/name/revision/main?blobs=true")
    info = json.loads(body)
    assert status == 200
    assert info["sha"] == hub.store.repositories["org/name"].branches["main"]
    weights = next(s for s in info["siblings"] if s["rfilename"] == WEIGHTS)
    content = (tmp_path / "name" / WEIGHTS).read_bytes()
    assert weights["lfs"] == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": 300_000,
        "pointerSize": 134,
    }
    config = next(s for s in info["siblings"] if s["rfilename"] == "config.json")
    git = subprocess.run(
        ["git", "hash-object", str(tmp_path / "name/config.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert config["blobId"] == git.stdout.strip()
    _status, _headers, body = ask(
        hub.url, f"/api/models/org/name/tree/{info['sha']}?recursive=true"
    )
    assert {entry["path"] for entry in json.loads(body)} == {
        sibling["rfilename"] for sibling in info["siblings"]
    }


def test_large_files_are_at_the_cdn_and_small_ones_behind_a_redirect(hub: Hub) -> None:
    status, headers, _body = ask(hub.url, f"/org/name/resolve/main/{WEIGHTS}", "HEAD")
    assert status == 302
    assert headers["x-linked-size"] == "300000"
    assert headers["x-repo-commit"] == hub.store.repositories["org/name"].branches["main"]
    assert "x-xet-hash" in headers
    location = urlsplit(headers["location"])
    assert location.hostname == "127.0.0.2"
    status, _headers, body = ask(str(hub.cdn_url), location.path)
    assert status == 200
    assert f'"{hashlib.sha256(body).hexdigest()}"' == headers["x-linked-etag"]
    status, headers, _body = ask(hub.url, "/org/name/resolve/main/config.json", "HEAD")
    assert status == 307
    status, headers, body = ask(hub.url, headers["location"])
    assert json.loads(body)["model_type"] == "llama"
    assert headers["x-repo-commit"]


def content_path(hub: Hub) -> str:
    _status, headers, _body = ask(hub.url, f"/org/name/resolve/main/{WEIGHTS}", "HEAD")
    return urlsplit(headers["location"]).path


def test_ranges(hub: Hub) -> None:
    path = content_path(hub)
    whole = ask(str(hub.cdn_url), path)[2]
    status, headers, body = ask(str(hub.cdn_url), path, Range="bytes=299990-")
    assert status == 206
    assert headers["content-range"] == "bytes 299990-299999/300000"
    assert body == whole[299990:]
    assert ask(str(hub.cdn_url), path, Range="bytes=300000-")[0] == 416


@pytest.mark.parametrize(
    ("private", "gated", "token", "status", "code"),
    [
        (False, False, "nobody", 401, None),
        (True, False, None, 401, "RepoNotFound"),
        (True, False, "stranger", 404, "RepoNotFound"),
        (True, False, "reader", 307, None),
        (False, True, None, 401, "GatedRepo"),
        (False, True, "stranger", 403, "GatedRepo"),
        (False, True, "reader", 307, None),
    ],
)
def test_who_may(
    hub: Hub, private: bool, gated: bool, token: str | None, status: int, code: str | None
) -> None:
    repository = hub.store.repositories["org/name"]
    repository.private, repository.gated = private, gated
    repository.readers.add("reader")
    given = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = ask(hub.url, "/org/name/resolve/main/config.json", "HEAD", **given)
    assert answer[0] == status
    assert answer[1].get("x-error-code") == code


def test_what_is_not_there(hub: Hub) -> None:
    for path, code in (
        ("/api/models/org/other", "RepoNotFound"),
        ("/api/models/org/name/revision/nope", "RevisionNotFound"),
        ("/org/name/resolve/main/nope", "EntryNotFound"),
        ("/elsewhere", None),
    ):
        _status, headers, body = ask(hub.url, path)
        assert headers.get("x-error-code") == code
        assert json.loads(body)["error"]


def test_faults_hit_once_and_are_logged(hub: Hub) -> None:
    path = content_path(hub)
    whole = ask(str(hub.cdn_url), path)[2]
    hub.clear_log()
    hub.faults.order("cut", after=1000)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(str(hub.cdn_url), path)
    assert ask(str(hub.cdn_url), path)[2] == whole
    hub.faults.order("wrong_bytes", at=5)
    wrong = ask(str(hub.cdn_url), path)[2]
    assert [i for i in range(len(whole)) if whole[i] != wrong[i]] == [5]
    hub.faults.order("wrong_length", delta=-10)
    assert ask(str(hub.cdn_url), path)[2] == whole[:-10]
    hub.faults.order("wrong_length", delta=10)
    assert ask(str(hub.cdn_url), path)[2] == whole + bytes(10)
    hub.faults.order("ignore_range")
    assert ask(str(hub.cdn_url), path)[0] == 200  # asks for no range: the order stays open
    assert ask(str(hub.cdn_url), path, Range="bytes=5-")[0] == 200
    hub.faults.order("status", status=429, headers={"Retry-After": "3"}, times=-1)
    for _ in range(2):
        status, headers, _body = ask(str(hub.cdn_url), path)
        assert (status, headers["retry-after"]) == (429, "3")
    hub.faults.clear()
    hub.faults.order("slow", rate=600_000)
    began = time.monotonic()
    ask(str(hub.cdn_url), path)
    assert time.monotonic() - began > 0.3
    assert [r.sent for r in hub.log][:2] == [1000, 300_000]
    assert {r.route for r in hub.log} == {"content"}


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="no fault 'bang'"):
        Fault("bang")


def test_a_stall_ends_with_the_hub(hub: Hub) -> None:
    path = content_path(hub)
    hub.faults.order("stall", after=10)
    address = urlsplit(str(hub.cdn_url))
    assert address.hostname
    with contextlib.closing(
        http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    ) as connection:
        connection.request("GET", path)
        assert connection.sock
        stalled = connection.sock
        response = connection.getresponse()
        assert response.read(10)
        stalled.settimeout(0.5)
        with pytest.raises(TimeoutError):
            response.read(1)


def test_a_moved_branch(hub: Hub, tmp_path: Path) -> None:
    repository = hub.store.repositories["org/name"]
    first = repository.branches["main"]
    second = repository.push(write_model(tmp_path / "next", [10], seed=3))
    repository.branches["main"] = first
    hub.faults.order("move", route="info", commit=second)
    seen = [json.loads(ask(hub.url, "/api/models/org/name/revision/main")[2])["sha"] for _ in "12"]
    assert seen == [first, second]


def test_pace() -> None:
    pace = Pace(1000)
    began = time.monotonic()
    for _ in range(4):
        pace.take(100)
    assert 0.25 < time.monotonic() - began < 5


def test_the_cdn_needs_another_address() -> None:
    with pytest.raises(ValueError, match="another address"):
        Hub(Store(), address="127.0.0.1", cdn_address="127.0.0.1")


def test_as_a_program(tmp_path: Path) -> None:
    write_model(tmp_path / "root/org/name", [100_000])
    program = subprocess.Popen(
        [sys.executable, "-m", "hub", str(tmp_path / "root"), "--rate", "1000000"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/tests/hosts"},
    )
    try:
        assert program.stdout is not None
        url = program.stdout.readline().strip()
        ask(url, "/_hub/faults", "POST", {"kind": "status", "route": "info", "status": 500})
        assert ask(url, "/api/models/org/name")[0] == 500
        first = json.loads(ask(url, "/api/models/org/name")[2])["sha"]
        write_model(tmp_path / "next", [5], seed=9)
        pushed = {"repo_id": "org/name", "directory": str(tmp_path / "next")}
        answer = json.loads(ask(url, "/_hub/push", "POST", pushed)[2])
        assert answer["commit"] != first
        assert ask(url, f"/api/models/org/name/revision/{first}")[0] == 200
        ask(url, "/_hub/rate", "POST", {"rate": 0})
        log = json.loads(ask(url, "/_hub/log")[2])
        assert [entry["status"] for entry in log] == [500, 200, 200]
        ask(url, "/_hub/log", "DELETE")
        assert json.loads(ask(url, "/_hub/log")[2]) == []
        ask(url, "/_hub/faults", "DELETE")
        assert ask(url, "/_hub/nothing")[0] == 404
    finally:
        program.send_signal(signal.SIGTERM)
        assert program.wait(10) == 0
        assert program.stdout is not None
        program.stdout.close()


def test_a_program_without_models_says_so(tmp_path: Path) -> None:
    program = subprocess.run(
        [sys.executable, "-m", "hub", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/tests/hosts"},
    )
    assert program.returncode == 2
    assert "has no directories ORG/NAME" in program.stderr
