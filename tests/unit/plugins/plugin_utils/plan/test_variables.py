# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which variables of a host nothing reads."""

from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.variables import (
    names_in,
    unread,
)

KNOWN = ["vllm_release", "vllm_service_api_keys", "vllm_preflight_result"]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, []),
        ({"vllm_release": "0.14.1", "vllm_preflight_result": {"plan": {}}}, []),
        ({"vllm_servce_api_keys": {}, "vllm_a": 1}, ["vllm_a", "vllm_servce_api_keys"]),
        # Of another namespace.
        ({"my_vllm_key": 1, "vllmkey": 1, "ansible_user": "root"}, []),
        # Read by a template of another variable, at any depth; not by a text that only names it.
        ({"vllm_key": 1, "vllm_service_api_keys": {"a": ["{{ vllm_key }}"]}}, []),
        ({"vllm_key": 1, "mine": "{% if vllm_key %}x{% endif %}"}, []),
        ({"vllm_key": 1, "mine": "vllm_key is a name"}, ["vllm_key"]),
        ({"vllm_key": 1, "mine": "{{ vllm_keys }}"}, ["vllm_key"]),
        # What Ansible itself has gathered refers to nothing.
        ({"vllm_key": 1, "hostvars": {"other": {"x": "{{ vllm_key }}"}}}, ["vllm_key"]),
    ],
)
def test_unread(given, names):
    assert unread(given, KNOWN) == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("    options:\n      vllm_a:\n        type: str\n", {"vllm_a"}),
        ("vllm_a: 1\nvllm_b: >-\n  {{ vllm_c }}\n", {"vllm_a", "vllm_b"}),
        ("  register: vllm_a\n", {"vllm_a"}),
        ("  loop_control: {loop_var: vllm_a}\n    loop_var: vllm_b\n", {"vllm_b"}),
        ("  when: vllm_a: b\n- compute_plane.vllm.vllm_plan:\n", set()),
        ("  that: vllm_a\n  tags: [vllm_b]\n", set()),
    ],
)
def test_names_in(text, names):
    assert names_in(text) == names
