#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_fit
short_description: Find which models a host can serve
version_added: 0.1.0
author:
  - compute_plane.vllm contributors (@compute-plane)
description:
  - Plans each of some models alone on the host, as M(compute_plane.vllm.vllm_plan) does, with as
    few of its GPUs as it takes, and tells which fit, with how long a context, and what stands in
    the way of the others.
  - Of models that O(models) names and that do not ship with the collection, the Hub is asked;
    nothing is fetched but a few small files, and nothing is changed.
options:
  models:
    description:
      - Repositories of the Hub (C(ORG/NAME)), absolute paths of directories on the host, or
        dictionaries with C(model) and other keys of an instance, such as C(extra_args).
      - Those that ship with the collection when not given.
    type: list
    elements: raw
  release:
    description:
      - The vLLM version, or C(newest-that-fits); by default the one that the file
        C(releases/default) of the collection names.
    type: raw
  accelerator:
    description: As in M(compute_plane.vllm.vllm_plan).
    type: raw
    default: auto
  model_hub:
    description: As in M(compute_plane.vllm.vllm_plan).
    type: raw
  model_endpoint:
    description: As in M(compute_plane.vllm.vllm_plan).
    type: raw
  model_token:
    description: As in M(compute_plane.vllm.vllm_plan).
    type: str
  opt_dir:
    description: Where the tools and the releases are, or would be, installed.
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
  releases_dir:
    description: The directory of release data on the controller; by default the collection's own.
    type: path
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
  - module: compute_plane.vllm.vllm_plan
"""

EXAMPLES = r"""
- name: Find which of the known models this host can serve
  compute_plane.vllm.vllm_fit:
  register: found

- name: Find whether these fit
  compute_plane.vllm.vllm_fit:
    models:
      - Qwen/Qwen3-14B-AWQ
      - model: Qwen/Qwen3-8B
        extra_args: {kv_cache_dtype: fp8}
  register: found

- name: Show it
  ansible.builtin.debug:
    msg: "{{ found.report.splitlines() }}"
"""

RETURN = r"""
release:
  description: The vLLM version that the models were planned with.
  type: str
  returned: success
  sample: 0.14.1
problems:
  description: What the host lacks whatever the model, as M(compute_plane.vllm.vllm_plan) tells it.
  type: list
  elements: dict
  returned: success
  sample: []
fit:
  description: A row for each model, in their order.
  type: list
  elements: dict
  returned: success
  contains:
    model:
      description: The repository or directory.
      type: str
      sample: Qwen/Qwen3-8B
    fits:
      description: Whether it can be served.
      type: bool
      sample: true
    gpus:
      description: How many GPUs it was planned on; 0 on a CPU.
      type: int
      sample: 1
    quantization:
      description: How its weights are quantized; null when they are not.
      type: str
      sample: awq
    max_model_len:
      description: The longest context, in tokens; null when it does not fit.
      type: int
      sample: 32768
    streams:
      description: How many requests of 4096 tokens the KV cache holds at once; null as above.
      type: int
      sample: 22
    weights_bytes:
      description: Bytes of the weights on one GPU; null when not known.
      type: int
      sample: 15231233024
    download_bytes:
      description:
        - Bytes that would be fetched, and that the disk must have room for; null for a directory.
      type: int
      sample: 15231233024
    tokens_per_second:
      description:
        - The most tokens a second of one stream, from the bandwidth of the GPU's data sheet; null
          when not known.
      type: float
      sample: 66.3
    why:
      description: What stands in the way, each with its remedy.
      type: list
      elements: str
      sample: []
    instance:
      description: The keys of the instance for the inventory.
      type: dict
      sample: {name: qwen3-8b, model: Qwen/Qwen3-8B}
report:
  description: The rows as text for people.
  type: str
  returned: success
  sample: Served by vLLM 0.14.1, each alone on this host
"""
