# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags of `vllm serve`: which exist in a release, and how its --config file carries them.

How the file is read is vllm 0.14.1's `FlexibleArgumentParser.load_config_file`
(vllm/utils/argparse_utils.py): `true` becomes the bare flag, `false` becomes
nothing, a list becomes several words, everything else becomes `str(value)`. A
dictionary would so become Python's notation, which the flag's JSON parser
refuses; the plan writes JSON text instead.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    closest,
    quoted,
    shown,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import (
    INSTANCE_KEYS,
    Instance,
    taken,
    taken_by,
)

# Flag -> the instance's own key for it.
OWN_KEYS: dict[str, str] = {
    "model": "model",
    "revision": "revision",
    "served-model-name": "served_model_name",
    "host": "host",
    "port": "port",
    "tensor-parallel-size": "tensor_parallel_size",
    "attention-backend": "attention_backend",
    "attention-config.backend": "attention_backend",
    "dtype": "dtype",
    "max-model-len": "max_model_len",
    "gpu-memory-utilization": "gpu_memory_utilization",
    "enforce-eager": "enforce_eager",
    "no-enforce-eager": "enforce_eager",
    "max-num-seqs": "max_num_seqs",
    "enable-auto-tool-choice": "enable_auto_tool_choice",
    "no-enable-auto-tool-choice": "enable_auto_tool_choice",
    "tool-call-parser": "tool_call_parser",
}

# Flag -> why nobody but the collection may set it, and what to do instead.
RESERVED: dict[str, tuple[str, str]] = {
    "config": ("the unit names the instance's own file", "put its flags into extra_args"),
    "api-key": (
        "a key on the command line is seen in ps and in the journal",
        "set vllm_service_api_keys; the instance's .env keeps the key",
    ),
    "hf-token": (
        "a secret may not stand in the plan",
        "set vllm_model_token; the server itself never asks the Hub",
    ),
    "uds": ("readiness and verification use the instance's port", "use host and port"),
    "headless": ("a server without an API cannot be proved", "leave it out"),
    **dict.fromkeys(
        ("nnodes", "node-rank", "master-addr", "master-port"),
        ("the plan sets it for an instance that spans hosts", "use the instance's key hosts"),
    ),
    "ssl-keyfile": ("readiness is proved over plain HTTP", "end TLS in a gateway before it"),
    "ssl-certfile": ("readiness is proved over plain HTTP", "end TLS in a gateway before it"),
    "ssl-ca-certs": ("readiness is proved over plain HTTP", "end TLS in a gateway before it"),
    "download-dir": ("models come from the model role", "set vllm_model_hub"),
    "help": ("it would end the server", "leave it out"),
}

