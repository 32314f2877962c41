#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure vLLM servers with vLLM's own client."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_benchmark
short_description: Measure running vLLM servers with vllm bench serve
version_added: 0.1.0
description:
  - Runs C(vllm bench serve) of the release that serves over a sweep of loads, on the host itself,
    in a transient unit of the service's user. Each load is warmed up once and then run O(repeats)
    times, round after round over all loads; figures are medians with their spread.
  - Beside them stand the GPU's memory, clocks, power and temperature during each run, versions,
    flags, the attention backend, and the ceiling that the GPU's memory bandwidth sets.
  - The result is kept on the host as JSON, and compared with the host's baseline, which is the
    first benchmark or the last one with O(set_baseline). Its main figures are put into the endpoint
    record C(<instance>.endpoint.json). With O(reports_dir) it is also on the controller, as JSON
    and as a page.
  - The server is not touched. It must be what was proved last (M(compute_plane.vllm.vllm_service)),
    so that the figures belong to the flags beside them.
author: compute_plane.vllm contributors (@compute-plane)
extends_documentation_fragment:
  - compute_plane.vllm.services.directories
attributes:
  check_mode:
    support: full
    description: Says which loads would be run, and runs none.
  diff_mode:
    support: none
    description: Figures are no state.
options:
  instances:
    description: The instances, measured one after the other.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The instance's name.
        type: str
        required: true
      gpus:
        description: UUIDs of its GPUs.
        type: list
        elements: str
        default: []
      attention_backend:
        description: The attention backend that was planned.
        type: str
      memory:
        description: Its memory as the plan has it, from which the ceiling follows.
        type: dict
  accelerator:
    description: V(cuda) or V(cpu).
    type: str
    required: true
  sweep:
    description:
      - The loads, each with V(concurrency), V(input_tokens) and V(output_tokens), one number or a
        list of numbers, all combinations of which are meant. V(input_tokens) may be V(longest),
        what the context holds beside the answer. V(prompts) is the number of requests of one run;
        by default twice the concurrency, at least 4, and as many as a run of 10 seconds needs.
    type: list
    elements: dict
    required: true
  repeats:
    description: How often each load is run, after a warm-up.
    type: int
    default: 3
  time_limit:
    description: Seconds for each instance after which no further run is begun.
    type: int
    default: 900
  run_timeout:
    description: Seconds that a single run may take.
    type: int
    default: 300
  bandwidth:
    description:
      - Memory bandwidth of one GPU in GB/s (10^9 bytes), for the ceiling. Read from NVML when not
        given; on a CPU there is no ceiling without it.
    type: float
  set_baseline:
    description: Make this benchmark the baseline.
    type: bool
    default: false
  tolerance:
    description: Percent by which a median may be worse than the baseline's.
    type: float
    default: 10
  fail_on_regression:
    description: Fail when a figure is worse than the baseline by more than O(tolerance).
    type: bool
    default: false
  results_dir:
    description: Where results are kept on the host.
    type: path
    default: /var/lib/vllm/benchmarks
  reports_dir:
    description:
      - A folder on the controller for C(<host>-<instance>.json), the result, and
        C(<host>-<instance>.html), the same as a page; also when the task fails by
        O(fail_on_regression). None are written when empty.
    type: str
  user:
    description: The service's user, as whom the client runs.
    type: str
    default: vllm
  tools:
    description: The tools' virtual environment, which has pynvml.
    type: path
    default: /opt/vllm/tools
  progress:
    description: The file in which progress is kept; set by the action plugin.
    type: path
"""

EXAMPLES = r"""
- name: One stream and sixteen, beside the baseline
  compute_plane.vllm.vllm_benchmark:
    accelerator: cuda
    instances:
      - {name: qwen2.5-7b-instruct, gpus: [GPU-8f5d9c1e-3b1a-4c52-9d0e-7a64f1e2b390]}
    sweep:
      - {concurrency: [1, 16], input_tokens: 512, output_tokens: 128}
    fail_on_regression: true
"""

RETURN = r"""
instances:
  description: What was measured of each instance.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: The instance.
      type: str
    result:
      description: The file with everything, on the host. Its form is in docs/benchmark.md.
      type: str
      sample: /var/lib/vllm/benchmarks/qwen2.5-7b-instruct.json
    page:
      description: The same as a page, on the controller.
      type: str
      returned: with O(reports_dir)
      sample: reports/gpu1-qwen2.5-7b-instruct.html
    summary:
      description:
        - C(single_stream) and C(highest_throughput), each with its load, C(output_throughput)
          (tokens/s), C(ttft_ms), C(tpot_ms) and C(reached_percent) of the ceiling.
      type: dict
    lines:
      description: The figures, one line a load, and what differs from the baseline.
      type: list
      elements: str
    baseline:
      description: V(set) when this became the baseline, V(compared), or V(other loads).
      type: str
    worse:
      description: How many figures are worse than the baseline's.
      type: int
    record:
      description: The endpoint record with these figures; null where there is none.
      type: dict
