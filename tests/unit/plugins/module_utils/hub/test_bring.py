# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run decides from the cache and the record alone, without a Hub."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.space import Space
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub import bring
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.bring import Bringing
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.cache import RepoCache
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.fetch import HubError
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import RepoFile

COMMIT, NEWER = "1" * 40, "2" * 40


def lfs(path: str, content: bytes) -> RepoFile:
    sha256 = hashlib.sha256(content).hexdigest()
    return RepoFile(path, len(content), sha256, sha256)


CONTENTS = {"config.json": b"{}", "model.safetensors": b"weights"}
FILES = [lfs(path, content) for path, content in CONTENTS.items()]


class Caller:
    """A module without Ansible."""

    def __init__(self, cache_dir: Path, check_mode: bool = False, **params: Any) -> None:
        self.check_mode = check_mode
        self.tmpdir = str(cache_dir)
        self.warnings: list[str] = []
        self.params: dict[str, Any] = {
            "repo_id": "org/name",
            "cache_dir": str(cache_dir),
            "endpoint": "https://hub.example",
            "tools_path": "/nowhere",
            "verify": "size",
            "fetch": True,
            **dict.fromkeys(
                ["revision", "commit", "update", "trust_remote_code", "token", "copy_from"]
            ),
            **dict.fromkeys(["allow_patterns", "ignore_patterns", "progress", "asked_by"]),
            "lock_timeout": 10,
            **params,
        }

    def warn(self, warning: str) -> None:
        self.warnings.append(warning)


@pytest.fixture
def cache(tmp_path: Path) -> RepoCache:
    """A cache in which main is at a commit that is whole."""
    cache = RepoCache(str(tmp_path), "org/name")
    cache.prepare()
    state = cache.state()
    for file in FILES:
        Path(cache.part(file)).write_bytes(CONTENTS[file.path])
        state.blobs[file.etag] = cache.accept(file)
    cache.link(COMMIT, FILES)
    cache.write_ref("main", COMMIT)
    state.commits[COMMIT] = FILES
    state.revisions["main"] = COMMIT
    cache.save(state)
    return cache


def broken(cache: RepoCache, content: bytes | None) -> None:
    path = Path(cache.blob(FILES[1]))
    path.unlink()
    if content is not None:
        path.write_bytes(content)


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_what_is_whole_is_neither_asked_for_nor_written(
    cache: RepoCache, tmp_path: Path, revision: str | None
) -> None:
    run = Bringing(Caller(tmp_path, revision=revision))
    run.present()
    assert run.result["changed"] is False
    assert run.result["path"] == cache.snapshot(COMMIT)
    assert run.result["files_reused"] == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(("content", "whole"), [(b"weights", False), (None, False)])
def test_without_fetching_it_is_only_said_whether_all_is_here(
    cache: RepoCache, tmp_path: Path, content: bytes | None, whole: bool
) -> None:
    run = Bringing(Caller(tmp_path, fetch=False))
    run.present()
    assert run.result["whole"] is True
    broken(cache, content)
    run = Bringing(Caller(tmp_path, fetch=False))
    run.present()
    assert run.result["whole"] is whole


def test_a_check_says_what_would_come_and_keeps_what_is_wrong(
    cache: RepoCache, tmp_path: Path
) -> None:
    broken(cache, b"short")
    caller = Caller(tmp_path, check_mode=True)
    run = Bringing(caller)
    run.present()
    assert run.result["files_fetched"] == ["model.safetensors"]
    assert run.result["bytes_fetched"] == 7
    assert "model.safetensors of org/name" in caller.warnings[0]
    assert Path(cache.blob(FILES[1])).read_bytes() == b"short"


def test_no_room_is_told_before_anything_comes(
    cache: RepoCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(cache, None)
    monkeypatch.setattr(bring, "space", lambda _path: Space("/mnt", 5))
    with pytest.raises(Failed, match="not enough room on /mnt for org/name: 7 B are still"):
        Bringing(Caller(tmp_path)).present()


def test_a_check_without_the_tools_asks_nobody(tmp_path: Path) -> None:
    caller = Caller(tmp_path, check_mode=True, revision="other")
    run = Bringing(caller)
    run.present()
    assert run.result["changed"] is True
    assert run.result["bytes"] is None
    assert "is not there yet" in caller.warnings[0]


@pytest.mark.parametrize(("code", "stays"), [("network", True), ("revision", False)])
def test_when_the_hub_cannot_be_reached_a_whole_copy_serves_on(
    cache: RepoCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, stays: bool
) -> None:
    assert cache.ref("main") == COMMIT

    def fail(_self: Bringing, _revision: str) -> str:
        raise HubError({"code": code, "message": "refused", "status": 403})

    monkeypatch.setattr(Bringing, "_ask", fail)
    caller = Caller(tmp_path, update=True)
    run = Bringing(caller)
    if stays:
        run.present()
        assert run.result["commit"] == COMMIT
        assert "stays at the recorded commit" in caller.warnings[0]
    else:
        with pytest.raises(Failed):
            run.present()


def test_a_revision_or_all_of_it_is_taken_away(cache: RepoCache, tmp_path: Path) -> None:
    unknown = Bringing(Caller(tmp_path, revision=NEWER))
    unknown.absent()
    check = Bringing(Caller(tmp_path, check_mode=True))
    check.absent()
    assert (check.result["changed"], check.result["bytes"]) == (True, 9)
    assert Path(cache.folder).exists()
    run = Bringing(Caller(tmp_path))
    run.absent()
    assert run.result["bytes"] == 9
    assert not Path(cache.folder).exists()
