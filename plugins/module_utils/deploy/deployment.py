# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is deployed of an instance, as one value, and the record of what was proved. Pure."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import (
    CONTROL_NODES,
    FINGERPRINT,
    config_file,
    device_policy,
    drop_in,
    fingerprint,
    limits,
    service_settings,
)

SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Deployment:
    """One instance with one configuration.

    Attributes:
        name: The instance.
        release: vLLM's version.
        venv: The virtual environment of the release.
        unit: Text of the template unit that it was made for.
        config: Text of vLLM's C(--config) file.
        drop_in: Text of the unit's drop-in.
        fingerprint: Tells this configuration from others; in the running server's environment.
        url: Where the server answers.
        served_model_name: The name that requests give.
        max_model_len: The context length, in tokens, that the server must report; C(None) for any.
    """

    name: str
    release: str
    venv: str
    unit: str
    config: str
    drop_in: str
    fingerprint: str
    url: str
    served_model_name: str
    max_model_len: int | None

    @property
    def unit_name(self) -> str:
        """The service's name."""
        return f"vllm@{self.name}.service"


@dataclasses.dataclass(frozen=True)
class Host:
    """What deployments on a host have in common.

    Attributes:
        release: vLLM's version.
        unit: Text of the template unit.
        supervisor: The folder of the supervisor, named by its content.
        config_dir: Where vLLM's C(--config) files are.
        start_timeout: Seconds that a start may take.
        start_stall: Seconds without any sign of work after which a start hangs.
        drain: Seconds that requests under way get when a server is stopped.
        starts: Failed starts in a row after which a server is given up.
        closed_devices: Whether a server can open its own GPUs and no other device.
    """

    release: str
    unit: str
    supervisor: str
    config_dir: str = "/etc/vllm"
    start_timeout: int = 600
    start_stall: int = 120
    drain: int = 30
    starts: int = 5
    closed_devices: bool = True


def deployment(wanted: Mapping[str, Any], host: Host, nodes: Sequence[str] | None) -> Deployment:
    """What an instance of the plan is deployed as.

    Args:
        wanted: The instance: C(name), C(venv), C(config), C(environment), C(url),
            C(served_model_name), C(limits).
        host: What it has in common with the host's others.
        nodes: Its GPUs' device nodes; empty for none, C(None) for every GPU's.
    """
    name, venv = wanted["name"], wanted["venv"]
    unit_name = f"vllm@{name}.service"
    config_path = os.path.join(host.config_dir, f"{name}.yaml")
    config = config_file(unit_name, wanted["config"])
    environment = {name: str(value) for name, value in wanted["environment"].items()}
    settings = device_policy(nodes) if host.closed_devices else ["DevicePolicy=auto"]
    gpus = nodes is None or bool(nodes)
    if gpus:
        # As root: the node of the unified memory is made by the first who asks for it.
        settings.append("ExecStartPre=+-/usr/bin/nvidia-modprobe -u -c=0")
    model = str(wanted["config"].get("model", ""))
    mounts = [path for path in (model, venv) if path.startswith("/")]
    command = [f"{venv}/bin/python", "-I", "-S", host.supervisor]
    command += [f"--name={name}", f"--vllm={venv}/bin/vllm", f"--config={config_path}"]
    command += [f"--device={node}" for node in [*(nodes or []), *(CONTROL_NODES if gpus else [])]]
    # What matters only at the next start or stop is no reason for one.
    identity = fingerprint(
        service_settings(host.unit), command, settings, wanted["config"], environment
    )
    command += [f"--start-timeout={host.start_timeout}", f"--start-stall={host.start_stall}"]
    command += [f"--drain={host.drain}", f"--starts={host.starts}"]
    settings += limits(wanted.get("limits") or {})
    variables = {**environment, FINGERPRINT: identity}
    return Deployment(
        name=wanted["name"],
        release=host.release,
        venv=venv,
        unit=host.unit,
        config=config,
        drop_in=drop_in(unit_name, command, venv, variables, settings, mounts),
        fingerprint=identity,
        url=wanted["url"],
        served_model_name=wanted["served_model_name"],
        max_model_len=wanted["config"].get("max-model-len"),
    )


@dataclasses.dataclass(frozen=True)
class Record:
    """What was proved last of an instance, and before that.

    Attributes:
        current: The deployment that answered truly last.
        previous: The one before it, to which a rollback goes; C(None) where there was none.
    """

    current: Deployment
    previous: Deployment | None = None

    def proved(self, now: Deployment) -> Record:
        """The record after a deployment was proved."""
        if now.fingerprint == self.current.fingerprint:
            return Record(now, self.previous)
        return Record(now, self.current)


def record_text(record: Record) -> str:
    """The file of a record."""
    return json.dumps({"schema": SCHEMA, **dataclasses.asdict(record)}, indent=2) + "\n"


def read_record(text: str | None) -> Record | None:
    """Read a record's file; C(None) where there is none, or none that this version reads."""
    try:
        data = json.loads(text or "")
        if data.pop("schema") != SCHEMA:
            return None
        previous = data["previous"]
        return Record(
            Deployment(**data["current"]), None if previous is None else Deployment(**previous)
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def releases_to_remove(proved: Mapping[str, str], used: Iterable[str], keep: int) -> list[str]:
    """Which releases' venvs may go.

    Args:
        proved: When each venv was proved, in ISO 8601, by its path.
        used: Venvs that a service runs with or a rollback goes to; they stay.
        keep: How many of the others, the newest, stay too.
    """
    in_use = {os.path.normpath(path) for path in used}
    spare = [path for path in proved if os.path.normpath(path) not in in_use]
    spare.sort(key=lambda path: (proved[path], path), reverse=True)
    return sorted(spare[keep:])
