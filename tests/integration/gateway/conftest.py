# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's configuration in a real HAProxy on the loopback, before substitutes for servers."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.module_utils.gateway import certificates
from ansible_collections.compute_plane.vllm.plugins.module_utils.gateway.runtime import Gateway
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.gateway import endpoint, settings

HERE = Path(__file__).parent
ROLE = HERE.parents[2] / "roles" / "vllm_gateway"
KEY, OTHER_KEY, LIMITED_KEY = (
    "key-of-alice-0123456789",
    "key-of-bob-01234567890",
    "key-of-carol-0123456789",
)
KEYS: list[dict[str, Any]] = [
    {"name": "alice", "key": KEY},
    {"name": "bob", "key": OTHER_KEY},
    {"name": "carol", "key": LIMITED_KEY, "requests_per_minute": 3},
]
BACKEND_KEY = "the-servers-own-key"


def free_port() -> int:
    """A port of the loopback that nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def defaults(**others: Any) -> dict[str, Any]:
    """The role's variables."""
    text = (ROLE / "defaults" / "main.yml").read_text(encoding="utf-8")
    return {**yaml.safe_load(text), **others}


def render(found: Sequence[dict[str, Any]], variables: dict[str, Any]) -> str:
    """`haproxy.cfg` as the role makes it."""
    environment = jinja2.Environment(
        trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["to_json"] = json.dumps
    source = (ROLE / "templates" / "haproxy.cfg.j2").read_text(encoding="utf-8")
    made = settings(found, KEYS, "front", variables["vllm_gateway_paths"])
    assert made["problems"] == []
    return environment.from_string(source).render(**variables, vllm_gateway_settings=made)


class Fake:
    """A substitute for a server."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.process = subprocess.Popen(
            [sys.executable, HERE / "fake_server.py", str(self.port)], stderr=subprocess.DEVNULL
        )
        for _try in range(100):
            try:
                self.control()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("it does not start")

    def control(self, **values: int) -> list[dict[str, Any]]:
        """Tell it something, or ask what it has seen."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/control",
            data=json.dumps(values).encode() if values else None,
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)
            return found

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


class Proxy:
    """HAProxy with what the role makes."""

    def __init__(self, folder: Path, found: Sequence[dict[str, Any]], **others: Any) -> None:
        self.folder = folder
        self.found = list(found)
        self.port, self.metrics_port = free_port(), free_port()
        self.variables = defaults(
            vllm_gateway_listen=f"127.0.0.1:{self.port}",
            vllm_gateway_metrics_listen=f"127.0.0.1:{self.metrics_port}",
            **others,
        )
        ca = certificates.make_ca("test")
        pair = certificates.make_certificate(ca, ["localhost", "127.0.0.1"], 30)
        (folder / "ca.pem").write_text(ca.certificate)
        (folder / "tls.pem").write_text(pair.certificate + pair.key)
        self.log_path = folder / "log"
        self.gateway = Gateway(str(folder / "admin.sock"))
        self.write()
        self.log = self.log_path.open("w")
        self.process = subprocess.Popen(
            ["haproxy", "-W", "-C", folder, "-f", "haproxy.cfg"], stdout=self.log, stderr=self.log
        )
        for _try in range(100):
            if (folder / "admin.sock").exists() and self.process.poll() is None:
                break
            time.sleep(0.05)
        else:
            self.close()
            raise AssertionError(self.log_path.read_text())

    def write(self) -> None:
        """Write what the role would; what only root may is left out."""
        text = render(self.found, self.variables)
        text = re.sub(r"(?m)^    (user|group|chroot) .*\n", "", text)
        text = text.replace("/run/vllm-gateway", str(self.folder))
        text = text.replace("/var/lib/vllm-gateway", str(self.folder))
        made = settings(self.found, KEYS, "front", self.variables["vllm_gateway_paths"])
        for name, content in {**made["files"], **made["secrets"], "haproxy.cfg": text}.items():
            (self.folder / name).write_text(content)
        shutil.copy(ROLE / "files" / "usage.lua", self.folder)

    def reload(self) -> None:
        """As the unit does it."""
        subprocess.run(
            [
                *(sys.executable, ROLE / "files" / "gateway.py", "keep-state"),
                *("--path", self.folder / "server-state", "--socket", self.folder / "admin.sock"),
            ],
            check=True,
        )
        former = self.gateway.pid()
        self.process.send_signal(12)  # SIGUSR2
        for _try in range(100):
            try:
                if self.gateway.pid() != former:
                    return
            except Exception:  # noqa: BLE001 - between two processes
                pass
            time.sleep(0.05)
        raise AssertionError("no new process")

    def entries(self) -> list[dict[str, Any]]:
        """The access log."""
        time.sleep(0.2)
        lines = self.log_path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(10)
        self.log.close()


def record(port: int, model: str, instance: str, **others: Any) -> dict[str, Any]:
    """An endpoint record, as far as a gateway reads it."""
    return {
        "instance": instance,
        "state": "verified",
        "listen_host": "127.0.0.1",
        "url": f"http://127.0.0.1:{port}",
        "served_model_name": model,
        "max_model_len": 1024,
        "api_key_required": False,
        **others,
    }


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Fake]]:
    """Two of one model and one of another, which asks for a key."""
    started = [Fake(), Fake(), Fake()]
    yield started
    for server in started:
        server.kill()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, servers: list[Fake]) -> Iterator[Proxy]:
    """A gateway before them."""
    found = [
        endpoint("front", "127.0.0.1", record(servers[0].port, "org/one", "a"), None),
        endpoint("front", "127.0.0.1", record(servers[1].port, "org/one", "b"), None),
        endpoint(
            "front",
            "127.0.0.1",
            record(servers[2].port, "two", "c", api_key_required=True),
            BACKEND_KEY,
        ),
    ]
    made = Proxy(tmp_path_factory.mktemp("gateway"), found, vllm_gateway_request_timeout=3)
    yield made
    made.close()
