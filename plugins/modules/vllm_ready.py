#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until vLLM instances answer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_ready
short_description: Wait until vLLM instances answer, or say why they do not
version_added: 0.1.0
description:
  - Waits until each instance has computed a token that this module asked for, and shows meanwhile
    what it is doing, such as C(it loads the weights, 43 %).
  - Fails as soon as an instance has crashed or hangs, and at the latest after O(timeout), with the
    instance's state, the evidence, a remedy and the end of its log. All that are not ready
    are named. Starts nothing itself, and changes nothing but, with O(publish), endpoint records.
author: compute_plane.vllm contributors (@compute-plane)
extends_documentation_fragment:
  - compute_plane.vllm.services.directories
attributes:
  check_mode:
    support: full
    description: Looks once, does not wait, does not fail, and writes nothing.
  diff_mode:
    support: none
    description: Of an endpoint record only the state changes.
options:
  instances:
    description: Names of the instances; all that the host has, when empty.
    type: list
    elements: str
    default: []
  timeout:
    description: How long to wait, in seconds.
    type: int
    default: 600
  stall:
    description: Seconds without a sign of work after which a start is taken for hung.
    type: int
    default: 120
  lines:
    description: How many lines of the log a failure shows.
    type: int
    default: 40
  publish:
    description:
      - Say in the endpoint record of each instance C(starting), and C(failed) when it is not ready.
        That it is C(verified) again M(compute_plane.vllm.vllm_verify) says.
    type: bool
    default: false
  progress:
    description: The file in which progress is kept; set by the action plugin.
    type: path
"""

EXAMPLES = r"""
- name: Start anew
  ansible.builtin.systemd_service:
    name: vllm@smollm2.service
    state: restarted
    no_block: true

- name: Check that the instance answers again
  compute_plane.vllm.vllm_ready:
    instances: [smollm2]
    timeout: 300
    publish: true

- name: Check that the answers are right
  compute_plane.vllm.vllm_verify:
    endpoints:
      - {name: smollm2, url: "http://127.0.0.1:8000", served_model_name: smollm2}
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
      evidence: [computed a token in 0.06 s, started 47 s ago]
      ready_seconds: 46.3
  contains:
    name:
      description: The instance.
      type: str
    state:
      description: As M(compute_plane.vllm.vllm_status) has it, like all further keys.
      type: str
    ready_seconds:
      description: Seconds from this module's start to the answer; null where none came.
      type: float
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.directories import (
    DIRECTORIES,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.published import (
    publish_state,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.status.instances import (
    Instance,
    Places,
    deployed,
    failure,
    show_units,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import (
    causes,  # noqa: F401 - sent along: what waits for a start says why it ended
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.classify import (
    ASLEEP,
    BAD,
    SERVING,
    STOPPED,
    Limits,
    Verdict,
)

PAUSE = 1.0
"""Seconds between two looks."""
PATIENCE = 60.0
"""Seconds that the answer to one question may take; a loaded server lets it queue."""
GRACE = 3.0
"""Seconds that systemd may take to begin with what it was just told to do."""
LAST_WORDS = 2.0
"""Seconds that a server's last lines may take to reach the journal."""


class Waiting:
    """One instance that is waited for.

    Args:
        instance: The instance.
        limits: When standing still is hanging.
        timeout: Seconds to wait.
    """

    def __init__(self, instance: Instance, limits: Limits, timeout: float) -> None:
        self.instance = instance
        self.limits = limits
        self.timeout = timeout
        self.verdict = Verdict(STOPPED, "it was not looked at")
        self.ready_seconds: float | None = None
        self.why: str | None = None
        self._restarts: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether it is ready, or will not be."""
        return self.ready_seconds is not None or self.why is not None

    def look(self, show: dict[str, str], elapsed: float) -> None:
        """Look once, and decide whether to go on."""
        sample = self.instance.look(show, ask=True)
        answer = sample.completion
        self.verdict = self.instance.verdict(self.limits)
        answered = answer is not None and answer.outcome == "answered"
        is_there = self.instance.is_follower or self.verdict.state == ASLEEP
        if sample.active_state == "active" and (answered or is_there):
            self.ready_seconds = round(elapsed, 1)
            return
        restarts = sample.restarts or 0
        if self._restarts is None:
            self._restarts = restarts
        if restarts > self._restarts:
            self.verdict = self.instance.verdict_before()
            self.why = f"after {elapsed:.0f} s"
        elif answer is not None and answer.outcome == "denied":
            self.why = "it wants an API key that is not in its environment"
        elif self.verdict.state in (*BAD, STOPPED) and elapsed >= GRACE:
            self.why = f"after {elapsed:.0f} s"
        elif elapsed >= self.timeout:
            self.why = f"not ready after {elapsed:.0f} s"

    def doing(self) -> str:
        """What it is doing, in a few words."""
        return f"{self.instance.name}: {self.verdict.summary}"


def wait(module: AnsibleModule, every: list[Waiting], progress: Progress) -> None:
    """Look at all that are waited for until each is ready, or will not be."""
    began = time.monotonic()
    names = [one.instance.name for one in every]
    while True:
        shown = show_units(module.run_command, names)
        elapsed = time.monotonic() - began
        pending = [one for one in every if not one.is_over]
        for one in pending:
            one.look(shown.get(one.instance.name, {}), elapsed)
        pending = [one for one in pending if not one.is_over]
        if not pending or module.check_mode:
            return
        what = "waiting for " + ", ".join(one.instance.name for one in pending)
        doing = "; ".join(one.doing() for one in pending) if len(every) > 1 else None
        progress.update(what, elapsed=elapsed, detail=doing or pending[0].verdict.summary)
        time.sleep(PAUSE)


def publish(etc_dir: str, every: list[Waiting], state: str) -> bool:
    """Say in the endpoint records how instances are; returns whether one was different."""
    differed = [publish_state(etc_dir, one.instance.name, state) for one in every]
    return any(differed)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "instances": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 600},
            "stall": {"type": "int", "default": 120},
            "lines": {"type": "int", "default": 40},
            "publish": {"type": "bool", "default": False},
            **DIRECTORIES,
            "progress": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    places = Places(params["etc_dir"], params["unit_dir"], params["state_dir"])
    names = sorted(params["instances"] or deployed(places))
    limits = Limits(start_deadline=params["timeout"], start_stall=params["stall"])
    patience = min(PATIENCE, float(params["timeout"]))
    every = [
        Waiting(Instance(name, module.run_command, places, patience), limits, params["timeout"])
        for name in names
    ]
    publishes = params["publish"] and not module.check_mode
    changed = publishes and publish(params["etc_dir"], every, "starting")
    progress = Progress(params["progress"])
    wait(module, every, progress)
    progress.close()
    failed = [one for one in every if one.why is not None]
    if publishes:
        changed = publish(params["etc_dir"], failed, "failed") or changed
    if failed and not module.check_mode:
        time.sleep(LAST_WORDS)
    results: list[dict[str, Any]] = []
    for one in every:
        if one.ready_seconds is not None and one.verdict.state not in SERVING:
            # The answer is newer than the counters.
            one.verdict = Verdict(SERVING[0], "it has just answered", one.verdict.evidence)
        described = one.instance.describe(one.verdict, lines=0)
        results.append({**described, "ready_seconds": one.ready_seconds})
    if failed and not module.check_mode:
        message = "\n".join(
            failure(one.instance, one.verdict, one.why or "", params["lines"]) for one in failed
        )
        module.fail_json(msg=message, changed=changed, instances=results)
    module.exit_json(changed=changed, instances=results)


if __name__ == "__main__":
    main()
