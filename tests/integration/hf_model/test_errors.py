# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user did or has not: each its own message, with what to do."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hub.testing import bytes_in, write_model
from throwaway.testing import mounted

from .conftest import MODEL, SHARDS, TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hub import Hub
    from hub.testing import Module

OTHER_TOKEN = "hf_AnotherKnownTokenWithoutAccess"
NOWHERE = "http://127.0.0.1:9"  # the discard port, where nothing listens
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")


@pytest.mark.parametrize(
    ("setting", "arguments", "texts"),
    [
        (
            {"gated": True},
            {},
            ["gated (HTTP 401) and no token was given", "Ask for access at {url}/acme/tiny"],
        ),
        (
            {"gated": True},
            {"token": OTHER_TOKEN},
            ["refused (HTTP 403)", "has not been granted access", "{url}/acme/tiny with that"],
        ),
        ({}, {"token": "hf_Unknown"}, ["does not know the token (HTTP 401)", "settings/tokens"]),
        ({"private": True}, {}, ["there is no model acme/tiny", "(HTTP 401)", "give a token"]),
        (
            {"private": True},
            {"token": OTHER_TOKEN},
            ["there is no model acme/tiny", "(HTTP 404)", "the token may not read it"],
        ),
        (
            {},
            {"repo_id": "acme/tinny", "token": TOKEN},
            ["there is no model acme/tinny", "(HTTP 404)", "Check repo_id"],
        ),
        ({}, {"revision": "v9"}, ["has no revision v9 (HTTP 404)", "check revision"]),
        ({}, {"revision": "0" * 40}, ["has no revision " + "0" * 40]),
        (
            {},
            {"allow_patterns": ["*.onnx"]},
            ["none of the repository's 15 files matches allow_patterns *.onnx", "It holds: "],
        ),
        (
            {},
            {"endpoint": NOWHERE, "retries": 0},
            [f"{NOWHERE} cannot be reached", "no whole copy of acme/tiny at main", "HTTPS_PROXY"],
        ),
        ({}, {"endpoint": "{url}/wrong"}, ["no Hugging Face Hub", "Check vllm_model_endpoint"]),
        ({}, {"tools_path": "/nonexistent"}, ["/nonexistent/bin/python", "set tools_path"]),
        (
            {},
            {"tools_path": "{tmp}/empty"},
            ["huggingface_hub cannot be used from", "No module named 'huggingface_hub'"],
        ),
    ],
    ids=[
        "gated-no-token",
        "gated-no-access",
        "unknown-token",
        "private-no-token",
        "private-no-access",
        "no-such-model",
        "no-such-branch",
        "no-such-commit",
        "no-such-files",
        "no-network",
        "no-hub",
        "no-tools",
        "no-client",
    ],
)
def test_what_to_do_is_said(
    run: Module,
    hub: Hub,
    tmp_path: Path,
    setting: dict[str, bool],
    arguments: dict[str, Any],
    texts: list[str],
) -> None:
    for name, value in setting.items():
        setattr(hub.store.repositories[MODEL], name, value)
    hub.store.tokens.add(OTHER_TOKEN)
    venv.create(tmp_path / "empty")
    places = {"{url}": hub.url, "{tmp}": str(tmp_path)}
    given = dict(arguments)
    for place, where in places.items():
        given = {
            name: text.replace(place, where) if isinstance(text, str) else text
            for name, text in given.items()
        }
    result = run(**given)
    assert result["failed"]
    assert not result["changed"]
    for text in texts:
        assert text.replace("{url}", hub.url) in result["msg"]
    assert "\n" not in result["msg"]
    assert "Traceback" not in result["stdout"] + result["stderr"]
    assert given.get("token", "hf_none") not in result["stdout"] + result["stderr"]


def test_all_bad_arguments_at_once(run: Module, hub: Hub, cache: Path) -> None:
    result = run(
        repo_id="a/b/c",
        revision="../main",
        endpoint="huggingface.co",
        cache_dir="hub",
        max_workers=0,
        stall_timeout=0,
        retries=-1,
        allow_patterns=[""],
    )
    assert result["failed"]
    for name in (
        "repo_id 'a/b/c'",
        "revision '../main'",
        "endpoint 'huggingface.co'",
        "max_workers",
        "stall_timeout",
        "retries",
        "allow_patterns",
    ):
        assert name in result["msg"]
    assert hub.log == []
    assert not cache.exists()


def test_without_network_a_whole_copy_serves(run: Module) -> None:
    first = run()
    assert not run(endpoint=NOWHERE)["changed"]
    assert not run(endpoint=NOWHERE, revision=first["commit"])["changed"]
    result = run(endpoint=NOWHERE, update=True, retries=0)
    assert not result.get("failed")
    assert not result["changed"]
    assert result["commit"] == first["commit"]
    assert "stays at the recorded commit" in result["warnings"][0]
    Path(first["path"], "config.json").resolve().unlink()
    result = run(endpoint=NOWHERE, retries=0)
    assert result["failed"]
    assert "cannot be reached" in result["msg"]


@pytest.fixture
def mount() -> Iterator[Callable[..., Path]]:
    """Mounts a small file system of its own."""
    with contextlib.ExitStack() as stack:
        yield lambda *options: stack.enter_context(
            mounted("-t", "tmpfs", "-o", ",".join(options), "tmpfs")
        )


