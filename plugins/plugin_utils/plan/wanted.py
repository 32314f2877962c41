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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.numbers import number_in
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.urls import url_of
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
    def served_name(self) -> str:
        """The name under which requests ask for the model."""
        if self.served_model_name is not None:
            return self.served_model_name
        return self.name if self.local else self.model

    @property
    def unit(self) -> str:
        """The systemd unit that runs this instance."""
        return f"vllm@{self.name}.service"


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
}

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
            `model_endpoint` and `has_token`; absent or None means default.
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
    wanted.instances = _read_instances(raw.get("instances"), findings)
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
    _check_ports(instances, findings)
    return instances


def _read_instance(raw: Mapping[str, Any], where: str, findings: Findings) -> Instance:
    instance = Instance(where)
    for key in raw:
        if key not in INSTANCE_KEYS:
            near = closest(str(key), list(INSTANCE_KEYS))
            findings.problem(
                "unknown-key",
                f"{where}.{key}",
                f"an instance has no key {shown(key)}",
                (f"did you mean {near}? " if near else "")
                + "other flags of vLLM go into extra_args",
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
            findings.problem(complaint[0], f"{where}.{key}", complaint[1], complaint[2])
            continue
        instance.given.add(key)
        if key not in ("gpus", "environment", "extra_args", "limits", "lora"):
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
    _check_tool_calling(instance, findings)
    if instance.local and instance.revision is not None:
        findings.note(
            "revision-unused",
            instance.at("revision"),
            "the model is a local directory, which is served as it is",
        )
    return instance


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
            "bad-value", where, "the list is empty", "name a GPU, or leave the key out"
        )
    return chosen if "gpus" not in instance.bad else None


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
                "an EnvironmentFile holds one line a variable; remove it",
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
            findings.problem(
                "unknown-key",
                where,
                f"limits have no key {shown(key)}",
                (f"did you mean {near}? " if near else f"there are {quoted(tuple(LIMITS))}; ")
                + "other settings of the unit go into a drop-in of yours",
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


def _check_ports(instances: list[Instance], findings: Findings) -> None:
    checked = [one for one in instances if not {"port", "host"} & one.bad]
    for index, instance in enumerate(checked):
        for other in checked[:index]:
            if other.port == instance.port and overlap(other.host, instance.host):
                findings.problem(
                    "duplicate-port",
                    instance.at("port"),
                    f"{other.where} ({other.name}) already listens on {other.host}:{other.port}",
                    f"give it another port, such as {_next_port(checked, instance.port)}",
                )
                break


def _next_port(instances: list[Instance], port: int) -> int:
    taken = {instance.port for instance in instances}
    candidate = port
    while candidate in taken:
        candidate = candidate + 1 if candidate < 65535 else 1024
    return candidate


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
