#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configure, start and prove the vLLM services of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_service
short_description: Configure and start vLLM servers, one systemd service an instance
version_added: 0.1.0
description:
  - Puts the template unit, and for each instance vLLM's configuration file and a drop-in, in place,
    after C(systemd-analyze verify) has found nothing wrong with them; starts what is not running or
    runs with another configuration; and waits until each server has computed a token.
  - Instances are started one after the other, since two servers that measure a GPU's free memory at
    the same time mislead each other.
  - When a changed instance does not become ready, or its answers are wrong, what was proved of it
    last comes back, with the release it was proved with; the task fails.
  - What was proved, and what was proved before that, is kept under O(state_dir) for
    M(compute_plane.vllm.vllm_rollback). Releases that nothing uses are removed.
  - What has to be started is told from what the running server was started with, so that an
    interrupted run is made good by the next one.
  - Drop-ins of other names are the user's and are never touched.
  - All of a host's instances are looked at in one go, since a round trip each would cost more than
    the work.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: Says which files and services would change.
  diff_mode:
    support: full
    description: Shows the files before and after.
extends_documentation_fragment:
  - compute_plane.vllm.services
  - compute_plane.vllm.lock
  - compute_plane.vllm.code
  - compute_plane.vllm.services.directories
  - compute_plane.vllm.verification
options:
  release:
    description: vLLM's version that must answer, such as V(0.14.1).
    type: str
    required: true
  accelerator:
    description: What the servers compute on.
    type: str
    required: true
    choices: [cuda, cpu]
  unit:
    description: The text of the template unit C(vllm@.service).
    type: str
    required: true
  broker_unit:
    description: The text of the template unit C(vllm-broker@.service), of instances on demand.
    type: str
  instances:
    description: The instances, as the plan has them.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The instance's name.
        type: str
        required: true
      kind:
        description: What it is asked for.
        type: str
        default: chat
      venv:
        description: The virtual environment of its release.
        type: path
        required: true
      repository:
        description: The model's repository on the Hub; none for a local directory.
        type: str
      revision:
        description: The model's commit; none for a local directory.
        type: str
      config:
        description: vLLM's long flags without their dashes, for its C(--config) file.
        type: dict
        required: true
      environment:
        description: Variables of the server.
        type: dict
        default: {}
      limits:
        description:
          - What the instance may use instead of what O(unit) has for all. systemd applies a change
            to a server that runs.
        type: dict
        default: {}
        suboptions:
          memory_max:
            description: Memory, as C(MemoryMax=) takes it, such as V(20G) or V(50%).
            type: str
          tasks_max:
            description: Processes and threads, as C(TasksMax=) takes it.
            type: str
      expected:
        description:
          - What the plan expects of its memory. What the engine then measures is kept beside it,
            in C(measured.json) under O(state_dir), and used by the next plan.
        type: dict
        suboptions:
          key:
            description: Names the release, GPUs, model and flags that this holds for.
            type: str
            required: true
          for:
            description: What the key stands for, to be read.
            type: dict
            required: true
          predicted:
            description: The plan's figures, in bytes and tokens; V(budget_bytes) among them.
            type: dict
            required: true
      attention:
        description:
          - How the attention backend is found. The first of O(instances[].attention.trial) with
            which the server answers truly is used, and kept in C(attention.json) under
            O(state_dir) for this release, these GPUs and this model, so that it is tried once.
        type: dict
        suboptions:
          mechanism:
            description: Whether the release is told by a flag or by a variable.
            type: str
            choices: [flag, environment]
          key:
            description: The flag's or the variable's name.
            type: str
          trial:
            description: The backends, the first one first; empty when there is nothing to try.
            type: list
            elements: str
            default: []
      url:
        description: Where the server answers.
        type: str
        required: true
      served_model_name:
        description: The name that requests give.
        type: str
        required: true
      on_demand:
        description:
          - Of an instance that is started by a request, what its broker goes by. C(uds) of
            O(instances[].config) says where its server listens then, and C(host) and C(port) where
            systemd does so for the broker.
        type: dict
        suboptions:
          share:
            description: Whose name it shares a place with others by.
            type: str
            required: true
          idle_after:
            description: Seconds without requests after which it is put out.
            type: int
            required: true
          wake_timeout:
            description: Seconds that a request waits for it at most.
            type: int
            required: true
          size:
            description: What it takes of each resource while it is awake.
            type: dict
            required: true
          room:
            description: What there is of each resource for its share.
            type: dict
            required: true
          sleep_level:
            description: vLLM's level at which it sleeps; V(0) where it is stopped.
            type: int
            choices: [0, 1, 2]
            default: 0
          asleep:
            description: What it takes of each resource while it sleeps.
            type: dict
          sleep_memory:
            description: Bytes of the host's memory that a copy of its weights may take.
            type: int
            default: 0
      group:
        description:
          - Of an instance that spans hosts, what its supervisors know of each other. On all hosts
            but the first it serves no API, and is proved when the first one's answers are verified.
        type: dict
        suboptions:
          rank:
            description: This host's place among the members; V(0) leads.
            type: int
            required: true
          port:
            description: The TCP port on which the leader's supervisor answers the others.
            type: int
            required: true
          fingerprint:
            description: What is the same on all members of one configuration.
            type: str
            required: true
          members:
            description: The hosts, by rank.
            type: list
            elements: dict
            required: true
            suboptions:
              name:
                description: The host's name in the inventory.
                type: str
                required: true
              address:
                description: Its address in the network of the group.
                type: str
                required: true
  removed_instances:
    description: Names of instances that are no longer wanted; they are stopped and removed.
    type: list
    elements: str
    default: []
  known_instances:
    description:
      - Names of the instances that were deployed when O(instances) were planned. Others, which
        another run has deployed since, are removed like those of O(removed_instances), as they
        would be had this run come later. When not given, they stay.
    type: list
    elements: str
  keep_releases:
    description:
      - After a change, how many releases stay under O(releases_dir) besides those that a service
        runs with or a rollback goes to; the newest stay.
    type: int
    default: 2
  start_stall:
    description:
      - After how many seconds without any sign of work (CPU, GPU, disk, compilers) a start is ended
        as one that hangs, before O(start_timeout) is over.
    type: int
    default: 120
  starts:
    description: How often a server is started that fails before it is ready, until it is given up.
    type: int
    default: 5
  keep_supervisor:
    description:
      - Whether an instance of which nothing else has changed goes on with the supervisor that it
        was started with, although this collection has a newer one. It comes with the next change.
    type: bool
    default: true
  truthful_health:
    description:
      - Whether C(/health) of a server answers 503, with the state as JSON, while its supervisor
        sees it start, hang or drain; otherwise it is vLLM's own, which answers 200 also when the
        engine hangs. To change it restarts the servers.
    type: bool
    default: true
  gpu_lost:
    description:
      - What follows where a server ends because a GPU of it is lost, or needs a reset before it can
        compute, as the driver tells. With V(fail) the unit stays down until somebody has seen to
        the card. With V(restart) it is started again, once an hour at most; with V(reset) and
        V(reboot) the unit that the role C(vllm_gpu) installs is asked to do that. To change it
        restarts the servers.
    type: str
    choices: [fail, restart, reset, reboot]
    default: fail
  device_policy:
    description:
      - With V(closed) a server can open the device nodes of its own GPUs and no others but those
        like C(/dev/null). With V(auto) it can open whatever the host has, as far as modes let it.
    type: str
    choices: [closed, auto]
    default: closed
