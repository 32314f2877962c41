# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wanted state: what the inventory says, checked key by key.

A key that is wrong is reported and then takes its default, so that one
mistake never hides another.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.numbers import number_in
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.urls import (
    host_and_port,
    url_of,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.names import (
    endpoint_problem,
    repo_id_problem,
    revision_problem,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    closest,
    quoted,
    shown,
)

ACCELERATORS = ("auto", "cuda", "cpu")
# Other words for them.
ALIASES = {"gpu": "cuda"}
# What a model can be asked for; `auto` finds it from the model.
KINDS = (
    "auto",
    "chat",
    "base",
    "reasoning",
    "embed",
    "rerank",
    "classify",
    "transcribe",
    "multimodal",
)
NVCC = ("any", "absent", "present")
# Options of the module that the roles leave at their defaults; all others are variables.
MODULE_ONLY = ("opt_dir", "etc_dir", "state_dir", "python")
DEFAULT_PORT = 8000
# torch's own; the next one is vLLM's default of --master-port.
DEFAULT_GROUP_PORT = 29500
# Ollama has five minutes; a start of vLLM is slower than one of llama.cpp.
DEFAULT_IDLE_AFTER = 900
# Half of what OpenAI's clients wait for an answer (openai-python 2, _constants.py).
DEFAULT_WAKE_TIMEOUT = 300
DEFAULT_BACKEND = "TRITON_ATTN"
DEFAULT_UTILIZATION = 0.85

# What vLLM 0.14.1 accepts for --dtype: vllm/config/model.py, ModelDType.
DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")

# Letters that need no escaping in a unit's instance name, a file name and a
# URL: systemd.unit(5), "String escaping for inclusion in unit names".
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
# Absolute, without white space, quotes, `%` (a specifier in units), `$`, `:`,
# `\` or control characters: systemd.unit(5) and systemd.syntax(7).
SAFE_PATH = re.compile(r"/[A-Za-z0-9._+@,=~/-]*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
GPU_UUID = re.compile(r"GPU-[0-9A-Fa-f-]{8,}")

_FORMS: dict[str, str] = {
    "text": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "list": "a list",
    "mapping": "a dictionary",
}


@dataclass(frozen=True)
class Adapter:
    """A wanted LoRA adapter of an instance.

    Attributes:
        where: Its place in the inventory, `vllm_instances[0].lora.sql`.
        name: What requests call it.
        model: A repository of the Hub, or a directory of the host.
        revision: Commit, tag or branch of the repository; None for its main branch.
    """

    where: str
    name: str
    model: str
    revision: str | None = None
    # As an instance has them: an adapter is looked at, and fetched, as a model is.
    bad: ClassVar[frozenset[str]] = frozenset()
    extra_args: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def at(self, _key: str) -> str:
        """Return where a key of this adapter stands in the inventory."""
        return self.where

    @property
    def local(self) -> bool:
        """Whether it is a directory of the host rather than a Hub repository."""
        return self.model.startswith("/")


@dataclass
class Instance:
    """One wanted instance after its keys were checked.

    Attributes:
        where: Its place in the inventory, `vllm_instances[0]`.
        bad: Names of the keys that were reported; they hold defaults now.
        given: Names of the keys that the inventory sets.
        extra_args: Flag (long form with dashes) to value, as given.
        gpus: UUIDs and indices, as given; None means "let the plan choose".
        cpu_kvcache_space: GiB.
        limits: `memory_max` and `tasks_max` as systemd takes them, where they are given.
        lora: Its adapters by name, in the inventory's order.
        hosts: The hosts that it spans, the leader first; empty for this host alone.
        group_port: The first of two TCP ports by which they find each other.
        on_demand: Whether its server is there only while it is asked for.
        idle_after: Seconds without requests after which it is put out then.
        wake_timeout: Seconds that a request waits for it at most then.
        sleep_level: vLLM's, at which it sleeps when it is put out then; 0 stops it.
        share: Whose name it shares a place with others by; its own where it is not given.
        rank: This host's place among them.
    """

    where: str
    name: str = ""
    model: str = ""
    revision: str | None = None
    kind: str = "auto"
    served_model_name: str | None = None
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    gpus: list[str | int] | None = None
    tensor_parallel_size: int = 1
    attention_backend: str = DEFAULT_BACKEND
    dtype: str = "auto"
    max_model_len: int | None = None
    gpu_memory_utilization: float = DEFAULT_UTILIZATION
    enforce_eager: bool = False
    max_num_seqs: int | None = None
    enable_auto_tool_choice: bool = False
    tool_call_parser: str | None = None
    cpu_kvcache_space: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    extra_args: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)
    lora: dict[str, Adapter] = field(default_factory=dict)
    hosts: list[str] = field(default_factory=list)
    group_port: int = DEFAULT_GROUP_PORT
    on_demand: bool = False
    idle_after: int = DEFAULT_IDLE_AFTER
    wake_timeout: int = DEFAULT_WAKE_TIMEOUT
    sleep_level: int = 0
    share: str | None = None
    rank: int = 0
    given: set[str] = field(default_factory=set)
    bad: set[str] = field(default_factory=set)

    def at(self, key: str) -> str:
        """Return where a key of this instance stands in the inventory."""
        return f"{self.where}.{key}"

    @property
    def local(self) -> bool:
        """Whether the model is a directory of the host rather than a Hub repository."""
        return self.model.startswith("/")

    @property
    def listens(self) -> bool:
        """Whether this host serves the API, rather than computing for the one that does."""
        return self.rank == 0

    @property
    def served_name(self) -> str:
        """The name under which requests ask for the model."""
        if self.served_model_name is not None:
            return self.served_model_name
        return self.name if self.local else self.model

    @property
    def unit(self) -> str:
        """The systemd unit that runs this instance."""
        return f"vllm@{self.name}.service"

    @property
    def place(self) -> str:
        """What it shares with others: one of them at a time needs room there, or some."""
        return f"share {self.share or self.name}" if self.on_demand else f"its own {self.where}"

    @property
    def broker(self) -> str | None:
        """The systemd unit that answers on its port; `None` where it does so itself."""
        return f"vllm-broker@{self.share or self.name}.service" if self.on_demand else None


class Socket(NamedTuple):
    """A TCP port of this host that an instance listens on.

    Attributes:
        key: The instance's key that says which port: `port` or `group_port`.
        address: The address, or a name of it.
        port: The port.
    """

    key: str
    address: str
    port: int

    def __str__(self) -> str:
        return host_and_port(self.address, self.port)

    def meets(self, address: str, port: int) -> bool:
        """Tell whether nobody else can listen here while somebody listens there."""
        return self.port == port and overlap(self.address, address)


def group_ports(instance: Instance) -> tuple[int, ...]:
    """Return the TCP ports of a group: the supervisors', and the engines' rendezvous."""
    return (instance.group_port, instance.group_port + 1) if instance.hosts else ()


@dataclass
class Wanted:
    """The whole wanted state after checking.

    Attributes:
        accelerator: `auto`, `cuda`, `cpu`, or what was written when unknown.
        nvcc: `any`, `absent` or `present`.
        opt_dir: Where the venvs live.
        etc_dir: Where the instances' configuration lives.
        state_dir: Where what is recorded of the instances lives.
        model_hub: The cache of models that come from a Hub; `hub` in `state_dir` when None.
        python: An interpreter that must be used, or None.
        runtime_venv: A venv that somebody made and that is used as it is, or None.
        offline: Whether the host installs from a bundle, without a way out.
        endpoint: The address of the Hub, or of a mirror.
        has_token: Whether a token of the Hub was given.
        host_name: The host's name in the inventory; empty where nobody says.
        inventory: The names of all hosts in it; empty where nobody says.
        group_address: The host's address in the network of its groups.
        members: The plans of the other hosts of its groups, by host; None before there are any.
        model_from: The host that models are copied from; empty where the user names none.
    """

    release: str = ""
    accelerator: str = "auto"
    nvcc: str = "any"
    opt_dir: str = "/opt/vllm"
    etc_dir: str = "/etc/vllm"
    state_dir: str = "/var/lib/vllm"
    model_hub: str | None = None
    python: str | None = None
    runtime_venv: str | None = None
    offline: bool = False
    endpoint: str = "https://huggingface.co"
    has_token: bool = False
    host_name: str = ""
    inventory: list[str] = field(default_factory=list)
    group_address: str = ""
    members: Mapping[str, Any] | None = None
    model_from: str = ""
    instances: list[Instance] = field(default_factory=list)

    @property
    def sources(self) -> list[Instance | Adapter]:
        """Whatever comes from the Hub or a directory: each instance's model, then its adapters."""
        found: list[Instance | Adapter] = []
        for instance in self.instances:
            found += [instance, *instance.lora.values()]
        return found

    @property
    def hub(self) -> str:
        """Where the model role keeps what comes from a Hub."""
        return self.model_hub or f"{self.state_dir}/hub"


def _is(form: str, value: Any) -> bool:
    """Tell whether a value from YAML or Jinja has the wanted form."""
    if form == "text":
        return isinstance(value, str)
    if form == "boolean":
        return isinstance(value, bool)
    if form == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if form == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if form == "list":
        return isinstance(value, list)
    return isinstance(value, Mapping)


def taken(form: str, value: Any) -> Any:
    """Return the number or switch in the text that a template gives, where one is wanted.

    Before ansible-core 2.19 a template gives text, but for the words True and False alone.

    Args:
        form: One of `_FORMS`.
        value: As the inventory has it.
    """
    if form in ("integer", "number"):
        return number_in(value)
    if form == "boolean" and isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower(), value)
    return value


