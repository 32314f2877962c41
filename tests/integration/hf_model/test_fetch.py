# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module does when nothing goes wrong, and that the ecosystem's client agrees."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hub import Hub, Store
from hub.testing import client_environment, write_model

from .conftest import BALLAST, MODEL, SHARDS, TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from hub.testing import Module

INDEX = "model.safetensors.index.json"
WANTED = [
    "config.json",
    "generation_config.json",
    "model-00001-of-00003.safetensors",
    "model-00002-of-00003.safetensors",
    "model-00003-of-00003.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
]


def test_first_run_brings_what_vllm_loads(
    run: Module, hub: Hub, model: Path, assert_whole: Callable[..., None]
) -> None:
    result = run(diff=True)
    assert_whole(result)
    assert result["changed"]
    assert result["files_fetched"] == WANTED
    assert result["files_reused"] == []
    assert result["weights"] == "safetensors"
    assert result["commit"] == hub.store.repositories[MODEL].branches["main"]
    assert result["bytes"] == sum((model / name).stat().st_size for name in WANTED)
    # Two of the files have the same content, "{}", which comes once.
    assert result["bytes_fetched"] == hub.sent() - hub.sent(INDEX) // 2 == result["bytes"] - 2
    assert result["diff"]["before"] == ""
    assert result["diff"]["after"].count("\n") == len(WANTED)
    ballast = set(BALLAST) | {"README.md"}
    assert not [r for r in hub.log if r.path in ballast]


def test_second_run_needs_neither_network_nor_client(run: Module, hub: Hub) -> None:
    first = run()
    hub.clear_log()
    second = run(tools_path="/nonexistent", endpoint="http://127.0.0.1:9")
    assert not second["changed"]
    assert second["path"] == first["path"]
    assert second["files_reused"] == WANTED
    assert second["bytes_fetched"] == 0
    assert hub.log == []


def test_a_branch_stays_at_its_commit_until_update(
    run: Module, hub: Hub, tmp_path: Path, assert_whole: Callable[..., None]
) -> None:
    first = run()
    changed = write_model(tmp_path / "next", SHARDS)
    (changed / "config.json").write_text('{"model_type": "llama", "second": true}')
    commit = hub.store.repositories[MODEL].push(changed)
    assert not run()["changed"]
    hub.clear_log()
    second = run(update=True)
    assert_whole(second, changed)
    assert second["commit"] == commit != first["commit"]
    assert second["files_fetched"] == ["config.json"]
    assert second["other_commits"] == [first["commit"]]
    assert hub.sent() == second["bytes_fetched"] == (changed / "config.json").stat().st_size
    third = run(update=True)
    assert not third["changed"]
    assert run(revision=first["commit"])["files_fetched"] == []


def test_a_tag_and_a_branch_with_a_slash(
    run: Module, hub: Hub, model: Path, cache: Path, assert_whole: Callable[..., None]
) -> None:
    commit = hub.store.repositories[MODEL].push(model, "refs/pr/1")
    result = run(revision="refs/pr/1")
    assert_whole(result)
    assert (cache / "models--acme--tiny/refs/refs/pr/1").read_text() == commit


def test_check_mode_says_what_would_come_and_writes_nothing(
    run: Module, hub: Hub, cache: Path
) -> None:
    result = run(check=True, diff=True)
    assert result["changed"]
    assert result["files_fetched"] == WANTED
    assert result["bytes_fetched"] == result["bytes"] - 2 > sum(SHARDS)
    assert result["diff"]["after"].count("\n") == len(WANTED)
    assert not cache.exists()
    assert hub.sent() == hub.sent(INDEX)
    run()
    hub.clear_log()
    assert not run(check=True)["changed"]
    assert hub.log == []


def test_check_mode_before_the_client_is_there(run: Module, hub: Hub, cache: Path) -> None:
    result = run(check=True, tools_path="/nonexistent")
    assert result["changed"]
    assert result["bytes"] is None
    assert "/nonexistent/bin/python is not there yet" in result["warnings"][0]
    assert hub.log == []
    assert not cache.exists()


def test_patterns_and_remote_code(run: Module, cache: Path) -> None:
    result = run(allow_patterns=["*.json"], ignore_patterns=["original/", "onnx/*"])
    assert result["files_fetched"] == [n for n in WANTED if n.endswith(".json")]
    assert result["weights"] is None
    result = run(trust_remote_code=True)
    assert "modeling_tiny.py" in result["files_fetched"]
    assert "config.json" in result["files_reused"]
    result = run(allow_patterns=["*.gguf"])
    assert result["files_fetched"] == ["tiny.gguf"]
    assert Path(result["path"], "tiny.gguf").exists()