_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def whole_number(value: Any) -> int | None:
    """Read a whole number as vLLM reads one: 4096, "4k" (4000), "4K" (4096), "25.6k".

    vllm 0.14.1, vllm/engine/arg_utils.py, human_readable_int.

    Returns:
        The number, or None for anything else.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if abs(value) < 2**63 else None
    if not isinstance(value, str) or len(value) > 20:
        return None
    match = re.fullmatch(r"(-?[0-9]+)|([0-9]+)([KMGT])|([0-9]+(?:\.[0-9]+)?)([kmgt])", value)
    if match is None:
        return None
    plain, binary, large, decimal, small = match.groups()
    if plain is not None:
        return int(plain)
    if binary is not None:
        return int(binary) * _BINARY[large]
    return int(float(decimal) * _DECIMAL[small])


def check_extra_args(
    instance: Instance, flags: Mapping[str, Mapping[str, Any]], findings: Findings
) -> dict[str, Any]:
    """Check extra_args against the release's flags and render them for the --config file.

    Args:
        instance: The instance whose extra_args are meant.
        flags: The release's flags; empty when there is no data, and then
            only names the collection itself knows are checked.
        findings: Receives the problems.

    Returns:
        Flag to value, ready for the file; what was wrong is left out.
    """
    rendered: dict[str, Any] = {}
    for flag, value in instance.extra_args.items():
        where = f"{instance.where}.extra_args.{flag}"
        base = flag.partition(".")[0]
        if flag in OWN_KEYS:
            _has_own_key(instance, flag, value, findings)
            continue
        if base in RESERVED:
            reason, remedy = RESERVED[base]
            findings.problem(
                "flag-reserved",
                where,
                f"--{base} cannot be set: {reason}",
                remedy,
                {where: None, **_other_variable(base, value)} if base in _LEFT_OUT else None,
            )
            continue
        if base == "attention-config" and _chooses_backend(value):
            findings.problem(
                "two-backend-mechanisms",
                where,
                "attention_config holds a backend, and vLLM refuses a second choice",
                "set attention_backend on the instance instead",
                _without_backend(instance, where, value),
            )
            continue
        if flag != base and base in instance.extra_args:
            findings.problem(
                "flag-value",
                where,
                f"--{base} is given as a whole too, and vLLM would drop that",
                f"put this part into {base}",
                _as_one(instance, flag, value),
            )
            continue
        if not flags:
            continue
        known = _describe(base, flags)
        if known is None or (flag != base and known != "json"):
            near = closest(base, [*flags, *OWN_KEYS])
            hint = f"did you mean {near}? " if near and near != base else ""
            if near in OWN_KEYS:
                hint = f"did you mean the instance's key {OWN_KEYS[near]}? "
            findings.problem(
                "unknown-flag",
                where,
                f"this release of vLLM has no flag --{flag}",
                f"{hint}vllm serve --help=all lists them",
                _renamed(instance, flag, near, value) if hint and near else None,
            )
            continue
        if value is None:
            continue
        # A whole number in quotes is one for vLLM too, and stays as it was written.
        value = taken({"bool": "boolean", "float": "number"}.get(known, "text"), value)  # noqa: PLW2901
        complaint = _check_value("text" if flag != base else known, base, flags, value)
        if complaint is not None:
            near = _choice(base, flags, value) if flag == base else None
            findings.problem(
                "flag-value", where, complaint[0], complaint[1], {where: near} if near else None
            )
            continue
        rendered.update(_render(flag, value, flags))
    return rendered


# Flags that nothing is lost without; a key or a certificate is not taken away by a remedy.
_LEFT_OUT = frozenset({"uds", "headless", "download-dir", "help"})


def _other_variable(flag: str, value: Any) -> dict[str, Any]:
    return {"vllm_model_hub": value} if flag == "download-dir" and isinstance(value, str) else {}


def _has_own_key(instance: Instance, flag: str, value: Any, findings: Findings) -> None:
    where = f"{instance.where}.extra_args.{flag}"
    key = OWN_KEYS[flag]
    given = key in instance.given | instance.bad
    findings.problem(
        "flag-has-own-key",
        where,
        f"--{flag} is the instance's key {key}" + (", which is set" if given else ""),
        "leave the flag out" if given else f"set {key} on the instance instead",
        _moved(instance, flag, key, value),
    )


def _moved(instance: Instance, flag: str, key: str, value: Any) -> dict[str, Any] | None:
    """Return the settings that give an instance's key what a flag says; None where it cannot."""
    settings: dict[str, Any] = {f"{instance.where}.extra_args.{flag}": None}
    if value is None or key in instance.given | instance.bad:
        return settings
    if flag.startswith("no-") and isinstance(value, bool):
        value = not value
    number = whole_number(value) if INSTANCE_KEYS[key][0] == "integer" else None
    value = taken_by(key, value if number is None else number)
    return None if value is None else {**settings, instance.at(key): value}


def _without_backend(instance: Instance, where: str, value: Any) -> dict[str, Any] | None:
    config = json.loads(value) if isinstance(value, str) else value
    rest = {key: one for key, one in config.items() if key != "backend"}
    moved = _moved(instance, "attention-config", "attention_backend", config["backend"])
    return None if moved is None else {**moved, where: rest or None}


def _as_one(instance: Instance, flag: str, value: Any) -> dict[str, Any] | None:
    """Return the settings that put the part that a dotted flag sets into the whole."""
    base, _dot, tail = flag.partition(".")
    whole = copy.deepcopy(instance.extra_args[base])
    inner = whole
    *path, last = tail.split(".")
    for key in path:
        inner = inner.setdefault(key, {}) if isinstance(inner, dict) else None
    if not isinstance(inner, dict):
        return None
    inner[last] = value
    where = f"{instance.where}.extra_args."
    return {f"{where}{flag}": None, f"{where}{base}": whole}