def _form_remedy(form: str) -> str:
    """Say how to write a value of the wanted form."""
    if form == "text":
        return "write a string, in quotes where YAML would read something else"
    return f"write {_FORMS[form]}"


def _check_name(value: str) -> tuple[str, str, str] | None:
    if NAME.fullmatch(value):
        return None
    return (
        "bad-name",
        f"{shown(value)} cannot name a unit, a file and a URL",
        "use 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
    )


def _check_model(value: str) -> tuple[str, str, str] | None:
    if value.startswith("/"):
        return _check_path(value)
    problem = repo_id_problem(value)
    if problem is None:
        return None
    return (
        "bad-value",
        f"{shown(value)} is neither an absolute path nor a Hub repository: it {problem}",
        "write org/name as on huggingface.co, or the directory's path beginning with /",
    )


def _check_path(value: str) -> tuple[str, str, str] | None:
    if SAFE_PATH.fullmatch(value) and ".." not in value.split("/"):
        return None
    return (
        "bad-path",
        f"the path {shown(value)} cannot stand in a unit",
        "use an absolute path of letters, digits and . _ + @ , = ~ - without '..'",
    )


def _check_revision(value: str) -> tuple[str, str, str] | None:
    problem = revision_problem(value)
    if problem is None:
        return None
    return (
        "bad-value",
        f"{shown(value)} {problem}",
        "write a commit (40 hexadecimal digits), a tag or a branch",
    )


