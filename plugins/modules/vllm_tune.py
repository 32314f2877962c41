#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Try other settings of a vLLM server, measure each, and name the best."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_tune
short_description: Measure an instance with other settings and name the best
version_added: 0.1.0
description:
  - Varies one setting of an instance after the other. Each candidate is started in the place of the
    server, put to O(proof), and measured with C(vllm bench serve); each setting keeps the value
    that was best. What serves now is the first candidate.
  - The action plugin plans every candidate like an instance of the inventory; what the plan refuses
    is reported with its reason and not started.
  - In the end, also after a failure, what served before serves again. While a candidate serves, the
    files on the disk are the former configuration's, so that a crash or a reboot brings that back.
    A run that was killed is made good by the next run of the site playbook. Only power limits of
    cards that the inventory does not limit last until the next boot. Persistence mode, which a
    limit needs, stays on.
  - Only the result is changed, under O(results_dir); no configuration is.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: Says which candidates there are, and starts none.
  diff_mode:
    support: none
    description: Figures are no state.
extends_documentation_fragment:
  - compute_plane.vllm.services
  - compute_plane.vllm.lock
  - compute_plane.vllm.code
  - compute_plane.vllm.services.directories
  - compute_plane.vllm.verification
options:
  space:
    description:
      - To the task, a mapping of settings to the values to try. The settings are C(enforce_eager),
        C(attention_backend) (V(working) for all that the plan finds to work), C(max_num_seqs),
        C(gpu_memory_utilization), C(max_model_len), C(dtype), C(cpu_kvcache_space),
        C(extra_args) (each value a mapping) and C(gpu_power_limit) (watts, for each GPU of the
        instance; the server is not started anew for it). Those without a meaning on the
        accelerator are left out.
      - The inventory's value is always tried. They are varied in this order.
    type: dict
    required: true
  instance:
    description: The instance to tune, for the action plugin; not needed where there is one.
    type: str
  wanted:
    description: What M(compute_plane.vllm.vllm_plan) takes, for the action plugin.
    type: dict
  facts:
    description: What was probed. For the action plugin.
    type: dict
  candidates:
    description: Every choice with its plan. Set by the action plugin.
    type: list
    elements: dict
  accelerator:
    description: V(cuda) or V(cpu). Set by the action plugin.
    type: str
  goal:
    description:
      - V(latency) is the time of a whole answer under the load with the fewest streams,
        V(throughput) the output tokens a second under the load with the most, V(startup) the
        time from a start with filled caches to the first token, and V(tokens_per_joule) the output
        tokens for the energy that the instance's GPUs take under the load with the most streams.
    type: str
    choices: [latency, throughput, startup, tokens_per_joule]
    default: latency
  margin:
    description: Percent by which another value must be better to be preferred.
    type: float
    default: 3
  sweep:
    description: The loads, as of M(compute_plane.vllm.vllm_benchmark).
    type: list
    elements: dict
    required: true
  repeats:
    description: How often each load is run, after a warm-up.
    type: int
    default: 3
  time_limit:
    description: Seconds for measuring one candidate after which no further run is begun.
    type: int
    default: 300
  run_timeout:
    description: Seconds that a single run may take.
    type: int
    default: 300
  proof:
    description:
      - What is put to each candidate; C(name), C(messages) and C(expect), a regular expression,
        each.
    type: list
    elements: dict
    default: []
  results_dir:
    description: Where the result is kept on the host.
    type: path
    default: /var/lib/vllm/benchmarks
"""

EXAMPLES = r"""
- name: What answers a single user fastest
  compute_plane.vllm.vllm_tune:
    wanted:
      release: "0.14.1"
      instances: "{{ vllm_instances }}"
    facts: "{{ vllm_preflight_result.facts }}"
    space:
      enforce_eager: [false, true]
      attention_backend: working
    goal: latency
    sweep:
      - {concurrency: [1, 16], input_tokens: 512, output_tokens: 128}
"""

RETURN = r"""
name:
  description: The instance.
  type: str
  returned: success