def _renamed(instance: Instance, flag: str, near: str, value: Any) -> dict[str, Any] | None:
    """Return the settings that give the flag that was meant what a misspelt one says."""
    if near in OWN_KEYS:
        moved = _moved(instance, near, OWN_KEYS[near], value) or {}
        moved = {key: one for key, one in moved.items() if not key.endswith(f".{near}")} | {
            f"{instance.where}.extra_args.{flag}": None
        }
        return moved if len(moved) > 1 else None
    if near in instance.extra_args or value is None:
        return None
    where = f"{instance.where}.extra_args."
    return {f"{where}{flag}": None, f"{where}{near}": value}


def _choice(flag: str, flags: Mapping[str, Mapping[str, Any]], value: Any) -> str | None:
    """Return the choice of a flag that a single word was most likely meant to be."""
    choices = flags.get(flag, {}).get("choices")
    if not isinstance(value, str) or not isinstance(choices, list):
        return None
    return closest(value, [str(choice) for choice in choices])


def _describe(flag: str, flags: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the kind of a flag's value, or None for a flag the release does not have."""
    if flag in flags:
        kind = flags[flag].get("kind")
        return kind if isinstance(kind, str) else "str"
    if flag.startswith("no-") and _kind(flag[3:], flags) == "bool" and _has_negation(flag, flags):
        return "bool"
    return None


def _kind(flag: str, flags: Mapping[str, Mapping[str, Any]]) -> str | None:
    return flags[flag].get("kind") if flag in flags else None


def _has_negation(negated: str, flags: Mapping[str, Mapping[str, Any]]) -> bool:
    return negated in flags or bool(flags.get(negated[3:], {}).get("negatable"))


def _chooses_backend(value: Any) -> bool:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return False
    return isinstance(value, Mapping) and value.get("backend") is not None


def _check_value(
    kind: str, flag: str, flags: Mapping[str, Mapping[str, Any]], value: Any
) -> tuple[str, str] | None:
    """Return (what is wrong, remedy) for a value its flag cannot take, else None."""
    choices = flags.get(flag, {}).get("choices")
    choices = [str(choice) for choice in choices] if isinstance(choices, list) else []
    if kind == "bool":
        if isinstance(value, bool):
            return None
        return f"{shown(value)} is not true or false", "write true or false"
    if isinstance(value, bool):
        return f"--{flag} takes a value, not {str(value).lower()}", f"write {_expects(kind)}"
    if kind == "int":
        if whole_number(value) is not None:
            return None
        return f"{shown(value)} is not a whole number", "write a whole number"
    if kind == "float":
        if isinstance(value, (int, float)):
            return None if not str(value).startswith("-") else _dash(value)
        return f"{shown(value)} is not a number", "write a number"
    if kind == "json":
        return _check_json(value)
    items = value if kind == "list" and isinstance(value, list) else [value]
    for item in items:
        if isinstance(item, (bool, list, Mapping)) or item is None:
            return f"{shown(item)} is not a string or number", f"write {_expects(kind)}"
        if str(item).startswith("-"):
            return _dash(item)
        if choices and str(item) not in choices:
            near = closest(str(item), choices)
            return (
                f"{shown(item)} is not one of {quoted(choices)}",
                f"did you mean {near}?" if near else "choose one of these",
            )
    return None


def _dash(value: Any) -> tuple[str, str]:
    return (
        f"{shown(value)} begins with '-', which vLLM reads as another flag",
        "write a value that does not begin with '-'",
    )


def _expects(kind: str) -> str:
    return {
        "int": "a whole number",
        "float": "a number",
        "json": "a dictionary",
        "list": "a list of strings or numbers",
    }.get(kind, "a string or number")


def _check_json(value: Any) -> tuple[str, str] | None:
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return f"{shown(value)} is not JSON", "write a dictionary, or JSON in quotes"
        return None
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return f"{shown(value)} cannot be written as JSON", "write a dictionary of plain values"
    return None


def _render(flag: str, value: Any, flags: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the entries of the --config file for one flag."""
    if value is False:
        negated = f"no-{flag}"
        return {negated: True} if _has_negation(negated, flags) else {}
    if isinstance(value, Mapping) or (isinstance(value, list) and _kind(flag, flags) == "json"):
        return {flag: json.dumps(value, sort_keys=True)}
    return {flag: list(value) if isinstance(value, list) else value}
