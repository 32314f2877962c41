# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""doctor.yml on a throwaway host with five instances that fail, each for a reason of its own.

systemd and the supervisor are real; in place of vLLM stands a program that writes a log that people
report and ends. Secrets and names are planted in the logs, the inventory and the host.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from throwaway.testing import TOOL, own_environment, run_tool

from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.supervisor.reported import (  # noqa: E501
    composed,
)

ROOT = Path(__file__).resolve().parents[3]
FAULTS = {
    "mig": "a MIG slice by its UUID",
    "weights": "weights that do not fit, from a loader's repacking",
    "kind": "an embedding model that is to chat",
    "hub": "a transfer by xet that broke off",
    "sampler": "a sampler that is warmed up with too many requests",
}
TOKEN, KEY, PASSWORD = "hf_PLANTEDabcdefghijklmnopqrst", "planted-key-93ab", "planted-pw-17"
USER, HOST, ADDRESS = "plantuser", "planthost77", "10.9.8.7"
UNIT = """\
[Service]
Type=notify
NotifyAccess=all
SyslogIdentifier=vllm@%i
RuntimeDirectory=vllm/%i
RuntimeDirectoryPreserve=yes
CacheDirectory=vllm/%i
EnvironmentFile=-/etc/vllm/%i.env
ExecStart=/usr/bin/python3 -I -S /opt/vllm/supervisor/x --name=%i --vllm=/opt/stand-in/%i \
--config=/etc/vllm/%i.yaml --starts=1
"""
MAIN = "import sys\nfrom supervisor.main import main\nsys.exit(main())\n"

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.geteuid() != 0, reason="throwaway hosts need root"),
]


def planted(log: list[str]) -> list[str]:
    """A log with what nobody may read in a report."""
    told = f"{{'api_key': ['{KEY}'], 'hf_token': '{TOKEN}', 'model': '/home/{USER}/models/x'}}"
    return [
        f"(APIServer pid=1) INFO 11-22 22:05:21 [utils.py:1] non-default args: {told}",
        f"{HOST}:1201:1201 [0] NCCL INFO Bootstrap : Using eth0:{ADDRESS}<0>",
        f"using the proxy http://{USER}:{PASSWORD}@proxy.{HOST}.corp:3128/",
        *log,
        f"(APIServer pid=1) INFO started by {USER}@{HOST} with --api-key {KEY}",
        f"(APIServer pid=1) INFO Authorization: Bearer {TOKEN}",
    ]


class Sick:
    """The host with its five faults."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = own_environment(directory)
        self.tool("up", "sick")
        (directory / "hosts.yml").write_text(self.tool("inventory", "sick"))
        self.run("sh", "-c", f"hostname {HOST}; echo {HOST} >/etc/hostname; useradd -m {USER}")
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(ROOT / "plugins/module_utils/supervisor", "supervisor")
        self.put("/tmp/supervisor.tar", archive.getvalue())
        self.run("mkdir", "-p", "/opt/vllm/supervisor/x", "/etc/vllm", "/opt/stand-in")
        self.run("tar", "-xf", "/tmp/supervisor.tar", "-C", "/opt/vllm/supervisor/x")
        self.put("/opt/vllm/supervisor/x/__main__.py", MAIN.encode())
        self.put("/etc/systemd/system/vllm@.service", UNIT.encode())
        fixtures = ROOT / "tests/fixtures/classify/reported.yml"
        self.cases = {one["name"]: one for one in yaml.safe_load(fixtures.read_text())}
        for number, (name, case) in enumerate(FAULTS.items()):
            log = "\n".join(planted(composed(self.cases[case])))
            stand_in = f"#!/bin/sh\ncat <<'END'\n{log}\nEND\nexit 1\n"
            self.put(f"/opt/stand-in/{name}", stand_in.encode())
            self.run("chmod", "755", f"/opt/stand-in/{name}")
            config = f'model: "/home/{USER}/x"\nhost: "127.0.0.1"\nport: {8100 + number}\n'
            self.put(f"/etc/vllm/{name}.yaml", config.encode())
            self.put(f"/etc/vllm/{name}.env", f"VLLM_API_KEY={KEY}\nHF_TOKEN={TOKEN}\n".encode())
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "start", "--no-block", *(f"vllm@{name}" for name in FAULTS))
        end = time.monotonic() + 120
        for name in FAULTS:
            while not self.run("sh", "-c", f"cat /run/vllm/{name}/verdict.json || true"):
                assert time.monotonic() < end, f"no verdict about {name}"
                time.sleep(0.5)

    def tool(self, *words: str, given: bytes = b"") -> str:
        """Run the hosts' own tool and return what it printed."""
        command = [sys.executable, str(TOOL), *words]
        done = subprocess.run(
            command, env=self.environment, input=given, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        return done.stdout.decode()

    def run(self, *command: str) -> str:
        """Run a program on the host."""
        return self.tool("exec", "sick", "--", *command)

    def put(self, path: str, content: bytes) -> None:
        """Write a file on the host."""
        self.tool("exec", "sick", "--", "sh", "-c", f"cat >{path}", given=content)

    def doctor(self) -> tuple[str, str, str]:
        """What doctor.yml prints, its text and its JSON."""
        text, document = self.directory / "doctor.txt", self.directory / "doctor.json"
        variables = {
            "vllm_hosts": "all",
            "vllm_accelerator": "cpu",
            "vllm_instances": [
                {"name": name, "model": f"/home/{USER}/x", "port": 8100 + number}
                for number, name in enumerate(FAULTS)
            ],
            "vllm_service_api_keys": dict.fromkeys(FAULTS, KEY),
            "vllm_model_token": TOKEN,
            "vllm_doctor_text": str(text),
            "vllm_doctor_json": str(document),
        }
        done = subprocess.run(
            [
                *("ansible-playbook", str(ROOT / "playbooks/doctor.yml")),
                *("-i", str(self.directory / "hosts.yml"), "-e", json.dumps(variables)),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, text.read_text(), document.read_text()


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sick]:
    directory = tmp_path_factory.mktemp("doctor")
    try:
        yield Sick(directory)
    finally:
        run_tool(own_environment(directory), "clean")


def test_five_faults_are_told_and_nothing_that_was_planted(sick: Sick) -> None:
    host_has = sick.run("journalctl", "--no-pager", "-u", "vllm@mig")
    outputs = sick.doctor()
    for secret in (TOKEN, KEY, PASSWORD, USER, HOST, ADDRESS):
        assert secret in host_has, f"{secret} was not planted"
        assert [secret.lower() in output.lower() for output in outputs] == [False] * 3, secret
    for name, case in FAULTS.items():
        expect = sick.cases[case]["expect"]
        verdict = json.loads(sick.run("cat", f"/run/vllm/{name}/verdict.json"))
        assert verdict["cause"] == expect["cause"]
        for output in outputs[1:]:
            assert verdict["summary"] in output
    assert "SECRET" in outputs[1]
