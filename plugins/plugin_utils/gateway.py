# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway is configured with: a pure function of endpoint records, keys and options.

A gateway has a backend for each name that requests may give as `model`, and in it a server for each
endpoint that serves that name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.published import (
    with_public_url,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.gateway.runtime import (
    backend_name,
    server_name,
)

LOOPBACK = ("localhost", "127.0.0.1", "::1")
NAME_OF_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# A map of HAProxy ends a key at a space (configuration manual 2.6, 7.3.1.1 "map"), and names stand
# unescaped in the access log.
NAME_OF_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9@:._/+-]{0,199}")
SHORTEST_KEY = 16
"""Characters of a key: shorter ones can be guessed."""
PATH = re.compile(r"/v1/[a-z0-9/_-]*[a-z0-9]")


def key_problems(keys: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what is wrong with the API keys, without showing one."""
    problems = []
    seen: dict[str, int] = {}
    for number, key in enumerate(keys, 1):
        where = f"vllm_gateway_keys, item {number}"
        name, value = str(key.get("name") or ""), str(key.get("key") or "")
        if not NAME_OF_KEY.fullmatch(name):
            problems.append(
                f"{where}: name is letters, digits, . _ and -, at most 64, and begins with one of"
                " the first two"
            )
        if len(value) < SHORTEST_KEY or not re.fullmatch(r"[!-~]*", value):
            problems.append(
                f"{where} ({name}): key has less than {SHORTEST_KEY} characters, or others than"
                " ASCII's; make one with: openssl rand -hex 24"
            )
        elif value in seen:
            problems.append(f"{where} ({name}): the same key as item {seen[value]}")
        seen.setdefault(value, number)
        limit = key.get("requests_per_minute") or 0
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            problems.append(f"{where} ({name}): requests_per_minute is a number, 0 for no limit")
        unknown = sorted(set(key) - {"name", "key", "requests_per_minute"})
        if unknown:
            problems.append(f"{where} ({name}): unknown: {', '.join(unknown)}")
    limits: dict[str, set[Any]] = {}
    for key in keys:
        limits.setdefault(str(key.get("name")), set()).add(key.get("requests_per_minute") or 0)
    problems += [
        f"vllm_gateway_keys: the keys of {name} have different requests_per_minute"
        for name, found in sorted(limits.items())
        if len(found) > 1
    ]
    return problems or (
        [] if keys else ["vllm_gateway_keys is empty: nobody could ask the gateway"]
    )


def digest(key: str) -> str:
    """A key as the gateway knows it: HAProxy's converter `hex` writes capital letters."""
    return hashlib.sha256(key.encode()).hexdigest().upper()


def endpoint(
    host: str, address: str, record: Mapping[str, Any], api_key: str | None
) -> dict[str, Any]:
    """What a gateway needs to know of an endpoint.

    Args:
        host: The host's name in the inventory.
        address: Under which others reach the host.
        record: The endpoint record.
        api_key: What the server asks for; `None` for none.
    """
    url = urlsplit(with_public_url(record, None, address)["url"])
    return {
        "host": host,
        "instance": record["instance"],
        "state": record["state"],
        "scheme": url.scheme,
        "address": url.hostname,
        "port": url.port,
        "model": record["served_model_name"],
        "adapters": list(record.get("adapters") or []),
        "max_model_len": record.get("max_model_len"),
        "api_key": api_key if record.get("api_key_required") else None,
        "api_key_required": bool(record.get("api_key_required")),
    }


def with_former(
    hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], former: str
) -> list[dict[str, Any]]:
    """The endpoints of hosts, of those that are away as the gateway knew them.

    Args:
        hosts: The hosts that serve.
        hostvars: Ansible's. `vllm_gateway_found` holds the records, where they were read.
        former: The text of the gateway's `endpoints.json`.
    """
    known = json.loads(former) if former else []
    made = []
    for host in hosts:
        variables = hostvars[host]
        keys = variables.get("vllm_service_api_keys") or {}
        found = variables.get("vllm_gateway_found") or {}
        if "records" in found:
            address = variables.get("ansible_host", host)
            made += [
                endpoint(host, address, record, keys.get(record["instance"]))
                for record in found["records"]
            ]
        else:
            made += [
                {
                    **one,
                    "api_key": keys.get(one["instance"]) if one["api_key_required"] else None,
                }
                for one in known
                if one["host"] == host
            ]
    return made


