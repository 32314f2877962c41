# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program that a model wrote, where it can do nothing: a transient systemd unit.

It has no network (a namespace of its own, and the system calls for sockets kill it), a dynamic user
without capabilities, nothing that it could write to, and bounded time, memory, processor and number
of processes. See systemd.exec(5), systemd.resource-control(5) and systemd-run(1).
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import secrets
import signal
import subprocess
import threading
from typing import Any

PYTHON = "/usr/bin/python3"
LONGEST_OUTPUT = 1 << 16
"""Bytes."""

START_SECONDS = 20.0
"""Seconds that systemd may take beside the program's own, on a busy host."""

MEMORY = "256M"

PROPERTIES = (
    "DynamicUser=yes",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    # No network.
    "PrivateNetwork=yes",
    "IPAddressDeny=any",
    "RestrictAddressFamilies=AF_UNIX",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@network-io @privileged @resources @mount @debug @keyring @ipc",
    # Nothing to write to, and nothing of the host's own to read.
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "ReadOnlyPaths=/",
    "InaccessiblePaths=/tmp",
    "InaccessiblePaths=/var/tmp",
    "InaccessiblePaths=-/dev/shm",
    "InaccessiblePaths=-/dev/mqueue",
    "InaccessiblePaths=-/etc/vllm",
    "InaccessiblePaths=-/srv",
    "InaccessiblePaths=-/opt",
    "LimitFSIZE=0",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    # Bounds.
    f"MemoryMax={MEMORY}",
    "MemorySwapMax=0",
    "TasksMax=8",
    "CPUQuota=100%",
    "LimitCORE=0",
    "LimitNOFILE=64",
    "KillMode=control-group",
    "TimeoutStopSec=2",
    "OOMPolicy=kill",
)

# Nothing that the program prints counts, but a line that begins with a word it does not know. It
# gives no verdict: what its function returned is judged outside.
_HARNESS = r"""
import io, json, os, sys
asked = json.loads(sys.stdin.read())
out = os.fdopen(os.dup(1), "w")
null = os.open(os.devnull, os.O_RDWR)
for descriptor in (0, 1, 2):
    os.dup2(null, descriptor)
sys.stdin = sys.stdout = sys.stderr = io.StringIO()
def tell(**said):
    out.write(asked["word"] + json.dumps(said) + "\n")
    out.flush()
try:
    names = {"__name__": "answer"}
    exec(compile(asked["code"], "answer.py", "exec"), names)
    function = names.get(asked["function"])
    if not callable(function):
        tell(error="it defines no " + asked["function"] + "()")
    else:
        returned = []
        for argument in asked["arguments"]:
            value = function(argument)
            returned.append(value if isinstance(value, (bool, int, float, str)) else repr(value))
        tell(returned=returned)
except BaseException as error:
    tell(error=type(error).__name__ + ": " + str(error)[:300])
out.flush()
os._exit(0)
"""

_RESULT = re.compile(r"Finished with result: (\S+)")
# "status=SYS" from systemd 252, "status=31/SYS" from 257.
_STATUS = re.compile(r"status=(?:\d+/)?(\S+)")


class Unusable(Exception):
    """There is no sandbox on this machine; the message says why."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What became of a program.

    Attributes:
        returned: What its function returned, call by call; `None` when it did not get so far.
        problem: What happened instead.
    """

    returned: list[Any] | None
    problem: str | None


def check_usable() -> None:
    """Return where programs can be run safely.

    Raises:
        Unusable: Not here.
    """
    if not os.path.isdir("/run/systemd/system"):
        raise Unusable("code is only run in a sandbox of systemd, which does not run here")
    if os.geteuid() != 0:
        raise Unusable("code is only run in a sandbox of systemd, which needs root")
    if not os.access(PYTHON, os.X_OK):
        raise Unusable(f"there is no {PYTHON} to run code with")


def command(seconds: int) -> list[str]:
    """The command that runs the harness in a transient unit."""
    properties = [*PROPERTIES, f"RuntimeMaxSec={seconds}"]
    return [
        *("systemd-run", "--wait", "--pipe", "--collect", "--no-ask-password"),
        "--description=A program that a model wrote (compute_plane.vllm)",
        *(f"--property={value}" for value in properties),
        *("--", PYTHON, "-I", "-S", "-c", _HARNESS),
    ]


def read_run(word: str, output: str, errors: str, seconds: int) -> Run:
    """Read what systemd-run and the harness wrote.

    Args:
        word: What the harness's one line begins with.
        output: The program's standard output.
        errors: systemd-run's standard error.
        seconds: The time that the program had.
    """
    said = [line[len(word) :] for line in output.splitlines() if line.startswith(word)]
    if said:
        answer = json.loads(said[0])
        return Run(answer.get("returned"), answer.get("error"))
    match = _RESULT.search(errors)
    result = match.group(1) if match else None
    status = _STATUS.search(errors)
    if result == "timeout":
        return Run(None, f"it did not end within {seconds} s")
    if result == "oom-kill":
        return Run(None, f"it took more memory than {MEMORY}")
    if status and status.group(1) == "SYS":
        return Run(None, "it was killed for a forbidden system call, such as opening a socket")
    if status and status.group(1) == "KILL":
        return Run(None, "it was killed, which happens to what takes more memory than " + MEMORY)
    if status:
        return Run(None, f"it ended without an answer ({result}, {status.group(1)})")
    return Run(None, f"it could not be run: {errors.strip()[-300:] or 'no word from systemd'}")


def call(code: str, function: str, arguments: list[Any], seconds: int) -> Run:
    """Define a function with a program and call it, with one argument a call.

    Args:
        code: Python.
        function: The function's name.
        arguments: The arguments, JSON values.
        seconds: Time for all of it.

    Raises:
        Unusable: There is no sandbox here.
    """
    check_usable()
    word = secrets.token_hex(8)
    asked = {"word": word, "code": code, "function": function, "arguments": arguments}
    process = subprocess.Popen(
        command(seconds),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    # Bounded whatever the program does: systemd-run ends with the unit, or is ended here.
    timer = threading.Timer(seconds + START_SECONDS, os.killpg, args=(process.pid, signal.SIGKILL))
    timer.start()
    errors: list[bytes] = []
    try:
        reader = threading.Thread(
            target=lambda: errors.append(process.stderr.read(LONGEST_OUTPUT)),  # type: ignore[union-attr]
            daemon=True,
        )
        reader.start()
        if process.stdin is not None and process.stdout is not None:
            try:
                process.stdin.write(json.dumps(asked).encode())
                process.stdin.close()
            except BrokenPipeError:
                pass
            output = process.stdout.read(LONGEST_OUTPUT)
            process.stdout.close()
        process.wait()
        reader.join(5)
    finally:
        timer.cancel()
    told = b"".join(errors).decode("utf-8", "replace")
    return read_run(word, output.decode("utf-8", "replace"), told, seconds)