"""

import functools
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import figures
from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark.run import (
    Benchmark,
    BenchmarkError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.directories import (
    DIRECTORIES,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import (
    File,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.record import (
    record_path,
    record_text,
    with_benchmark,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service import serving
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.services import (
    Services,
    run,
)


def subject(services: Services, instance: dict[str, Any]) -> Benchmark:
    """The benchmark of an instance that serves what was proved."""
    name = str(instance["name"])
    now = serving.proved(services, name)
    serving.require(services, now)
    return Benchmark(services.params, instance, now, services.api_key(name))


def engine_log(services: Services, unit: str) -> str:
    """What the server that runs has said of its attention backend."""
    show = services.systemctl("show", "--property", "InvocationID", "--value", unit)
    _status, log, _errors = services.module.run_command(
        [
            *("journalctl", "--no-pager", "--quiet", "--output", "cat"),
            *("--grep", "attention backend|AttentionBackendEnum"),
            f"_SYSTEMD_INVOCATION_ID={show.strip()}",
        ]
    )
    return str(log)


def publish(services: Services, one: Benchmark) -> dict[str, Any] | None:
    """Put the figures into the endpoint's record, and return that; `None` without one."""
    path = record_path(services.params["etc_dir"], one.name)
    record = with_benchmark(read(path), read(one.path(".json")) or "")
    if record is not None:
        File(path, record_text(record)).write()
    return record


def benchmark(services: Services) -> None:
    """Measure every instance, report."""
    try:
        measure_all(services)
    except BenchmarkError as problem:
        services.fail(str(problem))


def measure_all(services: Services) -> None:
    """Measure every instance, and end the task.

    Raises:
        BenchmarkError: One cannot be measured.
    """
    module, params = services.module, services.params
    subjects = [subject(services, instance) for instance in params["instances"]]
    if module.check_mode:
        services.progress.close()
        module.exit_json(
            changed=True,
            instances=[
                {"name": one.name, "lines": [f"would run {point.label}" for point in one.points]}
                for one in subjects
            ],
        )
    worse: list[str] = []
    for one in subjects:
        result = one.measure(
            services.progress, functools.partial(engine_log, services, one.now.unit_name)
        )
        fate = one.keep(result)
        count = result["comparison"]["worse"] if result["comparison"] else 0
        services.results[one.name] = {
            "name": one.name,
            "result": one.path(".json"),
            "summary": result["summary"],
            "lines": one.lines(result),
            "baseline": fate,
            "worse": count,
            "record": publish(services, one),
            "measured": result,
        }
        if count:
            worse += [
                f"{one.name}: {line}"
                for line in figures.comparison_lines(result["comparison"])
                if line.startswith("worse")
            ]
    if worse and params["fail_on_regression"]:
        services.fail(
            f"beyond the tolerance of {params['tolerance']:g} %, beside the baseline:\n"
            + "\n".join(worse)
        )
    services.progress.close()
    module.exit_json(changed=True, instances=list(services.results.values()))


def main() -> None:
    """Run the module."""
    instance: dict[str, dict[str, Any]] = {
        "name": {"type": "str", "required": True},
        "gpus": {"type": "list", "elements": "str", "default": []},
        "attention_backend": {"type": "str"},
        "memory": {"type": "dict"},
    }
    module = AnsibleModule(
        argument_spec={
            "instances": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": instance,
            },
            "accelerator": {"type": "str", "required": True},
            "sweep": {"type": "list", "elements": "dict", "required": True},
            "repeats": {"type": "int", "default": 3},
            "time_limit": {"type": "int", "default": 900},
            "run_timeout": {"type": "int", "default": 300},
            "bandwidth": {"type": "float"},
            "set_baseline": {"type": "bool", "default": False},
            "tolerance": {"type": "float", "default": 10},
            "fail_on_regression": {"type": "bool", "default": False},
            "results_dir": {"type": "path", "default": "/var/lib/vllm/benchmarks"},
            "reports_dir": {"type": "str"},
            "user": {"type": "str", "default": "vllm"},
            **DIRECTORIES,
            "tools": {"type": "path", "default": "/opt/vllm/tools"},
            "progress": {"type": "path"},
        },
        supports_check_mode=True,
    )
    run(module, benchmark)


if __name__ == "__main__":
    main()
