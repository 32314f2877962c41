#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what the vLLM instances of a host are doing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_status
short_description: Say what the vLLM instances of a host are doing
version_added: 0.1.0
description:
  - Looks at every instance that a host has, asks each that listens for one token, and says whether
    it serves, is on its way, hangs or has ended, with the evidence and a remedy. C(/health) alone
    answers 200 also when the engine hangs.
  - All instances are looked at at the same time, for at most O(patience) seconds. Changes nothing.
author: compute_plane.vllm contributors (@compute-plane)
extends_documentation_fragment:
  - compute_plane.vllm.services.directories
  - compute_plane.vllm.code
attributes:
  check_mode:
    support: full
    description: It changes nothing.
  diff_mode:
    support: none
    description: It changes nothing.
options:
  wanted:
    description: Names of instances that should be there; one that is not is reported as such.
    type: list
    elements: str
    default: []
  only:
    description: Names of the instances to look at; all when empty.
    type: list
    elements: str
    default: []
  patience:
    description: How long the answer to one question may take, in seconds.
    type: int
    default: 10
  lines:
    description: How many lines of its log to return of an instance that does not serve.
    type: int
    default: 20
"""

EXAMPLES = r"""
- name: What serves here
  compute_plane.vllm.vllm_status:
  register: status

- name: Only if all of it does
  ansible.builtin.assert:
    that: status.instances | rejectattr('serves') | length == 0
"""

RETURN = r"""
instances:
  description: The instances, by name.
  type: list
  elements: dict
  returned: always
  sample:
    - name: smollm2
      unit: vllm@smollm2.service
      state: ready
      summary: it answers and has nothing to do
      serves: true
      evidence: [computed a token in 0.06 s, started 812 s ago, memory 3.4 GiB]
      remedy: null
      url: http://127.0.0.1:8000
      model: smollm2
      release: 0.14.1
  contains:
    name:
      description: The instance.
      type: str
    unit:
      description: Its unit.
      type: str
    state:
      description:
        - One of V(starting), V(downloading), V(loading), V(compiling), V(capturing), V(ready),
          V(busy), V(asleep), V(hung at start), V(hung while serving), V(crashed), V(orphaned),
          V(stopping), V(stopped).
      type: str
    summary:
      description: The state in a sentence.
      type: str
    serves:
      description:
        - Whether it computes tokens for whoever asks, at once (V(ready) or V(busy)) or once it
          has been started for that (V(asleep)).
      type: bool
    evidence:
      description: The figures that this rests on.
      type: list
      elements: str
    remedy:
      description: What to do about it; null where there is nothing to do.
      type: str
    cause:
      description: Why it ended, as a short name such as V(no_compiler); null without one.
      type: str
    percent:
      description: How far a start has come, where the log tells.
      type: int
    url:
      description: Where it answers, seen from the host.
      type: str
    model:
      description: The name that requests give.
      type: str
    group:
      description:
        - The hosts that it spans, as its supervisor sees them (C(rank), C(leader), C(members),
          C(generation), C(phase), C(summary)); null for one host alone.
      type: dict
    release:
      description: The vLLM release that it was proved with last.
      type: str
    engine:
      description:
        - What the engine measured of its memory at the start that was verified last (V(measured)),
          and what the plan had predicted (V(predicted)), in bytes and tokens, of one GPU; null
          where nothing was measured of the present deployment.
      type: dict
      sample:
        measured: {weights_bytes: 15343771320, kv_cache_tokens: 90608, max_model_len: 32768}
        predicted: {weights_bytes: 15231274992, kv_cache_tokens: 90704, max_model_len: 32768}
    active_state:
      description: systemd's word for the unit.
      type: str
    sub_state:
      description: systemd's more particular word.
      type: str
    enabled:
      description: Whether it is started at boot.
      type: bool
    says:
      description: What the unit says of itself (C(STATUS=)).
      type: str
    invocation:
      description: Its last run, as the journal has it (C(_SYSTEMD_INVOCATION_ID)).
      type: str
    pid:
      description: The unit's main process.
      type: int
    restarts:
      description: How often systemd has restarted it.
      type: int
    age_seconds:
      description: Seconds since its last start.
      type: float
    memory_bytes:
      description: Memory in use.
      type: int
    gpu_bytes:
      description: GPU memory in use; null without NVML.
      type: int
    gpu_utilization:
      description: Percent of the busiest of its cards.
      type: float
    running:
      description: Requests that are being computed.
      type: int
    waiting:
      description: Requests that wait for that.
      type: int
    generation_tokens:
      description: Tokens computed since the start.
      type: int
    log:
      description: The end of its log, when it does not serve.
      type: list
      elements: str
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils import supervisor
from ansible_collections.compute_plane.vllm.plugins.module_utils.common import late
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.directories import (
    DIRECTORIES,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.status.instances import (
    Instance,
    Places,
    deployed,
    show_units,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.classify import Limits

PAUSE = 1.0
"""Seconds between two looks."""
LEAST = 2.0
"""Seconds that a start is watched, to see whether it works."""
IDLE_SHARE = 0.8
"""Share of the patience after which a server that does no work hangs."""


def is_done(instance: Instance, since: float) -> bool:
    """Whether another look would tell no more."""
    now = instance.samples[-1]
    if not instance.is_known or now.active_state not in ("active", "activating", "reloading"):
        return True
    if now.sub_state == "auto-restart" or instance.is_answered:
        return True
    return not now.listening and time.monotonic() - since >= LEAST


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "wanted": {"type": "list", "elements": "str", "default": []},
            "only": {"type": "list", "elements": "str", "default": []},
            "patience": {"type": "int", "default": 10},
            "lines": {"type": "int", "default": 20},
            **DIRECTORIES,
            **late.ARGUMENTS,
        },
        supports_check_mode=True,
    )
    params = module.params
    late.use(params["code_archive"])
    places = Places(params["etc_dir"], params["unit_dir"], params["state_dir"])
    patience = float(params["patience"])
    limits = Limits(stall=patience * IDLE_SHARE, start_stall=float("inf"))
    names = deployed(places) | set(params["wanted"])
    names |= set(show_units(module.run_command, names))
    if params["only"]:
        names = set(params["only"])
    began = time.monotonic()
    instances = [Instance(n, module.run_command, places, patience) for n in sorted(names)]
    pending = instances
    while pending:
        shown = show_units(module.run_command, names)
        for instance in pending:
            # One question each: the answer, or that there is none, is what is wanted.
            instance.look(shown.get(instance.name, {}), ask=not instance.has_asked)
        elapsed = time.monotonic() - began
        pending = [one for one in pending if not is_done(one, began) and elapsed < patience + PAUSE]
        if pending:
            time.sleep(PAUSE)
    try:
        described = [one.describe(one.verdict(limits), params["lines"]) for one in instances]
    except ModuleNotFoundError as missing:
        if missing.name != f"{supervisor.__name__}.causes":
            raise
        module.fail_json(**late.ASKS)
    module.exit_json(changed=False, instances=described)


if __name__ == "__main__":
    main()
