# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tries settings of an instance: each is started in its place, proved, measured, and taken back."""

from __future__ import annotations

import datetime
import json
import os
import time
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import (
    client,
    measure,
    sweep,
    tuning,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark.power_limits import (
    LimitError,
    PowerLimits,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import File
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.numbers import human_seconds
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    Endpoint,
    EndpointError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import Deployment
from ansible_collections.compute_plane.vllm.plugins.module_utils.service import serving
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.failures import StartFailed
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.services import Services
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.kinds import GENERATING
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.short import verify

SCHEMA = 1
SETTLED = 90.0
"""Seconds beyond the time for requests that a server may take to be stopped."""
TOOLS_PYTHON = "/opt/vllm/tools/bin/python"
BACKEND = "attention-backend"
NO_CEILING = {"reason": "a comparison of settings has none"}


class CandidateFailed(Exception):
    """A candidate did not come up, answered wrongly, or could not be measured."""


class TakenOver(Exception):
    """Somebody else has changed the instance in the meantime."""


class Tuning:
    """One instance's tuning.

    Args:
        services: The host's services.
    """

    def __init__(self, services: Services) -> None:
        self.services = services
        self.params = services.params
        rows = self.params["candidates"]
        self.planned = {tuning.key(row["choice"]): row for row in rows}
        self.space: dict[str, list[Any]] = self.params["space"]
        self.first = rows[0]["choice"]
        self.present = rows[0]["instance"]
        self.name = str(self.present["name"])
        self.former = serving.proved(services, self.name)
        if self.former.kind not in GENERATING:
            services.fail(
                f"{self.name} cannot be tuned: its kind is {self.former.kind}, and what "
                "tuning looks for is the most tokens that are generated in a second"
            )
        self.flags = self.former.config
        self.key = services.api_key(self.name)
        if not tuning.is_deployed(
            self.former, self._config(self.first), self.present["environment"]
        ):
            unit = self.former.unit_name
            services.fail(f"{unit} is not what the inventory says; {serving.FIRST}")
        serving.require(services, self.former)
        self.seen: dict[str, dict[str, Any]] = {}
        self.trying = self.former
        # What runs, by its fingerprint; None after a start that failed.
        self.up: str | None = self.former.fingerprint
        try:
            self.limits = PowerLimits(self.present["gpus"] if tuning.POWER in self.space else [])
        except LimitError as problem:
            services.fail(f"{self.name} cannot be tuned: {problem}")
        self.began = time.monotonic()

    def _config(self, choice: tuning.Choice) -> dict[str, Any]:
        """A choice's flags. What the plan may leave open is as it was deployed."""
        row = self.planned[tuning.key(choice)]
        flags = {**row["instance"]["config"], "model": self.flags["model"]}
        if row["keeps_backend"] and BACKEND in self.flags:
            flags[BACKEND] = self.flags[BACKEND]
        return flags

    def deployment(self, choice: tuning.Choice) -> Deployment:
        """What a choice is deployed as: what serves, with its flags and variables."""
        before = self.present["environment"]
        after = self.planned[tuning.key(choice)]["instance"]["environment"]
        flags = self._config(choice)
        if flags == self.flags and before == after:
            return self.former
        return tuning.variant(self.former, before, flags, after)

    def _files(self, wanted: Deployment) -> list[File]:
        """The files that differ between candidates; the instance's secrets stay as they are."""
        config = self.services.config_path(self.name)
        return [
            File(config, wanted.config_text, mode=0o640, group=wanted.user),
            File(self.services.drop_in_path(self.name), wanted.drop_in_text),
        ]

    def give_limits_back(self) -> None:
        """Give the GPUs the power limits that they had."""
        try:
            self.limits.give_back()
        except LimitError as problem:
            self.services.module.warn(f"{self.name}: {problem}")

    # -- one candidate --------------------------------------------------------------------------

    def _is_on_disk(self, wanted: Deployment) -> bool:
        """Whether a configuration is the one that the next start takes."""
        return all(file.is_right() for file in self._files(wanted))

    def _own_files(self, *expected: Deployment) -> None:
        """See that nobody else has written the configuration.

        Args:
            expected: What may be on the disk.

        Raises:
            TakenOver: It is something else.
        """
        if not any(self._is_on_disk(one) for one in expected):
            raise TakenOver(f"{self.services.config_path(self.name)} was changed by somebody else")

    def _see_who_restarted(self, wanted: Deployment) -> None:
        """After a failure: whether the candidate ended by itself.

        systemd, too, starts the former configuration when a candidate ends, and counts that.

        Raises:
            TakenOver: Somebody has restarted the server.
        """
        former = self.former
        until = time.monotonic() + self.params["drain"] + SETTLED
        while True:
            state = self.services.show([former.unit_name])[former.unit_name]
            # A server that somebody restarts is first seen as one that is being stopped.
            settled = state.get("ActiveState") in ("active", "failed")
            if settled or self.services.running(state) == former.fingerprint:
                break
            if time.monotonic() > until:
                break
            time.sleep(1.0)
        other = wanted.fingerprint != former.fingerprint
        by_itself = int(state.get("NRestarts") or 0) > 0
        if other and self.services.running(state) == former.fingerprint and not by_itself:
            raise TakenOver(f"{former.unit_name} was restarted by somebody else")

    def start(self, wanted: Deployment) -> float:
        """Start a candidate in the place of the server; its files are gone when it serves.

        Raises:
            StartFailed: It computed no token.
            TakenOver: Somebody else has changed the configuration.
        """
        self._own_files(self.former)
        self.trying = wanted
        # Until what was verified serves again, nobody should rely on the endpoint.
        self.services.publish(self.name, "starting")
        self.services.write(self._files(wanted))
        self.up = None
        try:
            seconds = self.services.restart(wanted)
            self.up = wanted.fingerprint
            return seconds
        finally:
            if self._is_on_disk(wanted):
                self.services.write(self._files(self.former))

    def _prove(self, wanted: Deployment) -> None:
        checks = verify(
            Endpoint(wanted.url, self.key, self.params["answer_timeout"]),
            wanted.served_model_name,
            wanted.release,
            wanted.max_model_len,
            self.params["proof"],
        )
        wrong = [f"{check['name']}: {check['detail']}" for check in checks if not check["passed"]]
        if wrong:
            raise CandidateFailed("; ".join(wrong))

    def _measure(
        self, wanted: Deployment, runner: client.BenchClient, what: str
    ) -> list[dict[str, Any]]:
        try:
            context = measure.context_length(wanted, self.key)
        except EndpointError as error:
            raise CandidateFailed(str(error)) from error
        points, _skipped = sweep.expand(self.params["sweep"], context)
        if not points:
            raise CandidateFailed("its context holds none of the loads")

        def tell(point: sweep.Point, number: int, count: int, _left: float | None) -> None:
            self._tell(f"measuring {what}", measure.progress_text(point, number, count, None))

        try:
            with client.GpuWatch(self.present["gpus"], TOOLS_PYTHON) as watch:
                return measure.measure(
                    runner,
                    watch,
                    wanted,
                    points,
                    self.params,
                    seed=measure.new_seed(),
                    limits=NO_CEILING,
                    tell=tell,
                )
        except client.BenchClientError as error:
            raise CandidateFailed(str(error)) from error

    def _tell(self, what: str, detail: str = "") -> None:
        """Show where the search stands, with an estimate from the candidates that were tried."""
        tried = len(self.seen)
        elapsed = time.monotonic() - self.began
        most = 1 + tuning.most_starts(self.space)
        if tried:
            left = human_seconds(elapsed / tried * max(1, most - tried))
            detail = "; ".join(part for part in (detail, f"at most about {left} left") if part)
        where = f"candidate {tried + 1} of at most {most}, {what}"
        self.services.progress.update(where, elapsed=elapsed, detail=detail)

    def try_one(self, choice: tuning.Choice, runner: client.BenchClient) -> None:
        """Start, prove and measure a candidate, and note what became of it.

        Raises:
            TakenOver: Somebody else has changed the instance.
        """
        wanted = self.deployment(choice)
        row: dict[str, Any] = {
            "choice": choice,
            "state": "failed",
            "reason": None,
            "ready_seconds": None,
            "config": wanted.config,
            "points": [],
        }
        what = tuning.label(choice)
        try:
            self.limits.set(self.planned[tuning.key(choice)]["gpu_power"])
            if self.up != wanted.fingerprint or self.params["goal"] == "startup":
                self._tell(f"starting {what}")
                row["ready_seconds"] = self.start(wanted)
                if self.params["goal"] == "startup":
                    # The first start has filled the caches of compiled code.
                    row["ready_seconds"] = self.start(wanted)
            self._prove(wanted)
            row["points"] = self._measure(wanted, runner, what)
            if serving.why_not(self.services, wanted) is not None:
                raise CandidateFailed("it ended while it was measured")
            row["state"] = "measured"
        except (CandidateFailed, LimitError, StartFailed) as problem:
            row["reason"] = str(problem)
            self.up = None
            self._see_who_restarted(wanted)
        row["score"] = (
            tuning.score(row, self.params["goal"]) if row["state"] == "measured" else None
        )
        if row["state"] == "measured" and row["score"] is None:
            row["reason"] = f"there is no figure for the goal {self.params['goal']}"
        self.seen[tuning.key(choice)] = row

    # -- the search -----------------------------------------------------------------------------

    def search(self) -> tuning.Choice:
        """Try candidates until none is left; returns the best choice.

        Raises:
            TakenOver: Somebody else has changed the instance.
        """
        possible = [key for key, row in self.planned.items() if not row["problems"]]
        lifetime = (
            client.START_TIMEOUT
            + client.SPARE
            + (1 + tuning.most_starts(self.space))
            * (2 * self.params["start_timeout"] + self.params["time_limit"])
        )
        with client.BenchClient(
            self.name, self.former.venv, self.former.user, lifetime, self.key
        ) as runner:
            self._tell("starting vLLM's client")
            runner.wait_until_ready()
            while True:
                scores = {key: row["score"] for key, row in self.seen.items()}
                best, choice = tuning.walk(self.space, possible, scores, self.params["margin"])
                if choice is None:
                    return best
                self.try_one(choice, runner)
                if len(self.seen) == 1 and self.seen[tuning.key(choice)]["score"] is None:
                    reason = self.seen[tuning.key(choice)]["reason"]
                    raise CandidateFailed(f"what serves now could not be measured: {reason}")

    def restore(self) -> None:
        """Let the former configuration serve again.

        Raises:
            TakenOver: Somebody else has changed the configuration.
        """
        former = self.former
        self._own_files(former, self.trying)
        self.services.progress.update(f"the former {self.name} is serving again")
        self.services.write(self._files(former))
        if serving.why_not(self.services, former) is not None:
            try:
                self.services.restart(former)
            except StartFailed as failure:
                self.services.fail(
                    f"the former configuration of {self.name} does not come up again: {failure}"
                )
        self.services.publish(self.name, "verified")

    # -- the result -----------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """Every candidate: what was tried, then what the plan refuses."""
        refused = [
            {
                "choice": row["choice"],
                "state": "impossible",
                "reason": "; ".join(row["problems"]),
                "ready_seconds": None,
                "score": None,
                "points": [],
            }
            for row in self.planned.values()
            if row["problems"] and self._is_near(row["choice"])
        ]
        return [*self.seen.values(), *refused]

    def _is_near(self, choice: tuning.Choice) -> bool:
        """Whether a choice differs from the inventory's in one setting, so that it says its own."""
        return len([name for name in choice if choice[name] != self.first[name]]) == 1

    def report(self, best: tuning.Choice) -> list[str]:
        """The candidates for a terminal."""
        lines = [row_line(row, row["choice"] == best) for row in self.rows()]
        cost = tuning.cost(self.seen[tuning.key(self.first)], self.seen[tuning.key(best)])
        if best != self.first and cost:
            lines.append(f"{tuning.label(best)}: {cost}")
        return lines

    def gpu_power(self, best: tuning.Choice) -> dict[str, float]:
        """The power limits of the host's cards with a choice made, watts by UUID."""
        limits: dict[str, float] = self.planned[tuning.key(best)]["gpu_power"]
        return limits

    def lines(self, best: tuning.Choice) -> list[str]:
        """The lines by which the inventory makes a choice."""
        lines = tuning.inventory_lines(best, self.first)
        if best.get(tuning.POWER) is not None:
            limits = json.dumps(self.gpu_power(best))
            lines.append(f"vllm_gpu_power_limit: {limits}  # of the host, beside vllm_instances")
        return lines

    def keep(self, best: tuning.Choice, lines: list[str]) -> str:
        """Write the result; returns its path."""
        result = {
            "schema": SCHEMA,
            "instance": self.name,
            "measured_at": datetime.datetime.now(datetime.timezone.utc).isoformat(
                timespec="seconds"
            ),
            "seconds": round(time.monotonic() - self.began, 1),
            "release": self.former.release,
            "accelerator": self.params["accelerator"],
            "goal": self.params["goal"],
            "margin": self.params["margin"],
            "space": self.space,
            "best": best,
            "lines": lines,
            "candidates": self.rows(),
        }
        path = os.path.join(self.params["results_dir"], f"{self.name}.tune.json")
        File(path, json.dumps(result, indent=1) + "\n").write()
        return path


def row_line(row: dict[str, Any], best: bool) -> str:
    """One candidate for a terminal."""
    name = tuning.label(row["choice"])
    if row["state"] != "measured":
        return f"{name}: {row['state']}: {str(row['reason']).splitlines()[0]}"
    parts = [] if row["ready_seconds"] is None else [f"ready in {row['ready_seconds']:g} s"]
    for point in row["points"]:
        output, whole = point["figures"]["output_throughput"], point["figures"]["e2el_ms"]
        if output:
            answer = f", answer {whole['median']:.0f} ms" if whole else ""
            load = "{concurrency} x {input_tokens}+{output_tokens}".format(**point)
            joules = tuning.joules_a_token(point)
            energy = f", {1 / joules:.2f} tokens/J" if joules else ""
            parts.append(f"{load} {output['median']:.1f} tokens/s{answer}{energy}")
    return f"{name}: {'; '.join(parts)}{' (best)' if best else ''}"
