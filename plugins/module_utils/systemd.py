# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of one instance's systemd service, and what its state asks for. Pure functions."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

FINGERPRINT = "COMPUTE_PLANE_FINGERPRINT"
"""Environment variable that tells which configuration a running server was started with."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MANAGED = "# Managed by Ansible (compute_plane.vllm). Your own settings: systemctl edit {unit}\n"


def quote(word: str) -> str:
    """Quote one word of a unit file's command line or of C(Environment=).

    systemd.syntax(7), "Quoting", and systemd.unit(5), "Specifiers": backslash and double quote are
    escaped in double quotes, and C(%) is doubled.

    Raises:
        ValueError: The word has a line break or another control character.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in word):
        raise ValueError(f"control character in {word!r}")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def argument(word: str) -> str:
    """Quote one argument of C(ExecStart=), where C($) begins a variable (systemd.service(5))."""
    return quote(word).replace("$", "$$")


def config_file(unit: str, config: Mapping[str, Any]) -> str:
    """VLLM's C(--config) file of an instance: one line a flag, each value a JSON scalar or flow.

    Args:
        unit: The unit's name, for the comment at the top.
        config: Long flags without their dashes, with their values.
    """
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in config.items()]
    return MANAGED.format(unit=unit) + "".join(lines)


def drop_in(
    unit: str, venv: str, config_path: str, environment: Mapping[str, str], fingerprint: str
) -> str:
    """The part of the unit that is this instance's own.

    Args:
        unit: The unit's name.
        venv: The release's virtual environment.
        config_path: vLLM's C(--config) file.
        environment: Variables of the server.
        fingerprint: Identifies this configuration; see :func:`fingerprint`.
    """
    command = " ".join(
        argument(word) for word in (f"{venv}/bin/vllm", "serve", "--config", config_path)
    )
    # Where the plan found nvcc, so that FlashInfer finds it too.
    cuda = [f"{environment['CUDA_HOME']}/bin"] if "CUDA_HOME" in environment else []
    variables = {
        **environment,
        "PYTHONPYCACHEPREFIX": f"{venv}/.pycache",
        "VIRTUAL_ENV": venv,
        "PATH": ":".join([f"{venv}/bin", *cuda, SYSTEM_PATH]),
        FINGERPRINT: fingerprint,
    }
    lines = [
        f"Environment={quote(f'{name}={value}')}\n" for name, value in sorted(variables.items())
    ]
    return MANAGED.format(unit=unit) + "[Service]\n" + f"ExecStart={command}\n" + "".join(lines)


def fingerprint(*parts: object) -> str:
    """What tells two configurations of a server apart: 16 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def parse_show(output: str) -> list[dict[str, str]]:
    """Read C(systemctl show) of several units: C(Key=Value) lines, a blank line between units."""
    units = []
    for block in output.split("\n\n"):
        properties = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if properties:
            units.append(properties)
    return units


def running_fingerprint(environ: bytes | None) -> str | None:
    """The fingerprint in a process's environment, as C(/proc/PID/environ) gives it."""
    prefix = FINGERPRINT.encode("ascii") + b"="
    for variable in (environ or b"").split(b"\0"):
        if variable.startswith(prefix):
            return variable[len(prefix) :].decode("ascii", "replace")
    return None


def needs_start(active_state: str, running: str | None, wanted: str) -> str | None:
    """Why a service must be started or restarted; C(None) when it need not be.

    The decision rests on what the running server was started with, not on which files this run has
    written: a run that was killed between the two is made good by the next one.

    Args:
        active_state: systemd's C(ActiveState).
        running: The fingerprint in the running server's environment.
        wanted: The fingerprint of the wanted configuration.
    """
    if active_state not in ("active", "activating", "reloading"):
        return f"it is {active_state or 'not there'}"
    if running is None:
        # Between two attempts of Restart=: no process, the next one takes the new files anyway.
        return "it is not running"
    if running != wanted:
        return "its configuration has changed"
    return None


def log_text(line: str) -> str:
    """A line of vLLM's log without its process, level, time and source.

    C((APIServer pid=924) INFO 11-22 22:05:28 [model.py:530] Resolved) becomes C(Resolved).
    """
    return _LOG_PREFIX.sub("", line)


_LOG_PREFIX = re.compile(r"^(\([^)]*pid=\d+\) )?([A-Z]+ \d\d-\d\d [\d:]+ \[[^]]*\] )?")


def has_crashed(before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    """Whether a service that was just started has ended by itself.

    Args:
        before: C(systemctl show) when it was started.
        after: C(systemctl show) now.
    """
    if after.get("ActiveState") in ("failed", "inactive"):
        return True
    if after.get("SubState") == "auto-restart":
        return True
    return int(after.get("NRestarts") or 0) > int(before.get("NRestarts") or 0)
