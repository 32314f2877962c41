# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole way through Ansible: the module in its archive, the action plugin, output and logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from hub.testing import ROOT

from .conftest import MODEL, SHARDS, TOKEN

if TYPE_CHECKING:
    from pathlib import Path

    from hub import Hub


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
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": [task, task, show]}]
    (tmp_path / "play.json").write_text(json.dumps(play))
    (tmp_path / "vars.json").write_text(
        json.dumps({"token": TOKEN, "ansible_python_interpreter": sys.executable})
    )
    log = tmp_path / "ansible.log"
    done = subprocess.run(
        [
            f"{sys.prefix}/bin/ansible-playbook",
            *("-i", "localhost,", "-c", "local", "-vvv", "-e", f"@{tmp_path}/vars.json"),
            str(tmp_path / "play.json"),
        ],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "LANG": "C.UTF-8",
            "ANSIBLE_LOG_PATH": str(log),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout
    assert "changed=1" in done.stdout
    assert f"it is in {cache}/models--acme--tiny/snapshots/" in done.stdout
    if os.geteuid() == 0:  # the progress file is below /run
        assert f"localhost: downloading {MODEL}: " in done.stdout
    for text in (done.stdout, done.stderr, log.read_text()):
        assert TOKEN not in text
    (tmp_path / "vars.json").unlink()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
