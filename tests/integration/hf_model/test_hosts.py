# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role on two throwaway hosts: side by side, and one from the other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub import Hub, Store
from hub.testing import ROOT, safetensors, write_model
from throwaway.testing import TOOL, own_environment, run_tool

from .conftest import MODEL, TOKEN

SHARDS = [6_000_000, 4_000_001]
SHARD_SIZES = {f"model-0000{number}-of-00002.safetensors": SHARDS[number - 1] for number in (1, 2)}
CACHE = "/var/lib/vllm/hub"
FOLDER = f"{CACHE}/models--acme--tiny"
PATTERN = f"[{TOKEN[0]}]{TOKEN[1:]}"
"""A pattern of grep for the token that is not the token."""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="throwaway hosts need root"),
    pytest.mark.timeout(400),
]


class Fleet:
    """Two hosts and a hub that they reach.

    Attributes:
        hub: With two commits of a gated model.
        commits: Those, the older first.
    """

    def __init__(self, directory: Path, venv: Path) -> None:
        self.directory = directory
        self.names = ["near", "far-away"]
        self.environment = own_environment(directory)
        (directory / "inventory").mkdir()
        packages = next(venv.glob("lib/python3*"))
        for name in self.names:
            up = self.tool("up", name, "--json", f"--bind-ro={packages}:/srv/{packages.name}")
            self("sh", "-c", tools_script(packages.name), host=name)
        address = json.loads(up)["ip"].rpartition(".")[0] + ".1"
        (directory / "inventory" / "hosts.yml").write_text(self.tool("inventory", *self.names))
        store = Store()
        store.tokens.add(TOKEN)
        store.add(MODEL, write_model(directory / "first", SHARDS))
        repository = store.repositories[MODEL]
        repository.gated = True
        repository.readers.add(TOKEN)
        first = repository.resolve("main")
        # Its second shard is another, the first is the same.
        second = write_model(directory / "second", SHARDS)
        (second / "model-00002-of-00002.safetensors").write_bytes(safetensors(SHARDS[1], bytes))
        self.commits = [str(first), repository.push(second)]
        self.hub = Hub(store, address=address, cdn_address=None)

    def tool(self, *words: str, check: bool = True) -> str:
        """Run the hosts' own tool and return what it printed."""
        done = run_tool(self.environment, *words)
        assert done.returncode == 0 or not check, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def __call__(self, *argv: str, host: str, check: bool = True) -> str:
        """Run a command on a host and return what it printed."""
        return self.tool("exec", host, "--", *argv, check=check)

    def site(
        self, *arguments: str, revision: str | None = None, fails: bool = False, **variables: Any
    ) -> str:
        """Run the model's part of site.yml on both; returns what is shown and what is logged."""
        instance = {"name": "tiny", "model": MODEL, "revision": revision or self.commits[0]}
        given = {
            "vllm_accelerator": "cpu",
            "vllm_instances": [instance],
            "vllm_model_endpoint": self.hub.url,
            "vllm_model_token": TOKEN,
            **variables,
        }
        path = self.directory / "variables.json"
        path.write_text(json.dumps({"vllm": {"hosts": dict.fromkeys(self.names), "vars": given}}))
        path.rename(self.directory / "inventory" / "groups.yml")
        log = self.directory / "ansible.log"
        done = subprocess.run(
            [
                f"{sys.prefix}/bin/ansible-playbook",
                *("-i", str(self.directory / "inventory"), "site.yml", "--tags", "vllm_model"),
                *arguments,
            ],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.directory),
                "LANG": "C.UTF-8",
                "ANSIBLE_LOG_PATH": str(log),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stdout
        shown = done.stdout + done.stderr
        assert TOKEN not in shown + log.read_text()
        return shown

    def watch(self, host: str) -> subprocess.Popen[str]:
        """Look for the token in the host's process list until there is a file /run/watched."""
        script = (
            "echo watching; while [ ! -e /run/watched ]; do "
            f"grep -l {PATTERN} /proc/[0-9]*/cmdline /proc/[0-9]*/environ; sleep 0.1; done 2>&- "
        )
        command = [sys.executable, str(TOOL), "exec", host, "--", "sh", "-c", script]
        return subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )

    def listing(self, host: str) -> str:
        """Every file of the model with its hash, and every link, on a host."""
        script = f"cd {FOLDER}/snapshots && find . -type l | sort | xargs sha256sum"
        return self("sh", "-c", script, host=host)

    def forget(self, host: str) -> None:
        """Remove the cache."""
        self("rm", "-rf", CACHE, host=host)


def tools_script(packages: str) -> str:
    """A shell script that makes the tools' environment on a host from one that is bound there."""
    return f"""set -e
        mkdir -p /opt/vllm/tools/bin /opt/vllm/tools/lib
        ln -s /srv/{packages} /opt/vllm/tools/lib/{packages}
        ln -s /usr/bin/python3.11 /opt/vllm/tools/bin/python
        echo 'home = /usr/bin' >/opt/vllm/tools/pyvenv.cfg"""


