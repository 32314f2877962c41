# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments of hf_model, and that its documentation is that of its arguments."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.doc_fragments import code, lock
from ansible_collections.compute_plane.vllm.plugins.modules import hf_model
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_args import asked_for

GOOD: dict[str, Any] = {
    "repo_id": "org/name",
    "revision": None,
    "state": "present",
    "update": False,
    "endpoint": "https://huggingface.co",
    "cache_dir": "/var/lib/vllm/hub",
    "tools_path": "/opt/vllm/tools",
    "max_workers": 8,
    "stall_timeout": 60,
    "retries": 5,
    "allow_patterns": None,
    "ignore_patterns": None,
}


def test_good_arguments() -> None:
    assert hf_model.problems(GOOD) == []
    assert hf_model.problems({**GOOD, "endpoint": "http://127.0.0.1:8080/x", "retries": 0}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("repo_id", "a b"),
        ("revision", "a..b"),
        ("revision", ""),
        ("commit", "main"),
        ("endpoint", "huggingface.co"),
        ("endpoint", "ftp://x"),
        ("endpoint", "http://[x"),
        ("cache_dir", "hub"),
        ("tools_path", "tools"),
        ("max_workers", 0),
        ("stall_timeout", 0),
        ("retries", -1),
        ("allow_patterns", [""]),
        ("ignore_patterns", ["*.bin", ""]),
    ],
)
def test_a_bad_argument_is_named(name: str, value: Any) -> None:
    (problem,) = hf_model.problems({**GOOD, name: value})
    assert problem.startswith(name)


def test_update_means_nothing_for_absent() -> None:
    assert hf_model.problems({**GOOD, "state": "absent", "update": True})


def test_all_problems_at_once() -> None:
    assert len(hf_model.problems({**GOOD, "repo_id": "", "endpoint": "", "retries": -1})) == 3


def test_the_token_is_never_logged() -> None:
    seen = asked_for(hf_model)["argument_spec"]
    assert seen["token"]["no_log"] is True
    documented = {
        **yaml.safe_load(hf_model.DOCUMENTATION)["options"],
        **yaml.safe_load(lock.ModuleDocFragment.DOCUMENTATION)["options"],
        **yaml.safe_load(code.ModuleDocFragment.DOCUMENTATION)["options"],
    }
    assert set(documented) == set(seen)
    for name, option in documented.items():
        assert option.get("default") == seen[name].get("default"), name
        assert option.get("choices") == seen[name].get("choices"), name
        assert option["type"] == seen[name]["type"], name


def test_examples_and_return_are_yaml() -> None:
    for task in yaml.safe_load(hf_model.EXAMPLES):
        assert "compute_plane.vllm.hf_model" in task
    assert "path" in yaml.safe_load(hf_model.RETURN)
