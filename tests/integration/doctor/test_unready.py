# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""preflight.yml on a host on which no module can run yet: just installed, root with a password.

Debian's installer leaves such a host without sudo and, where only the SSH server was chosen,
without Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from throwaway.testing import own_environment, run_tool, said_by_tool

ROOT = Path(__file__).resolve().parents[3]
USER = """\
useradd -m -s /bin/bash me
echo me:secret | chpasswd
install -d -o me /home/me/.ssh
install -o me -m 600 /root/.ssh/authorized_keys /home/me/.ssh/
mkdir /root/aside
"""

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.geteuid() != 0, reason="throwaway hosts need root"),
]


class Fresh:
    """The host, which the user `me` reaches by SSH."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = own_environment(directory)
        said_by_tool(self.environment, "up", "fresh")
        (directory / "hosts.yml").write_text(said_by_tool(self.environment, "inventory", "fresh"))
        self.run(USER)

    def run(self, script: str) -> None:
        """Run a shell script on the host."""
        said_by_tool(self.environment, "exec", "fresh", "--", "sh", "-euc", script)

    def preflight(self) -> str:
        """Run the playbook as `me`, with the password for sudo, and return what it printed."""
        variables = {
            "ansible_user": "me",
            "ansible_become_password": "secret",
            "vllm_hosts": "fresh",
            "vllm_accelerator": "cpu",
            "vllm_preflight_report": "true",
            "vllm_preflight_json": "plan.json",
        }
        given = [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
        done = subprocess.run(
            ["ansible-playbook", ROOT / "playbooks/preflight.yml", "-i", "hosts.yml", *given],
            cwd=self.directory,
            # A connection that is kept has the groups that `me` had when it was made.
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_SSH_ARGS": "-o ControlMaster=no",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        # YAML folds long lines.
        return " ".join(done.stdout.split())


@pytest.fixture(scope="module")
def fresh() -> Iterator[Fresh]:
    with tempfile.TemporaryDirectory(prefix="fresh-", dir="/var/tmp") as directory:
        try:
            yield Fresh(Path(directory))
        finally:
            run_tool(own_environment(Path(directory)), "clean")


def test_what_keeps_modules_from_running_is_told_with_what_to_do(fresh: Fresh) -> None:
    assert "me is not in the sudoers file. — as root on the host, let me use sudo" in (
        fresh.preflight()
    )
    fresh.run("mv /usr/bin/sudo /root/aside")
    assert "sudo: not found — as root on the host, install sudo and let me" in fresh.preflight()
    # What the message says to do, and the next thing is found.
    fresh.run("mv /root/aside/sudo /usr/bin; usermod -aG sudo me; mv /usr/bin/python3* /root/aside")
    assert "python3: not found — install Python 3 there" in fresh.preflight()
    fresh.run("mv /root/aside/python3* /usr/bin")
    assert "No problems." in fresh.preflight()
    # A relative path is relative to where Ansible was started.
    assert json.loads((fresh.directory / "plan.json").read_text())["problems"] == []