def _check_served_name(value: str) -> tuple[str, str, str] | None:
    if value and not value.startswith("-") and not re.search(r"[\x00-\x20\x7f]", value):
        return None
    return (
        "bad-value",
        f"{shown(value)} cannot name a model in requests",
        "write a name without white space that does not begin with '-'",
    )


def _check_host(value: str) -> tuple[str, str, str] | None:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        # 127.0.0.256 and the like look like names and are mistyped addresses.
        digits = re.fullmatch(r"[0-9.]+", value)
        named = "." in value and HOSTNAME.fullmatch(value.lower()) and not digits
        if value == "localhost" or named:
            return None
        return (
            "bad-value",
            f"{shown(value)} is not an address of a host",
            "write an IP address: 127.0.0.1 for this host only, 0.0.0.0 for every interface",
        )
    return None


@dataclass(frozen=True)
class InRange:
    """Checks that a whole number lies between two, both included."""

    low: int
    high: int
    unit: str = ""

    def __call__(self, value: int) -> tuple[str, str, str] | None:
        """Return what is wrong with the value, or None."""
        if self.low <= value <= self.high:
            return None
        return (
            "bad-value",
            f"{shown(value)} is not between {self.low} and {self.high}{self.unit}",
            f"choose a whole number from {self.low} to {self.high}",
        )


def _check_utilization(value: float) -> tuple[str, str, str] | None:
    # vllm/config/cache.py: gpu_memory_utilization has gt=0, le=1.
    if 0 < value <= 1:
        return None
    return (
        "bad-value",
        f"{shown(value)} is not a part of the GPU's memory",
        "choose more than 0 and at most 1; 0.85 leaves room for CUDA graphs and the display",
    )


@dataclass(frozen=True)
class OneOf:
    """Checks that a word is one of some."""

    choices: tuple[str, ...]

    def __call__(self, value: str) -> tuple[str, str, str] | None:
        """Return what is wrong with the value, or None."""
        if value in self.choices:
            return None
        near = closest(value, self.choices)
        hint = f"did you mean {near}? " if near else ""
        return (
            "bad-value",
            f"{shown(value)} is not one of {quoted(self.choices)}",
            f"{hint}choose one of {quoted(self.choices)}",
        )


def _check_word(value: str) -> tuple[str, str, str] | None:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value):
        return None
    return (
        "bad-value",
        f"{shown(value)} is not a name",
        "use letters, digits, '.', '_' and '-'",
    )


_Check = Callable[[Any], "tuple[str, str, str] | None"]

# A token count above this is a mistake; 10 million is the longest context that
# any released model claims.
_LONGEST = 100_000_000

