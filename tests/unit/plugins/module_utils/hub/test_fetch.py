# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Supervising a transfer: what needs no network to be tried."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.cache import RepoCache
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.fetch import (
    Follower,
    HubError,
    Rate,
    Worker,
    hash_files,
    worker_environment,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import RepoFile

HELLO = {"endpoint": "http://127.0.0.1:9", "token": None, "threads": 1, "timeout": 1.0}


def lfs(content: bytes) -> RepoFile:
    sha256 = hashlib.sha256(content).hexdigest()
    return RepoFile("w", len(content), sha256, sha256)


def test_the_workers_environment_is_what_the_options_say() -> None:
    environ = {
        "PATH": "/bin",
        "https_proxy": "http://proxy:3128",
        "HTTPS_PROXY": "http://proxy:3128",
        "SSL_CERT_FILE": "/etc/ssl/ca.pem",
        "HF_TOKEN": "hf_secret",
        "HF_ENDPOINT": "https://elsewhere",
        "HF_HUB_ENABLE_HF_TRANSFER": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_XET": "0",
        "PYTHONPATH": "/tmp",
        "path": "/other",
    }
    made = worker_environment(environ, "/home", "https://hub", "/cache")
    assert made == {
        "PATH": "/bin",
        "https_proxy": "http://proxy:3128",
        "HTTPS_PROXY": "http://proxy:3128",
        "SSL_CERT_FILE": "/etc/ssl/ca.pem",
        "HOME": "/home",
        "HF_HOME": "/home",
        "HF_HUB_CACHE": "/cache",
        "HF_ENDPOINT": "https://hub",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


@pytest.mark.parametrize(
    ("environ", "files", "expected"),
    [
        ({}, ["/etc/pki/tls/certs/ca-bundle.crt"], "/etc/pki/tls/certs/ca-bundle.crt"),
        ({}, [], None),
        ({"SSL_CERT_FILE": "/x"}, ["/etc/ssl/certs/ca-certificates.crt"], "/x"),
        ({"SSL_CERT_DIR": "/x"}, ["/etc/ssl/certs/ca-certificates.crt"], None),
    ],
)
def test_the_hosts_certificates_are_trusted(
    environ: dict[str, str], files: list[str], expected: str | None
) -> None:
    made = worker_environment(environ, "/home", "https://hub", "/cache", files.__contains__)
    assert made.get("SSL_CERT_FILE") == expected


def test_a_follower_hashes_a_file_that_grows(tmp_path: Path) -> None:
    content = b"0123456789" * 300_000
    path = tmp_path / "part"
    follower = Follower(lfs(content), str(path))
    follower.start()
    with path.open("wb") as stream:
        for begin in range(0, len(content), 700_000):
            stream.write(content[begin : begin + 700_000])
            stream.flush()
            time.sleep(0.02)
    follower.complete()
    follower.join(10)
    assert follower.digest == lfs(content).sha256


def test_a_follower_begins_again_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(b"wrong beginning")
    follower = Follower(lfs(b"right"), str(path))
    follower.start()
    time.sleep(0.5)
    with path.open("r+b") as stream:
        stream.truncate(0)
        stream.flush()
        time.sleep(0.5)
        stream.write(b"right")
    follower.complete()
    follower.join(10)
    assert follower.digest == lfs(b"right").sha256


def test_a_follower_of_nothing_and_a_cancelled_one_end(tmp_path: Path) -> None:
    nothing = Follower(lfs(b"x"), str(tmp_path / "nothing"))
    nothing.start()
    nothing.complete()
    nothing.join(10)
    assert not nothing.is_alive()
    assert nothing.digest is None
    (tmp_path / "part").write_bytes(b"x")
    cancelled = Follower(lfs(b"x"), str(tmp_path / "part"))
    cancelled.start()
    cancelled.cancel()
    cancelled.join(10)
    assert not cancelled.is_alive()
    assert cancelled.digest is None


def test_the_rate_is_of_the_last_seconds() -> None:
    rate = Rate(window=10)
    assert rate.add(0, 0) == 0
    assert rate.add(10, 1000) == 100
    assert rate.add(20, 1000) == 0
    assert rate.add(21, 2000) == pytest.approx(1000 / 11)


def test_hashing_the_cache(tmp_path: Path) -> None:
    cache = RepoCache(str(tmp_path), "org/name")
    cache.prepare()
    right, wrong = lfs(b"right"), lfs(b"other")
    for file, content in ((right, b"right"), (wrong, b"wrong")):
        Path(cache.blob(file)).write_bytes(content)
    told: list[Any] = []
    found, bad = hash_files(
        cache, [right, wrong, right], lambda *a, **k: told.append((a, k)), threads=2
    )
    assert list(found) == [right.etag]
    assert found[right.etag].size == 5
    assert bad == [wrong]
    assert told[0][1]["bytes_total"] == 10
    assert hash_files(cache, [], lambda *a, **k: None, threads=2) == ({}, [])


def test_no_python_is_an_error_of_the_tools(tmp_path: Path) -> None:
    with pytest.raises(HubError) as caught:
        Worker(str(tmp_path / "python"), {}, HELLO)
    assert caught.value.event["code"] == "tools"


def test_a_python_without_the_client_is_an_error_of_the_tools() -> None:
    with pytest.raises(HubError) as caught:
        Worker(sys.executable, {"PATH": "/bin"}, {**HELLO, "threads": 1})
    assert caught.value.event["code"] == "tools"
    assert "huggingface_hub" in caught.value.event["message"]


def test_a_worker_that_dies_at_once_says_its_last_words(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'cannot load library' >&2\nexit 3\n")
    fake.chmod(0o755)
    with pytest.raises(HubError) as caught:
        Worker(str(fake), {"PATH": "/bin"}, HELLO)
    assert "exit status 3: cannot load library" in caught.value.event["message"]
