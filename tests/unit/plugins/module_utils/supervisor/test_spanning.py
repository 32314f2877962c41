# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisors of a group as processes, with stand-ins for vLLM and systemd.

The real ones are in molecule's scenario `group`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import (
    main,
    spanning,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.group import (
    RUNNING,
    Report,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.pulse import Pulse

from .program import FOLDER, MAIN

LEADER = """#!{python}
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b"vllm:num_requests_running 0\\nvllm:num_requests_waiting 0\\n")
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(json.dumps({{"usage": {{"completion_tokens": 1}}}}).encode())
http.server.ThreadingHTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""
FOLLOWER = "#!/bin/sh\nexec sleep 1000\n"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Unit:
    """A member's unit: starts its supervisor anew when it ends, as systemd does."""

    def __init__(self, path: Path, rank: int, group: dict[str, object], api: int) -> None:
        path.mkdir()
        self.path, self.rank = path, rank
        listens = "headless: true" if rank else f'host: "127.0.0.1"\nport: {api}'
        (path / "a.yaml").write_text(f'model: "m"\n{listens}\n')
        self.vllm = path / "vllm"
        self.vllm.write_text(FOLLOWER if rank else LEADER.format(python=sys.executable, port=api))
        self.vllm.chmod(0o755)
        self.group = json.dumps({**group, "rank": rank})
        self.ends: list[int] = []
        self.output = open(path / "log", "w", encoding="utf-8")  # noqa: SIM115 - until it stops
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped = threading.Event()

    def start(self) -> None:
        command = [sys.executable, "-c", f"{MAIN}sys.exit(main())", FOLDER, "--name=a"]
        command += [f"--vllm={self.vllm}", f"--config={self.path}/a.yaml"]
        command += [f"--group={self.group}", "--start-timeout=60"]
        # Longer than a stop is waited for: nobody drains for a leader that has ended.
        command += ["--drain=60"]
        self.stopped.clear()
        self.process = subprocess.Popen(
            command,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            env={
                "RUNTIME_DIRECTORY": str(self.path),
                "PATH": os.environ["PATH"],
                "COMPUTE_PLANE_FINGERPRINT": "own",
            },
        )
        threading.Thread(target=self._watch, args=(self.process,), daemon=True).start()

    def _watch(self, supervisor: subprocess.Popen[bytes]) -> None:
        status = supervisor.wait()
        if not self.stopped.is_set():
            self.ends.append(status)
            self.start()

    def stop(self) -> None:
        self.stopped.set()
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)

    def state(self) -> dict[str, object]:
        try:
            return dict(json.loads((self.path / "group.json").read_text()))
        except (OSError, ValueError):
            return {}

    def engine(self) -> int:
        """The engine's PID."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def log(self) -> str:
        return (self.path / "log").read_text()


@pytest.fixture
def units(tmp_path: Path) -> Iterator[list[Unit]]:
    members = [{"name": "a", "address": "127.0.0.1"}, {"name": "b", "address": "127.0.0.2"}]
    group: dict[str, object] = {"port": free_port(), "fingerprint": "f1", "members": members}
    api = free_port()
    made = [Unit(tmp_path / str(rank), rank, group, api) for rank in (0, 1)]
    yield made
    for one in made:
        one.stop()
        one.output.close()


def wait(units: list[Unit], condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "\n".join(one.log() for one in units)
        time.sleep(0.1)


def serve(units: list[Unit], *but: object) -> str:
    """Wait until all serve in one generation, which is none of these; returns it."""

    def same() -> bool:
        told = [one.state() for one in units]
        return (
            all(one.get("phase") == "serving" for one in told)
            and told[0]["generation"] == told[1]["generation"] not in but
        )

    wait(units, same)
    return str(units[0].state()["generation"])


@pytest.mark.parametrize("rank", [0, 1])
def test_an_engine_that_is_killed_costs_each_host_one_restart(units: list[Unit], rank: int) -> None:
    for one in units:
        one.start()
    first = serve(units)
    os.kill(units[rank].engine(), signal.SIGKILL)
    serve(units, first)
    time.sleep(3.0)
    assert [one.ends for one in units] == [[1], [1]]
    if rank:
        assert "b (rank 1): crashed: it was killed" in units[0].log()


def test_a_leader_waits_for_its_follower_and_says_so(units: list[Unit]) -> None:
    units[0].start()
    wait(units, lambda: "waiting for b (rank 1)" in str(units[0].state().get("summary")))
    assert units[0].state()["generation"] != ""
    units[1].start()
    serve(units)
    assert [one.ends for one in units] == [[], []]


def test_a_member_that_is_stopped_ends_the_others_and_is_waited_for(units: list[Unit]) -> None:
    for one in units:
        one.start()
    first = serve(units)
    units[1].stop()
    wait(units, lambda: units[0].ends == [1])
    assert "b (rank 1) is being stopped" in units[0].log()
    wait(units, lambda: units[0].state().get("phase") == "gathering")
    units[1].start()
    serve(units, first)
    assert [one.ends for one in units] == [[1], []]


def test_what_was_verified_is_told_to_the_follower(units: list[Unit]) -> None:
    for one in units:
        one.start()
    serve(units)
    assert units[1].state()["proved"] is False
    (units[0].path / "proved").write_text("own\n")
    wait(units, lambda: units[1].state()["proved"] is True)


def test_another_configuration_is_not_started(units: list[Unit]) -> None:
    units[1].group = units[1].group.replace('"f1"', '"f2"')
    for one in units:
        one.start()
    wait(units, lambda: "another configuration" in str(units[0].state().get("summary")))
    wait(units, lambda: "another configuration" in str(units[1].state().get("summary")))


def test_a_follower_that_is_held_up_is_told_by_the_leader(units: list[Unit]) -> None:
    leader = units[0]
    options = main.arguments().parse_args(
        ["--name=a", "--vllm=v", f"--config={leader.path}/a.yaml", f"--group={leader.group}"]
    )
    supervisor = spanning.supervisor_of(options, {"RUNTIME_DIRECTORY": str(leader.path)})
    assert isinstance(supervisor, spanning.LeadingSupervisor)
    pulse = Pulse(supervisor.limits, 1)
    report = Report(1, supervisor.group.fingerprint, RUNNING, supervisor.leading.generation)
    said = []
    for summary in ("", "VLLM::Worker is stopped", ""):
        supervisor.answer(replace(report, summary=summary))
        verdict = supervisor.standing_still(pulse)
        said.append(None if verdict is None else (verdict.state, verdict.summary))
    told = ("hung while serving", "b (rank 1): VLLM::Worker is stopped")
    assert said == [None, told, None]
