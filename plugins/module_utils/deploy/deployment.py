# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is deployed of an instance, as one value, and the record of what was proved. Pure."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import (
    CONTROL_NODES,
    FINGERPRINT,
    config_file,
    device_policy,
    drop_in,
    fingerprint,
    limits,
    service_settings,
    socket_unit,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.kinds import GENERATING

SCHEMA = 2
_SUPERVISORS_PLACE = 3
"""In a deployment's command: the interpreter and its two options come before it."""


def adapter_name(module: str) -> str:
    """The name in an item of `--lora-modules`: `NAME=PATH`, or JSON; all of it if it is neither.

    vllm 0.14.1, vllm/entrypoints/openai/cli_args.py, LoRAParserAction.
    """
    if "=" in module and "," not in module:
        return module.partition("=")[0]
    try:
        return str(json.loads(module)["name"])
    except (ValueError, LookupError, TypeError):
        return module


@dataclasses.dataclass(frozen=True)
class Deployment:
    """One instance with one configuration; the texts of its files are made of it last.

    Attributes:
        name: The instance.
        kind: What it is asked for, such as `chat` and `embed`.
        release: vLLM's version.
        venv: The virtual environment of the release.
        accelerator: `cuda` or `cpu`.
        repository: The model's on the Hub; `None` for a local directory.
        revision: The model's commit; `None` for a local directory.
        host: The address that the server listens on; `None` for vLLM's default.
        port: Its port; `None` for vLLM's default.
        url: Where the host itself reaches the server.
        served_model_name: The name that requests give.
        max_model_len: The context length, in tokens, that the server must report; `None` where it
            decides itself.
        gpus: UUIDs of its GPUs.
        attention_backend: What the server is told to use; `None` when vLLM chooses.
        config: vLLM's long flags without their dashes; `model` is the model's directory.
        environment: Variables of the server.
        limits: `memory_max` and `tasks_max`, where it has its own.
        user: The system user and group that it runs as.
        unit: Text of the template unit that it was made for.
        command: What the unit runs.
        settings: Further lines of the unit's `[Service]`, but for the limits.
        mounts: Paths whose file systems must be mounted before.
        fingerprint: Tells this configuration from others; in the running server's environment.
        after: Units that it waits for where they start together (`order.started_before`).
        expected: What the plan expects of its memory, and the key under which what the engine
            measures is kept (`measured.with_row`); empty where nothing is kept.
        group: Of an instance that spans hosts: `rank`, `port`, `fingerprint` and `members`.
        on_demand: Of one that is started by a request: `share`, `idle_after`, `wake_timeout`,
            `size` and `room`, and where it sleeps `sleep_level`, `asleep` and `sleep_memory`, as
            the plan has them.
    """

    name: str
    kind: str
    release: str
    venv: str
    accelerator: str
    # Where the model comes from is told by its directory too, which alone makes another deployment.
    repository: str | None = dataclasses.field(compare=False)
    revision: str | None = dataclasses.field(compare=False)
    host: str | None
    port: int | None
    url: str
    served_model_name: str
    max_model_len: int | None
    gpus: list[str]
    attention_backend: str | None
    config: dict[str, Any]
    environment: dict[str, str]
    limits: dict[str, str]
    user: str
    unit: str
    command: list[str]
    settings: list[str]
    mounts: list[str]
    fingerprint: str
    after: list[str] = dataclasses.field(default_factory=list)
    # What is expected makes no other deployment.
    expected: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False)
    group: dict[str, Any] | None = None
    on_demand: dict[str, Any] | None = None

    @property
    def answers(self) -> bool:
        """Whether it serves the API, rather than computing for another host that does."""
        return self.group is None or self.group["rank"] == 0

    @property
    def unit_name(self) -> str:
        """The service's name."""
        return f"vllm@{self.name}.service"

    @property
    def supervisor(self) -> str:
        """The folder of the supervisor that runs it."""
        return self.command[_SUPERVISORS_PLACE]

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the LoRA adapters that are served beside the model."""
        modules = self.config.get("lora-modules") or []
        return tuple(adapter_name(str(module)) for module in modules)

    @property
    def demand_text(self) -> str | None:
        """What the broker is told of it; `None` where it has none."""
        if self.on_demand is None:
            return None
        told = {
            "name": self.name,
            "served_model_name": self.served_model_name,
            "max_model_len": self.max_model_len,
            "uds": self.config["uds"],
            "python": self.command[0],
            "supervisor": self.supervisor,
            **self.on_demand,
        }
        return json.dumps(told, indent=2, sort_keys=True) + "\n"

    @property
    def socket_text(self) -> str | None:
        """The unit that holds its port for the broker; `None` where it has none."""
        if self.on_demand is None:
            return None
        return socket_unit(self.name, self.on_demand["share"], str(self.host), int(self.port or 0))

    @property
    def config_text(self) -> str:
        """The text of vLLM's `--config` file."""
        return config_file(self.unit_name, self.config)

    @property
    def drop_in_text(self) -> str:
        """The text of the unit's drop-in."""
        variables = {**self.environment, FINGERPRINT: self.fingerprint}
        settings = [*self.settings, *limits(self.limits)]
        return drop_in(
            self.unit_name, self.command, self.venv, variables, settings, self.mounts, self.after
        )