@pytest.fixture(scope="module")
def fleet(venv: Path) -> Iterator[Fleet]:
    """The hosts, which the tests of this file share, one after the other."""
    with tempfile.TemporaryDirectory(prefix="models-", dir="/var/tmp") as directory:
        try:
            fleet = Fleet(Path(directory), venv)
            with fleet.hub:
                yield fleet
        finally:
            environment = {**os.environ, "TESTHOSTS_STATE": f"{directory}/state"}
            subprocess.run([sys.executable, str(TOOL), "clean"], env=environment, check=False)


def test_two_hosts_fetch_at_once(fleet: Fleet) -> None:
    fleet.hub.pace.rate = 2 * sum(SHARDS) / 14
    watchers = [fleet.watch(name) for name in fleet.names]
    shown = fleet.site("-vvv")
    fleet.hub.pace.rate = 0
    for name, watcher in zip(fleet.names, watchers, strict=True):
        fleet("touch", "/run/watched", host=name)
        seen = watcher.communicate(timeout=30)[0].split()
        assert seen[0] == "watching"
        assert seen[1:] == []
    # Plain lines, each of one host, the hosts' names as wide as the longest.
    lines = [line for line in shown.splitlines() if f": downloading {MODEL}: " in line]
    for name in fleet.names:
        own = [line for line in lines if line.startswith(f"  {name.ljust(8)}: downloading ")]
        assert own, lines
        done = [int(re.search(r"\((\d+) %\)", line)[1]) for line in own]  # type: ignore[index]
        assert done == sorted(done)
    assert all(re.match(r"  (near    |far-away): ", line) for line in lines)
    assert "\r" not in shown
    assert "\x1b" not in shown

    for name in fleet.names:
        journal = fleet("journalctl", "--no-pager", "--quiet", host=name)
        assert journal
        assert not re.search(PATTERN, journal)
        # 1 is none, 2 a file that went meanwhile; above that grep did not run.
        folders = "/etc /var /run /root /tmp /opt /usr/local /dev/shm"
        script = f"grep -rl {PATTERN} {folders}; [ $? -le 2 ]"
        assert fleet("sh", "-c", script, host=name) == ""


def test_the_service_reads_and_does_not_write(fleet: Fleet) -> None:
    user = ["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups"]
    first = fleet(*user, "sh", "-c", f"cat {FOLDER}/snapshots/*/*.safetensors | wc -c", host="near")
    assert int(first) == sum(SHARDS)
    script = (
        f"for path in $(find {CACHE}); do "
        '[ -r "$path" ] || echo "unreadable $path"; '
        '[ ! -d "$path" ] || [ -x "$path" ] || echo "closed $path"; '
        '[ -w "$path" ] && echo "writable $path"; done; '
        f"touch {CACHE}/x {FOLDER}/x {FOLDER}/snapshots/*/x 2>/dev/null && echo touched; true"
    )
    # Our own locks are of no interest to it.
    found = fleet(*user, "sh", "-c", script, host="near").splitlines()
    assert [line for line in found if "/.locks" not in line] == []


def damage(fleet: Fleet, host: str) -> None:
    """Change a byte of a host's copy without a trace in its size and time."""
    script = (
        f"f=$(readlink -f {FOLDER}/snapshots/*/model-00002-of-00002.safetensors); "
        "touch -r $f /run/time; printf x | dd of=$f conv=notrunc bs=1 seek=1000 2>/dev/null; "
        "touch -r /run/time $f; rm /run/time"
    )
    fleet("sh", "-c", script, host=host)


def test_one_fetches_and_the_other_copies(fleet: Fleet) -> None:
    fleet.forget("far-away")
    fleet.hub.clear_log()
    before = fleet("ls", "-A", "/tmp", "/run", host="near")
    shown = fleet.site("--check", vllm_model_from="near")
    assert f"{MODEL}, from near" in shown
    assert not fleet("sh", "-c", f"[ ! -e {FOLDER} ] || ls -A {FOLDER}", host="far-away")
    fleet.site("-vvv", vllm_model_from="near")
    assert fleet.listing("far-away") == fleet.listing("near")
    assert fleet.hub.log == []
    # Nothing of the access is left.
    assert "vllm-copy" not in fleet("cat", "/root/.ssh/authorized_keys", host="near")
    assert fleet("ls", "-A", "/tmp", "/run", host="near") == before
    assert "vllm-copy" not in fleet("ls", "-A", "/tmp", host="far-away")

    again = fleet.site(vllm_model_from="near")
    assert again.count("changed=0 ") == 2
    assert "vllm_model : The key" not in again

    # A copy that is damaged without a trace in size and time is not taken over.
    fleet.forget("far-away")
    damage(fleet, "near")
    shown = fleet.site(vllm_model_from="near", fails=True)
    assert "its copy is damaged" in shown
    assert not fleet("sh", "-c", f"ls {FOLDER}/snapshots", host="far-away", check=False)
    assert "vllm-copy" not in fleet("cat", "/root/.ssh/authorized_keys", host="near")
    fleet.forget("near")