# key -> (form, check of the value or None). Users read it in the documentation of vllm_plan, which
# a test compares with this and with the defaults of `Instance`.
INSTANCE_KEYS: dict[str, tuple[str, _Check | None]] = {
    "name": ("text", _check_name),
    "model": ("text", _check_model),
    "revision": ("text", _check_revision),
    "kind": ("text", OneOf(KINDS)),
    "served_model_name": ("text", _check_served_name),
    "host": ("text", _check_host),
    # The service has no CAP_NET_BIND_SERVICE; 1024 is the kernel's default
    # net.ipv4.ip_unprivileged_port_start.
    "port": ("integer", InRange(1024, 65535)),
    "gpus": ("list", None),
    "tensor_parallel_size": ("integer", InRange(1, 64)),
    "attention_backend": ("text", _check_word),
    "dtype": ("text", OneOf(DTYPES)),
    "max_model_len": ("integer", InRange(1, _LONGEST, " tokens")),
    "gpu_memory_utilization": ("number", _check_utilization),
    "enforce_eager": ("boolean", None),
    "max_num_seqs": ("integer", InRange(1, 65536)),
    "enable_auto_tool_choice": ("boolean", None),
    "tool_call_parser": ("text", _check_word),
    "cpu_kvcache_space": ("integer", InRange(1, 65536, " GiB")),
    "environment": ("mapping", None),
    "extra_args": ("mapping", None),
    "limits": ("mapping", None),
    "lora": ("mapping", None),
    "hosts": ("list", None),
    "group_port": ("integer", InRange(1024, 65534)),
    "on_demand": ("boolean", None),
    "idle_after": ("integer", InRange(1, 31 * 86400, " seconds")),
    "wake_timeout": ("integer", InRange(1, 86400, " seconds")),
    "sleep_level": ("integer", InRange(0, 2)),
    "share": ("text", _check_name),
}

# Keys that say something of an instance on demand alone.
DEMAND_KEYS = ("idle_after", "wake_timeout", "share", "sleep_level")

# systemd.resource-control(5): MemoryMax= takes bytes with K, M, G or T to the base 1024, a part of
# the host's memory, or infinity; TasksMax= a number, a part of what the host allows, or infinity.
_PERCENT = r"(?:100|[1-9][0-9]?)%|infinity"
LIMITS: dict[str, tuple[re.Pattern[str], str]] = {
    "memory_max": (
        re.compile(r"[1-9][0-9]*(?:\.[0-9]+)?[KMGT]?|" + _PERCENT),
        "write bytes with K, M, G or T as in 20G, a part of the memory as in 50%, or infinity",
    ),
    "tasks_max": (
        re.compile(r"[1-9][0-9]*|" + _PERCENT),
        "write a number of processes and threads as in 4096, a part as in 50%, or infinity",
    ),
}


def read_wanted(raw: Mapping[str, Any], findings: Findings) -> Wanted:
    """Check the wanted state and return it with defaults filled in.

    Args:
        raw: The keys `release`, `accelerator`, `instances`, `nvcc`, `opt_dir`,
            `etc_dir`, `state_dir`, `model_hub`, `python`, `runtime_venv`, `offline`,
            `model_endpoint`, `has_token`, `host_name`, `inventory`, `group_address` and
            `members`; absent or None means default.
        findings: Receives every problem of the inventory's form and values.

    Returns:
        The wanted state. Whatever was wrong holds its default.
    """
    wanted = Wanted()
    release = raw.get("release")
    if isinstance(release, str) and release:
        wanted.release = release
    else:
        findings.problem(
            "wrong-type" if release is not None else "missing-key",
            "vllm_release",
            f"the release is {shown(release)}, not a version",
            'write the version as a string: vllm_release: "0.14.1"',
            {"vllm_release": "0.14.1"},
        )
    for key, variable, choices in (
        ("accelerator", "vllm_accelerator", ACCELERATORS),
        ("nvcc", "vllm_preflight_nvcc", NVCC),
    ):
        value = raw.get(key)
        if value is None:
            continue
        value = ALIASES.get(value, value) if isinstance(value, str) else value
        if value in choices:
            setattr(wanted, key, value)
            continue
        near = closest(str(value), choices)
        hint = f"did you mean {near}? " if near else ""
        findings.problem(
            "unknown-accelerator" if key == "accelerator" else "bad-value",
            variable,
            f"{shown(value)} is not one of {quoted(choices)}",
            f"{hint}choose one of {quoted(choices)}",
            {variable: near} if near else None,
        )
    for key in ("opt_dir", "etc_dir", "state_dir", "model_hub", "python", "runtime_venv"):
        value = raw.get(key)
        if value is None:
            continue
        variable = key if key in MODULE_ONLY else f"vllm_{key}"
        if not isinstance(value, str):
            findings.problem(
                "wrong-type", variable, f"{shown(value)} is not a path", "write an absolute path"
            )
        elif (complaint := _check_path(value)) is not None:
            findings.problem(complaint[0], variable, complaint[1], complaint[2])
        else:
            setattr(wanted, key, value.rstrip("/") or "/")
    offline = raw.get("offline")
    if isinstance(offline, bool):
        wanted.offline = offline
    elif offline is not None:
        findings.problem(
            "wrong-type", "offline", f"{shown(offline)} is not true or false", "write true or false"
        )
    wanted.has_token = raw.get("has_token") is True
    endpoint = raw.get("model_endpoint")
    problem = endpoint_problem(endpoint) if isinstance(endpoint, str) else None
    if problem is not None or not isinstance(endpoint, (str, type(None))):
        findings.problem(
            "bad-value",
            "vllm_model_endpoint",
            f"{shown(endpoint)} {problem or 'is no address'}",
            "write the address of the Hub or of a mirror, or leave it empty",
        )
    elif endpoint is not None:
        wanted.endpoint = endpoint
    for key in ("host_name", "group_address", "model_from"):
        if isinstance(raw.get(key), str):
            setattr(wanted, key, raw[key])
    if isinstance(raw.get("inventory"), list):
        wanted.inventory = raw["inventory"]
    if isinstance(raw.get("members"), Mapping):
        wanted.members = raw["members"]
    wanted.instances = own_instances(
        _read_instances(raw.get("instances"), findings),
        wanted.host_name,
        wanted.inventory,
        findings,
    )
    _check_ports(wanted.instances, wanted.group_address, findings)
    for instance in wanted.instances:
        _check_demand(instance, findings)
    return wanted