def endpoint_problems(found: Iterable[Mapping[str, Any]], gateway: str) -> list[str]:
    """Say what keeps endpoints from being reached through a gateway.

    Args:
        found: What `endpoint` returned of each.
        gateway: The gateway's name in the inventory.
    """
    problems = []
    for one in found:
        where = f"{one['instance']} on {one['host']}"
        if one["scheme"] != "http":
            problems.append(f"{where}: a gateway speaks http with servers, not {one['scheme']}")
        if one["address"] in LOOPBACK and one["host"] != gateway:
            problems.append(
                f"{where} listens on {one['address']}, where {gateway} cannot reach it; set host:"
                " 0.0.0.0 on the instance, or the host's own address, and run site.yml"
            )
        if one["api_key_required"] and not one["api_key"]:
            problems.append(
                f"{where} asks for a key, and vllm_service_api_keys of {one['host']} has none"
            )
        problems += [
            f"{where} serves {name!r}: a gateway takes letters, digits and @ : . _ / + - in names"
            for name in (one["model"], *one["adapters"])
            if not NAME_OF_MODEL.fullmatch(name)
        ]
    return problems


def models(found: Iterable[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """The names that requests may give, each with its servers; and what is wrong with them."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for one in found:
        for name in (one["model"], *one["adapters"]):
            by_name.setdefault(name, []).append(one)
    problems, made = [], []
    for name, servers in sorted(by_name.items()):
        keys = {one["api_key"] for one in servers}
        if len(keys) > 1:
            where = ", ".join(f"{one['instance']} on {one['host']}" for one in servers)
            problems.append(
                f"{name}: its servers ({where}) ask for different keys; give them one, since a"
                " request is answered by any of them"
            )
        lengths = [one["max_model_len"] for one in servers if one["max_model_len"]]
        made.append(
            {
                "name": name,
                "backend": backend_name(name),
                "api_key": next(iter(keys)) if len(keys) == 1 else None,
                "max_model_len": min(lengths, default=None),
                "servers": [
                    {
                        "name": server_name(one["host"], one["instance"]),
                        "address": one["address"],
                        "port": one["port"],
                    }
                    for one in sorted(servers, key=lambda one: (one["host"], one["instance"]))
                ],
            }
        )
    return made, problems


def _map(entries: Mapping[str, Any]) -> str:
    return "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))


def listing(made: Iterable[Mapping[str, Any]]) -> str:
    """The answer to `/v1/models`, as vLLM gives it for one server."""
    return json.dumps(
        {
            "object": "list",
            "data": [
                {
                    "id": model["name"],
                    "object": "model",
                    "created": 0,
                    "owned_by": "vllm",
                    "max_model_len": model["max_model_len"],
                }
                for model in made
            ],
        }
    )


def settings(
    found: Sequence[Mapping[str, Any]],
    keys: Sequence[Mapping[str, Any]],
    gateway: str,
    paths: Sequence[str],
) -> dict[str, Any]:
    """All that a gateway is configured with.

    Args:
        found: The endpoints, as `endpoint` returns them. One that failed its verification is not
            used; one that starts is, since its `/health` says so.
        keys: API keys: `name`, `key` and, where there is a limit, `requests_per_minute`.
        gateway: The gateway's name in the inventory.
        paths: Paths that take requests with a model.

    Returns:
        `problems`, everything that is wrong; `models`; `files`, contents by name; and `secrets`,
        those that nobody must see.
    """
    used = [one for one in found if one["state"] != "failed"]
    made, problems = models(used)
    problems = [
        *key_problems(keys),
        *(
            f"vllm_gateway_paths: {path!r} is no path like /v1/…"
            for path in paths
            if not PATH.fullmatch(path)
        ),
        *endpoint_problems(used, gateway),
        *problems,
    ]
    if not made:
        problems.append(
            "no endpoint is verified on any host of the group vllm; run site.yml, then this again"
        )
    return {
        "problems": problems,
        "models": [{**model, "api_key": model["api_key"] is not None} for model in made],
        "files": {
            "endpoints.json": json.dumps(
                [{**one, "api_key": None} for one in found], indent=2, sort_keys=True
            )
            + "\n",
            "models.json": listing(made),
            "models.map": _map({model["name"]: model["backend"] for model in made}),
            "limits.map": _map(
                {
                    key["name"]: key["requests_per_minute"]
                    for key in keys
                    if not problems and key.get("requests_per_minute")
                }
            ),
        },
        "secrets": {
            "keys.map": _map({digest(str(key.get("key"))): key.get("name") for key in keys}),
            "credentials.map": _map(
                {model["backend"]: model["api_key"] for model in made if model["api_key"]}
            ),
        },
    }