@root_only
def test_room_is_checked_before_the_first_byte(
    run: Module, hub: Hub, mount: Callable[..., Path]
) -> None:
    point = mount("size=66m")
    result = run(cache_dir=str(point / "hub"))
    assert result["failed"]
    assert f"not enough room on {point}" in result["msg"]
    assert "5.7 MiB are still to be fetched" in result["msg"]
    assert "66.0 MiB are free: 3.7 MiB too little" in result["msg"]
    assert hub.sent() == hub.sent("model.safetensors.index.json")
    # A check says so too.
    assert "not enough room" in run(cache_dir=str(point / "hub"), check=True)["msg"]


@root_only
def test_a_disk_that_fills_up_meanwhile(
    run: Module, hub: Hub, mount: Callable[..., Path], assert_whole: Callable[..., None]
) -> None:
    point = mount("size=72m")
    hub.pace.rate = 500_000  # it takes longer than a busy machine takes to fill the disk
    process = run.start(cache_dir=str(point / "hub"))
    # More than what else is fetched again, so that it shows in what is sent in all.
    while bytes_in(point, "hub/*/blobs/*.incomplete") < 200_000:
        time.sleep(0.02)
    filler = point / "filler"
    with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(bytes(1 << 20)):  # as much as there is room for
            pass
    result = run.finish(process)
    assert f"the disk of {point}/hub is full" in result["msg"]
    filler.unlink()
    hub.pace.rate = 0
    hub.clear_log()
    assert_whole(run(cache_dir=str(point / "hub")))
    assert hub.sent() < sum(SHARDS)


@root_only
def test_a_cache_that_cannot_be_written(run: Module, hub: Hub, mount: Callable[..., Path]) -> None:
    point = mount("size=72m", "ro")
    result = run(cache_dir=str(point / "hub"))
    assert "the cache cannot be written" in result["msg"]
    assert "Read-only file system" in result["msg"]
    assert hub.log == []


def test_a_cache_that_is_a_file(run: Module, hub: Hub, cache: Path) -> None:
    cache.write_text("")
    result = run()
    assert "the cache cannot be written" in result["msg"]
    assert str(cache) in result["msg"]
    assert hub.log == []


def test_a_token_is_nowhere_but_at_the_hub(
    run: Module,
    hub: Hub,
    cache: Path,
    tmp_path: Path,
    assert_whole: Callable[..., None],
) -> None:
    repository = hub.store.repositories[MODEL]
    repository.gated = True
    repository.readers.add(TOKEN)
    hub.pace.rate = 6_000_000
    seen: list[str] = []
    ended = threading.Event()
    looked = 0

    def watch() -> None:
        nonlocal looked
        while not ended.is_set():
            for path in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        if TOKEN.encode() in (path / name).read_bytes():
                            seen.append(str(path / name))
                    except OSError:
                        continue
            looked += 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    progress = tmp_path / "progress" / "run.json"
    process = run.start(token=TOKEN, progress=str(progress))
    texts = []
    while process.poll() is None:
        if progress.exists():
            texts.append(progress.read_text())
        time.sleep(0.05)
    result = run.finish(process)
    ended.set()
    watcher.join()
    assert_whole(result)
    assert looked > 3
    assert seen == []
    assert texts
    assert TOKEN not in result["stdout"] + result["stderr"] + "".join(texts)
    for argument_file in tmp_path.glob("arguments-*.json"):
        argument_file.unlink()  # the test's own
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
    assert {r.token for r in hub.log if r.server == "hub"} == {"known"}
    assert {r.token for r in hub.log if r.server == "cdn"} == {"none"}


def test_what_lies_on_the_host_changes_nothing(
    run: Module, hub: Hub, tmp_path: Path, assert_whole: Callable[..., None]
) -> None:
    home = tmp_path / ".cache/huggingface"
    home.mkdir(parents=True)
    (home / "token").write_text(TOKEN)
    assert_whole(run())
    assert {r.token for r in hub.log} == {"none"}


def test_absent_is_what_the_client_deletes(
    run: Module,
    hub: Hub,
    cache: Path,
    tmp_path: Path,
    client: Callable[..., Any],
    assert_whole: Callable[..., None],
) -> None:
    first = run()
    second_files = write_model(tmp_path / "second", SHARDS)
    (second_files / "config.json").write_text('{"second": true}')
    hub.store.repositories[MODEL].push(second_files, "next")
    second = run(revision="next")
    plan = client(
        "(lambda s: [s.expected_freed_size, sorted(map(str, s.blobs)), sorted(map(str, s.refs)),"
        " sorted(map(str, s.snapshots))])"
        f"(hf.scan_cache_dir().delete_revisions({second['commit']!r}))"
    )
    would = run(revision="next", state="absent", check=True, diff=True)
    assert would["changed"]
    assert would["bytes"] == plan[0]
    assert would["diff"]["before"].splitlines() == sorted(plan[1] + plan[2] + plan[3])
    copy = tmp_path / "copy"
    shutil.copytree(cache, copy, symlinks=True)
    client(f"hf.scan_cache_dir({str(copy)!r}).delete_revisions({second['commit']!r}).execute()")
    hub.clear_log()
    gone = run(revision="next", state="absent", tools_path="/nonexistent")
    assert gone["bytes"] == plan[0]
    assert gone["commit"] == second["commit"]
    assert _tree(cache) == _tree(copy)
    assert hub.log == []
    assert not run(revision="next", state="absent")["changed"]
    # What the other revision needs is untouched.
    result = run(tools_path="/nonexistent")
    assert_whole(result)
    assert not result["changed"]
    assert result["commit"] == first["commit"]
    # And with the last one everything goes.
    assert run(state="absent", tools_path="/nonexistent")["changed"]
    assert [path for path in cache.rglob("*") if path.name != ".locks"] == []
    assert not run(state="absent")["changed"]


def _tree(folder: Path) -> list[str]:
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(path for path in paths if ".compute_plane" not in path)
