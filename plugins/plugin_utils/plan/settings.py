# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the roles that come last: what proves an endpoint, and who is told of it.

They are first used when a server has been started, which is too late to find a
mistake in them.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.suite import (
    SuiteError,
    read_suite,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    closest,
    shown,
)

# https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
ENTRIES = ("suite", "questions")
FOLDERS = ("records_dir", "clients_dir", "prometheus_dir")


def check_settings(raw: Mapping[str, Any], names: Sequence[str], findings: Findings) -> None:
    """Check what is used only after a change.

    Args:
        raw: The wanted state, of which `verification` (`suite`, `questions`, `ability`,
            `timeout`) and `endpoint` (the variables `vllm_endpoint_*` by their last part)
            are looked at; absent or None means default.
        names: The wanted instances.
        findings: Receives every problem.
    """
    for key, check in (("verification", _check_verification), ("endpoint", _check_endpoint)):
        given = raw.get(key)
        if isinstance(given, Mapping):
            check(
                {name: value for name, value in given.items() if value is not None}, names, findings
            )
        elif given is not None:
            findings.problem(
                "wrong-type", key, f"{shown(given)} is not a dictionary", "write a dictionary"
            )


def _whole(value: Any, variable: str, low: int, findings: Findings) -> None:
    if value is None:
        return
    # Extra variables of a command line are text, which the roles' arguments take.
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"-?\d+", text) or int(text) < low:
        findings.problem(
            "bad-value",
            variable,
            f"{shown(value)} is not a whole number from {low} on",
            f"write a whole number, {low} or more",
        )


def _check_verification(given: Mapping[str, Any], names: Sequence[str], findings: Findings) -> None:
    lists = {}
    for key in ENTRIES:
        lists[key] = given.get(key, [])
        if not isinstance(lists[key], list):
            findings.problem(
                "wrong-type",
                f"vllm_verify_{key}",
                f"{shown(lists[key])} is not a list",
                "begin every entry with '- '",
            )
            lists[key] = []
    ability = given.get("ability", "warning")
    problems: list[tuple[str, str]] = []
    for name in names or [""]:
        try:
            read_suite(lists["suite"], lists["questions"], ability, name)
        except SuiteError as error:
            problems += error.problems
    for where, message in dict.fromkeys(problems):
        findings.problem(
            "bad-check",
            f"vllm_verify_{where}",
            message,
            "correct it; docs/verification.md has what an entry takes",
        )
    for key in ENTRIES:
        for index, entry in enumerate(lists[key]):
            if isinstance(entry, Mapping):
                _check_entry(f"vllm_verify_{key}[{index}]", entry, names, findings)
    for key in ("timeout", "thinking_tokens", "thinking_seconds"):
        _whole(given.get(key), f"vllm_verify_{key}", 1, findings)


def _check_entry(
    where: str, entry: Mapping[str, Any], names: Sequence[str], findings: Findings
) -> None:
    only = entry.get("instances")
    for name in [only] if isinstance(only, str) else only if isinstance(only, list) else []:
        _see_instance(f"{where}.instances", name, names, findings)
    expect = entry.get("expect")
    schema = expect.get("json_schema") if isinstance(expect, Mapping) else None
    problem = schema_problem(schema) if isinstance(schema, Mapping) else None
    if problem is not None:
        findings.problem(
            "bad-check",
            f"{where}.expect.json_schema",
            f"it is no JSON schema: {problem}",
            "correct the schema",
        )


def schema_problem(schema: Mapping[str, Any]) -> str | None:
    """What is wrong with a JSON schema; None when nothing is, or no library is there to tell.

    Args:
        schema: The schema. The library is the one that answers are judged with.
    """
    try:
        fastjsonschema: Any = importlib.import_module("fastjsonschema")
    except ImportError:
        return None
    try:
        fastjsonschema.compile(schema)
    except fastjsonschema.JsonSchemaDefinitionException as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - what it raises for nonsense is not documented
        return f"{type(error).__name__}: {error}"
    return None


def _see_instance(where: str, name: Any, names: Sequence[str], findings: Findings) -> None:
    # A variable of a group may name the instances of other hosts.
    if name not in names:
        near = closest(str(name), names)
        findings.note(
            "unknown-instance",
            where,
            f"this host has no instance {shown(name)}" + (f"; is {near} meant?" if near else ""),
        )


def _check_endpoint(given: Mapping[str, Any], names: Sequence[str], findings: Findings) -> None:
    variable = "vllm_endpoint_{}".format
    for key in FOLDERS:
        if not isinstance(given.get(key, ""), str):
            findings.problem(
                "wrong-type",
                variable(key),
                f"{shown(given[key])} is not a path",
                "write a folder on the controller, or leave it empty",
            )
    url = given.get("registry_url", "")
    problem = _registry_problem(url)
    if problem is not None:
        findings.problem(
            "registry-address",
            variable("registry_url"),
            problem,
            "write it like https://registry.example/v1/endpoints/{host}/{instance}",
        )
    for key, low in (("registry_timeout", 1), ("registry_retries", 0)):
        _whole(given.get(key), variable(key), low, findings)
    for key in ("public_urls", "prometheus_labels"):
        if not isinstance(given.get(key, {}), Mapping):
            findings.problem(
                "wrong-type",
                variable(key),
                f"{shown(given[key])} is not a dictionary",
                "write a line NAME: VALUE for each",
            )
            continue
        for name, value in given.get(key, {}).items():
            where = f"{variable(key)}.{name}"
            if key == "public_urls":
                _see_instance(where, name, names, findings)
                _check_public_url(where, value, findings)
            else:
                _check_label(where, name, value, findings)


def _registry_problem(url: Any) -> str | None:
    if url == "":
        return None
    if not isinstance(url, str):
        return f"{shown(url)} is not an address"
    # Here, for it brings Ansible's HTTP client along.
    from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.registration import (
        RegistryError,
        address,
    )

    try:
        where = urlsplit(address(url, "host", "instance"))
    except (RegistryError, ValueError) as error:
        return str(error)
    return None if where.hostname else f"{shown(url)} names no server"


def _check_public_url(where: str, value: Any, findings: Findings) -> None:
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        good = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        findings.problem(
            "bad-value",
            where,
            f"{shown(value)} is not the address of a web server",
            "write it like https://llm.example, without /v1",
        )


def _check_label(where: str, name: Any, value: Any, findings: Findings) -> None:
    if not isinstance(name, str) or not LABEL.fullmatch(name):
        findings.problem(
            "bad-value",
            where,
            f"{shown(name)} is not the name of a label",
            "use letters, digits and '_', not beginning with a digit",
        )
    if not isinstance(value, str):
        findings.problem(
            "wrong-type",
            where,
            f"{shown(value)} is not a string, and Prometheus takes no other labels",
            "write the value in quotes",
        )
