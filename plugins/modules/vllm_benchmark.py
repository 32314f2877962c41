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
  - The result is kept on the host as JSON and as a page, and compared with the host's baseline,
    which is the first benchmark or the last one with O(set_baseline). Its main figures are put into
    the endpoint record C(<instance>.endpoint.json).
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
      description: The same as a page.
      type: str
      sample: /var/lib/vllm/benchmarks/qwen2.5-7b-instruct.html
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

import datetime
import json
import os
import random
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import (
    ceiling,
    client,
    figures,
    measure,
    page,
    subject,
    sweep,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import (
    DIRECTORIES,
    File,
    read,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    Endpoint,
    EndpointError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import Deployment
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import needs_start
from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.record import (
    record_path,
    record_text,
    with_benchmark,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.services import (
    Services,
    run,
)

SCHEMA = 1
SPARE = 600.0
"""Seconds beyond the time limit after which systemd ends the client by itself."""


class Benchmark:
    """One instance's benchmark.

    Args:
        services: The host's services.
        instance: The instance as the task gives it.
    """

    def __init__(self, services: Services, instance: dict[str, Any]) -> None:
        self.services = services
        self.params = services.params
        self.instance = instance
        self.name = str(instance["name"])
        self.deployment = self._deployment()
        self.flags = self.deployment.config
        self.key = services.api_key(self.name)
        try:
            self.points, self.skipped = sweep.expand(self.params["sweep"], self._context())
        except sweep.SweepError as problem:
            services.fail(str(problem))
        if not self.points:
            services.fail(f"none of the loads fits {self.name}: {self.skipped[0]['reason']}")

    def _deployment(self) -> Deployment:
        """What was proved last and runs."""
        record = self.services.record(self.name)
        if record is None:
            self.services.fail(f"{self.name} was never proved here; run the site playbook first")
        now = record.current
        state = self.services.show([now.unit_name])[now.unit_name]
        reason = needs_start(
            state.get("ActiveState", ""), self.services.running(state), now.fingerprint
        )
        if reason is not None:
            self.services.fail(
                f"{now.unit_name} does not run as it was proved: {reason}; "
                "run the site playbook first"
            )
        return now

    def _context(self) -> int | None:
        """The server's own context length, in tokens."""
        try:
            models = Endpoint(self.deployment.url, self.key, 30.0).models()
        except EndpointError as error:
            self.services.fail(f"{self.deployment.url} cannot be measured: {error}")
        for model in models:
            if model.get("id") == self.deployment.served_model_name:
                length = model.get("max_model_len")
                return length if isinstance(length, int) else None
        return None

    def path(self, suffix: str) -> str:
        """Where one of the instance's files is."""
        return os.path.join(self.params["results_dir"], f"{self.name}{suffix}")

    def _limits(self, gpus: list[dict[str, Any]]) -> dict[str, Any]:
        model = str(self.flags.get("model"))
        config = subject.read_json(os.path.join(model, "config.json"))
        stated = self.params["bandwidth"]
        return ceiling.make(
            self.instance["memory"],
            config,
            subject.is_tied(model, config),
            self.flags,
            gpus,
            None if stated is None else stated * 1e9,
        )

    def _engine_backend(self) -> str | None:
        """The attention backend as the running server's log tells it."""
        unit = self.deployment.unit_name
        show = self.services.systemctl("show", "--property", "InvocationID", "--value", unit)
        _status, log, _errors = self.services.module.run_command(
            [
                *("journalctl", "--no-pager", "--quiet", "--output", "cat"),
                *("--grep", "attention backend|AttentionBackendEnum"),
                f"_SYSTEMD_INVOCATION_ID={show.strip()}",
            ]
        )
        return subject.backend_in_log(str(log))

    def measure(self) -> dict[str, Any]:
        """Measure, and return the result."""
        params, now = self.params, self.deployment
        seed = random.SystemRandom().randrange(1 << 30)
        began = time.monotonic()
        measured_at = datetime.datetime.now(datetime.timezone.utc)

        def tell(point: sweep.Point, number: int, count: int, left: float | None) -> None:
            self.services.progress.update(
                f"measuring {self.name}",
                elapsed=time.monotonic() - began,
                detail=measure.progress_text(point, number, count, left),
            )

        self.services.progress.update(f"starting vLLM's client for {self.name}")
        python = os.path.join(params["tools"], "bin", "python")
        lifetime = client.START_TIMEOUT + params["time_limit"] + params["run_timeout"] + SPARE
        try:
            with (
                client.Client(self.name, now.venv, now.user, lifetime, self.key) as runner,
                client.GpuWatch(self.instance["gpus"], python) as watch,
            ):
                runner.wait_until_ready()
                limits = self._limits(watch.gpus)
                points = measure.measure(
                    runner,
                    watch,
                    lambda point, number: client.run_argv(
                        now.url, now.served_model_name, self.flags, point, number
                    ),
                    self.points,
                    repeats=params["repeats"],
                    seed=seed,
                    time_limit=params["time_limit"],
                    run_timeout=params["run_timeout"],
                    limits=limits,
                    tell=tell,
                )
        except client.ClientError as error:
            self.services.fail(f"{self.name} could not be measured: {error}")
        proved = subject.read_json(os.path.join(now.venv, ".proved.json"))
        return {
            "schema": SCHEMA,
            "instance": self.name,
            "measured_at": measured_at.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - began, 1),
            "url": now.url,
            "served_model_name": now.served_model_name,
            "model": self.flags.get("model"),
            "release": now.release,
            "accelerator": params["accelerator"],
            "versions": proved.get("versions") or {},
            "config": self.flags,
            "fingerprint": now.fingerprint,
            "attention_backend": {
                "planned": self.instance["attention_backend"],
                "engine": self._engine_backend(),
            },
            "gpus": watch.gpus,
            "repeats": params["repeats"],
            "time_limit": params["time_limit"],
            "seed": seed,
            "ceiling": limits,
            "summary": measure.headline(points),
            "points": points,
            "skipped": [
                *self.skipped,
                *[
                    {
                        **{key: point[key] for key in sweep.LOAD},
                        "reason": f"the time limit of {params['time_limit']} s was over",
                    }
                    for point in points
                    if not point["runs"]
                ],
            ],
            "comparison": None,
        }

    def keep(self, result: dict[str, Any]) -> str:
        """Compare, and write result, page and, where it is one, baseline.

        Returns:
            What became of the baseline.
        """
        baseline = subject.read_json(self.path(".baseline.json")) or None
        fate = "set"
        if baseline is not None and baseline.get("schema") == SCHEMA:
            comparison = figures.compare(result, baseline, self.params["tolerance"])
            result["comparison"] = comparison
            fate = "compared" if comparison["rows"] else "other loads"
        files = [
            (".json", json.dumps(result, indent=1) + "\n"),
            (".html", page.page(result, baseline if result["comparison"] else None)),
        ]
        if self.params["set_baseline"] or result["comparison"] is None:
            files.append((".baseline.json", json.dumps(result, indent=1) + "\n"))
            fate = "set"
        for suffix, text in files:
            File(self.path(suffix), text).write()
        return fate

    def publish(self) -> dict[str, Any] | None:
        """Put the figures into the endpoint's record, and return that; C(None) without one."""
        path = record_path(self.params["etc_dir"], self.name)
        record = with_benchmark(read(path), read(self.path(".json")) or "")
        if record is not None:
            File(path, record_text(record)).write()
        return record

    def lines(self, result: dict[str, Any]) -> list[str]:
        """The result for a terminal."""
        lines = [
            point_line(point) for point in result["points"] if point["figures"]["output_throughput"]
        ]
        lines += [
            f"{point['concurrency']} x {point['input_tokens']}+{point['output_tokens']}: left out, "
            f"{point['reason']}"
            for point in result["skipped"]
        ]
        if result["comparison"]:
            lines += figures.comparison_lines(result["comparison"])
        return lines


def point_line(point: dict[str, Any]) -> str:
    """One load's figures for a terminal."""
    output, ttft, tpot = (
        point["figures"][name] for name in ("output_throughput", "ttft_ms", "tpot_ms")
    )
    text = (
        f"{point['concurrency']} x {point['input_tokens']}+{point['output_tokens']}: "
        f"{output['median']:.1f} tokens/s (spread {output['spread_percent']:g} %)"
    )
    if ttft:
        text += f", TTFT {ttft['median']:.1f} ms"
    if tpot:
        text += f", TPOT {tpot['median']:.2f} ms"
    if point["reached_percent"] is not None:
        text += f", {point['reached_percent']:g} % of the ceiling"
    return text


def benchmark(services: Services) -> None:
    """Measure every instance, report."""
    module, params = services.module, services.params
    subjects = [Benchmark(services, instance) for instance in params["instances"]]
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
        result = one.measure()
        fate = one.keep(result)
        count = result["comparison"]["worse"] if result["comparison"] else 0
        services.results[one.name] = {
            "name": one.name,
            "result": one.path(".json"),
            "page": one.path(".html"),
            "summary": result["summary"],
            "lines": one.lines(result),
            "baseline": fate,
            "worse": count,
            "record": one.publish(),
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