def test_a_group_downloads_once(fleet: Fleet) -> None:
    leader, follower = fleet.names
    group = {"name": "tiny", "model": MODEL, "revision": fleet.commits[0], "hosts": fleet.names}
    for name in fleet.names:
        fleet.forget(name)
    fleet.hub.clear_log()
    shown = fleet.site("--check", "-e", "vllm_preflight_report=true", vllm_instances=[group])
    assert f"to copy from {leader}" in shown
    assert f"{MODEL}, from {leader}" in shown
    assert all(fleet.hub.sent(path) < size / 2 for path, size in SHARD_SIZES.items())
    before = fleet("ls", "-A", "/tmp", "/run", host=leader)
    fleet.site(vllm_instances=[group])
    assert fleet.listing(follower) == fleet.listing(leader)
    # Each host has looked at the beginning of each file; one has fetched it.
    for path, size in SHARD_SIZES.items():
        assert size <= fleet.hub.sent(path) < 1.5 * size
    assert "vllm-copy" not in fleet("cat", "/root/.ssh/authorized_keys", host=leader)
    assert fleet("ls", "-A", "/tmp", "/run", host=leader) == before
    assert "vllm-copy" not in fleet("ls", "-A", "/tmp", host=follower)
    assert fleet.site(vllm_instances=[group]).count("changed=0 ") == 2

    # What a follower has the leader does not fetch.
    fleet.forget(leader)
    fleet.hub.clear_log()
    fleet.site(vllm_instances=[group])
    assert fleet.listing(leader) == fleet.listing(follower)
    assert all(fleet.hub.sent(path) < size / 2 for path, size in SHARD_SIZES.items())

    # What cannot be copied is fetched, and nothing of the access is left.
    whole = fleet.listing(leader)
    fleet.forget(follower)
    damage(fleet, leader)
    shown = fleet.site(vllm_instances=[group])
    assert "its copy is damaged" in shown
    assert f"a copy from {leader} was not to be had" in shown
    assert fleet.listing(follower) == whole
    assert fleet.listing(leader) != whole
    assert "vllm-copy" not in fleet("cat", "/root/.ssh/authorized_keys", host=leader)
    for name in fleet.names:
        fleet.forget(name)


PLANNED = "vllm_preflight : Find what the host is and plan what will be done]"


def test_what_was_not_known_is_planned_before_anything_is_started(fleet: Fleet) -> None:
    folder = write_model(fleet.directory / "moon", SHARDS)
    moon = {"model_type": "moon", "architectures": ["Qwen9MoonForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(moon))
    fleet.hub.store.add("acme/moon", folder)
    only = ["-l", "near"]
    instance = {"name": "moon", "model": "acme/moon"}
    # While the plan is made the Hub fails; afterwards it does not.
    fleet.hub.faults.order("status", route="info", status=503)
    shown = fleet.site(*only, vllm_instances=[instance], fails=True)
    assert shown.count(PLANNED) == 2
    assert "vllm_instances[0].model: vLLM" in shown
    assert "does not know the architecture Qwen9MoonForCausalLM" in shown
    folders = f"{CACHE}/models--acme--moon/snapshots"
    assert fleet("ls", folders, host="near").strip()

    # From now on it is known from its files, and nobody is asked.
    fleet.hub.clear_log()
    shown = fleet.site(*only, vllm_instances=[instance], fails=True)
    assert shown.count(PLANNED) == 1
    assert fleet.hub.log == []

    # What is planned at once is planned once, at the commit that is fetched.
    fleet.forget("near")
    plain = {"name": "tiny", "model": MODEL}
    shown = fleet.site(*only, vllm_instances=[plain])
    assert shown.count(PLANNED) == 1
    assert fleet("ls", f"{FOLDER}/snapshots", host="near").split() == [fleet.commits[1]]
    fleet.hub.clear_log()
    shown = fleet.site(*only, vllm_instances=[plain])
    assert "changed=0 " in shown
    assert fleet.hub.log == []
    fleet.forget("near")


def test_what_nothing_refers_to_is_removed_when_asked(fleet: Fleet) -> None:
    old, new = fleet.commits
    only = ["-l", "near"]
    fleet.site(*only)
    record = f"{FOLDER}/snapshots/{old}"
    fleet("sh", "-c", f"mkdir -p /var/lib/vllm/proved; echo {record} >{record_path()}", host="near")
    fleet.site(*only, revision=new)
    fleet.site(*only, revision=new, vllm_model_prune=True)
    assert set(fleet("ls", f"{FOLDER}/snapshots", host="near").split()) == {old, new}
    fleet("rm", record_path(), host="near")
    fleet.site(*only, revision=new)
    assert set(fleet("ls", f"{FOLDER}/snapshots", host="near").split()) == {old, new}
    fleet.site(*only, revision=new, vllm_model_prune=True)
    assert fleet("ls", f"{FOLDER}/snapshots", host="near").split() == [new]
    sizes = fleet("sh", "-c", f"cat {FOLDER}/snapshots/{new}/*.safetensors | wc -c", host="near")
    assert int(sizes) == sum(SHARDS)


def record_path() -> str:
    """Where a record of a proved deployment lies on a host."""
    return "/var/lib/vllm/proved/tiny.json"
