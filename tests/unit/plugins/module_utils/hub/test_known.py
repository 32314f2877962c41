# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host reads of its cache, and what the controller concludes from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub import known, record
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.cache import RepoCache
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import RepoFile, State

COMMIT = "1" * 40
CONFIG = RepoFile("config.json", 10, "c" * 40, None)
WEIGHTS = RepoFile("model.safetensors", 1000, "d" * 64, "d" * 64)
CODE = RepoFile("modeling.py", 100, "e" * 40, None)
OTHERS = RepoFile("original/consolidated.pth", 9999, "f" * 64, "f" * 64)
FILES = [CONFIG, WEIGHTS, CODE, OTHERS]


@pytest.fixture
def cache(tmp_path: Path) -> RepoCache:
    """A cache in which a branch's commit and files are recorded, and nothing was fetched."""
    made = RepoCache(str(tmp_path / "hub"), "org/name")
    made.prepare()
    state = State("org/name")
    state.revisions["main"] = COMMIT
    state.commits[COMMIT] = FILES
    made.save(state)
    return made


def told(cache: RepoCache, revision: str = "main", code: bool = False) -> dict[str, Any]:
    """As it comes to the controller: through JSON."""
    found = json.loads(json.dumps(record.read(cache.cache_dir, "org/name", revision)))
    return known.recorded(known.Request("org/name", revision, code), found)


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_what_was_listed_and_not_fetched(cache: RepoCache, revision: str) -> None:
    assert told(cache, revision) == {
        "repo_id": "org/name",
        "revision": revision,
        "commit": COMMIT,
        "path": cache.snapshot(COMMIT),
        "bytes": 1010,
        "download_bytes": 1010,
        "asked": None,
        "error": None,
        "base_models": [],
    }


def test_what_has_arrived_is_not_fetched_again(cache: RepoCache) -> None:
    Path(cache.blob(CONFIG)).write_bytes(bytes(10))
    Path(cache.part(WEIGHTS)).write_bytes(bytes(400))
    assert told(cache)["download_bytes"] == 600
    assert told(cache, code=True)["download_bytes"] == 700
    Path(cache.blob(WEIGHTS)).write_bytes(bytes(1000))
    assert told(cache)["download_bytes"] == 0
    assert told(cache)["bytes"] == 1010


@pytest.mark.parametrize("name", ["blob", "part"])
def test_what_is_too_long_is_fetched_anew(cache: RepoCache, name: str) -> None:
    Path(getattr(cache, name)(WEIGHTS)).write_bytes(bytes(1001))
    assert told(cache)["download_bytes"] == 1010


def test_a_revision_that_was_not_resolved(cache: RepoCache) -> None:
    entry = told(cache, "v1")
    assert (entry["commit"], entry["path"], entry["download_bytes"]) == (None, None, None)
    other = "2" * 40
    entry = told(cache, other)
    assert (entry["commit"], entry["download_bytes"]) == (other, None)
    assert entry["path"] == cache.snapshot(other)


def test_a_repository_with_nothing_to_serve(cache: RepoCache) -> None:
    state = cache.state()
    state.commits[COMMIT] = [CONFIG]
    cache.save(state)
    entry = told(cache)
    assert (entry["commit"], entry["bytes"]) == (COMMIT, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": 1, "repo_id": "org/name"}',
        '{"schema": 1, "repo_id": "org/name", "revisions": []}',
        json.dumps(
            {
                "schema": 1,
                "repo_id": "org/name",
                "revisions": {"main": COMMIT},
                "commits": {COMMIT: {"files": [["config.json"]]}},
            }
        ),
        json.dumps(
            {"schema": 9, "repo_id": "org/name", "revisions": {"main": COMMIT}, "commits": {}}
        ),
        json.dumps(
            {"schema": 1, "repo_id": "other/name", "revisions": {"main": COMMIT}, "commits": {}}
        ),
        None,
    ],
)
def test_a_record_of_another_form_is_none(cache: RepoCache, text: str | None) -> None:
    path = Path(cache.state_path)
    if text is None:
        path.unlink()
    else:
        path.write_text(text, encoding="utf-8")
    entry = told(cache)
    assert (entry["commit"], entry["path"], entry["bytes"]) == (None, None, None)
    assert told(cache, COMMIT)["commit"] == COMMIT
