# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of one instance's systemd service, and what its state asks for. Pure functions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.urls import host_and_port
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.venvs import bytecode

FINGERPRINT = "COMPUTE_PLANE_FINGERPRINT"
"""Environment variable that tells which configuration a running server was started with."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MANAGED = "# Managed by Ansible (compute_plane.vllm). Your own settings: systemctl edit {unit}\n"


def quote(word: str) -> str:
    """Quote one word of a unit file's command line or of `Environment=`.

    systemd.syntax(7), "Quoting", and systemd.unit(5), "Specifiers": backslash and double quote are
    escaped in double quotes, and `%` is doubled.

    Raises:
        ValueError: The word has a line break or another control character.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in word):
        raise ValueError(f"control character in {word!r}")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def argument(word: str) -> str:
    """Quote one argument of `ExecStart=`, where `$` begins a variable (systemd.service(5))."""
    return quote(word).replace("$", "$$")


def service_settings(unit: str) -> list[str]:
    """The settings of a unit file that its processes see.

    Left out are comments, what orders units, and what systemd alone goes by: changes of those take
    effect with `daemon-reload` and ask for no restart.
    """
    settings, section = [], ""
    for line in unit.splitlines():
        text = line.strip()
        if text.startswith("["):
            section = text
        elif section == "[Service]" and not text.startswith(("#", ";")) and "=" in text:
            settings.append(text)
    return [text for text in settings if text.split("=", 1)[0].rstrip() not in SYSTEMDS_OWN]


SYSTEMDS_OWN = frozenset(
    {
        "Restart",
        "RestartPreventExitStatus",
        "RestartSec",
        "TimeoutStartSec",
        "TimeoutStopSec",
        "KillMode",
        "MemoryMax",
        "TasksMax",
    }
)
"""Settings that systemd reads anew with `daemon-reload`, for services that run too."""


def limits(wanted: Mapping[str, str | None]) -> list[str]:
    """The settings of the limits that an instance has of its own.

    Args:
        wanted: `memory_max` and `tasks_max`, as systemd takes them; `None` or absent for what
            the template unit has.
    """
    names = {"memory_max": "MemoryMax", "tasks_max": "TasksMax"}
    return [f"{names[name]}={value}" for name, value in sorted(wanted.items()) if value]


def config_file(unit: str, config: Mapping[str, Any]) -> str:
    """VLLM's `--config` file of an instance: one line a flag, each value a JSON scalar or flow.

    Args:
        unit: The unit's name, for the comment at the top.
        config: Long flags without their dashes, with their values.
    """
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in config.items()]
    return MANAGED.format(unit=unit) + "".join(lines)


CONTROL_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm")
"""What CUDA opens besides the GPU's own node."""


def device_policy(nodes: Sequence[str] | None) -> list[str]:
    """The settings that let a server open its own GPUs and no other device.

    Major 195 is NVIDIA's for good (Linux, Documentation/admin-guide/devices.txt); written by number
    the nodes need not be there yet. The others' numbers differ from boot to boot, and the names are
    those of /proc/devices, of which a driver has some and not others.

    Args:
        nodes: The GPUs' nodes; `None` allows every GPU, empty none.
    """
    allowed = []
    if nodes is None:
        allowed = ["char-nvidia", "char-nvidia-frontend", "char-195"]
    elif nodes:
        minors = [node[len("/dev/nvidia") :] for node in nodes]
        # 255 is /dev/nvidiactl, 254 /dev/nvidia-modeset.
        allowed = [f"/dev/char/195:{minor}" for minor in [*minors, "255", "254"]]
    if allowed:
        names = ("uvm", "caps", "caps-imex-channels", "nvswitch", "nvlink")
        allowed += [f"char-nvidia-{name}" for name in names]
    return ["DevicePolicy=closed", *(f"DeviceAllow={name} rw" for name in allowed)]


