# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an uninstall takes and leaves, on real directories."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.service.removal import (
    Decision,
    Removal,
    configured_paths,
)
from ansible_collections.compute_plane.vllm.plugins.modules.vllm_removal import remove

if TYPE_CHECKING:
    from pathlib import Path

OURS = [
    "/etc/vllm/one.yaml",
    "/etc/vllm/one.env",
    "/etc/vllm/one.endpoint.json",
    "/opt/vllm/.lock",
    "/opt/vllm/monitoring/collector.py",
    "/opt/vllm/releases/0.14.1-cpu-3f1d0a9be2c4/lib/python3.11/site-packages/vllm/__init__.py",
    "/opt/vllm/tools-0123456789ab/bin/uv",
    "/opt/vllm/supervisor/0123456789ab.pyz",
    "/opt/vllm/cache/uv/wheels-v5/x",
    "/opt/vllm/cache/proofs/0.14.1-cpu-3f1d0a9be2c4/proof.json",
    "/opt/vllm/own/0123456789ab.json",
    "/var/lib/vllm/proved/one.json",
    "/var/lib/vllm/verified/one.json",
    "/var/lib/vllm/failed/one.json",
    "/var/lib/vllm/registered/one.json",
    "/var/lib/vllm/benchmarks/one.json",
    "/var/lib/vllm/attention.json",
    "/var/lib/vllm/.abcd_123",
    "/var/cache/vllm/one/triton/x",
    "/run/vllm/one/verdict.json",
    "/run/compute_plane.vllm/x",
]
DIRECTORIES = ["/etc/vllm", "/opt/vllm", "/run/compute_plane.vllm", "/run/vllm", "/var/cache/vllm"]
SNAPSHOT = f"models--org--name/snapshots/{'0a' * 20}/config.json"
MODEL = ["config.json", "model.safetensors"]
Host = Callable[..., None]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Puts files below the root: ours, and more."""

    def put(*paths: str) -> None:
        for path in (*OURS, *paths):
            file = tmp_path / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(path)
        link = tmp_path / "opt/vllm/tools"
        if not link.is_symlink():
            link.symlink_to("tools-0123456789ab")

    return put


@pytest.fixture
def decide(tmp_path: Path) -> Callable[..., Removal]:
    """Decides with paths as on a host."""

    def run(
        hub: str = "/var/lib/vllm/hub", models: bool = False, keep: Any = (), mounts: Any = ()
    ) -> Removal:
        root = str(tmp_path)
        found = Decision(
            root + hub,
            models,
            {root + path: "yours" for path in keep},
            [root + path for path in mounts],
            root,
        ).decide()
        return Removal(
            [path[len(root) :] for path in found.paths],
            {path[len(root) :]: why.replace(root, "") for path, why in found.kept.items()},
        )

    return run


def test_all_of_ours_goes_and_nothing_is_left(host: Host, decide: Any) -> None:
    host()
    found = decide()
    assert found.paths == sorted([*DIRECTORIES, "/var/lib/vllm"])
    assert found.kept == {}


def test_nothing_there_is_nothing_to_remove(decide: Any) -> None:
    assert decide() == Removal([], {})


@pytest.mark.parametrize(
    "hub",
    [
        "/var/lib/vllm/hub",
        "/var/lib/vllm/models/hub",
        "/var/lib/vllm/proved/hub",
        "/var/cache/vllm/hub",
        "/opt/vllm/hub",
        "/opt/vllm/cache/uv/hub",
        "/var/lib/vllm",
        "/opt/vllm",
    ],
)
def test_a_hub_stays_wherever_it_is(host: Host, decide: Any, tmp_path: Path, hub: str) -> None:
    host(f"{hub}/{SNAPSHOT}", "/var/lib/vllm/hub/.locks/x", f"{hub}/.locks/x")
    found = decide(hub=hub)
    for file in tmp_path.rglob("*"):
        path = str(file)[len(str(tmp_path)) :]
        goes = any(f"{path}/".startswith(f"{one}/") for one in found.paths)
        if file.is_file():
            assert goes == (path in OURS or path.startswith("/opt/vllm/tools")), path
        elif path.startswith(f"{hub}/models--"):
            assert not goes


def test_models_that_are_to_go_go_where_they_are_ours(host: Host, decide: Any) -> None:
    host(f"/var/lib/vllm/hub/{SNAPSHOT}", f"/opt/vllm/hub/{SNAPSHOT}", f"/srv/hub/{SNAPSHOT}")
    found = decide(hub="/opt/vllm/hub", models=True)
    assert found == Removal(sorted([*DIRECTORIES, "/var/lib/vllm"]), {})
    assert decide(hub="/srv/hub", models=True) == Removal(
        # Not named as a hub of ours any more.
        sorted(
            [*(one for one in DIRECTORIES if one != "/opt/vllm"), "/var/lib/vllm"]
            + [f"/opt/vllm/{one}" for one in (".lock", "cache", "monitoring", "own", "releases")]
            + [f"/opt/vllm/{one}" for one in ("supervisor", "tools", "tools-0123456789ab")]
        ),
        {"/opt/vllm/hub": "models"},
    )


def test_in_a_hub_that_is_our_directory_the_models_go_and_the_rest_stays(
    host: Host, decide: Any
) -> None:
    host(f"/var/lib/vllm/{SNAPSHOT}", "/var/lib/vllm/.locks/x", "/var/lib/vllm/notes.txt")
    found = decide(hub="/var/lib/vllm", models=True)
    assert "/var/lib/vllm/models--org--name" in found.paths
    assert "/var/lib/vllm/.locks" in found.paths
    assert found.kept == {"/var/lib/vllm/notes.txt": "not made by this collection"}


@pytest.mark.parametrize("models", [False, True])
@pytest.mark.parametrize(
    ("folder", "files", "why"),
    [
        ("/var/lib/vllm/my-model", MODEL, "a model"),
        ("/var/cache/vllm/one/kept", MODEL, "a model"),
        ("/var/lib/vllm/proved/my-model", MODEL, "a model"),
        ("/opt/vllm/bundle", ["manifest.json", "wheels/a.whl"], "a bundle"),
        ("/var/cache/vllm/bundle", ["manifest.json", "wheels/a.whl"], "a bundle"),
        ("/opt/vllm/releases/mine", ["pyvenv.cfg"], "not made by this collection"),
        ("/opt/vllm/venv", ["pyvenv.cfg"], "not made by this collection"),
        ("/etc/vllm/chat.jinja", [""], "not made by this collection"),
        ("/etc/vllm/keys", ["a"], "not made by this collection"),
    ],
)
def test_what_is_not_ours_stays(
    host: Host, decide: Any, folder: str, files: list[str], why: str, models: bool
) -> None:
    host(*(f"{folder}/{name}".rstrip("/") for name in files))
    found = decide(models=models)
    assert found.kept == {folder: why}
    assert not any(f"{folder}/".startswith(f"{path}/") for path in found.paths)
    # All the rest goes.
    assert len(found.paths) >= len(DIRECTORIES)


def test_what_the_inventory_names_stays_also_in_what_is_ours(host: Host, decide: Any) -> None:
    inside = "/opt/vllm/releases/0.14.1-cpu-3f1d0a9be2c4/model"
    host(*(f"{inside}/{name}" for name in MODEL), "/srv/model/config.json")
    found = decide(keep=[f"{inside}/", "/srv/model", "/srv/absent"])
    assert found.kept == {inside: "yours", "/srv/model": "yours"}
    assert "/opt/vllm/releases/0.14.1-cpu-3f1d0a9be2c4/lib" in found.paths


def test_of_links_the_link_goes_at_most(host: Host, decide: Any, tmp_path: Path) -> None:
    host("/data/releases/x", "/data/hub/models--a--b/x", "/data/state/proved/two.json")
    opt, state = tmp_path / "opt/vllm", tmp_path / "var/lib/vllm"
    # A whole directory that was put on a larger disk: what we made there goes.
    for path in state.rglob("*"):
        if path.is_file():
            path.unlink()
    for path in sorted(state.rglob("*"), reverse=True):
        path.rmdir()
    state.rmdir()
    state.symlink_to(tmp_path / "data/state")
    (tmp_path / "data/state/hub").symlink_to(tmp_path / "data/hub")
    (tmp_path / "var/cache/vllm/two").symlink_to(tmp_path / "data/releases")
    (opt / "mine").symlink_to("/etc")
    found = decide()
    assert "/var/lib/vllm/proved" in found.paths
    assert "/var/cache/vllm" in found.paths  # with the link, not with what it leads to
    assert not any(path.startswith("/data") for path in found.paths)
    assert found.kept == {
        "/opt/vllm/mine": "not made by this collection",
        "/var/lib/vllm/hub": "models",
    }


def test_a_link_to_a_hub_in_what_is_ours_saves_what_it_leads_to(
    host: Host, decide: Any, tmp_path: Path
) -> None:
    host(f"/opt/vllm/cache/uv/hub/{SNAPSHOT}")
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv/hub").symlink_to(tmp_path / "opt/vllm/cache/uv/hub")
    found = decide(hub="/srv/hub")
    assert found.kept == {"/srv/hub": "models", "/opt/vllm/cache/uv/hub": "models"}
    assert "/opt/vllm/cache/uv/wheels-v5" in found.paths


def test_a_mount_of_ours_is_emptied_and_one_of_others_is_left(host: Host, decide: Any) -> None:
    host("/var/cache/vllm/one/nfs/x", "/opt/vllm/data/x")
    mounts = ["/opt/vllm", "/opt/vllm/cache/uv", "/var/cache/vllm/one/nfs", "/opt/vllm/data"]
    found = decide(mounts=mounts)
    assert found.kept == {
        "/opt/vllm/cache/uv": "a file system is mounted there",
        "/opt/vllm/data": "not made by this collection",
        "/var/cache/vllm/one/nfs": "a file system is mounted there",
    }
    assert {"/opt/vllm/cache/uv/wheels-v5", "/var/cache/vllm/one/triton"} <= set(found.paths)
    assert "/opt/vllm/releases" in found.paths


def test_an_empty_mount_of_ours_is_left_and_said(host: Host, decide: Any) -> None:
    host()
    found = decide(mounts=["/opt/vllm"])
    assert found.kept == {"/opt/vllm": "a file system is mounted there"}
    assert "/opt/vllm/releases" in found.paths


def test_again_after_it_was_removed_the_same_stays(host: Host, decide: Any, tmp_path: Path) -> None:
    host(*(f"/var/cache/vllm/m/{name}" for name in MODEL), f"/var/lib/vllm/hub/{SNAPSHOT}")
    first = decide()
    for path in first.paths:
        remove(f"{tmp_path}{path}")
    assert decide() == Removal([], first.kept)


def test_paths_in_a_configuration() -> None:
    text = "model: /srv/m\nport: 8000\nchat-template: '/etc/vllm/chat.jinja'\nhost: 0.0.0.0\n"
    assert configured_paths(text) == ["/srv/m", "/etc/vllm/chat.jinja"]
