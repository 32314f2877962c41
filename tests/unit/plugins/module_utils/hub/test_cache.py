# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository's folder in the cache."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import Asking
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.cache import (
    RepoCache,
    digest,
    expected_digest,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import (
    Blob,
    CacheError,
    RepoFile,
    State,
    is_safe,
)

COMMITS = ["1" * 40, "2" * 40, "3" * 40]


def lfs(path: str, content: bytes) -> RepoFile:
    sha256 = hashlib.sha256(content).hexdigest()
    return RepoFile(path, len(content), sha256, sha256)


def in_git(path: str, content: bytes) -> RepoFile:
    etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return RepoFile(path, len(content), etag, None)


def put(cache: RepoCache, commit: str, file: RepoFile, content: bytes) -> Blob:
    cache.prepare()
    Path(cache.part(file)).write_bytes(content)
    blob = cache.accept(file)
    cache.link(commit, [file])
    return blob


@pytest.fixture
def cache(tmp_path: Path) -> RepoCache:
    return RepoCache(str(tmp_path / "hub"), "org/name")


@pytest.mark.parametrize(
    ("path", "etag", "sha256", "safe"),
    [
        ("a/b.json", "a" * 40, None, True),
        ("a..b", "a" * 64, "a" * 64, True),
        ("/a", "a" * 40, None, False),
        ("../a", "a" * 40, None, False),
        ("a/../b", "a" * 40, None, False),
        ("a//b", "a" * 40, None, False),
        ("a/./b", "a" * 40, None, False),
        ("a\0b", "a" * 40, None, False),
        ("", "a" * 40, None, False),
        ("a", "../../etc/passwd", None, False),
        ("a", "a" * 40 + "\n", None, False),
        ("a", "", None, False),
        ("a", "a" * 64, "b" * 64, False),
    ],
)
def test_what_a_hub_may_say(path: str, etag: str, sha256: str | None, safe: bool) -> None:
    assert is_safe(RepoFile(path, 1, etag, sha256)) is safe


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["schema", "repo_id", "revisions", "commits", "blobs", "files"]),
                inner,
            )
        ),
        max_leaves=10,
    )
)
def test_any_other_record_is_as_good_as_none(data: Any) -> None:
    state = State.load("org/name", data)
    assert state.repo_id == "org/name"
    assert state.commits == {}


def test_a_record_survives(cache: RepoCache) -> None:
    state = State("org/name")
    state.revisions["main"] = COMMITS[0]
    state.commits[COMMITS[0]] = [lfs("a", b"1"), in_git("b", b"2")]
    state.indexes[COMMITS[0]] = ["a"]
    state.blobs["x"] = Blob(1, 2)
    cache.save(state)
    again = cache.state()
    assert vars(again) == vars(state)
    assert again.index(COMMITS[0]) == {"weight_map": {"a": "a"}}
    assert again.index(COMMITS[1]) is None
    assert RepoCache(cache.cache_dir, "org/other").state().commits == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2}'])
def test_a_damaged_record_is_as_good_as_none(cache: RepoCache, text: str) -> None:
    cache.save(State("org/name"))
    path = Path(cache.folder, ".compute_plane", "state.json")
    assert json.loads(path.read_text())["schema"] == 1
    path.write_text(text)
    assert cache.state().commits == {}


def test_whole_is_what_it_was_when_it_was_verified(cache: RepoCache) -> None:
    file = lfs("sub/w.safetensors", b"weights")
    blob = put(cache, COMMITS[0], file, b"weights")
    blobs = {file.etag: blob}
    pointer = Path(cache.pointer(COMMITS[0], file))
    assert cache.is_whole(COMMITS[0], file, blobs)
    assert os.readlink(pointer) == f"../../../blobs/{file.etag}"
    assert pointer.read_bytes() == b"weights"
    assert not cache.is_whole(COMMITS[0], file, {})
    assert not cache.is_whole(COMMITS[1], file, blobs)
    assert not cache.is_whole(COMMITS[0], file, {file.etag: Blob(blob.size, blob.mtime_ns - 1)})
    Path(cache.blob(file)).write_bytes(b"weight")
    assert not cache.is_whole(COMMITS[0], file, blobs)
    pointer.unlink()
    pointer.write_bytes(b"weights")
    assert not cache.is_whole(COMMITS[0], file, blobs)