def _read_instances(raw: Any, findings: Findings) -> list[Instance]:
    if raw is None or raw == []:
        empty = "it is not set" if raw is None else "the list is empty"
        findings.note("no-instances", "vllm_instances", f"{empty}, so nothing will serve")
        return []
    if not isinstance(raw, list):
        findings.problem(
            "wrong-type",
            "vllm_instances",
            f"{shown(raw)} is not a list of instances",
            "begin every instance with '- name: …'",
        )
        return []
    instances = []
    for index, item in enumerate(raw):
        where = f"vllm_instances[{index}]"
        if not isinstance(item, Mapping):
            findings.problem(
                "wrong-type",
                where,
                f"{shown(item)} is not an instance",
                "write a dictionary with at least name and model",
            )
            continue
        instances.append(_read_instance(item, where, findings))
    _check_names(instances, findings)
    return instances


def _read_instance(raw: Mapping[str, Any], where: str, findings: Findings) -> Instance:
    instance = Instance(where)
    for key in raw:
        if key not in INSTANCE_KEYS:
            near, meant = _meant(str(key), raw)
            findings.problem(
                "unknown-key",
                f"{where}.{key}",
                f"an instance has no key {shown(key)}",
                (f"did you mean {near}? " if near else "")
                + "other flags of vLLM go into extra_args",
                {f"{where}.{key}": None, f"{where}.{near}": meant} if meant is not None else None,
            )
    for key in ("name", "model"):
        if raw.get(key) is None:
            instance.bad.add(key)
            findings.problem(
                "missing-key",
                f"{where}.{key}",
                f"the instance has no {key}",
                "every instance needs name and model",
            )
    for key, (form, check) in INSTANCE_KEYS.items():
        value = taken(form, raw.get(key))
        if value is None:
            continue
        if not _is(form, value):
            instance.bad.add(key)
            findings.problem(
                "wrong-type",
                f"{where}.{key}",
                f"{shown(value)} is not {_FORMS[form]}",
                _form_remedy(form),
            )
            continue
        complaint = check(value) if check is not None else None
        if complaint is not None:
            instance.bad.add(key)
            ways = [{f"{where}.{key}": one} for one in _instead(key, value, check)]
            findings.problem(
                complaint[0], f"{where}.{key}", complaint[1], complaint[2], alternatives=ways
            )
            continue
        instance.given.add(key)
        if key not in ("gpus", "environment", "extra_args", "limits", "lora", "hosts"):
            setattr(instance, key, value)
    if "gpus" in instance.given:
        instance.gpus = _read_gpus(raw["gpus"], instance, findings)
    if "environment" in instance.given:
        instance.environment = _read_environment(raw["environment"], instance, findings)
    if "extra_args" in instance.given:
        instance.extra_args = _read_extra_args(raw["extra_args"], instance, findings)
    if "limits" in instance.given:
        instance.limits = _read_limits(raw["limits"], instance, findings)
    if "lora" in instance.given:
        instance.lora = _read_lora(raw["lora"], instance, findings)
    if "hosts" in instance.given:
        instance.hosts = _read_hosts(raw["hosts"], instance, findings)
    _check_tool_calling(instance, findings)
    if instance.local and instance.revision is not None:
        findings.note(
            "revision-unused",
            instance.at("revision"),
            "the model is a local directory, which is served as it is",
        )
    return instance


def taken_by(key: str, value: Any) -> Any:
    """Return what a key of an instance can take of a value, or None where it can take nothing."""
    form, check = INSTANCE_KEYS[key]
    value = taken(form, value)
    if form == "list" and not isinstance(value, list):
        value = [value]
    return value if _is(form, value) and (check is None or check(value) is None) else None


