# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of the inventory that nothing reads, which are most often misspelt ones.

Ansible says nothing of a variable that no role knows: with a letter missing in
`vllm_service_api_keys` an endpoint would be open to all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    closest,
)

PREFIX = "vllm_"
# In the name of what must not be left out without a word.
SECRET = re.compile(r"key|token|secret|password|credential")
# What Ansible itself has gathered or made; nobody writes a reference to a variable there.
_NOT_WRITTEN = frozenset({"hostvars", "vars", "groups", "group_names", "ansible_facts"})
# What stands before a variable in a line that describes or sets it; a key is followed by a colon.
_SETTERS = ("register:", "loop_var:")
_NAME = re.compile(r"vllm_\w+:?")


def names_in(text: str) -> set[str]:
    """Return the variables that a role's YAML file describes or sets.

    Args:
        text: The file's text. It is not parsed, which would take a hundred times as long: a key
            that begins like a variable of ours is one, and so is what a task registers or loops
            with.
    """
    names = set()
    for match in _NAME.finditer(text):
        word = match.group()
        before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()].strip()
        if before in _SETTERS or (not before and word.endswith(":")):
            names.add(word.rstrip(":"))
    return names


def unread(given: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Return the variables with our prefix that nothing reads.

    Args:
        given: All variables of a host, their templates as they are written.
        known: Names of those that roles and playbooks read or set.

    Returns:
        Names, sorted. One that another variable's template refers to is read by that.
    """
    unknown = sorted({name for name in given if str(name).startswith(PREFIX)} - set(known))
    if not unknown:
        return []
    # One pass; templates that call a variable by another way than its name are no matter.
    words: set[str] = set()
    for name, value in given.items():
        if name not in _NOT_WRITTEN:
            words |= _words(value)
    return [name for name in unknown if name not in words]


def _words(value: Any) -> set[str]:
    """Return the names with our prefix in the templates below a value."""
    if isinstance(value, str):
        return set(re.findall(r"\bvllm_\w+", value)) if "{{" in value or "{%" in value else set()
    items: Iterable[Any] = ()
    if isinstance(value, Mapping):
        items = value.values()
    elif isinstance(value, (list, tuple)):
        items = value
    return {word for item in items for word in _words(item)}


def check_variables(raw: Any, findings: Findings, instances_given: bool) -> None:
    """Tell of variables that nothing reads.

    One that concerns a secret, or that stands for the instances, is a problem: an endpoint would be
    open, or a host would serve nothing. Any other is only noted.

    Args:
        raw: `unread`, names of variables that nothing reads, and `known`, those that a user may
            set.
        findings: Receives them.
        instances_given: Whether `vllm_instances` is there.
    """
    known = fact.words(raw, "known")
    for name in fact.words(raw, "unread"):
        near = closest(name, known)
        secret = SECRET.search(name) or SECRET.search(near or "")
        message = "no role and no playbook reads this variable"
        if secret or (near == "vllm_instances" and not instances_given):
            findings.problem(
                "unknown-variable",
                name,
                message,
                (f"did you mean {near}? " if near else "")
                + "correct its name; one of your own must not begin with vllm_",
            )
        else:
            findings.note(
                "unknown-variable", name, message + (f"; is {near} meant?" if near else "")
            )