"""

EXAMPLES = r"""
- name: Serve what the plan says
  compute_plane.vllm.vllm_service:
    release: "0.14.1"
    accelerator: cpu
    unit: "{{ lookup('ansible.builtin.template', 'vllm@.service.j2') }}"
    instances:
      - name: smollm2
        venv: /opt/vllm/releases/0.14.1-cpu-3f1d0a9be2c4
        config: {model: /srv/models/SmolLM2-135M-Instruct, host: 127.0.0.1, port: 8000}
        url: http://127.0.0.1:8000
        served_model_name: smollm2
"""

RETURN = r"""
verified:
  description:
    - Where no server was started, those that have passed their suite before and have now answered
      as they should, as M(compute_plane.vllm.vllm_verify) returns them.
  type: list
  elements: dict
  returned: always
removed_releases:
  description: Virtual environments that were removed.
  type: list
  elements: str
  returned: always
  sample: [/opt/vllm/releases/0.13.0-cpu-9f2a51c07d3e]
instances:
  description: What became of each instance.
  type: list
  elements: dict
  returned: always
  sample:
    - {name: smollm2, unit: vllm@smollm2.service, started: it is inactive, ready_seconds: 47.1}
  contains:
    name:
      description: The instance.
      type: str
    unit:
      description: Its unit.
      type: str
    fingerprint:
      description: Names the deployment; of one whose attention backend was tried, the one that won.
      type: str
    started:
      description: Why it was (in check mode, would be) started; null when it was not.
      type: str
    ready_seconds:
      description: Seconds from the start to the first token, or until a server that ran answered.
      type: float
    attention_backends:
      description: The attention backends that were tried, with what became of each.
      type: list
      elements: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import (
    Common,
    Deployment,
    unchanged_or_new,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.order import (
    in_order,
    started_before,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import RUNNING
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.trials import (
    candidates,
    key_of,
    read_trials,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.installed import nodes_of
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.services import (
    ARGUMENTS,
    Services,
    run,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.supervisors import is_whole


def came_since(services: Services) -> list[str]:
    """The instances that another run has deployed since this one was planned.

    Whoever comes last brings about what he wants, as if the other had ended before he began.
    """
    known = services.params["known_instances"]
    if known is None:
        return []
    there = services.paths.configured()
    wanted = {instance["name"] for instance in services.params["instances"]}
    found = sorted(there - wanted - {*known, *services.params["removed_instances"]})
    if found:
        services.module.warn(
            f"{', '.join(found)}: deployed by another run since this one was planned, and not in"
            " this run's vllm_instances; removed as every instance is that is not in it"
        )
    return found


def bring_about(services: Services) -> None:
    """Decide, apply, start one after the other, prove, report."""
    module, params, changes = services.module, services.params, services.changes
    installed, supervisor = services.installed, services.installed.supervisor()[0]
    common = Common(
        release=params["release"],
        unit=params["unit"],
        supervisor=supervisor,
        accelerator=params["accelerator"],
        user=params["user"],
        config_dir=params["etc_dir"],
        start_timeout=params["start_timeout"],
        start_stall=params["start_stall"],
        drain=params["drain"],
        starts=params["starts"],
        closed_devices=params["device_policy"] == "closed",
        truthful_health=params["truthful_health"],
        gpu_lost=params["gpu_lost"],
    )
    trials = read_trials(read(services.paths.trials))
    records = {one["name"]: services.record(one["name"]) for one in params["instances"]}
    wanted: list[Deployment] = []
    backends: dict[str, dict[str, Deployment]] = {}
    keys: dict[str, str] = {}
    before = started_before(params["instances"])
    for each in params["instances"]:
        instance = {**each, "after": before[each["name"]]}
        name, nodes = instance["name"], nodes_of(instance["environment"])
        keys[name] = key_of(instance, params["release"])
        record = records[name]
        former = record.current if record is not None and params["keep_supervisor"] else None
        if former is not None and not is_whole(former.supervisor):
            former = None
        backends[name] = {
            backend: unchanged_or_new(one, common, nodes, former)
            for backend, one in candidates(instance, trials.get(keys[name]))
        }
        wanted.append(
            next(iter(backends[name].values()), None)
            or unchanged_or_new(instance, common, nodes, former)
        )
    for one in wanted:
        services.prover.suite(one.name)  # one that cannot be read ends the task before any change
    states = services.show([one.unit_name for one in wanted])
    reasons = {one.name: services.starter.reason(one, states[one.unit_name]) for one in wanted}
    running = {
        one.name: one if reasons[one.name] is None else record.current
        for one, record in zip(wanted, records.values())
        if record is not None and states[one.unit_name].get("ActiveState") in RUNNING
    }
    paths, starting = services.paths, {one.venv for one in wanted if reasons[one.name]}
    gone = {venv for venv in starting if paths.is_ours(venv) and not paths.has_release(venv)}
    if gone and not module.check_mode:
        services.fail(
            f"{', '.join(sorted(gone))}: another run has removed it since this one had found it"
            " whole, as nothing used it (vllm_service_keep_releases). Nothing was changed; run"
            " again"
        )
    is_proved = {
        one.name: record is not None
        and record.current == one
        and services.paths.is_enabled(one.name)
        for one, record in zip(wanted, records.values())
    }
    for one in wanted:
        services.results[one.name] = {
            "name": one.name,
            "unit": one.unit_name,
            "fingerprint": one.fingerprint,
            "started": reasons[one.name],
            "ready_seconds": None,
            "attention_backends": [],
        }
    removed = [*params["removed_instances"], *came_since(services)]
    files = [*installed.common(wanted), installed.template(params["unit"])]
    files += [file for name in removed for file in installed.removed(name)]
    files += [file for one in wanted for file in installed.instance(one)]
    wrong = [file for file in files if not file.is_right()]
    changed = bool(wrong or removed or any(reasons.values()) or not all(is_proved.values()))
    changed = changed or bool(changes.brokers.wrong())
    pruned: list[str] = []
    verified: list[dict[str, Any]] = []
    if not module.check_mode:
        if any(reasons.values()) or not all(is_proved.values()):
            services.prover.prepare()
        if wrong:
            services.manager.verify(wanted)
            changes.ensure_user()
        for name in removed:
            changes.remove(name)
        changes.brokers.arrange()
        for one in in_order(wanted, running):
            result = services.results[one.name]
            if reasons[one.name]:
                done = changes.change(one, backends[one.name])
                result.update(ready_seconds=done.seconds, attention_backends=done.tried)
                record = services.record(one.name)
                result["fingerprint"] = record.current.fingerprint if record else None
                if done.backend and keys[one.name] not in trials:
                    changes.keep_trial(keys[one.name], done)
                continue
            if wrong:
                changes.install(one)
            result["ready_seconds"], brief = changes.confirm(one, is_proved[one.name])
            verified += [] if brief is None else [brief]
        if changed:
            # Here, for a run that changes nothing has to compile every module that it imports.
            from ansible_collections.compute_plane.vllm.plugins.module_utils.service.prune import (
                prune,
            )

            keep = params["keep_releases"]
            pruned = prune(services.paths, keep, supervisor, services.progress.update)
    services.progress.close()
    module.exit_json(
        changed=changed,
        instances=list(services.results.values()),
        verified=[] if any(reasons.values()) else verified,
        removed_releases=pruned,
        diff=[file.diff() for file in wrong],
    )


def main() -> None:
    """Run the module."""
    instance: dict[str, dict[str, Any]] = {
        "name": {"type": "str", "required": True},
        "kind": {"type": "str", "default": "chat"},
        "venv": {"type": "path", "required": True},
        "repository": {"type": "str"},
        "revision": {"type": "str"},
        "config": {"type": "dict", "required": True},
        "environment": {"type": "dict", "default": {}},
        "limits": {
            "type": "dict",
            "default": {},
            "options": {"memory_max": {"type": "str"}, "tasks_max": {"type": "str"}},
        },
        "expected": {
            "type": "dict",
            "options": {
                "key": {"type": "str", "required": True, "no_log": False},
                "for": {"type": "dict", "required": True},
                "predicted": {"type": "dict", "required": True},
            },
        },
        "attention": {
            "type": "dict",
            "options": {
                "mechanism": {"type": "str", "choices": ["flag", "environment"]},
                "key": {"type": "str", "no_log": False},
                "trial": {"type": "list", "elements": "str", "default": []},
            },
        },
        "url": {"type": "str", "required": True},
        "served_model_name": {"type": "str", "required": True},
        "on_demand": {
            "type": "dict",
            "options": {
                "share": {"type": "str", "required": True},
                "idle_after": {"type": "int", "required": True},
                "wake_timeout": {"type": "int", "required": True},
                "size": {"type": "dict", "required": True},
                "room": {"type": "dict", "required": True},
                "sleep_level": {"type": "int", "choices": [0, 1, 2], "default": 0},
                "asleep": {"type": "dict"},
                "sleep_memory": {"type": "int", "default": 0},
            },
        },
        "group": {
            "type": "dict",
            "options": {
                "rank": {"type": "int", "required": True},
                "port": {"type": "int", "required": True},
                "fingerprint": {"type": "str", "required": True},
                "members": {
                    "type": "list",
                    "elements": "dict",
                    "required": True,
                    "options": {
                        "name": {"type": "str", "required": True},
                        "address": {"type": "str", "required": True},
                    },
                },
            },
        },
    }
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "required": True},
            "accelerator": {"type": "str", "choices": ["cuda", "cpu"], "required": True},
            "unit": {"type": "str", "required": True},
            "broker_unit": {"type": "str"},
            "instances": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": instance,
            },
            "removed_instances": {"type": "list", "elements": "str", "default": []},
            "known_instances": {"type": "list", "elements": "str"},
            "keep_releases": {"type": "int", "default": 2},
            "start_stall": {"type": "int", "default": 120},
            "starts": {"type": "int", "default": 5},
            "keep_supervisor": {"type": "bool", "default": True},
            "truthful_health": {"type": "bool", "default": True},
            "gpu_lost": {
                "type": "str",
                "choices": ["fail", "restart", "reset", "reboot"],
                "default": "fail",
            },
            "device_policy": {"type": "str", "choices": ["closed", "auto"], "default": "closed"},
            **ARGUMENTS,
        },
        supports_check_mode=True,
    )
    run(module, bring_about, alone=True)


if __name__ == "__main__":
    main()