def _meant(key: str, raw: Mapping[str, Any]) -> tuple[str | None, Any]:
    """Return the key that an unknown one was most likely meant to be, and what that one takes.

    Where it cannot take the value, or is there already, only a name that is much alike is meant.
    """
    near = closest(key, list(INSTANCE_KEYS))
    if near is None:
        return None, None
    if raw.get(near) is None and (value := taken_by(near, raw[key])) is not None:
        return near, value
    return closest(key, list(INSTANCE_KEYS), cutoff=0.8), None


def _instead(key: str, value: Any, check: _Check | None) -> list[Any]:
    """Return the values that the remedy of a bad one names."""
    if isinstance(check, OneOf):
        near = closest(str(value), check.choices)
        return [near] if near else []
    named: dict[str, list[Any]] = {
        "host": ["127.0.0.1", "0.0.0.0"],  # noqa: S104 - what the remedy offers
        "gpu_memory_utilization": [DEFAULT_UTILIZATION],
    }
    return named.get(key, [])


def _read_gpus(raw: list[Any], instance: Instance, findings: Findings) -> list[str | int] | None:
    where = instance.at("gpus")
    chosen: list[str | int] = []
    for item in (taken("integer", one) for one in raw):
        index = isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 1024
        if not index and not (isinstance(item, str) and GPU_UUID.fullmatch(item)):
            instance.bad.add("gpus")
            findings.problem(
                "bad-value",
                where,
                f"{shown(item)} is neither a GPU's UUID nor its index",
                "write GPU-… as nvidia-smi -L prints it, or 0, 1, …",
            )
        else:
            chosen.append(item)
    if not raw:
        instance.bad.add("gpus")
        findings.problem(
            "bad-value",
            where,
            "the list is empty",
            "name a GPU, or leave the key out",
            {where: None},
        )
    return chosen if "gpus" not in instance.bad else None


def _read_hosts(raw: list[Any], instance: Instance, findings: Findings) -> list[str]:
    names = [str(name) for name in raw if isinstance(name, str) and name]
    problem = None
    if len(names) < len(raw):
        problem = f"{shown(raw)} has something that is not a host's name"
    elif len(set(names)) < len(names):
        problem = "a host is named twice"
    elif len(names) < 2:
        problem = "an instance that spans hosts has at least two of them"
    if problem is None:
        return names
    instance.bad.add("hosts")
    findings.problem(
        "group-hosts",
        instance.at("hosts"),
        problem,
        "name each host once as the inventory does, the leader first; leave the key out for one",
        {instance.at("hosts"): list(dict.fromkeys(names)) if len(set(names)) > 1 else None},
    )
    return []


def _read_environment(
    raw: Mapping[Any, Any], instance: Instance, findings: Findings
) -> dict[str, str]:
    environment: dict[str, str] = {}
    for name, value in raw.items():
        where = f"{instance.where}.environment.{name}"
        if not isinstance(name, str) or not VARIABLE.fullmatch(name):
            findings.problem(
                "environment-name",
                where,
                f"{shown(name)} is not the name of a variable",
                "use letters, digits and '_', not beginning with a digit",
            )
        elif isinstance(value, bool) or not isinstance(value, (str, int, float)):
            findings.problem(
                "wrong-type",
                where,
                f"{shown(value)} is not a string or a number",
                'write the exact text in quotes, such as "1" or "true"',
            )
        elif isinstance(value, str) and re.search(r"[\x00-\x1f\x7f]", value):
            findings.problem(
                "bad-value",
                where,
                "the value has a line break or control character",
                "an EnvironmentFile holds one line a variable; write it without",
            )
        else:
            environment[name] = str(value)
    return environment


def _read_extra_args(
    raw: Mapping[Any, Any], instance: Instance, findings: Findings
) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    for key, value in raw.items():
        where = f"{instance.where}.extra_args.{key}"
        if not isinstance(key, str):
            findings.problem(
                "wrong-type",
                where,
                f"{shown(key)} is not the name of a flag",
                "write vLLM's long flag, with underscores or dashes",
            )
            continue
        flag = dashed(key)
        if flag in extra:
            findings.problem(
                "flag-value",
                where,
                f"--{flag} is given twice",
                "keep one of the spellings with underscores and with dashes",
            )
            continue
        extra[flag] = value
    return extra


