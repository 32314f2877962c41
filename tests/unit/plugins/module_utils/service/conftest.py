# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with real files in a folder, and a systemd and a clock that a test tells what to do."""

from __future__ import annotations

import grp
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.common import files
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    EndpointError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import (
    Common,
    Deployment,
    deployment,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.environment import (
    API_KEY,
    read_environment_file,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import FINGERPRINT
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.brokers import Brokers
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.change import Changes
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.failures import (
    StartFailed,
    TaskFailed,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.installed import Installed
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.manager import Manager
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.paths import Paths
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.proof import (
    Prover,
    shown,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.waiting import (
    Clock,
    Starter,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.run import (
    Verification,
    state_path,
    state_text,
)

GROUP = grp.getgrgid(os.getegid()).gr_name
UNIT = f"[Service]\nType=notify\nUser={GROUP}\n"
START = 40.0
"""Seconds that a start takes."""


class Time:
    """A clock that goes on when somebody waits."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.clock = Clock(lambda: self.passed, lambda: 1e9 + self.passed, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.passed += seconds


class Systemd(Manager):
    """As much of systemd as one instance needs; what it runs it reads from the files on disk.

    Attributes:
        ends: Fingerprints of servers that end by themselves, with the cause that their supervisor
            tells; `None` for one that tells nothing.
        hangs: Fingerprints of servers that never become active.
        log: What the journal has of a unit.
        done: The commands, in order.
    """

    def __init__(self, paths: Paths, time: Time) -> None:
        super().__init__(self._program)
        self.paths, self.time = paths, time
        self.ends: dict[str, str | None] = {}
        self.hangs: set[str] = set()
        self.done: list[str] = []
        self.log = "INFO 11-22 22:05:28 [model.py:530] the last words\n"
        self.state, self.since = "inactive", 0.0
        self.server: str | None = None
        self.key: str | None = None

    def _program(self, command: list[str], **_: Any) -> tuple[int, str, str]:
        if command[0] in ("systemd-analyze", "systemd-sysusers"):
            return 0, "", ""
        assert command[0] == "journalctl"
        return 0, self.log, ""

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        self.done.append(" ".join(arguments))
        name = arguments[-1].removeprefix("vllm@").removesuffix(".service")
        if arguments[0] == "restart":
            drop_in = Path(self.paths.drop_in(name)).read_text()
            match = re.search(rf"{FINGERPRINT}=(\w+)", drop_in)
            assert match is not None
            environment = files.read(self.paths.environment(name))
            self.key = read_environment_file(environment).get(API_KEY)
            self.state, self.server, self.since = "activating", match[1], self.time.passed
        elif arguments[0] in ("stop", "disable"):
            self.state, self.server = "inactive", None
        elif arguments[0] == "enable":
            wants = Path(self.paths.unit_dir, "multi-user.target.wants")
            wants.mkdir(parents=True, exist_ok=True)
            (wants / arguments[-1]).symlink_to(self.paths.template)
        elif arguments[0] not in ("reset-failed", "daemon-reload", "clean"):
            raise TaskFailed(f"systemctl {arguments[0]}: no such command")
        return ""

    def show(self, units: Any) -> dict[str, dict[str, str]]:
        if self.state == "activating" and self.time.passed - self.since >= START:
            if self.server in self.ends:
                self._tell(self.ends[self.server])
                self.state, self.server = "failed", None
            elif self.server not in self.hangs:
                self.state = "active"
        state = {"ActiveState": self.state, "Result": "exit-code", "NRestarts": "0", "Job": "0"}
        return {unit: {**state, "StatusText": "loading"} for unit in units}

    def _tell(self, cause: str | None) -> None:
        if cause is not None:
            path = Path(self.paths.verdict("m"))
            path.parent.mkdir(parents=True, exist_ok=True)
            said = {"at": self.time.clock.now(), "fingerprint": self.server, "state": "crashed"}
            found = {"summary": f"it has {cause}", "evidence": ["a line"], "cause": cause}
            path.write_text(json.dumps({**said, **found, "remedy": "mend it"}))

    def environ(self, state: dict[str, str]) -> bytes | None:
        if self.server is None:
            return None
        key = "" if self.key is None else f"{API_KEY}={self.key}\0"
        return f"{key}{FINGERPRINT}={self.server}\0".encode()


class Asked:
    """An endpoint that answers when its server is there."""

    def __init__(self, host: Host, wanted: Deployment) -> None:
        self.host, self.wanted = host, wanted

    def complete_one_token(self, model: str) -> None:
        systemd = self.host.systemd
        if systemd.state != "active" or systemd.server != self.wanted.fingerprint:
            raise EndpointError("/v1/completions cannot be reached")


class Truth(Prover):
    """A proof that a test decides.

    Attributes:
        untrue: Fingerprints of servers that answer wrongly.
        brief: What the brief verification returns, or raises.
        proved: The fingerprints that were put to the proof.
    """

    untrue: set[str]
    brief: Any
    proved: list[str]

    def prove(self, wanted: Deployment) -> None:
        self.proved.append(wanted.fingerprint)
        if wanted.fingerprint in self.untrue:
            raise StartFailed("it is Berlin\nand more", evidence=shown(wanted))
        found = Verification("2026-01-01T00:00:00+00:00", "0", [], 1.0, 1.0, wanted.fingerprint)
        files.File(state_path(self.state_dir, wanted.name), state_text(found), 0o600).write()

    def verify_briefly(self, wanted: Deployment) -> dict[str, Any] | None:
        if isinstance(self.brief, Exception):
            raise self.brief
        answer: dict[str, Any] | None = self.brief
        return answer


class Host:
    """A host, and the parts that change what serves on it."""

    def __init__(self, folder: Path) -> None:
        self.paths = Paths(
            **{
                field: str(folder / field)
                for field in (
                    *("etc_dir", "state_dir", "unit_dir", "run_dir", "releases_dir"),
                    *("supervisors_dir", "sysusers_dir", "needrestart_dir"),
                )
            }
        )
        self.time = Time()
        self.systemd = Systemd(self.paths, self.time)
        self.installed = Installed(self.paths, GROUP, None)
        self.installed.endpoint = lambda wanted, _timeout: Asked(self, wanted)  # type: ignore[assignment, return-value]
        progress = Progress(None)
        self.starter = Starter(self.installed, self.systemd, progress, 600, self.time.clock)
        self.prover = Truth(self.installed, {}, progress, print)
        self.prover.untrue, self.prover.brief, self.prover.proved = set(), None, []
        brokers = Brokers(self.paths, self.systemd, "[Service]\nType=notify\n")
        self.changes = Changes(
            self.installed, self.systemd, self.starter, self.prover, progress, brokers
        )

    def deployment(self, length: int = 1024, **changes: Any) -> Deployment:
        """A deployment of the instance `m`, told from others by its context length."""
        wanted = {
            "name": "m",
            "venv": f"{self.paths.releases_dir}/r1",
            "config": {"model": "/srv/m", "port": 8000, "max-model-len": length},
            "environment": {},
            "url": "http://127.0.0.1:8000",
            "served_model_name": "m",
            **changes,
        }
        supervisor = f"{self.paths.supervisors_dir}/0"
        return deployment(wanted, Common("0.14.1", UNIT, supervisor, user=GROUP), [])

    def on_disk(self) -> int:
        """The context length in the file that the next start takes."""
        match = re.search(r"max-model-len: (\d+)", Path(self.paths.config("m")).read_text())
        assert match is not None
        return int(match[1])

    def endpoint_state(self) -> str:
        """What the endpoint record says."""
        record = json.loads(Path(self.paths.etc_dir, "m.endpoint.json").read_text())
        return str(record["state"])


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose files belong to whoever runs the test."""
    monkeypatch.setattr(files, "OWNER", os.geteuid())
    monkeypatch.setattr(files, "GROUP", GROUP)
    return Host(tmp_path)