candidates:
  description: What became of each candidate that was considered, in order.
  type: list
  elements: dict
  returned: success
  contains:
    choice:
      description: Its settings.
      type: dict
    state:
      description: V(measured), V(failed), or V(impossible) by the plan.
      type: str
    reason:
      description: Why it failed or is impossible.
      type: str
    ready_seconds:
      description: Seconds from the start to the first token; null for what served already.
      type: float
    score:
      description: How good it is for the goal; less is better.
      type: float
best:
  description: The settings that were best.
  type: dict
  returned: success
better:
  description: Whether they are others than the inventory's.
  type: bool
  returned: success
lines:
  description: The lines by which the inventory makes that choice.
  type: list
  elements: str
  returned: success
  sample: ["enforce_eager: false"]
instances:
  description: The inventory's instances with that choice made.
  type: list
  elements: dict
  returned: success
gpu_power:
  description: The power limits of the host's cards with that choice made, in watts by UUID.
  type: dict
  returned: success
gpu_power_limit:
  description: What C(vllm_gpu_power_limit) is with that choice made.
  type: raw
  returned: success
report:
  description: The candidates with their figures, one a line.
  type: list
  elements: str
  returned: success
result:
  description: The file with everything, on the host. Its form is in docs/benchmark.md.
  type: str
  returned: success
"""

import signal
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import sweep, tuning
from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark.client import (
    BenchClientError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.services import (
    ARGUMENTS,
    Services,
    run,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.tuner import (
    CandidateFailed,
    TakenOver,
    Tuning,
)


def _stop(number: int, _frame: Any) -> NoReturn:
    """End by an exception, so that what served before comes back."""
    raise SystemExit(128 + number)


def tune(services: Services) -> None:
    """Search, restore, report."""
    module, params = services.module, services.params
    try:
        sweep.expand(params["sweep"], None)
    except sweep.SweepError as problem:
        services.fail(str(problem))
    tuned = Tuning(services)
    if module.check_mode:
        services.progress.close()
        module.exit_json(
            changed=True,
            name=tuned.name,
            better=False,
            best=tuned.first,
            lines=[],
            report=[
                f"{tuning.label(row['choice'])}: {'; '.join(row['problems']) or 'possible'}"
                for row in tuned.planned.values()
            ],
        )
    signal.signal(signal.SIGTERM, _stop)
    try:
        try:
            best = tuned.search()
        except TakenOver:
            tuned.give_limits_back()
            raise
        except BaseException:
            tuned.give_limits_back()
            tuned.restore()
            raise
        tuned.give_limits_back()
        tuned.restore()
    except TakenOver as problem:
        # Whoever changed it is bringing about what he wants; going back would fight that.
        services.fail(f"{tuned.name} is left as it is: {problem}")
    except (CandidateFailed, BenchClientError) as problem:
        services.fail(f"{problem}\nThe former configuration of {tuned.name} is serving.")
    lines = tuned.lines(best)
    path = tuned.keep(best, lines)
    services.progress.close()
    module.exit_json(
        changed=True,
        name=tuned.name,
        candidates=[
            {name: row[name] for name in ("choice", "state", "reason", "ready_seconds", "score")}
            for row in tuned.rows()
        ],
        best=best,
        better=bool(lines),
        lines=lines,
        gpu_power=tuned.gpu_power(best),
        report=tuned.report(best),
        result=path,
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "space": {"type": "dict", "required": True},
            "instance": {"type": "str"},
            "wanted": {"type": "dict"},
            "facts": {"type": "dict"},
            "candidates": {"type": "list", "elements": "dict"},
            "accelerator": {"type": "str"},
            "goal": {"type": "str", "choices": list(tuning.GOALS), "default": "latency"},
            "margin": {"type": "float", "default": 3},
            "sweep": {"type": "list", "elements": "dict", "required": True},
            "repeats": {"type": "int", "default": 3},
            "time_limit": {"type": "int", "default": 300},
            "run_timeout": {"type": "int", "default": 300},
            "proof": {"type": "list", "elements": "dict", "default": []},
            "results_dir": {"type": "path", "default": "/var/lib/vllm/benchmarks"},
            **ARGUMENTS,
        },
        supports_check_mode=True,
    )
    run(module, tune)


if __name__ == "__main__":
    main()