def _read_limits(raw: Mapping[Any, Any], instance: Instance, findings: Findings) -> dict[str, str]:
    limits: dict[str, str] = {}
    for key, value in raw.items():
        where = f"{instance.where}.limits.{key}"
        if key not in LIMITS:
            near = closest(str(key), list(LIMITS))
            meant: dict[str, Any] | None = None
            if near is not None and near in raw:
                meant = {where: None}
            elif near is not None and LIMITS[near][0].fullmatch(str(value)):
                meant = {where: None, f"{instance.where}.limits.{near}": value}
            findings.problem(
                "unknown-key",
                where,
                f"limits have no key {shown(key)}",
                (f"did you mean {near}? " if near else f"there are {quoted(tuple(LIMITS))}; ")
                + "other settings of the unit go into a drop-in of yours",
                meant,
            )
            continue
        pattern, remedy = LIMITS[key]
        if not (_is("text", value) or _is("integer", value)):
            findings.problem("wrong-type", where, f"{shown(value)} is not a limit", remedy)
        elif not pattern.fullmatch(str(value)):
            findings.problem("bad-value", where, f"{shown(value)} is not a limit", remedy)
        else:
            limits[key] = str(value)
    return limits


_ADAPTER_KEYS: dict[str, _Check] = {"model": _check_model, "revision": _check_revision}


def _read_lora(
    raw: Mapping[Any, Any], instance: Instance, findings: Findings
) -> dict[str, Adapter]:
    adapters: dict[str, Adapter] = {}
    for name, given in raw.items():
        where = f"{instance.where}.lora.{name}"
        source = {"model": given} if isinstance(given, str) else given
        if not isinstance(source, Mapping) or source.get("model") is None:
            findings.problem(
                "wrong-type",
                where,
                f"{shown(given)} is not an adapter",
                "write a repository as org/name, a directory, or a dictionary with model",
            )
            continue
        complaints = [
            ("unknown-key", f"an adapter has no key {shown(key)}", "it takes model and revision")
            if key not in _ADAPTER_KEYS
            else ("wrong-type", f"{shown(value)} is not a string", _form_remedy("text"))
            if not isinstance(value, str)
            else _ADAPTER_KEYS[key](value)
            for key, value in source.items()
            if value is not None
        ]
        complaints.append(
            _check_served_name(name)
            if isinstance(name, str)
            else ("wrong-type", f"{shown(name)} is not a string", _form_remedy("text"))
        )
        if name == instance.served_name:
            complaints.append(
                (
                    "duplicate-name",
                    "the model itself is served under this name",
                    "give the adapter another name",
                )
            )
        found = [complaint for complaint in complaints if complaint is not None]
        for code, message, remedy in found:
            findings.problem(code, where, message, remedy)
        if not found:
            adapters[name] = Adapter(where, name, source["model"], source.get("revision"))
    return adapters


def bytes_of(limit: str, total: int) -> int | None:
    """Return how many bytes a checked `memory_max` stands for; None for no limit.

    Args:
        limit: As in `Instance.limits`.
        total: The host's memory in bytes.
    """
    if limit == "infinity":
        return None
    if limit.endswith("%"):
        return total * int(limit[:-1]) // 100
    exponent = "KMGT".find(limit[-1]) + 1
    return int(float(limit[:-1] if exponent else limit) * 1024**exponent)


def dashed(key: str) -> str:
    """Return a flag's name as vLLM writes it: without `--`, dashes before the first dot.

    vllm 0.14.1, vllm/utils/argparse_utils.py, FlexibleArgumentParser.parse_args.
    """
    head, dot, tail = key.strip().lstrip("-").partition(".")
    return head.replace("_", "-") + dot + tail


def _check_tool_calling(instance: Instance, findings: Findings) -> None:
    if {"enable_auto_tool_choice", "tool_call_parser"} & instance.bad:
        return
    if instance.tool_call_parser is not None and not instance.enable_auto_tool_choice:
        findings.problem(
            "tool-calling-incomplete",
            instance.at("enable_auto_tool_choice"),
            f"tool_call_parser {instance.tool_call_parser} is named and tool calling is off",
            "set enable_auto_tool_choice: true, or remove tool_call_parser",
            {instance.at("enable_auto_tool_choice"): True},
            [{instance.at("tool_call_parser"): None}],
        )


def _check_demand(instance: Instance, findings: Findings) -> None:
    keys = [key for key in DEMAND_KEYS if key in instance.given]
    if keys and not instance.on_demand and "on_demand" not in instance.bad:
        findings.problem(
            "on-demand-incomplete",
            instance.at(keys[0]),
            f"{quoted(keys)} {'have' if len(keys) > 1 else 'has'} no meaning for an instance that "
            "is there all the time",
            "set on_demand: true, or leave it out",
            {instance.at("on_demand"): True},
            [{instance.at(key): None for key in keys}],
        )
    if instance.on_demand and "host" not in instance.bad and _address(instance.host) is None:
        findings.problem(
            "bad-value",
            instance.at("host"),
            f"systemd holds the port of an instance on demand, and cannot at {instance.host}",
            "write an IP address: 127.0.0.1 for this host only, 0.0.0.0 for every interface",
            {instance.at("host"): "127.0.0.1"},
        )
    if instance.on_demand and instance.hosts:
        findings.problem(
            "on-demand-group",
            instance.at("on_demand"),
            "an instance that spans hosts cannot be started by a request",
            "leave on_demand out, or hosts",
            {instance.at("on_demand"): None},
        )


