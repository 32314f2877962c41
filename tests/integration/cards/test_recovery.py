# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lost card, a host that is rebooted once to bring it back, and limits of a card's power.

systemd, the units, the supervisor and the reboot are real. Substitutes are the GPU
(tests/hosts/fake_gpu), which is well again after a boot, and vLLM, in whose place something sleeps.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_gpu
import pytest
from throwaway.testing import own_environment, run_tool, said_by_tool

ROOT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compute_plane.vllm"
MODEL = "/srv/models/SmolLM2-135M-Instruct"
MACHINE = "/etc/fake-gpu.ini"
LOST = "[machine]\n[gpu]\nlost = 1\n"
# As the collection deploys it, without what a server needs.
UNIT = """\
[Service]
Type=notify
NotifyAccess=main
User=serves
RuntimeDirectory=vllm/%i
RuntimeDirectoryPreserve=yes
CacheDirectory=vllm/%i
StateDirectory=vllm/lost/%i
TimeoutStartSec=600
Restart=always
RestartSec=2
RestartPreventExitStatus=69
ExecStart=/usr/bin/python3 -I -S /opt/vllm/supervisor/x --name=%i --vllm=/opt/stand-in \
--config=/etc/vllm/%i.yaml --device=/dev/nvidia0 --gpu-lost=reboot

[Install]
WantedBy=multi-user.target
"""
MAIN = "import sys\nfrom supervisor.main import main\nsys.exit(main())\n"

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="throwaway hosts need root"),
]


class Host:
    """The host with one card and one instance."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = own_environment(directory)
        bind = f"--bind-ro={CACHE}/models/SmolLM2-135M-Instruct:{MODEL}"
        up = json.loads(said_by_tool(self.environment, "up", "cards", bind, "--json"))
        (directory / "hosts.yml").write_text(said_by_tool(self.environment, "inventory", "cards"))
        machine = directory / "well.ini"
        machine.write_text("[machine]\n[gpu]\n")
        fake_gpu.install(Path(up["directory"]) / "root", machine)
        self.put("/etc/well.ini", machine.read_text())
        self.put(
            "/etc/systemd/system/fake-gpu.service.d/boot.conf",
            f"[Service]\nExecStartPre=/bin/cp /etc/well.ini {MACHINE}\n",
        )
        self("systemctl", "daemon-reload")
        self("systemctl", "start", "fake-gpu")
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(ROOT / "plugins/module_utils/supervisor", "supervisor")
        self("mkdir", "-p", "/opt/vllm/supervisor/x")
        self("tar", "-xf", "-", "-C", "/opt/vllm/supervisor/x", given=archive.getvalue())
        self.put("/opt/vllm/supervisor/x/__main__.py", MAIN)
        self.put("/etc/systemd/system/vllm@.service", UNIT)
        self.put("/opt/stand-in", "#!/bin/sh\nexec sleep 3600\n")
        self.put("/etc/vllm/a.yaml", 'model: "/m"\nhost: "127.0.0.1"\nport: 8000\n')
        self("useradd", "serves")
        self("chmod", "755", "/opt/stand-in")

    def __call__(self, *command: str, given: bytes | None = None) -> str:
        """Run a program on the host."""
        tool = Path(ROOT / "tests/hosts/testhosts.py")
        done = subprocess.run(
            [tool, "exec", "cards", "--", *command],
            env=self.environment,
            input=given,
            stdin=None if given is not None else subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        return done.stdout.decode()

    def put(self, path: str, content: str) -> None:
        """Write a file on the host."""
        write = 'mkdir -p "$(dirname "$0")"; cat >"$0"'
        self("sh", "-c", write, path, given=content.encode())

    def play(self, name: str, *words: str, fails: bool = False, **variables: object) -> str:
        """What a playbook says."""
        given = {
            "vllm_hosts": "all",
            "vllm_accelerator": "cuda",
            "vllm_instances": [{"name": "a", "model": MODEL, "max_model_len": 1024}],
            **variables,
        }
        done = subprocess.run(
            [
                *(ROOT / ".venv/bin/ansible-playbook", ROOT / "playbooks" / name),
                *("--inventory", self.directory / "hosts.yml", "--extra-vars", json.dumps(given)),
                *words,
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout

    def cards(self, **variables: object) -> str:
        """What site.yml says when it is asked for the cards alone."""
        return self.play("site.yml", "--tags", "vllm_gpu", **variables)

    def limit(self) -> str:
        """The card's power limit, as the driver's own program tells it."""
        told = self("nvidia-smi", "-q", "-x")
        return told.split("<current_power_limit>")[1].split("<")[0]

    def boot_id(self) -> str:
        """Which boot it is; empty while it does not answer."""
        # The kernel's own is that of this machine.
        read = "[ -s /run/boot ] || date +%s%N >/run/boot; cat /run/boot"
        done = run_tool(self.environment, "exec", "cards", "--", "sh", "-c", read)
        return done.stdout if done.returncode == 0 else ""

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self("systemctl", "show", unit, f"--property={name}", "--value").strip()


@pytest.fixture
def host() -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="cards-", dir="/var/tmp") as directory:
        try:
            yield Host(Path(directory))
        finally:
            run_tool(own_environment(Path(directory)), "clean")


def until(condition: Callable[[], object], what: str, seconds: float = 180) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.5)


def test_a_lost_card_reboots_the_host_once_where_it_may(host: Host) -> None:
    limits = {"vllm_gpu_power_limit": 280}
    told = host.play("preflight.yml", fails=True, vllm_gpu_power_limit=1000)
    assert "takes a limit from 100 to 366 W, 350 W after a boot, not 1000 W" in told
    first = host.cards(vllm_service_gpu_lost="reboot", **limits)
    assert "changed=0 " not in first
    assert host.limit() == "280.00 W"
    assert "changed=0 " in host.cards(vllm_service_gpu_lost="reboot", **limits)

    host("systemctl", "enable", "--now", "--no-block", "vllm@a.service")
    until(lambda: host.show("vllm@a.service", "StatusText"), "it starts")
    # Whoever serves may ask, and gets no reboot where no card is lost.
    before = host.boot_id()
    host("touch", "/var/lib/vllm/lost/a/recovery-wanted")
    log = ("journalctl", "--unit=vllm-gpu-recovery", "--output=cat", "--no-pager")
    until(lambda: "no card is lost any more" in host(*log), "the driver is asked")
    assert host.boot_id() == before

    host.put(MACHINE, LOST)
    until(lambda: host.boot_id() not in ("", before), "the host was rebooted")
    after = host.boot_id()
    assert "is lost: the host is rebooted" in host(*log)
    until(lambda: host.show("vllm@a.service", "ActiveState") == "activating", "it starts again")

    # Once more on the same day: it stays down.
    host.put(MACHINE, LOST)
    until(lambda: host.show("vllm@a.service", "ActiveState") == "failed", "it stays down")
    assert host.show("vllm@a.service", "ExecMainStatus") == "69"
    host("touch", "/var/lib/vllm/lost/a/recovery-wanted")
    until(lambda: "needs somebody to look at the card" in host(*log), "root refuses")
    assert host.boot_id() == after

    host("cp", "/etc/well.ini", MACHINE)
    assert host.limit() == "280.00 W"  # after the boot too
    host.play("uninstall.yml", vllm_uninstall_confirm=True)
    assert host.limit() == "350.00 W"
    left = host("find", "/etc/systemd/system", "/opt", "/var/lib", "-path", "*vllm*")
    assert [line for line in left.splitlines() if "recovery" in line or "power" in line] == []
