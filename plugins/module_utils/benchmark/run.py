# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One instance's benchmark: which loads, the measurement, the result and its baseline."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Mapping
from typing import Any, Callable

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import (
    ceiling,
    client,
    figures,
    measure,
    subject,
    sweep,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.directories import PROVED
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import File
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    EndpointError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import Deployment
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.kinds import GENERATING

SCHEMA = 1


class BenchmarkError(Exception):
    """An instance cannot be measured; the message says why."""


class Benchmark:
    """One instance's benchmark.

    Args:
        params: The module's parameters.
        instance: The instance as the task gives it.
        now: What serves.
        key: The key that requests need, or `None`.

    Raises:
        BenchmarkError: The loads are wrong, none fits, or the server does not answer.
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        instance: Mapping[str, Any],
        now: Deployment,
        key: str | None,
    ) -> None:
        self.params = params
        self.instance = instance
        self.name = str(instance["name"])
        self.now = now
        self.flags = now.config
        self.key = key
        if now.kind in client.CANNOT:
            raise BenchmarkError(f"{self.name} cannot be measured: {client.CANNOT[now.kind]}")
        try:
            self.points, self.skipped = sweep.expand(
                params["sweep"],
                measure.context_length(now, key),
                generates=now.kind in GENERATING,
            )
        except EndpointError as error:
            raise BenchmarkError(f"{now.url} cannot be measured: {error}") from error
        except sweep.SweepError as problem:
            raise BenchmarkError(str(problem)) from problem
        if not self.points:
            reason = self.skipped[0]["reason"]
            raise BenchmarkError(f"none of the loads fits {self.name}: {reason}")

    def path(self, suffix: str) -> str:
        """Where one of the instance's files is."""
        return os.path.join(self.params["results_dir"], f"{self.name}{suffix}")

    def _limits(self, gpus: list[dict[str, Any]]) -> dict[str, Any]:
        if self.now.kind not in GENERATING:
            return {
                "reason": "a model that generates nothing does not read its weights token by token"
            }
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

    def measure(self, progress: Progress, engine_log: Callable[[], str]) -> dict[str, Any]:
        """Measure.

        Args:
            progress: Told of each run.
            engine_log: What the server has said of its attention backend, asked in the end.

        Returns:
            The result, as docs/benchmark.md has it, not yet compared.

        Raises:
            BenchmarkError: A run failed.
        """
        params, now = self.params, self.now
        seed = measure.new_seed()
        began = time.monotonic()
        measured_at = datetime.datetime.now(datetime.timezone.utc)

        def tell(point: sweep.Point, number: int, count: int, left: float | None) -> None:
            progress.update(
                f"measuring {self.name}",
                elapsed=time.monotonic() - began,
                detail=measure.progress_text(point, number, count, left),
            )

        progress.update(f"starting vLLM's client for {self.name}")
        python = os.path.join(params["tools"], "bin", "python")
        lifetime = (
            client.START_TIMEOUT + params["time_limit"] + params["run_timeout"] + client.SPARE
        )
        try:
            with (
                client.BenchClient(self.name, now.venv, now.user, lifetime, self.key) as runner,
                client.GpuWatch(self.instance["gpus"], python) as watch,
            ):
                at = time.time()
                runner.wait_until_ready()
                # Nothing has been asked while vLLM was imported.
                idle = watch.between(at, time.time())
                limits = self._limits(watch.gpus)
                points = measure.measure(
                    runner, watch, now, self.points, params, seed=seed, limits=limits, tell=tell
                )
        except client.BenchClientError as error:
            raise BenchmarkError(f"{self.name} could not be measured: {error}") from error
        proved = subject.read_json(os.path.join(now.venv, PROVED))
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
                "engine": subject.backend_in_log(engine_log()),
            },
            "gpus": watch.gpus,
            "idle": idle,
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
        """Compare, and write the result and, where it is one, the baseline.

        Returns:
            What became of the baseline.
        """
        baseline = subject.read_json(self.path(".baseline.json")) or None
        fate = "set"
        if baseline is not None and baseline.get("schema") == SCHEMA:
            comparison = figures.compare(result, baseline, self.params["tolerance"])
            result["comparison"] = comparison
            fate = "compared" if comparison["rows"] else "other loads"
        text = json.dumps(result, indent=1) + "\n"
        File(self.path(".json"), text).write()
        # Former releases kept a page here, which would now be that of another benchmark.
        File(self.path(".html"), None).write()
        if self.params["set_baseline"] or result["comparison"] is None:
            File(self.path(".baseline.json"), text).write()
            fate = "set"
        return fate

    def lines(self, result: dict[str, Any]) -> list[str]:
        """The result for a terminal."""
        lines = [point_line(point) for point in result["points"] if point["runs"]]
        lines += idle_lines(result["idle"])
        lines += [
            f"{figures.load_text(point)}: left out, {point['reason']}"
            for point in result["skipped"]
        ]
        if result["comparison"]:
            lines += figures.comparison_lines(result["comparison"])
        return lines


def idle_lines(idle: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the GPUs take without requests, for a terminal; no line where one does not tell."""
    watts = [gpu["power_watts"] for gpu in idle.values()]
    return [f"without requests: {sum(watts):.0f} W"] if watts and None not in watts else []


def point_line(point: dict[str, Any]) -> str:
    """One load's figures for a terminal."""
    if not point["output_tokens"]:
        rate, tokens, latency = (point["figures"][name] for name in measure.POOLED)
        return (
            f"{figures.load_text(point)}: {rate['median']:.1f} requests/s "
            f"(spread {rate['spread_percent']:g} %), {tokens['median']:.0f} tokens/s, "
            f"latency {latency['median']:.1f} ms"
        )
    output, ttft, tpot = (
        point["figures"][name] for name in ("output_throughput", "ttft_ms", "tpot_ms")
    )
    text = (
        f"{figures.load_text(point)}: {output['median']:.1f} tokens/s "
        f"(spread {output['spread_percent']:g} %)"
    )
    if ttft:
        text += f", TTFT {ttft['median']:.1f} ms"
    if tpot:
        text += f", TPOT {tpot['median']:.2f} ms"
    if point["reached_percent"] is not None:
        text += f", {point['reached_percent']:g} % of the ceiling"
    return text
