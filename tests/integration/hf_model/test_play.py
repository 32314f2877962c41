# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole way through Ansible: the module in its archive, the action plugin, output and logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from hub.testing import ROOT

from .conftest import MODEL, SHARDS, TOKEN

if TYPE_CHECKING:
    from pathlib import Path

    from hub import Hub


def playbook(folder: Path, tasks: list[Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tasks on this machine."""
    play = {"hosts": "localhost", "gather_facts": False, "tasks": tasks}
    (folder / "play.json").write_text(json.dumps([play]))
    return subprocess.run(
        [
            f"{sys.prefix}/bin/ansible-playbook",
            *("-i", "localhost,", "-c", "local"),
            *("-e", json.dumps({"ansible_python_interpreter": sys.executable})),
            *arguments,
            str(folder / "play.json"),
        ],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "ANSIBLE_LOG_PATH": str(folder / "ansible.log"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def test_a_play(hub: Hub, venv: Path, cache: Path, tmp_path: Path) -> None:
    repository = hub.store.repositories[MODEL]
    repository.gated = True
    repository.readers.add(TOKEN)
    hub.pace.rate = sum(SHARDS) / 7
    task = {
        "compute_plane.vllm.hf_model": {
            "repo_id": MODEL,
            "endpoint": hub.url,
            "cache_dir": str(cache),
            "tools_path": str(venv),
            "token": "{{ token }}",
        },
        "register": "model",
    }
    show = {"ansible.builtin.debug": {"msg": "it is in {{ model.path }}"}}
    (tmp_path / "vars.json").write_text(json.dumps({"token": TOKEN}))
    done = playbook(tmp_path, [task, task, show], "-vvv", "-e", f"@{tmp_path}/vars.json")
    assert done.returncode == 0, done.stdout
    assert "changed=1" in done.stdout
    assert f"it is in {cache}/models--acme--tiny/snapshots/" in done.stdout
    if os.geteuid() == 0:  # the progress file is below /run
        assert f"localhost: downloading {MODEL}: " in done.stdout
    for text in (done.stdout, done.stderr, (tmp_path / "ansible.log").read_text()):
        assert TOKEN not in text
    (tmp_path / "vars.json").unlink()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path


def install(hub: Hub, venv: Path, cache: Path, folder: Path, **model: Any) -> dict[str, Any]:
    """The task that does both, with a release whose Python is not there."""
    common = {"endpoint": hub.url, "cache_dir": str(cache), "tools_path": str(venv)}
    return {
        "compute_plane.vllm.vllm_install": {
            "runtime": {
                "venv": str(folder / "release"),
                "python": "/nowhere/python",
                "lock": "",
                "expect": {},
                "release": "0",
                "accelerator": "cpu",
                "tools_lock": "",
                "tools_path": str(folder / "tools"),
            },
            "models": [{"repo_id": MODEL, **common, **model}],
        }
    }


def test_one_that_fails_does_not_stop_the_other(
    hub: Hub, venv: Path, cache: Path, tmp_path: Path
) -> None:
    hub.pace.rate = sum(SHARDS) / 4
    done = playbook(tmp_path, [install(hub, venv, cache, tmp_path)])
    assert done.returncode == 2, done.stdout
    assert "failed, and the run ends when what runs beside it has: " in done.stdout
    assert "/nowhere/python" in done.stdout.split("FAILED!", 1)[1]
    # What the other brought is whole; what failed left nothing.
    (snapshot,) = (cache / "models--acme--tiny" / "snapshots").iterdir()
    assert sum(path.stat().st_size for path in snapshot.glob("*.safetensors")) == sum(SHARDS)
    assert not (tmp_path / "release").exists()


def test_both_fail_and_each_says_why(hub: Hub, venv: Path, cache: Path, tmp_path: Path) -> None:
    task = install(hub, venv, cache, tmp_path, revision="v9")
    done = playbook(tmp_path, [task])
    failed = done.stdout.split("FAILED!", 1)[1]
    assert "/nowhere/python" in failed
    assert f"the model {MODEL} has no revision v9" in failed


def test_check_mode_of_both(hub: Hub, venv: Path, cache: Path, tmp_path: Path) -> None:
    done = playbook(tmp_path, [install(hub, venv, cache, tmp_path)], "--check", "--diff")
    assert done.returncode == 0, done.stdout
    assert f"proved venv {tmp_path}/release" in done.stdout
    assert "/model-00001-of-00003.safetensors 3000000 bytes" in done.stdout
    assert not cache.exists()
    assert not (tmp_path / "tools").exists()