def drop_in(
    unit: str,
    command: Sequence[str],
    venv: str,
    environment: Mapping[str, str],
    settings: Sequence[str],
    mounts: Sequence[str],
    after: Sequence[str] = (),
) -> str:
    """The part of the unit that is this instance's own.

    Args:
        unit: The unit's name.
        command: What is run.
        venv: The release's virtual environment.
        environment: Variables of the server.
        settings: Further lines of `[Service]`.
        mounts: Paths whose file systems must be mounted before.
        after: Units that this one waits for where they start together.
    """
    words = " ".join(argument(word) for word in command)
    # Where the plan found nvcc, so that FlashInfer finds it too.
    cuda = [f"{environment['CUDA_HOME']}/bin"] if "CUDA_HOME" in environment else []
    variables = {
        **environment,
        "PYTHONPYCACHEPREFIX": bytecode(venv),
        "VIRTUAL_ENV": venv,
        "PATH": ":".join([f"{venv}/bin", *cuda, SYSTEM_PATH]),
    }
    lines = [
        f"Environment={quote(f'{name}={value}')}\n" for name, value in sorted(variables.items())
    ]
    return "".join(
        [
            MANAGED.format(unit=unit),
            "[Unit]\n" if mounts or after else "",
            *(f"RequiresMountsFor={quote(path)}\n" for path in mounts),
            f"After={' '.join(after)}\n" if after else "",
            "[Service]\n",
            f"ExecStart={words}\n",
            *(f"{setting}\n" for setting in settings),
            *lines,
        ]
    )


def listen_stream(host: str, port: int) -> str:
    """What `ListenStream=` is given; a name is `localhost`, which the plan alone lets through."""
    return host_and_port("127.0.0.1" if host == "localhost" else host, port)


def socket_unit(name: str, share: str, host: str, port: int) -> str:
    """The unit that holds the port of an instance on demand (systemd.socket(5)).

    Args:
        name: The instance.
        share: Whose broker is given it.
        host: The address.
        port: The port.
    """
    return "".join(
        [
            MANAGED.format(unit=f"vllm@{name}.socket"),
            "[Unit]\n",
            f"Description=Port of vLLM on demand ({name})\n",
            "[Socket]\n",
            f"ListenStream={listen_stream(host, port)}\n",
            f"FileDescriptorName={name}\n",
            f"Service=vllm-broker@{share}.service\n",
            "Backlog=1024\n",
            "NoDelay=yes\n",
            # An address that comes late at boot.
            "FreeBind=yes\n",
            "[Install]\n",
            "WantedBy=sockets.target\n",
        ]
    )


def broker_drop_in(share: str, members: Sequence[Mapping[str, Any]]) -> str:
    """The part of a broker's unit that is its share's own.

    Args:
        share: The share.
        members: What `NAME.demand.json` and `NAME.socket` of its instances say, by their names.
    """
    unit, first = f"vllm-broker@{share}.service", members[0]
    command = [first["python"], "-I", "-S", first["supervisor"], "broker", f"--share={share}"]
    identity = fingerprint(command, list(members))
    return "".join(
        [
            MANAGED.format(unit=unit),
            "[Service]\n",
            f"ExecStart={' '.join(argument(word) for word in command)}\n",
            f"Sockets={' '.join('vllm@' + str(one['name']) + '.socket' for one in members)}\n",
            f"Environment={quote(f'{FINGERPRINT}={identity}')}\n",
        ]
    )


def fingerprint(*parts: object) -> str:
    """What tells two configurations of a server apart: 16 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def variable(environ: bytes | None, name: str) -> str | None:
    """A variable in a process's environment, as `/proc/PID/environ` gives it."""
    prefix = name.encode("ascii") + b"="
    for entry in (environ or b"").split(b"\0"):
        if entry.startswith(prefix):
            return entry[len(prefix) :].decode("utf-8", "replace")
    return None


RUNNING = ("active", "activating", "reloading")
"""The values of systemd's `ActiveState` of a unit that has a server, or soon has one again."""


def needs_start(active_state: str, running: str | None, wanted: str) -> str | None:
    """Why a service must be started or restarted; `None` when it need not be.

    The decision rests on what the running server was started with, not on which files this run has
    written: a run that was killed between the two is made good by the next one.

    Args:
        active_state: systemd's `ActiveState`.
        running: The fingerprint in the running server's environment.
        wanted: The fingerprint of the wanted configuration.
    """
    if active_state not in RUNNING:
        return f"it is {active_state or 'not there'}"
    if running is None:
        # Between two attempts of Restart=: no process, the next one takes the new files anyway.
        return "it is not running"
    if running != wanted:
        return "its configuration has changed"
    return None
