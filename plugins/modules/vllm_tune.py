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
    A run that was killed is made good by the next run of the site playbook.
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
  - compute_plane.vllm.services.directories
  - compute_plane.vllm.verification
options:
  space:
    description:
      - To the task, a mapping of settings to the values to try. The settings are C(enforce_eager),
        C(attention_backend) (V(working) for all that the plan finds to work), C(max_num_seqs),
        C(gpu_memory_utilization), C(max_model_len), C(dtype), C(cpu_kvcache_space) and
        C(extra_args) (each value a mapping). Those without a meaning on the accelerator are left
        out.
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
        V(throughput) the output tokens a second under the load with the most, and V(startup) the
        time from a start with filled caches to the first token.
    type: str
    choices: [latency, throughput, startup]
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
    wanted: "{{ vllm_preflight_wanted }}"
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

import datetime
import json
import os
import random
import signal
import time
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import (
    client,
    measure,
    sweep,
    tuning,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import File
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    Endpoint,
    EndpointError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import Deployment
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import needs_start
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.services import (
    ARGUMENTS,
    Services,
    StartFailed,
    run,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.short import verify

SCHEMA = 1
SPARE = 600.0
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
        record = services.record(self.name)
        if record is None:
            services.fail(f"{self.name} was never proved here; run the site playbook first")
        self.former: Deployment = record.current
        self.flags = self.former.config
        self.key = services.api_key(self.name)
        reason = self._why_not()
        if reason is not None:
            services.fail(f"{self.former.unit_name} {reason}; run the site playbook first")
        self.seen: dict[str, dict[str, Any]] = {}
        self.trying = self.former
        self.began = time.monotonic()

    def _why_not(self) -> str | None:
        """Why what serves cannot be compared with what the inventory says."""
        if not tuning.is_deployed(
            self.former, self._config(self.first), self.present["environment"]
        ):
            return "is not what the inventory says"
        reason = self._start_reason(self.former)
        return None if reason is None else f"does not run as it was proved: {reason}"

    def _start_reason(self, wanted: Deployment) -> str | None:
        state = self.services.show([wanted.unit_name])[wanted.unit_name]
        running = self.services.running(state)
        return needs_start(state.get("ActiveState", ""), running, wanted.fingerprint)

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
        try:
            return self.services.restart(wanted)
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

    def _context(self, wanted: Deployment) -> int | None:
        """The server's context length, in tokens."""
        try:
            models = Endpoint(wanted.url, self.key, 30.0).models()
        except EndpointError as error:
            raise CandidateFailed(str(error)) from error
        lengths = [one.get("max_model_len") for one in models]
        return lengths[0] if lengths and isinstance(lengths[0], int) else None

    def _measure(
        self, wanted: Deployment, runner: client.Client, what: str
    ) -> list[dict[str, Any]]:
        points, _skipped = sweep.expand(self.params["sweep"], self._context(wanted))
        if not points:
            raise CandidateFailed("its context holds none of the loads")
        seed = random.SystemRandom().randrange(1 << 30)
        flags = wanted.config
        gpus = self.present["gpus"]

        def tell(point: sweep.Point, number: int, count: int, _left: float | None) -> None:
            self._tell(f"measuring {what}", measure.progress_text(point, number, count, None))

        try:
            with client.GpuWatch(gpus, TOOLS_PYTHON) as watch:
                return measure.measure(
                    runner,
                    watch,
                    lambda point, number: client.run_argv(
                        wanted.url, wanted.served_model_name, flags, point, number
                    ),
                    points,
                    repeats=self.params["repeats"],
                    seed=seed,
                    time_limit=self.params["time_limit"],
                    run_timeout=self.params["run_timeout"],
                    limits=NO_CEILING,
                    tell=tell,
                )
        except client.ClientError as error:
            raise CandidateFailed(str(error)) from error

    def _tell(self, what: str, detail: str = "") -> None:
        """Show where the search stands, with an estimate from the candidates that were tried."""
        tried = len(self.seen)
        elapsed = time.monotonic() - self.began
        most = 1 + tuning.most_starts(self.space)
        if tried:
            left = measure.human_seconds(elapsed / tried * max(1, most - tried))
            detail = "; ".join(part for part in (detail, f"at most about {left} left") if part)
        where = f"candidate {tried + 1} of at most {most}, {what}"
        self.services.progress.update(where, elapsed=elapsed, detail=detail)

    def try_one(self, choice: tuning.Choice, runner: client.Client) -> None:
        """Start, prove and measure a candidate, and note what became of it.

        Raises:
            TakenOver: Somebody else has changed the instance.
        """
        wanted = self.deployment(choice)
        serving = wanted.fingerprint == self.former.fingerprint
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
            if not serving or self.params["goal"] == "startup":
                self._tell(f"starting {what}")
                row["ready_seconds"] = self.start(wanted)
                if self.params["goal"] == "startup":
                    # The first start has filled the caches of compiled code.
                    row["ready_seconds"] = self.start(wanted)
            self._prove(wanted)
            row["points"] = self._measure(wanted, runner, what)
            if self._start_reason(wanted) is not None:
                raise CandidateFailed("it ended while it was measured")
            row["state"] = "measured"
        except (CandidateFailed, StartFailed) as problem:
            row["reason"] = str(problem)
            self._see_who_restarted(wanted)
        row["score"] = (
            tuning.score(row, self.params["goal"]) if row["state"] == "measured" else None
        )
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
            + SPARE
            + (1 + tuning.most_starts(self.space))
            * (2 * self.params["start_timeout"] + self.params["time_limit"])
        )
        with client.Client(
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
        if self._start_reason(former) is not None:
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
        return [row_line(row, row["choice"] == best) for row in self.rows()]

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
            parts.append(f"{load} {output['median']:.1f} tokens/s{answer}")
    return f"{name}: {'; '.join(parts)}{' (best)' if best else ''}"


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
            raise
        except BaseException:
            tuned.restore()
            raise
        tuned.restore()
    except TakenOver as problem:
        # Whoever changed it is bringing about what he wants; going back would fight that.
        services.fail(f"{tuned.name} is left as it is: {problem}")
    except (CandidateFailed, client.ClientError) as problem:
        services.fail(f"{problem}\nThe former configuration of {tuned.name} is serving.")
    lines = tuning.inventory_lines(best, tuned.first)
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