def derived(config: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """What a server's flags and variables say of it, by the names of :class:`Deployment`."""
    backend = config.get("attention-backend") or environment.get("VLLM_ATTENTION_BACKEND")
    length = config.get("max-model-len")
    return {
        "host": config.get("host"),
        "port": config.get("port"),
        "max_model_len": None if length == "auto" else length,
        "gpus": [gpu for gpu in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu],
        "attention_backend": None if backend == "auto" else backend,
        "config": dict(config),
        "environment": dict(environment),
    }


@dataclasses.dataclass(frozen=True)
class Common:
    """What deployments on a host have in common.

    Attributes:
        release: vLLM's version.
        unit: Text of the template unit.
        supervisor: The folder of the supervisor, named by its content.
        accelerator: `cuda` or `cpu`.
        user: The system user and group of the servers.
        config_dir: Where vLLM's `--config` files are.
        start_timeout: Seconds that a start may take.
        start_stall: Seconds without any sign of work after which a start hangs.
        drain: Seconds that requests under way get when a server is stopped.
        starts: Failed starts in a row after which a server is given up.
        closed_devices: Whether a server can open its own GPUs and no other device.
        truthful_health: Whether `/health` says what the supervisor sees.
        gpu_lost: What follows where a card is lost: one of `supervisor.cards.POLICIES`.
    """

    release: str
    unit: str
    supervisor: str
    accelerator: str = "cpu"
    user: str = "vllm"
    config_dir: str = "/etc/vllm"
    start_timeout: int = 600
    start_stall: int = 120
    drain: int = 30
    starts: int = 5
    closed_devices: bool = True
    truthful_health: bool = True
    gpu_lost: str = "fail"


def deployment(
    wanted: Mapping[str, Any], common: Common, nodes: Sequence[str] | None
) -> Deployment:
    """What an instance of the plan is deployed as.

    Args:
        wanted: The instance: `name`, `venv`, `config`, `environment`, `url`,
            `served_model_name`, and where there are any `kind`, `repository`, `revision`,
            `limits`, `after`, `expected` and `group`.
        common: What it has in common with the host's others.
        nodes: Its GPUs' device nodes; empty for none, `None` for every GPU's.
    """
    name, venv, config = wanted["name"], wanted["venv"], wanted["config"]
    environment = {name: str(value) for name, value in wanted["environment"].items()}
    settings = device_policy(nodes) if common.closed_devices else ["DevicePolicy=auto"]
    gpus = nodes is None or bool(nodes)
    if gpus:
        # As root: the node of the unified memory is made by the first who asks for it.
        settings.append("ExecStartPre=+-/usr/bin/nvidia-modprobe -u -c=0")
    command = [f"{venv}/bin/python", "-I", "-S", common.supervisor]
    command += [f"--name={name}", f"--vllm={venv}/bin/vllm"]
    command.append(f"--config={os.path.join(common.config_dir, name)}.yaml")
    command += [f"--device={node}" for node in [*(nodes or []), *(CONTROL_NODES if gpus else [])]]
    # Only where it is off, so that a server that was started before there was such a thing goes on.
    command += [] if common.truthful_health else ["--no-truthful-health"]
    if gpus and common.gpu_lost != "fail":
        command.append(f"--gpu-lost={common.gpu_lost}")
        # How often, and when last, over reboots too.
        settings += [f"StateDirectory=vllm/lost/{name}", "StateDirectoryMode=0750"]
    kind = wanted.get("kind") or "chat"
    if kind not in GENERATING:  # the supervisor asks those for a token by itself
        command.append(f"--kind={kind}")
    if wanted.get("on_demand"):
        command.append("--on-demand")
    # One of before there was sleep says nothing of it.
    demand = wanted.get("on_demand") or {}
    if demand.get("sleep_level"):
        command.append(f"--sleep-level={demand['sleep_level']}")
    group = wanted.get("group")
    if group is not None:
        command.append(f"--group={json.dumps(group, sort_keys=True)}")
    # What matters only at the next start or stop is no reason for one.
    identity = fingerprint(service_settings(common.unit), command, settings, config, environment)
    command += [f"--start-timeout={common.start_timeout}", f"--start-stall={common.start_stall}"]
    command += [f"--drain={common.drain}", f"--starts={common.starts}"]
    if demand.get("sleep_memory"):
        command.append(f"--sleep-memory={demand['sleep_memory']}")
    own_limits = (wanted.get("limits") or {}).items()
    return Deployment(
        name=name,
        kind=kind,
        release=common.release,
        venv=venv,
        accelerator=common.accelerator,
        repository=wanted.get("repository"),
        revision=wanted.get("revision"),
        url=wanted["url"],
        served_model_name=wanted["served_model_name"],
        limits={limit: str(value) for limit, value in own_limits if value},
        user=common.user,
        unit=common.unit,
        command=command,
        settings=settings,
        mounts=[path for path in (str(config.get("model", "")), venv) if path.startswith("/")],
        fingerprint=identity,
        after=list(wanted.get("after") or []),
        expected=dict(wanted.get("expected") or {}),
        group=group,
        on_demand=wanted.get("on_demand"),
        **derived(config, environment),
    )


def unchanged_or_new(
    wanted: Mapping[str, Any],
    common: Common,
    nodes: Sequence[str] | None,
    former: Deployment | None,
) -> Deployment:
    """What an instance is deployed as: with its former supervisor where nothing else has changed.

    A newer supervisor is no reason to stop a server; it comes with the next change.

    Args:
        wanted: As of :func:`deployment`.
        common: As there; its supervisor is the newest.
        nodes: As there.
        former: What was proved last, if its supervisor can be kept.
    """
    if former is not None:
        kept = dataclasses.replace(common, supervisor=former.supervisor)
        same = deployment(wanted, kept, nodes)
        if same.fingerprint == former.fingerprint:
            return same
    return deployment(wanted, common, nodes)


@dataclasses.dataclass(frozen=True)
class Record:
    """What was proved last of an instance, and before that.

    Attributes:
        current: The deployment that answered truly last.
        previous: The one before it, to which a rollback goes; `None` where there was none.
    """

    current: Deployment
    previous: Deployment | None = None

    def proved(self, now: Deployment) -> Record:
        """The record after a deployment was proved."""
        if now.fingerprint == self.current.fingerprint:
            return Record(now, self.previous)
        return Record(now, self.current)


def proved_text(record: Record) -> str:
    """The file of a record."""
    return json.dumps({"schema": SCHEMA, **dataclasses.asdict(record)}, indent=2) + "\n"


def read_record(text: str | None) -> Record | None:
    """Read a record's file; `None` where there is none, or none that this version reads."""
    try:
        data = json.loads(text or "")
        made = _MAKERS[data["schema"]]
        previous = data["previous"]
        return Record(made(data["current"]), None if previous is None else made(previous))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _from_schema_1(data: Mapping[str, Any]) -> Deployment:
    # Only until the next change of each instance.
    from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.schema_1 import upgraded

    rest, config, environment = upgraded(data)
    return Deployment(**rest, **derived(config, environment))


_MAKERS: dict[int, Callable[[Mapping[str, Any]], Deployment]] = {
    1: _from_schema_1,
    SCHEMA: lambda data: Deployment(**data),
}
