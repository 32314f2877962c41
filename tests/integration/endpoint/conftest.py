# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with an endpoint, deployed by site.yml from a Hub of the tests' own.

The host, systemd, the server and the model are real.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hub import Hub, Store
from throwaway.testing import own_environment, said_by_tool

ROOT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compute_plane.vllm"
MODEL = "acme/SmolLM2-135M-Instruct"
KEY = "planted-key-93ab"

# What is installed and what is configured. Left out are bytecode, and what has a time in it: the
# proof of a venv, its manifest, uv's notes of when it read a package, when a model's files were
# verified, and the endpoint record, which is compared apart.
DIGEST = """
import hashlib, json, os, sys
found = {}
for root in sys.argv[1:]:
    for folder, folders, names in os.walk(root, followlinks=False):
        folders[:] = [n for n in folders if n not in ("__pycache__", ".pycache")]
        for name in names:
            path = os.path.join(folder, name)
            if name in (".proved.json", ".manifest", "uv_cache.json", ".lock", "state.json"):
                continue
            if name.endswith(".endpoint.json"):
                continue
            if os.path.islink(path) and "/snapshots/" not in path:
                found[path] = os.readlink(path)
            else:
                with open(path, "rb") as stream:
                    found[path] = hashlib.sha256(stream.read()).hexdigest()
print(json.dumps(found))
"""
TREES = ("/opt/vllm/releases", "/etc/vllm", "/etc/systemd/system", "/var/lib/vllm/hub")


class Box:
    """A host whose root file system can be replaced, with a disk for its models.

    Attributes:
        hub: The Hub that it reaches.
        disk: What is mounted at /var/lib/vllm/hub; kept when the root file system is replaced.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.disk = directory / "disk"
        self.disk.mkdir()
        self.environment = {
            **own_environment(directory),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        }
        (CACHE / "uv").mkdir(parents=True, exist_ok=True)
        address = self.up("bookworm").rpartition(".")[0] + ".1"
        store = Store()
        store.add(MODEL, CACHE / "models" / "SmolLM2-135M-Instruct")
        self.hub = Hub(store, address=address, cdn_address=None)

    def tool(self, *words: str) -> str:
        """Run the hosts' own tool and return what it printed."""
        return said_by_tool(self.environment, *words)

    def __call__(self, *argv: str) -> str:
        """Run a command on the host and return what it printed."""
        return self.tool("exec", "box", "--", *argv)

    def up(self, image: str) -> str:
        """Boot it with a new root file system; returns its address."""
        said = self.tool(
            *("up", "box", f"--image={image}", "--json", f"--bind={self.disk}:/var/lib/vllm/hub"),
            f"--seed={CACHE}/uv=/opt/vllm/cache/uv",
        )
        (self.directory / "hosts.yml").write_text(self.tool("inventory", "box"))
        return str(json.loads(said)["ip"])

    def down(self) -> None:
        """Lose the root file system; what it fetched of packages is kept."""
        self.tool("harvest", "box", f"/opt/vllm/cache/uv={CACHE}/uv")
        self.tool("down", "box")

    def play(self, name: str, **variables: object) -> str:
        """Run a playbook that must succeed."""
        given = {
            "vllm_hosts": "all",
            "vllm_accelerator": "cpu",
            "vllm_model_endpoint": self.hub.url,
            "vllm_backup_dir": str(self.directory / "backups"),
            "vllm_endpoint_clients_dir": str(self.directory / "clients"),
            "vllm_service_api_keys": {"smollm2": KEY},
            "vllm_instances": [
                {
                    "name": "smollm2",
                    "host": "0.0.0.0",
                    "model": MODEL,
                    "max_model_len": 2048,
                    "port": 8000,
                    "enforce_eager": True,
                    "dtype": "float16",
                    "cpu_kvcache_space": 1,
                }
            ],
            **variables,
        }
        path = self.directory / "variables.yml"
        path.write_text(yaml.safe_dump(given))
        began = time.monotonic()
        done = subprocess.run(
            [
                *(
                    str(ROOT / ".venv/bin/ansible-playbook"),
                    str(ROOT / "playbooks" / f"{name}.yml"),
                ),
                *("--inventory", str(self.directory / "hosts.yml"), "--extra-vars", f"@{path}"),
            ],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        print(
            f"{name}.yml: {time.monotonic() - began:.0f} s, {self.hub.sent():,} bytes from the Hub"
        )
        return done.stdout

    def digest(self) -> dict[str, str]:
        """What each file that was installed or configured says."""
        found: dict[str, str] = json.loads(self("python3", "-c", DIGEST, *TREES))
        return found

    def record(self) -> dict[str, object]:
        """The endpoint record, without what the verification of that day saw."""
        found = json.loads(self("cat", "/etc/vllm/smollm2.endpoint.json"))
        return {key: found[key] for key in found if key not in ("verification", "measured")}

    def verified(self) -> dict[str, str]:
        """The last verification."""
        found: dict[str, str] = json.loads(self("cat", "/var/lib/vllm/verified/smollm2.json"))
        return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="throwaway hosts need root"))


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """The host, with an endpoint that has been verified."""
    made = Box(tmp_path_factory.mktemp("endpoint"))
    try:
        with made.hub:
            made.play("site")
            yield made
    finally:
        made.tool("clean")
