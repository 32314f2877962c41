#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which has no part on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_install
short_description: Install a release and fetch models, side by side
version_added: 0.1.0
description:
  - Runs M(compute_plane.vllm.vllm_runtime) and, at the same time over a second session of the same
    connection, M(compute_plane.vllm.hf_model) for one model after the other. Both are slow and
    neither needs the other, so the first run takes as long as the slower one.
  - Models are fetched with tools that M(compute_plane.vllm.vllm_runtime) brings. Where they are not
    on the host yet, they are installed first.
  - Where one of the two fails, this is said at once, the other goes on to its end, and then the
    task fails. What has arrived stays, so that the next run does not bring it again.
  - When the play is interrupted, both go on to their ends on the host, each within its own limits;
    a run that is started meanwhile waits for them and finds the work done.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  action:
    support: full
    description: This is an action plugin; it runs on the controller.
  check_mode:
    support: full
    description: Says what both would do.
  diff_mode:
    support: full
    description: Shows what both show.
options:
  runtime:
    description: The parameters of M(compute_plane.vllm.vllm_runtime).
    type: dict
    required: true
  packages:
    description:
      - Packages of the operating system that are missing. They are installed before the release and
        beside the models; those that end with C(-venv) before everything else, since the tools'
        environment cannot be made without them. In check mode they are left out.
    type: list
    elements: str
    default: []
  models:
    description: The parameters of M(compute_plane.vllm.hf_model), for each model.
    type: list
    elements: dict
    default: []
  token:
    description: A token of the Hub for all of O(models).
    type: str
  tools_present:
    description:
      - Whether the host has the environment C(/opt/vllm/tools), as
        M(compute_plane.vllm.vllm_probe) returns it.
    type: bool
    default: true
  lock_timeout:
    description: That of M(compute_plane.vllm.vllm_runtime) and M(compute_plane.vllm.hf_model).
    type: int
"""

EXAMPLES = r"""
- name: Install the release and fetch the model
  compute_plane.vllm.vllm_install:
    tools_present: "{{ facts.deployed.tools is not none }}"
    runtime:
      venv: "{{ plan.runtime.venv }}"
      python: "{{ plan.runtime.python }}"
      lock: "{{ lookup('ansible.builtin.file', 'releases/' ~ plan.runtime.lock, rstrip=false) }}"
      expect: "{{ plan.runtime.expect }}"
      release: "{{ plan.release }}"
      accelerator: "{{ plan.accelerator }}"
      tools_lock: "{{ lookup('ansible.builtin.file', 'requirements/tools.txt', rstrip=false) }}"
    models:
      - repo_id: Qwen/Qwen2.5-7B-Instruct
        revision: a09a35458c702b33eeacc393d103063234e8bc28
"""

RETURN = r"""
runtime:
  description: What M(compute_plane.vllm.vllm_runtime) returned.
  type: dict
  returned: success
  sample: {venv: /opt/vllm/releases/0.14.1-cpu-3f1d0a9be2c4}
models:
  description: What M(compute_plane.vllm.hf_model) returned, in the order of O(models).
  type: list
  elements: dict
  returned: success
  sample:
    - path: /var/lib/vllm/hub/models--ORG--NAME/snapshots/a09a35458c702b33eeacc393d103063234e8bc28
      commit: a09a35458c702b33eeacc393d103063234e8bc28
msg:
  description: Why it failed, one line for each that did.
  type: str
  returned: failure
  sample: "the package index could not be reached"
"""