def _check_names(instances: list[Instance], findings: Findings) -> None:
    first: dict[str, Instance] = {}
    for instance in instances:
        if "name" in instance.bad:
            continue
        other = first.setdefault(instance.name, instance)
        if other is not instance:
            findings.problem(
                "duplicate-name",
                instance.at("name"),
                f"{other.where} is already named {instance.name}",
                "give every instance its own name",
            )


def own_instances(
    instances: list[Instance], host: str, inventory: list[str], findings: Findings
) -> list[Instance]:
    """Return the instances that are this host's: all but those of groups without it.

    Args:
        instances: All that the host's variables name; ranks are set here.
        host: The host's name in the inventory; empty where that is not known.
        inventory: All names of hosts in it; empty where they are not known.
        findings: Receives the problems.
    """
    own = []
    for instance in instances:
        for name in instance.hosts if inventory else []:
            if name not in inventory:
                near = closest(name, inventory)
                findings.problem(
                    "group-hosts",
                    instance.at("hosts"),
                    f"the inventory has no host {shown(name)}",
                    (f"did you mean {near}? " if near else "")
                    + "write the names as the inventory has them",
                    {instance.at("hosts"): [near if one == name else one for one in instance.hosts]}
                    if near and near not in instance.hosts
                    else None,
                )
        if not instance.hosts or not host:
            own.append(instance)
        elif host in instance.hosts:
            instance.rank = instance.hosts.index(host)
            own.append(instance)
        else:
            findings.note(
                "group-elsewhere",
                instance.at("hosts"),
                f"{instance.name} is served by {quoted(instance.hosts)}",
            )
    return own


def sockets(instance: Instance, group_address: str) -> list[Socket]:
    """Return what an instance listens on on this host.

    A follower of a group listens on none of them: it connects to the leader.

    Args:
        instance: The instance.
        group_address: This host's address in the network of its groups.
    """
    if not instance.listens:
        return []
    found = []
    if not {"port", "host"} & instance.bad:
        found.append(Socket("port", instance.host, instance.port))
    if instance.hosts and not {"hosts", "group_port"} & instance.bad:
        # The supervisor on the group's address alone (supervisor/wire.py); torch on all of them.
        first = instance.group_port
        found.append(Socket("group_port", group_address or "::", first))
        found.append(Socket("group_port", "::", first + 1))
    return found


def _check_ports(instances: list[Instance], group_address: str, findings: Findings) -> None:
    seen: list[tuple[Instance, Socket]] = []
    told: set[str] = set()
    for instance in instances:
        for one in sockets(instance, group_address):
            for other, theirs in seen:
                if one.meets(theirs.address, theirs.port) and instance.at(one.key) not in told:
                    told.add(instance.at(one.key))
                    free = free_port(instances, one)
                    findings.problem(
                        "duplicate-port",
                        instance.at(one.key),
                        f"{other.where} ({other.name}) already listens on {theirs}",
                        f"give it another {one.key}, such as {free}",
                        {instance.at(one.key): free},
                    )
            seen.append((instance, one))


def free_port(instances: list[Instance], wanted: Socket, in_use: Container[int] = ()) -> int:
    """Return the first value of a socket's key, from its port on, whose ports no instance has.

    Args:
        instances: The instances of this host.
        wanted: The socket whose port is taken.
        in_use: Further ports that are taken.
    """
    used = {instance.port for instance in instances}
    for instance in instances:
        used |= set(group_ports(instance))
    width = 2 if wanted.key == "group_port" else 1
    port = wanted.port
    while any(one in used or one in in_use for one in range(port, port + width)):
        port = port + 1 if port + width <= 65535 else 1024
    return port


def overlap(left: str, right: str) -> bool:
    """Tell whether listening on one address keeps the other's same port from being used.

    `0.0.0.0` covers every IPv4 address. `::` covers everything, because Linux
    lets an IPv6 wildcard socket take IPv4 too (ipv6(7): bindv6only is 0).
    """
    one, two = _address(left), _address(right)
    if one is None or two is None:
        # A host name may be any address; only the same name is surely the same.
        return left.lower() == right.lower()
    if one == two:
        return True
    for wild, single in ((one, two), (two, one)):
        if wild.is_unspecified and (wild.version == 6 or single.version == 4):
            return True
    return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def own_url(host: str, port: int) -> str:
    """Return the URL by which the host itself reaches an instance."""
    address = _address(host)
    if address is not None and address.is_unspecified:
        return url_of("127.0.0.1" if address.version == 4 else "::1", port)
    return url_of(host if address is None else str(address), port)
