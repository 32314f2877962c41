# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of hosts and their servers, to be pasted into a bug report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: doctor_report
author: compute_plane.vllm contributors (@compute-plane)
version_added: 1.0.0
short_description: A report on hosts and their servers without secrets and names
description:
  - Makes of the facts, the plan and the state of hosts, or of a diagnosis of a log file, one
    document and the same as text. Secrets, tokens, addresses and the names of users and hosts are
    replaced in both.
options:
  _input:
    description:
      - By host, C(plan), the result of M(compute_plane.vllm.vllm_plan), and C(status), that of
        M(compute_plane.vllm.vllm_status); or C(diagnosis), that of
        M(compute_plane.vllm.vllm_diagnose).
    type: dict
    required: true
  private:
    description:
      - Variables of which every value under a name such as C(token), C(password) or C(api_key) is a
        secret.
    type: raw
    default: []
  secrets:
    description: Further values that are secret.
    type: list
    elements: str
    default: []
  hosts:
    description: Names of hosts to replace, beside those of the input.
    type: list
    elements: str
    default: []
  users:
    description: Names of users to replace.
    type: list
    elements: str
    default: []
  versions:
    description: Versions of what runs on the controller.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: A report
  ansible.builtin.debug:
    msg: "{{ ({inventory_hostname: {'plan': plan, 'status': status}}
      | compute_plane.vllm.doctor_report).text }}"
"""

RETURN = r"""
_value:
  description: C(document), a dictionary, and C(text), the same for people.
  type: dict
"""


def instance(one: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of one server: its unit, the verdict, and the log's telling part."""
    # Here, and so below: Ansible loads every filter where it needs one, and compiles what each
    # imports.
    from ansible_collections.compute_plane.vllm.plugins.module_utils.status.diagnose import (
        telling_part,
    )

    log = list(one.get("log") or [])
    evidence = list(one.get("evidence") or [])
    told = next((line[len("log: ") :] for line in evidence if line.startswith("log: ")), "")
    names = ("name", "state", "cause", "summary", "evidence", "remedy", "release", "model")
    unit = ("unit", "active_state", "sub_state", "enabled", "restarts", "age_seconds")
    return {
        **{name: one.get(name) for name in names},
        "unit": {name: one.get(name) for name in unit},
        "telling": telling_part(log, told) if log else [],
    }


def host(found: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of one host, or of a log file."""
    if "diagnosis" in found:
        names = ("cause", "summary", "evidence", "remedy", "telling")
        return {"diagnosis": {name: found["diagnosis"].get(name) for name in names}}
    plan = found.get("plan") or {}
    facts = plan.get("facts") or {}
    return {
        "instances": [instance(one) for one in (found.get("status") or {}).get("instances", [])],
        "problems": plan.get("problems") or [],
        "plan": plan.get("report") or plan.get("msg"),
        "facts": {
            part: facts.get(part)
            for part in ("host", "gpu", "nvcc", "pythons", "mounts", "deployed")
        },
    }


def text_of(document: Mapping[str, Any]) -> str:
    """The document for people: the verdicts first."""
    parts = []
    for name, found in document["hosts"].items():
        parts.append(f"# {name}")
        diagnosis = found.get("diagnosis")
        for one in found.get("instances", []) if diagnosis is None else [diagnosis]:
            title = f"{one['name']}: {one['state']}" if "name" in one else "The log"
            parts.append(f"## {title}: {one['cause']}" if one["cause"] else f"## {title}")
            rows = [str(one["summary"]), *(f"  - {line}" for line in one["evidence"] or [])]
            if one["remedy"]:
                rows.append(f"Remedy: {one['remedy']}")
            if "unit" in one:
                rows.append("Unit: " + ", ".join(f"{k} {v}" for k, v in one["unit"].items()))
            parts.append("\n".join(rows))
            if one["telling"]:
                parts.append("\n".join(["The log's telling part:", *one["telling"]]))
        if found.get("plan"):
            parts.append(f"## Plan\n{found['plan']}")
        if found.get("facts"):
            import yaml

            dumped = yaml.safe_dump(found["facts"], sort_keys=False, width=100)
            parts.append(f"## Facts\n{dumped.rstrip()}")
    if document["versions"]:
        rows = [f"{name} {version}" for name, version in document["versions"].items()]
        parts.append("\n".join(["# Versions", *rows]))
    return "\n\n".join(parts) + "\n"


def doctor_report(
    found: Mapping[str, Any],
    private: Any = (),
    secrets: Sequence[str] = (),
    hosts: Sequence[str] = (),
    users: Sequence[str] = (),
    versions: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make the report.

    Args:
        found: By host, `plan` and `status`, or `diagnosis`.
        private: Variables in which what is under a secret's name is a secret.
        secrets: Further secrets.
        hosts: Names of hosts, beside those of `found`.
        users: Names of users.
        versions: Versions of what runs on the controller.

    Returns:
        `document` and `text`.
    """
    from ansible_collections.compute_plane.vllm.plugins.module_utils.status.redact import (
        Redactor,
        secrets_in,
    )

    own = [
        ((one.get("plan") or {}).get("facts") or {}).get("host", {}).get("hostname")
        for one in found.values()
    ]
    known = [name for name in (*hosts, *found, *own) if name]
    redactor = Redactor(
        [*(secret for secret in secrets if secret), *secrets_in(private)],
        [*known, *(name.split(".")[0] for name in known)],
        [user for user in users if user],
    )
    document = {
        "hosts": {
            f"host {number}": redactor.value(host(one))
            for number, one in enumerate(found.values(), start=1)
        },
        "versions": redactor.value(dict(versions or {})),
    }
    return {"document": document, "text": text_of(document)}


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {"doctor_report": doctor_report}
