# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a playbook, or an error where there is none of them in the run."""

from __future__ import annotations

DOCUMENTATION = r"""
name: hosts
short_description: The hosts of a play, or an error where a run has none of them
version_added: 0.1.0
author:
  - compute_plane.vllm contributors (@compute-plane)
description:
  - Returns the pattern that it is given, for C(hosts) of a play. Where the inventory, or what
    C(--limit) leaves of it, has no such host, the run ends with an error before it begins. Ansible
    by itself says "no hosts matched" and succeeds.
  - An error only where a playbook of this collection is what was asked for. A playbook that
    imports one of them goes on with its other plays.
options:
  _terms:
    description: The pattern, as C(hosts) of a play takes it, or a list of such.
    required: true
"""

EXAMPLES = r"""
- name: Verified vLLM endpoints
  hosts: "{{ lookup('compute_plane.vllm.hosts', vllm_hosts | default('vllm')) }}"
  roles:
    - compute_plane.vllm.vllm_preflight
"""

RETURN = r"""
_raw:
  description: The pattern, as one string.
  type: list
  elements: str
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleError, AnsibleLookupError
from ansible.inventory.manager import InventoryManager
from ansible.plugins.lookup import LookupBase

COLLECTION = Path(__file__).resolve().parents[2]
NAMESPACE = "compute_plane.vllm."


def is_ours(playbook: str) -> bool:
    """Tell whether a playbook of a command line is one of this collection.

    Args:
        playbook: A path, or the name of a collection's playbook.
    """
    path = Path(playbook).resolve()
    folders = (COLLECTION, COLLECTION / "playbooks")
    return playbook.startswith(NAMESPACE) or (path.parent in folders and path.is_file())


def problem(pattern: str, limit: str | None, hosts: Sequence[str]) -> str:
    """Say what is wrong where a run has no host.

    Args:
        pattern: The hosts of the play.
        limit: The limit of the run, or None.
        hosts: The hosts of the inventory that the pattern has without the limit.
    """
    if hosts:
        some = ", ".join(hosts[:5]) + (", …" if len(hosts) > 5 else "")
        return (
            f"the limit {limit} has no host of {pattern}, which has {some} — put the host into"
            f" {pattern} in the inventory, or name it with -e vllm_hosts={limit}"
        )
    if pattern == "vllm_gateway":
        return "the inventory has no host vllm_gateway — put the gateway into that group (-i)"
    return (
        f"the inventory has no host {pattern} — put the hosts that serve into the group"
        " vllm in the inventory (-i), or name them with -e vllm_hosts=HOST"
    )


class LookupModule(LookupBase):
    """Compares the hosts of a play with those of the run."""

    def run(
        self, terms: list[Any], variables: Mapping[str, Any] | None = None, **_options: Any
    ) -> list[str]:
        """Return the pattern.

        Raises:
            AnsibleLookupError: There is no such host in this run.
        """
        given = [part for term in terms for part in (term if isinstance(term, list) else [term])]
        pattern = ",".join(str(part) for part in given)
        variables = variables or {}
        groups = variables.get("groups") or {}
        limit = variables.get("ansible_limit")
        # The usual cases, without an inventory of its own.
        members = groups.get(pattern, ())
        if members and (limit is None or set(members).intersection(limit.split(","))):
            return [pattern]
        # A syntax check has no inventory.
        asked = context.CLIARGS.get("args") or ()
        if context.CLIARGS.get("syntax") or not any(map(is_ours, asked)):
            return [pattern]
        inventory = InventoryManager(self._loader, parse=False)
        for group, hosts in groups.items():
            inventory.add_group(group)
            for host in hosts:
                inventory.add_host(host, group=group)
        try:
            hosts = [host.name for host in inventory.get_hosts(pattern)]
            inventory.subset(limit)
            left = inventory.get_hosts(pattern)
        except AnsibleError:
            # A pattern that cannot be read; Ansible itself says so.
            return [pattern]
        if not left:
            raise AnsibleLookupError(problem(pattern, limit, hosts))
        return [pattern]
