# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of `vllm_probe`: what a host need not be sent code for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.known import (
    Request,
    recorded,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.code import run_with_code

MODULE = "compute_plane.vllm.vllm_probe"

# What a shell, sudo and Python say where no module can run, and what to do about it.
_STANDS_IN_THE_WAY = {
    r"python[\d.]*['\"]?: (?:command )?(?:not found|no such file)": (
        "install Python 3 there (Debian, Ubuntu: apt-get install python3; Fedora, RHEL: dnf "
        "install python3), or name the one that is there in ansible_python_interpreter"
    ),
    r"\bsudo['\"]?: (?:command )?not found": (
        "as root on the host, install sudo and let {user} use it (Debian, Ubuntu: apt-get "
        "install sudo, then adduser {user} sudo), and try again a minute later, for Ansible keeps "
        "its login that long; or set ansible_user: root"
    ),
    r"not in the sudoers file|may not run sudo|is not allowed to (?:run|execute)": (
        "as root on the host, let {user} use sudo (Debian, Ubuntu: adduser {user} sudo; Fedora, "
        "RHEL: usermod -aG wheel {user}), and try again a minute later, for Ansible keeps its "
        "login that long; or set ansible_user: root"
    ),
    r"must have a tty": (
        "take requiretty out of the host's sudoers, or set ansible_ssh_pipelining: false"
    ),
    r"^SyntaxError": (
        "its Python is too old for this ansible-core: name a newer one in "
        "ansible_python_interpreter, or take an older ansible-core"
    ),
    r"No space left on device": "make room on the host",
}


def explained(result: Mapping[str, Any], user: str) -> dict[str, Any]:
    """Return a failed result whose `msg` says why the host ran no module, and what to do about it.

    Ansible's own message tells little of that, and another from release to release.

    Args:
        result: What running the module gave.
        user: Who Ansible logs in as.
    """
    said = [str(result.get(f"module_{stream}") or "") for stream in ("stdout", "stderr")]
    lines = [line.strip() for line in "\n".join(said).splitlines() if line.strip()]
    if not result.get("failed") or not lines:
        return dict(result)
    for line in reversed(lines):
        for pattern, remedy in _STANDS_IN_THE_WAY.items():
            if re.search(pattern, line, re.IGNORECASE):
                return {**result, "msg": f"{line} — {remedy.format(user=user)}"}
    return {**result, "msg": f"the module did not come to its end: {lines[-1]}"}


def finished(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the module returned, with `facts.hub` made of the hosts' records of models.

    Args:
        result: The module's result.
    """
    told = dict(result)
    records = told.pop("records", None)
    if records is not None:
        hub = [
            recorded(Request(one["repo_id"], one["revision"], one["trust_remote_code"]), one)
            for one in records
        ]
        told["facts"] = {**told["facts"], "hub": hub}
    return told


def probe(
    action: Any, arguments: Mapping[str, Any], task_vars: dict[str, Any] | None
) -> dict[str, Any]:
    """Probe a task's host, in one round trip where it has been probed before.

    Args:
        action: The task's action.
        arguments: The parameters of `vllm_probe`.
        task_vars: The task's variables.

    Returns:
        What `vllm_probe` is documented to return.
    """
    user = str((task_vars or {}).get("ansible_user") or "the user")
    return finished(explained(run_with_code(action, MODULE, arguments, task_vars), user))