def test_the_layout_is_the_ecosystems(
    run: Module,
    hub: Hub,
    venv: Path,
    cache: Path,
    tmp_path: Path,
    client: Callable[..., Any],
) -> None:
    result = run()
    found = client(
        "[[r.repo_id, [[v.commit_hash, sorted(v.refs)] for v in r.revisions]]"
        " for r in hf.scan_cache_dir().repos] + [list(map(str, hf.scan_cache_dir().warnings))]"
    )
    assert found == [[MODEL, [[result["commit"], ["main"]]]], []]
    # The client finds it by itself, with no network.
    assert client(f"hf.snapshot_download({MODEL!r}, local_files_only=True)") == (result["path"])
    listed = subprocess.run(
        [str(venv / "bin/hf"), "cache", "ls"],
        env=client_environment(hub.url, tmp_path, HF_HUB_CACHE=str(cache)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"model/{MODEL}" in listed.stdout
    subprocess.run(
        [str(venv / "bin/hf"), "cache", "verify", MODEL],
        env=client_environment(hub.url, tmp_path, HF_HUB_CACHE=str(cache)),
        check=True,
        capture_output=True,
    )


def test_what_the_client_downloaded_is_adopted_and_verified(
    run: Module, hub: Hub, client: Callable[..., Any], assert_whole: Callable[..., None]
) -> None:
    client(f"hf.snapshot_download({MODEL!r})", HF_HUB_DISABLE_XET="1")
    hub.clear_log()
    result = run()
    assert result["files_fetched"] == []
    assert hub.sent() == hub.sent(INDEX)
    hub.clear_log()
    assert not run()["changed"]
    assert hub.log == []


def test_everyone_reads_and_only_the_owner_writes(run: Module, cache: Path) -> None:
    mask = os.umask(0o077)
    try:
        result = run()
    finally:
        os.umask(mask)
    snapshot = Path(result["path"])
    for path in [snapshot, *snapshot.parents[:3], *snapshot.iterdir()]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() else 0o644), (path, oct(mode))
    (snapshot / "config.json").resolve().chmod(0o620)
    result = run()
    assert result["changed"]
    assert result["files_fetched"] == []
    assert stat.S_IMODE((snapshot / "config.json").stat().st_mode) == 0o644
    assert not run()["changed"]


@pytest.mark.parametrize("verify", ["size", "sha256"])
def test_a_file_written_to_is_fetched_again(
    run: Module, hub: Hub, verify: str, assert_whole: Callable[..., None]
) -> None:
    blob = Path(run()["path"], WANTED[2]).resolve()
    content = bytearray(blob.read_bytes())
    content[1000] ^= 1
    blob.write_bytes(content)
    hub.clear_log()
    result = run(verify=verify)
    assert_whole(result)
    assert result["changed"]
    assert result["files_fetched"] == [WANTED[2]]
    assert "has not the content that the Hub lists" in result["warnings"][0]
    assert hub.sent() == SHARDS[0]


def test_verify_sha256_finds_what_size_and_time_do_not_show(
    run: Module, assert_whole: Callable[..., None]
) -> None:
    blob = Path(run()["path"], WANTED[2]).resolve()
    before = blob.stat()
    content = bytearray(blob.read_bytes())
    content[1000] ^= 1
    blob.write_bytes(content)
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not run()["changed"]
    result = run(verify="sha256")
    assert_whole(result)
    assert result["files_fetched"] == [WANTED[2]]
    assert not run(verify="sha256")["changed"]


def test_what_is_missing_is_brought_back(
    run: Module, hub: Hub, assert_whole: Callable[..., None]
) -> None:
    snapshot = Path(run()["path"])
    (snapshot / WANTED[3]).resolve().unlink()
    (snapshot / "config.json").unlink()
    blob = (snapshot / WANTED[4]).resolve()
    with blob.open("r+b") as stream:
        stream.truncate(100)
    hub.clear_log()
    result = run()
    assert_whole(result)
    assert result["files_fetched"] == [WANTED[3], WANTED[4]]
    assert hub.sent() == SHARDS[1] + SHARDS[2]


def test_a_mirror_that_serves_large_files_itself(
    run: Module, model: Path, assert_whole: Callable[..., None]
) -> None:
    store = Store()
    store.tokens.add(TOKEN)
    store.add(MODEL, model, private=True).readers.add(TOKEN)
    with Hub(store, cdn_address=None) as mirror:
        assert_whole(run(endpoint=mirror.url + "/", token=TOKEN))
        assert {r.token for r in mirror.log} == {"known"}


def test_progress_that_cannot_be_kept_does_not_end_the_work(
    run: Module, assert_whole: Callable[..., None]
) -> None:
    assert_whole(run(progress="/proc/nowhere/progress.json"))


def test_two_runs_at_once_fetch_once(
    run: Module, hub: Hub, assert_whole: Callable[..., None]
) -> None:
    hub.pace.rate = 6_000_000
    both = [run.start(), run.start()]
    results = [run.finish(process) for process in both]
    for result in results:
        assert_whole(result)
    assert sorted(result["changed"] for result in results) == [False, True]
    assert hub.sent("model-00001-of-00003.safetensors") == SHARDS[0]


def test_xet_is_offered_and_not_taken(
    run: Module, hub: Hub, venv: Path, tmp_path: Path, client: Callable[..., Any]
) -> None:
    assert client("__import__('importlib.util').util.find_spec('hf_xet') is not None")
    run()
    assert [r for r in hub.log if r.route == "content" and r.server == "cdn"]
    assert not [r for r in hub.log if r.route == "xet"]
    # The same client without what the module sets takes the offer.
    plain = subprocess.Popen(
        [str(venv / "bin/hf"), "download", MODEL],
        env=client_environment(hub.url, tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while not [r for r in hub.log if r.route == "xet"]:
            assert time.monotonic() < deadline, "the client did not ask for xet"
            time.sleep(0.1)
    finally:
        plain.kill()
        plain.wait()
