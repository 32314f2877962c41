# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever starts a server proves it by the same suite, with the same variables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.module_utils.service.services import ARGUMENTS
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.suite import DEFAULT_SUITE

ROLES = Path(__file__).parents[3] / "roles"


def modules(tasks: Any, name: str) -> Iterator[dict[str, Any]]:
    """The arguments of each task below some that runs a module, but for those that only look."""
    for task in tasks:
        for part in ("block", "rescue", "always"):
            yield from modules(task.get(part, []), name)
        if name in task and not task.get("check_mode"):
            yield task[name]


def arguments(role: str) -> dict[str, Any]:
    """What a role gives the module of its own name."""
    tasks = yaml.safe_load((ROLES / role / "tasks" / "main.yml").read_text())
    (found,) = modules(tasks, f"compute_plane.vllm.{role}")
    return found


def defaults(role: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text())
    return loaded


@pytest.mark.parametrize(
    ("option", "variable"),
    [
        ("suite", "vllm_verify_suite"),
        ("questions", "vllm_verify_questions"),
        ("ability", "vllm_verify_ability"),
        ("answer_timeout", "vllm_verify_timeout"),
    ],
)
@pytest.mark.parametrize("role", ["vllm_service", "vllm_rollback"])
def test_a_start_is_proved_as_the_verification_would(role: str, option: str, variable: str) -> None:
    # A play without the role vllm_verify does not have its defaults: the module's are the same. The
    # suite has no default there: what is not set is the module's own.
    given = arguments(role)[option]
    assert re.fullmatch(rf"{{{{ {variable} \| default\(omit\) }}}}", given)
    default = ARGUMENTS[option]["default"]
    assert default == defaults("vllm_verify").get(variable, list(DEFAULT_SUITE))


def test_a_candidate_is_given_the_verifications_time_to_answer() -> None:
    assert arguments("vllm_tune")["answer_timeout"] == "{{ vllm_verify_timeout | default(omit) }}"


@pytest.mark.parametrize("role", ["vllm_rollback", "vllm_tune", "vllm_benchmark"])
def test_there_is_one_variable_for_the_servers_user(role: str) -> None:
    assert arguments(role)["user"] == "{{ vllm_service_user | default(omit) }}"
    assert ARGUMENTS["user"]["default"] == defaults("vllm_service")["vllm_service_user"]
    assert not [name for name in defaults(role) if name.endswith("_user")]
