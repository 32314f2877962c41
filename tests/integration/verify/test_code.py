# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Code that models write, run in the real sandbox.

It needs systemd and root, and writes below /etc and /srv: test_sandbox.py runs it on a throwaway
host.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from endpoints.scripted import PRIME, REFUSAL, ScriptedServer, chat, serving

from ansible_collections.compute_plane.vllm.plugins.module_utils.verify import (
    sandbox as verify_sandbox,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.checks import (
    Checks,
    Subject,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.client import Client
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.suite import read_suite

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    os.environ.get("ON_THROWAWAY_HOST") != "yes", reason="test_sandbox.py runs it on a host"
)

RIGHT = """
def is_prime(n):
    return n > 1 and all(n % d for d in range(2, int(n ** 0.5) + 1))
"""
WRITTEN = [f"{folder}/escaped" for folder in ("/tmp", "/var/tmp", "/dev/shm", "/run", "")]
TRY_WRITING = """
for path in {paths!r}:
    try:
        open(path, "w").write("x")
    except OSError:
        pass
    else:
        raise SystemExit("escaped to " + path)
"""
READ = """
for path in ("/etc/vllm/m.env", "/etc/shadow", "/srv/secret"):
    try:
        open(path).read()
    except OSError:
        pass
    else:
        raise SystemExit("read " + path)
"""
SOCKET = """
import socket
try:
    socket.create_connection(("{host}", {port}), timeout=2).sendall(b"escaped")
except OSError:
    pass
"""
FORK = """
import os
while True:
    try:
        os.fork()
    except OSError:
        break
while True:
    pass
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: ScriptedServer) -> Iterator[Client]:
    with Client("/usr/bin/python3", server.url, "m", timeout=2) as client:
        yield client


def fenced(code: str) -> str:
    return f"```python\n{code}\n```"


@pytest.mark.parametrize(
    ("answer", "outcome", "detail"),
    [
        (PRIME, "passed", "right for 10 primes and 16 other numbers"),
        (RIGHT, "passed", "right for"),
        (fenced("def is_prime(n):\n    return n % 2 == 1"), "failed", "is_prime(2) is False"),
        (fenced("def is_prime(n):\n    return True"), "failed", "is_prime(0) is True"),
        (fenced("def is_prime(n):\n    return 'yes'"), "failed", "is_prime(2) is 'yes'"),
        (fenced("def is_prime(n):\n    print(n > 1)"), "failed", "is_prime(2) is 'None'"),
        (fenced("def prime(n):\n    return True"), "failed", "defines no is_prime()"),
        (fenced("def is_prime(n:\n    return"), "failed", "SyntaxError"),
        (fenced("def is_prime(n):\n    return undefined"), "failed", "NameError"),
        (REFUSAL, "failed", "no Python code in the answer"),
        ("", "failed", "answered nothing"),
        (fenced("while True:\n    pass"), "failed", "did not end within 3 s"),
        (fenced(RIGHT + "\nimport time; time.sleep(600)"), "failed", "did not end within 3 s"),
        (fenced("x = []\nwhile True:\n    x.append(bytearray(1 << 24))"), "failed", "memory"),
        (fenced("import os\nos._exit(0)"), "failed", "without an answer"),
        (fenced("raise SystemExit(0)"), "failed", "SystemExit"),
        (fenced(FORK), "failed", "did not end within 3 s"),
        (fenced("import os\nwhile True:\n    os.write(1, b'x' * 65536)"), "failed", "3 s"),
        (fenced("open('/tmp/escaped', 'w')\n" + RIGHT), "failed", "Error"),
        (fenced(READ + RIGHT), "passed", "right for"),
        (fenced(TRY_WRITING.format(paths=WRITTEN) + RIGHT), "passed", "right for"),
        (fenced("import subprocess\nsubprocess.run(['touch', '/tmp/escaped'])"), "failed", ""),
    ],
)
def test_the_verdict_is_right(
    server: ScriptedServer, client: Client, answer: str, outcome: str, detail: str
) -> None:
    Path("/etc/vllm").mkdir(exist_ok=True)
    Path("/srv/secret").write_text("secret")
    Path("/etc/vllm/m.env").write_text("VLLM_API_KEY=secret")
    server.script["is_prime"] = chat(answer)
    (entry,) = read_suite([{"check": "is_prime", "seconds": 3}], [], "error", "m")
    result = Checks(client, Subject("m"), None).run(entry)
    assert (result["outcome"], detail in result["detail"]) == (outcome, True), result["detail"]
    assert not [path for path in WRITTEN if Path(path).exists()]


@pytest.mark.parametrize("action", [(500, b"EngineDeadError"), "hang", b"{malformed"])
def test_an_endpoint_that_does_not_answer_is_not_run(
    server: ScriptedServer, client: Client, action: object
) -> None:
    server.script["is_prime"] = action
    (entry,) = read_suite(["is_prime"], [], "error", "m")
    assert Checks(client, Subject("m"), None).run(entry)["outcome"] == "failed"


def test_no_socket_is_opened() -> None:
    reached = []
    with contextlib.closing(socket.create_server(("0.0.0.0", 0))) as listener:
        listener.settimeout(20)

        def accept() -> None:
            with contextlib.suppress(OSError):
                reached.append(listener.accept()[1])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        code = SOCKET.format(host="127.0.0.1", port=listener.getsockname()[1])
        run = verify_sandbox.call(code + RIGHT, "is_prime", [7], seconds=5)
        time.sleep(0.5)
        assert run.returned is None
        assert "forbidden system call" in (run.problem or "")
        assert not reached


def test_nothing_of_it_stays() -> None:
    run = verify_sandbox.call(FORK, "is_prime", [7], seconds=2)
    assert run.returned is None
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        units = subprocess.run(
            ["systemctl", "list-units", "--all", "--plain", "--no-legend", "run-*.service"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        if not units:
            break
        time.sleep(0.2)
    assert not units
