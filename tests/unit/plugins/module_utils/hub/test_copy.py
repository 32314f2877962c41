# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies from another cache, with a program in rsync's place that fails to order."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.cache import RepoCache
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.copy import Peer, ssh_command
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.fetch import HubError
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import Blob, RepoFile

COMMIT = "1" * 40
CONTENT = b"weights" * 1000

# Appends what is missing, as `rsync --append`; each line of a file says where one attempt is cut.
RSYNC = """#!/bin/sh
for word; do source=$here; here=$word; done
echo "$@" >>"$RSYNC_LOG"
[ -e "$source" ] || { echo "link_stat $source failed: No such file" >&2; exit 23; }
have=$(stat -c %s "$here" 2>/dev/null || echo 0)
cut=$(head -n 1 "$RSYNC_CUTS" 2>/dev/null)
sed -i 1d "$RSYNC_CUTS" 2>/dev/null
tail -c +$((have + 1)) "$source" | head -c "${cut:-9999999}" >>"$here"
[ -z "$cut" ] || { echo "connection unexpectedly closed" >&2; exit 12; }
"""


def lfs(path: str, content: bytes) -> RepoFile:
    sha256 = hashlib.sha256(content).hexdigest()
    return RepoFile(path, len(content), sha256, sha256)


FILE = lfs("model.safetensors", CONTENT)


@pytest.fixture
def other(tmp_path: Path) -> RepoCache:
    """The other host's cache."""
    cache = RepoCache(str(tmp_path / "other"), "org/name")
    cache.prepare()
    Path(cache.blob(FILE)).write_bytes(CONTENT)
    state = cache.state()
    state.revisions["main"] = COMMIT
    state.commits[COMMIT] = [FILE]
    cache.save(state)
    return cache


@pytest.fixture
def peer(other: RepoCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Peer:
    """The other's cache, seen from here."""
    program = tmp_path / "bin" / "rsync"
    program.parent.mkdir()
    program.write_text(RSYNC)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("RSYNC_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("RSYNC_CUTS", str(tmp_path / "cuts"))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    here = RepoCache(str(tmp_path / "here"), "org/name")
    here.prepare()
    options = {"source": other.cache_dir + "/", "identity_file": "/k", "port": 2222}
    return Peer(here, options, 30, 1, str(tmp_path), lambda *_words, **_fields: None)


def test_what_the_other_has(peer: Peer) -> None:
    assert peer.list("main") == (COMMIT, [FILE])
    assert peer.list(COMMIT) == (COMMIT, [FILE])
    with pytest.raises(HubError) as caught:
        peer.list("dev")
    assert caught.value.event["message"] == "it does not have revision dev"


def test_a_copy_goes_on_where_it_was_cut(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "cuts").write_text("3000\n2000\n")
    verified: list[tuple[RepoFile, Blob]] = []
    peer.fetch(COMMIT, [FILE], len(CONTENT), lambda *one: verified.append(one))
    assert [file for file, _blob in verified] == [FILE]
    assert Path(peer.cache.blob(FILE)).read_bytes() == CONTENT
    assert peer.received == len(CONTENT)  # no byte twice
    assert peer.restarts == 2


def test_no_byte_comes(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "cuts").write_text("0\n" * 9)
    with pytest.raises(HubError) as caught:
        peer.fetch(COMMIT, [FILE], len(CONTENT), lambda *_one: None)
    assert caught.value.event["message"] == "connection unexpectedly closed"
    assert (tmp_path / "log").read_text().count("\n") == 2


def test_a_damaged_copy_is_not_taken(peer: Peer, other: RepoCache) -> None:
    Path(other.blob(FILE)).write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(HubError) as caught:
        peer.fetch(COMMIT, [FILE], len(CONTENT), lambda *_one: None)
    assert caught.value.event["message"] == "its copy is damaged"
    assert os.listdir(peer.cache.blobs) == []


def test_a_file_that_is_not_there(peer: Peer, other: RepoCache) -> None:
    Path(other.blob(FILE)).unlink()
    with pytest.raises(HubError) as caught:
        peer.fetch(COMMIT, [FILE], len(CONTENT), lambda *_one: None)
    assert "it has no blobs/" in caught.value.event["message"]


def test_rsync_is_not_there(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HubError) as caught:
        peer.list("main")
    assert caught.value.event["message"] == "rsync is not installed on this host"


def test_ssh_asks_nothing_and_trusts_only_what_it_is_given() -> None:
    plain = ssh_command({"identity_file": None, "known_hosts": None, "port": None})
    assert "BatchMode=yes" in plain
    assert "StrictHostKeyChecking=yes" in plain
    assert "-i" not in plain
    # The kernel would try for two minutes where nobody answers.
    assert "ConnectTimeout=15" in plain
    full = ssh_command({"identity_file": "/k", "known_hosts": "/h", "port": 2222})
    assert full[-2:] == ["-p", "2222"]
    assert full[full.index("-i") + 1] == "/k"
    assert {"IdentitiesOnly=yes", "UserKnownHostsFile=/h", "GlobalKnownHostsFile=none"} <= set(full)
