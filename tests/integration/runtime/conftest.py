# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throwaway hosts on which the module runs with wheels that are brought along.

What the tests damage and kill is never seeded from this machine's cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from throwaway.testing import mounted, own_environment, run_tool

from .wheels import EXPECT, ROOT, download_tools, make_release

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compute_plane.vllm"
VENV = "/opt/vllm/releases/made-up"
TOOLS_LOCK = (ROOT / "requirements" / "tools.txt").read_text()
SITE = f"{VENV}/lib/python3.11/site-packages"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(600))
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="throwaway hosts need root"))


class Machine:
    """One throwaway host.

    Attributes:
        exchange: A directory of this machine that the host sees as /exchange.
    """

    def __init__(self, hosts: Hosts, name: str, exchange: Path) -> None:
        self.hosts = hosts
        self.name = name
        self.exchange = exchange
        self.runs = 0

    def __call__(self, *argv: str, check: bool = True) -> str:
        """Run a command on the host and return what it printed."""
        done = self.hosts.run("exec", self.name, "--", *argv)
        assert done.returncode == 0 or not check, f"{argv}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def module(self, kill_after: float | None = None, **arguments: Any) -> dict[str, Any]:
        """Run `vllm_runtime` on the host.

        Args:
            kill_after: Seconds until it is sent SIGKILL.
            arguments: Its parameters, beside those of the made-up release.

        Returns:
            Its result; empty when it was killed.
        """
        self.runs += 1
        given = {
            "venv": VENV,
            "python": "/usr/bin/python3.11",
            "lock": self.hosts.lock,
            "expect": EXPECT,
            "release": "9.9.1",
            "accelerator": "cpu",
            "tools_lock": TOOLS_LOCK,
            "bundle": "/srv/bundle",
            "_ansible_diff": True,
            **arguments,
        }
        path = self.exchange / f"arguments-{self.runs}.json"
        path.write_text(json.dumps({k: v for k, v in given.items() if v is not None}))
        timeout = ["timeout", "--foreground", "-s", "KILL", f"{kill_after}"]
        done = self.hosts.run(
            *("exec", self.name, "--", "env", "PYTHONPATH=/src/collections:/site"),
            *(timeout if kill_after else []),
            *("python3.11", "-B", "/src/tests/integration/runtime/run_module.py"),
            f"/exchange/{path.name}",
        )
        if kill_after and not done.stdout:
            return {}
        try:
            result: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            pytest.fail(f"no result:\n{done.stdout}\n{done.stderr}")
        return {**result, "printed": done.stdout + done.stderr}

    def succeeds(self, **arguments: Any) -> dict[str, Any]:
        """Run the module, which must not fail."""
        result = self.module(**arguments)
        assert not result.get("failed"), result["msg"]
        return result

    def manifest(self, venv: str = VENV) -> dict[str, list[Any]]:
        """The manifest of a venv without times: size, hash and package by path."""
        entries = json.loads(self("cat", f"{venv}/.manifest"))
        return {path: [size, *rest] for path, (size, _time, *rest) in entries.items()}

    def running(self, pattern: str) -> list[str]:
        """The host's processes whose command line matches."""
        done = self.hosts.run("exec", self.name, "--", "pgrep", "-af", pattern)
        # 1 is none; anything else, as where there is no pgrep, is no answer.
        assert done.returncode in (0, 1), f"pgrep: {done.stdout}\n{done.stderr}"
        return [line for line in done.stdout.splitlines() if " pgrep " not in line]

    def left_over(self, opt: str = "/opt/vllm") -> list[str]:
        """Venvs without a proof and temporary files below /opt/vllm and in /tmp."""
        script = (
            f"for v in {opt}/releases/* {opt}/tools-*; do"
            ' [ ! -d "$v" ] || [ -e "$v/.proved.json" ] || echo "$v"; done;'
            f" [ ! -e {opt}/cache/uv ] || find {opt}/cache/uv -maxdepth 1 -name '.tmp*' || exit 1;"
            f" [ ! -e {opt} ] || find {opt} -maxdepth 3 -name '.??????????' -o -name '*.new'"
            " || exit 1;"
            " find /tmp -mindepth 1 -maxdepth 1 -name 'tmp*' -o -maxdepth 1 -name 'pip-*'"
        )
        return self("sh", "-c", script).split()

    def forget(self, *, tools: bool = False) -> None:
        """Remove what was installed."""
        self("sh", "-c", "rm -rf /opt/vllm/releases /opt/vllm/cache /opt/vllm/own /tmp/pip-*")
        if tools:
            self("sh", "-c", "rm -rf /opt/vllm")


class Hosts:
    """A set of hosts of its own, beside those that are up."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = own_environment(directory)
        self.bundle = directory / "bundle"
        wheels = CACHE / "tools-wheels"
        download_tools(wheels)
        shutil.copytree(wheels, self.bundle / "wheels")
        self.lock = make_release(self.bundle / "wheels")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the hosts' own tool."""
        return run_tool(self.environment, *words)

    def up(self, name: str, *options: str) -> Machine:
        """Boot a host that can make virtual environments."""
        exchange = self.directory / f"exchange-{name}"
        exchange.mkdir()
        binds = [
            f"--bind={exchange}:/exchange",
            f"--bind-ro={ROOT}:/src",
            f"--bind-ro={Path(pytest.__file__).parents[1]}:/site",
            f"--bind-ro={self.bundle}:/srv/bundle",
        ]
        done = self.run("up", name, *binds, *options)
        assert done.returncode == 0, done.stderr
        machine = Machine(self, name, exchange)
        # The role installs it on real hosts, from the release's data.
        apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=60"]
        machine(*apt, "update")
        machine("env", "DEBIAN_FRONTEND=noninteractive", *apt, "install", "-y", "python3.11-venv")
        return machine


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    """The set of hosts; all of them are removed in the end."""
    with tempfile.TemporaryDirectory(prefix="runtime-", dir="/var/tmp") as directory:
        hosts = Hosts(Path(directory))
        try:
            yield hosts
        finally:
            hosts.run("clean")


@pytest.fixture(scope="session")
def small(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 90 MB on a loop device, which the host sees as /small."""
    image = tmp_path_factory.mktemp("small") / "image"
    with image.open("wb") as stream:
        stream.truncate(90 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    with mounted("-o", "loop", str(image)) as point:
        try:
            yield point
        finally:
            hosts.run("down", "one")


@pytest.fixture(scope="session")
def one(hosts: Hosts, small: Path) -> Machine:
    """A host with the tools, which tests share."""
    machine = hosts.up("one", f"--bind={small}:/small")
    machine.succeeds()
    return machine


@pytest.fixture
def machine(one: Machine) -> Machine:
    """The host, with the tools and nothing else of ours on it."""
    one.forget()
    return one