@pytest.mark.parametrize("make", [lfs, in_git])
def test_digests(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert digest(str(path), make("x", b"content")) == expected_digest(make("x", b"content"))
    assert digest(str(path), make("x", b"context")) != expected_digest(make("x", b"context"))


def test_the_digest_of_git_is_gits() -> None:
    # printf 'what is up, doc?' | git hash-object --stdin
    assert in_git("x", b"what is up, doc?").etag == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"


def test_modes(cache: RepoCache) -> None:
    file = lfs("sub/w", b"w")
    put(cache, COMMITS[0], file, b"w")
    assert cache.wrong_modes(COMMITS[0], [file]) == {}
    os.chmod(cache.blob(file), 0o600)
    os.chmod(cache.snapshot(COMMITS[0]) + "/sub", 0o777)
    assert cache.wrong_modes(COMMITS[0], [file]) == {
        cache.blob(file): 0o644,
        cache.snapshot(COMMITS[0]) + "/sub": 0o755,
    }
    assert cache.open_up(COMMITS[0], [file])
    assert not cache.open_up(COMMITS[0], [file])


def test_refs(cache: RepoCache) -> None:
    cache.prepare()
    assert cache.ref("main") is None
    assert cache.write_ref("refs/pr/1", COMMITS[0])
    assert not cache.write_ref("refs/pr/1", COMMITS[0])
    assert cache.ref("refs/pr/1") == COMMITS[0]
    assert not cache.write_ref(COMMITS[0], COMMITS[0])
    Path(cache.refs, "main").write_text("garbage")
    assert cache.ref("main") is None


def test_removal_leaves_what_others_need(cache: RepoCache) -> None:
    shared, own = lfs("shared", b"s"), lfs("own", b"own")
    for commit in COMMITS[:2]:
        put(cache, commit, shared, b"s")
    put(cache, COMMITS[0], own, b"own")
    cache.write_ref("main", COMMITS[0])
    cache.write_ref("v1", COMMITS[1])
    state = State("org/name")
    state.revisions = {"main": COMMITS[0], "v1": COMMITS[1]}
    state.commits = {commit: [shared] for commit in COMMITS[:2]}
    state.blobs = {own.etag: Blob(3, 0), shared.etag: Blob(1, 0)}
    cache.save(state)
    removal = cache.removal(COMMITS[0])
    assert removal.snapshots == [cache.snapshot(COMMITS[0])]
    assert removal.blobs == [cache.blob(own)]
    assert removal.refs == [os.path.join(cache.refs, "main")]
    assert removal.bytes == 3
    assert removal.folders == []
    cache.remove(removal, COMMITS[0])
    assert cache.commits() == [COMMITS[1]]
    assert Path(cache.pointer(COMMITS[1], shared)).read_bytes() == b"s"
    state = cache.state()
    assert state.revisions == {"v1": COMMITS[1]}
    assert list(state.blobs) == [shared.etag]
    last = cache.removal(COMMITS[1])
    assert last.folders == [cache.folder]
    cache.remove(last, COMMITS[1])
    assert not Path(cache.folder).exists()


def test_removal_of_what_is_not_there(cache: RepoCache) -> None:
    assert cache.removal(None).paths == []
    assert cache.removal(COMMITS[0]).paths == []
    put(cache, COMMITS[0], lfs("a", b"a"), b"a")
    assert cache.removal(COMMITS[1]).paths == []


def test_removal_of_what_never_arrived(cache: RepoCache) -> None:
    cache.prepare()
    state = State("org/name")
    state.commits[COMMITS[0]] = [lfs("a", b"abc")]
    cache.save(state)
    Path(cache.part(lfs("a", b"abc"))).write_bytes(b"ab")
    assert cache.removal(COMMITS[1]).paths == []
    removal = cache.removal(COMMITS[0])
    assert removal.folders == [cache.folder]
    assert removal.bytes == 2


def test_removal_never_follows_a_link_out_of_the_cache(cache: RepoCache, tmp_path: Path) -> None:
    put(cache, COMMITS[0], lfs("a", b"a"), b"a")
    put(cache, COMMITS[1], lfs("b", b"b"), b"b")
    precious = tmp_path / "precious"
    precious.write_text("x")
    os.symlink(precious, os.path.join(cache.snapshot(COMMITS[0]), "evil"))
    cache.remove(cache.removal(COMMITS[0]), COMMITS[0])
    assert precious.exists()
    assert not Path(cache.snapshot(COMMITS[0])).exists()


def test_a_cache_below_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("")
    with pytest.raises(CacheError, match=r"the cache cannot be written: .*/hub.*cache_dir"):
        RepoCache(str(tmp_path / "hub"), "org/name").prepare()


def test_who_waits_for_another_run_hears_of_it(cache: RepoCache) -> None:
    def waiting(what: str, elapsed: float) -> None:
        raise InterruptedError(what, elapsed)

    asking = Asking("a@b with site.yml", 10, waiting)
    told = r"waiting for a@b with site.yml .*the model org/name"
    with cache.lock(asking), pytest.raises(InterruptedError, match=told), cache.lock(asking):
        pass
    with cache.lock(asking):
        pass
