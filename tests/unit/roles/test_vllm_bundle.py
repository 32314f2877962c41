# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role as site.yml runs it, with this machine as the host and a bundle of a few bytes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Play:
    """A bundle on the controller, and a play that runs the role."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.source = tmp_path / "source"
        self.host = tmp_path / "host" / "bundle"
        self.host.parent.mkdir()
        files = {"locks/cpu-py311.txt": "the lock\n", "locks/tools.txt": "tools\n", "wheels/a": "a"}
        for path, text in files.items():
            (self.source / path).parent.mkdir(parents=True, exist_ok=True)
            (self.source / path).write_text(text)
        rows = [{"path": p, "bytes": len(t), "sha256": digest(t)} for p, t in files.items()]
        locks = {
            "cpu-py311.txt": {"python": "3.11", "sha256": digest("the lock\n")},
            "tools.txt": {"python": None, "sha256": digest("tools\n")},
        }
        content = {"schema": 1, "release": "0.14.1", "accelerator": "cpu", "pythons": ["3.11"]}
        (self.source / "manifest.json").write_text(
            json.dumps({**content, "locks": locks, "files": rows})
        )
        (tmp_path / "play.yml").write_text(
            json.dumps(
                [
                    {
                        "hosts": "localhost",
                        "connection": "local",
                        "gather_facts": False,
                        "roles": ["compute_plane.vllm.vllm_bundle"],
                    }
                ]
            )
        )

    def run(
        self, *options: str, proved: bool = False, locked: bool = True, **changes: Any
    ) -> tuple[int, int, str]:
        """Run it; returns the exit status, how many tasks changed something, and the output."""
        runtime = {
            "lock": "0.14.1/cpu-py311.txt" if locked else None,
            "lock_sha256": digest("the lock\n") if locked else None,
        }
        result = {
            "plan": {"runtime": {**runtime, "proved": proved}},
            "facts": {"deployed": {"tools": "/opt/vllm/tools" if proved else None}},
        }
        variables = {
            "ansible_python_interpreter": sys.executable,
            "vllm_preflight_result": result,
            "vllm_bundle_tools": str(self.source / "locks" / "tools.txt"),
            "vllm_bundle_src": str(self.source),
            "vllm_runtime_bundle": str(self.host),
            **changes,
        }
        done = subprocess.run(
            [
                *(sys.executable, "-m", "ansible", "playbook"),
                self.folder / "play.yml",
                "--inventory=localhost,",
                "--extra-vars",
                json.dumps(variables),
                *options,
            ],
            cwd=self.folder,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_HOME": str(self.folder / "ansible"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        changed = re.search(r"changed=(\d+)", done.stdout)
        return done.returncode, int(changed[1]) if changed else -1, done.stdout


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


def test_it_is_brought_once_and_again_when_it_is_damaged(play: Play) -> None:
    status, changed, output = play.run("--check")
    assert (status, changed) == (0, 1), output
    assert not play.host.exists()
    status, changed, output = play.run()
    assert (status, changed) == (0, 1), output
    assert (play.host / "wheels" / "a").read_text() == "a"
    status, changed, output = play.run()
    assert (status, changed) == (0, 0), output
    (play.host / "wheels" / "a").write_text("b")
    status, changed, output = play.run()
    assert (status, changed) == (0, 1), output
    assert (play.host / "wheels" / "a").read_text() == "a"


def test_one_that_is_not_brought_is_only_checked(play: Play) -> None:
    status, changed, output = play.run(vllm_bundle_src="")
    assert (status, changed) == (2, 0)
    assert f"{play.host} is not a whole bundle" in " ".join(output.split())


def test_nothing_is_read_when_all_is_installed_or_there_is_no_bundle(play: Play) -> None:
    for options in ({"proved": True}, {"vllm_runtime_bundle": ""}):
        status, changed, output = play.run(**options)
        assert (status, changed) == (0, 0), output
    assert not play.host.exists()


def test_a_venv_that_somebody_made_needs_the_tools_alone(play: Play) -> None:
    status, changed, output = play.run(locked=False)
    assert (status, changed) == (0, 1), output


def test_one_that_was_brought_and_is_another_is_told(play: Play) -> None:
    (play.source / "locks" / "tools.txt").write_text("newer\n")
    status, _changed, output = play.run()
    assert status == 2
    assert "another edition of the tools" in output
