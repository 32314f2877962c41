#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_plan
short_description: Decide what will be done on a host that serves vLLM, or why not
version_added: 0.1.0
author:
  - compute_plane.vllm contributors (@compute-plane)
description:
  - Reads the release's data on the controller, probes the host in one round trip with
    M(compute_plane.vllm.vllm_probe), and returns the whole plan or every problem at once, each
    with its remedy.
  - Changes nothing and needs nothing on the host but Python.
  - The rules and all problem codes are described in C(docs/plan.md) of the collection.
options:
  release:
    description: The vLLM version, one of the directories in O(releases_dir).
    type: raw
    default: 0.14.1
  accelerator:
    description:
      - V(cuda), V(cpu), or V(auto), which is V(cuda) where the host has an NVIDIA device.
    type: raw
    default: auto
  instances:
    description:
      - The instances, a list of dictionaries. Their keys are C(name) and C(model), which are
        required, and C(revision), C(served_model_name), C(host), C(port), C(gpus),
        C(tensor_parallel_size), C(attention_backend), C(dtype), C(max_model_len),
        C(gpu_memory_utilization), C(enforce_eager), C(max_num_seqs),
        C(enable_auto_tool_choice), C(tool_call_parser), C(cpu_kvcache_space), C(environment),
        C(extra_args) and C(limits).
      - C(limits) are C(memory_max) and C(tasks_max), what the instance may use of the host's memory
        and how many processes and threads it may have, as C(MemoryMax=) and C(TasksMax=) of
        systemd take them (V(20G), V(50%)); by default what the service role has for all.
      - A key that is not one of these is a problem.
    type: raw
    default: []
  nvcc:
    description:
      - Whether the CUDA compiler must be V(present) or V(absent) on the host, or may be V(any).
    type: raw
    default: any
  opt_dir:
    description: Where the tools and the releases are installed.
    type: raw
    default: /opt/vllm
  etc_dir:
    description: Where the instances' configuration is.
    type: raw
    default: /etc/vllm
  state_dir:
    description: Where what is recorded of the instances is.
    type: raw
    default: /var/lib/vllm
  model_hub:
    description:
      - Where models that come from a Hub are, or will be; by default C(hub) in O(state_dir).
    type: raw
  python:
    description: The only interpreter that may be used for the release's venv.
    type: raw
  runtime_venv:
    description:
      - A virtual environment on the host that somebody made and that serves as it is. It needs no
        lock and is never changed.
    type: raw
  offline:
    description:
      - Whether the host installs from a bundle and has no way out, so that packages of the
        operating system which are missing are a problem.
    type: bool
    default: false
  verification:
    description:
      - What will prove the endpoints, so that mistakes in it are found now - C(suite),
        C(questions), C(ability) and C(timeout), as M(compute_plane.vllm.vllm_verify) takes them.
        JSON schemas in it are checked where the controller's Python has fastjsonschema.
    type: raw
  endpoint:
    description:
      - Who will be told of the endpoints, so that mistakes in it are found now - the variables of
        P(compute_plane.vllm.vllm_endpoint#role) without their C(vllm_endpoint_).
    type: raw
  releases_dir:
    description: The directory of release data on the controller; by default the collection's own.
    type: path
  fail_on_problems:
    description:
      - Whether problems make the task fail. Its result then holds RV(msg) only.
      - With V(false) the task succeeds and returns everything, so that a role can show the
        report and fail afterwards.
    type: bool
    default: true
attributes:
  check_mode:
    description: Can run in check mode and return what it would without.
    support: full
    details:
      - Only reads.
  diff_mode:
    description: Returns details on what has changed in diff mode.
    support: none
    details:
      - Changes nothing, so there is no difference to show.
  action:
    description: Has a corresponding action plugin, so some parts run on the controller.
    support: full
seealso:
  - module: compute_plane.vllm.vllm_probe
"""

EXAMPLES = r"""
- name: Decide what will be done, or fail with every reason why not
  compute_plane.vllm.vllm_plan:
    release: "0.14.1"
    instances:
      - name: qwen2.5-7b-instruct
        model: Qwen/Qwen2.5-7B-Instruct
        revision: a09a35458c702b33eeacc393d103063234e8bc28
        max_model_len: 4096
        dtype: float16
  register: vllm_plan_result

- name: Look at a host without failing
  compute_plane.vllm.vllm_plan:
    release: "0.14.1"
    instances: "{{ vllm_instances }}"
    fail_on_problems: false
  register: vllm_plan_result

- name: Show the report
  ansible.builtin.debug:
    msg: "{{ vllm_plan_result.report.splitlines() }}"
"""

RETURN = r"""
problems:
  description: What is wrong; empty when the plan can be carried out.
  type: list
  elements: dict
  returned: when there are no problems, or O(fail_on_problems=false)
  contains:
    code:
      description: What kind of problem it is; C(docs/plan.md) lists them.
      type: str
      sample: wrong-type
    where:
      description: The inventory variable that is wrong, or C(host).
      type: str
      sample: vllm_instances[0].port
    message:
      description: What is wrong.
      type: str
      sample: "'8000' is not a whole number"
    remedy:
      description: What to do about it.
      type: str
      sample: write a whole number without quotes
msg:
  description: All problems, one a line.
  type: str
  returned: always
  sample: "host: tasks run as user id 1000 — connect as root, or set ansible_become: true"
plan:
  description:
    - The plan, with the keys C(schema), C(release), C(accelerator), C(problems), C(notes),
      C(runtime), C(disks), C(instances) and C(removed_instances). C(docs/plan.md) describes them.
  type: dict
  returned: when there are no problems, or O(fail_on_problems=false)
  sample:
    schema: 1
    release: 0.14.1
    accelerator: cpu
    problems: []
    notes: []
    removed_instances: []
report:
  description: The plan as text for people, at most 80 columns wide.
  type: str
  returned: when there are no problems, or O(fail_on_problems=false)
  sample: "Found\n-----\n  Host  ac-3090, ubuntu 24.04 x86_64"
facts:
  description: What M(compute_plane.vllm.vllm_probe) found.
  type: dict
  returned: when there are no problems, or O(fail_on_problems=false)
  sample: {}
"""
