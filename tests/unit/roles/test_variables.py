# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every variable that a message, a remedy, a role or a document names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.role_variables import (
    role_variables,
)

ROOT = Path(__file__).parents[3]
TEXTS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "inventory/**/*.yml",
    "playbooks/*.yml",
    "plugins/**/*.py",
    "plugins/**/*.yml",
    "releases/*/release.yml",
    "roles/**/*.j2",
    "roles/**/*.md",
    "roles/**/*.yml",
)
# What is named and no user sets, each with what it is.
OTHERS = {
    "vllm_benchmark_result": "registered by vllm_benchmark, for the roles after it",
    "vllm_flash_attn": "the package of vLLM that brings FlashAttention",
    "vllm_gateway_found": "registered by vllm_gateway of each host that serves",
    "vllm_health": "a job of Prometheus",
    "vllm_model_commits": "set by vllm_model, for the roles after it",
    "vllm_model_paths": "set by vllm_model, for the roles after it",
    "vllm_preflight_result": "registered by vllm_preflight, for the roles after it",
    "vllm_router": "a job of Prometheus",
    "vllm_verify_result": "registered by vllm_verify, for the roles after it",
}
# Of Prometheus, docs/monitoring.md; no role is called so.
METRICS = ("vllm_instance_", "vllm_gpu_")


def documented() -> set[str]:
    """Variables in the argument specs of all roles."""
    names: set[str] = set()
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        specs = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
        for entry in specs.values():
            names.update(entry.get("options") or {})
    return names


def parts() -> set[str]:
    """Names of modules, roles and playbooks, which begin alike."""
    return {path.stem for one in ("plugins/*/*.py", "roles/*") for path in ROOT.glob(one)}


def named(text: str) -> set[str]:
    """Variables that a text names; those of another namespace, and parts of paths, are not."""
    found = re.findall(r"(?<![\w./-])vllm_[a-z0-9_]+", text)
    return {name for name in found if not name.startswith(METRICS)}


@pytest.mark.parametrize("pattern", TEXTS)
def test_every_variable_that_is_named_exists(pattern):
    public = documented()
    known = public | parts() | set(OTHERS)
    if pattern.startswith(("playbooks", "roles")):
        known |= role_variables().internal
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in ROOT.glob(pattern)
        for name in sorted(named(path.read_text(encoding="utf-8")) - known)
        # `vllm_verify_` stands for all that begin so.
        if not (name.endswith("_") and any(one.startswith(name) for one in public))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_plan_knows_the_variables_that_are_documented():
    assert role_variables().public == documented()


def test_the_list_of_others_is_of_use():
    assert not set(OTHERS) & documented()
    texts = "".join(
        path.read_text(encoding="utf-8") for pattern in TEXTS for path in ROOT.glob(pattern)
    )
    assert set(OTHERS) <= named(texts)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("set vllm_opt_dir, or vllm_release", {"vllm_opt_dir", "vllm_release"}),
        ("compute_plane.vllm.vllm_plan and roles/vllm_plan", set()),
        ("{{ vllm_a1 }}-vllm_b", {"vllm_a1"}),
    ],
)
def test_what_counts_as_named(text, names):
    assert named(text) == names
