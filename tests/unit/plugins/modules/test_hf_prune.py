# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nothing refers to is removed, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.cache import RepoCache
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.prune import (
    Snapshot,
    referred_to,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import RepoFile
from ansible_collections.compute_plane.vllm.plugins.modules import hf_prune

OLD, FORMER, NOW, NEXT = ("1" * 40, "2" * 40, "3" * 40, "4" * 40)
SHARED = b"the tokenizer of all of them"

Prune = Callable[..., dict[str, Any]]


def lfs(path: str, content: bytes) -> RepoFile:
    sha256 = hashlib.sha256(content).hexdigest()
    return RepoFile(path, len(content), sha256, sha256)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A cache with four revisions of a model, and one that nothing refers to of another."""
    for repo_id, commits in (("org/name", [OLD, FORMER, NOW, NEXT]), ("org/gone", [OLD])):
        cache = RepoCache(str(tmp_path / "hub"), repo_id)
        cache.prepare()
        state = cache.state()
        for commit in commits:
            files = {lfs("t.json", SHARED): SHARED, lfs("m.safetensors", commit.encode()): b""}
            for file in files:
                Path(cache.part(file)).write_bytes(files[file] or commit.encode())
                state.blobs[file.etag] = cache.accept(file)
            cache.link(commit, files)
            state.commits[commit] = list(files)
        cache.save(state)
    other = tmp_path / "hub" / "models--else--where" / "snapshots" / OLD
    other.mkdir(parents=True)
    return tmp_path / "hub"


@pytest.fixture
def prune(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Prune:
    """Runs the module on a host that serves one revision and can go back to another."""
    etc, proved = tmp_path / "etc", tmp_path / "proved"
    etc.mkdir()
    proved.mkdir()
    snapshots = f"{hub}/models--org--name/snapshots"
    (etc / "a.yaml").write_text(f"model: {snapshots}/{NOW}\nport: 8000\n")
    record = {"current": {"model": f"{snapshots}/{NOW}"}, "before": f"model: {snapshots}/{FORMER}"}
    (proved / "a.json").write_text(json.dumps(record))

    def run(**arguments: Any) -> dict[str, Any]:
        given = {
            "cache_dir": str(hub),
            "references": [str(etc), str(proved), str(tmp_path / "absent")],
            "keep": [f"{snapshots}/{NEXT}"],
            **arguments,
        }
        text = json.dumps({"ANSIBLE_MODULE_ARGS": given}).encode()
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", text)
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        with pytest.raises(SystemExit):
            hf_prune.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run


def test_only_what_nothing_refers_to_goes(hub: Path, prune: Prune) -> None:
    said = prune(_ansible_check_mode=True)
    assert (hub / "models--org--name" / "snapshots" / OLD).exists()
    result = prune()
    assert result["removed"] == said["removed"]
    assert result["removed"] == [
        f"models--org--gone/snapshots/{OLD}",
        f"models--org--name/snapshots/{OLD}",
    ]
    assert sorted(os.listdir(hub / "models--org--name" / "snapshots")) == [FORMER, NOW, NEXT]
    for commit in (FORMER, NOW, NEXT):
        snapshot = hub / "models--org--name" / "snapshots" / commit
        assert (snapshot / "t.json").read_bytes() == SHARED
        assert (snapshot / "m.safetensors").read_text() == commit
    assert not (hub / "models--org--gone").exists()
    assert (hub / "models--else--where").exists()  # another tool's
    # The commit's own file, and in the other repository the shared one too.
    assert result["bytes"] == 40 + 40 + len(SHARED)
    again = prune()
    assert again["removed"] == []
    assert again["changed"] is False


def test_what_is_no_file_refers_to_nothing(hub: Path, prune: Prune, tmp_path: Path) -> None:
    (tmp_path / "etc" / "b.yaml").mkdir()  # a directory holds no reference
    assert prune(_ansible_check_mode=True)["changed"]
    (hub.parent / "proved" / "b.json").symlink_to(tmp_path / "etc" / "c.yaml")  # leads nowhere
    assert prune(_ansible_check_mode=True)["changed"]


def test_what_refers() -> None:
    path = f"/var/lib/vllm/hub/models--Org--Na.me_1/snapshots/{NOW}"
    expected = {Snapshot("models--Org--Na.me_1", NOW)}
    for text in (path, f'model: "{path}"', f"{path}/config.json", json.dumps({"model": path})):
        assert referred_to([text]) == expected
    assert referred_to([path + "0", path.replace("snapshots", "blobs"), ""]) == set()
