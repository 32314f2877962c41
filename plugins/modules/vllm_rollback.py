#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Go back to what was proved before."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_rollback
short_description: Go back to the deployment that was proved before the present one
version_added: 0.1.0
description:
  - Brings back the configuration and the release with which an instance was proved before the
    present one, starts it, waits until it has computed a token, and verifies it. What was present
    becomes what a second rollback goes to.
  - When the former deployment does not come up, the present one is started again; the task fails.
  - The inventory is not changed; the next run of the site playbook brings about what it says.
author: compute_plane.vllm contributors (@compute-plane)
extends_documentation_fragment:
  - compute_plane.vllm.services
  - compute_plane.vllm.lock
  - compute_plane.vllm.code
  - compute_plane.vllm.services.directories
  - compute_plane.vllm.verification
attributes:
  check_mode:
    support: full
    description: Says what would be gone back to.
  diff_mode:
    support: full
    description: Shows the files before and after.
options:
  instances:
    description: Names of the instances. All that have something to go back to, when empty.
    type: list
    elements: str
    default: []
  batch:
    description:
      - The hosts that this task runs on at the same time. An instance over several hosts is refused
        where one of them is not among these; not looked at when empty.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: The upgrade was no good
  compute_plane.vllm.vllm_rollback:
    instances: [qwen2.5-7b-instruct]
"""

RETURN = r"""
instances:
  description: The instances that were brought back.
  type: list
  elements: dict
  returned: always
  sample:
    - name: qwen2.5-7b-instruct
      unit: vllm@qwen2.5-7b-instruct.service
      from_release: 0.26.0
      to_release: 0.14.1
      url: http://127.0.0.1:8000
      ready_seconds: 48.2
  contains:
    name:
      description: The instance.
      type: str
    unit:
      description: Its unit.
      type: str
    from_release:
      description: The release that served before.
      type: str
    to_release:
      description: The release that serves now.
      type: str
    url:
      description: Where it answers.
      type: str
    ready_seconds:
      description: Seconds from the start to the first token.
      type: float
"""

import glob
import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.service.services import (
    ARGUMENTS,
    Services,
    run,
)


def roll_back(services: Services) -> None:
    """Find what to go back to, go, report."""
    module = services.module
    existing = [
        os.path.basename(path)[: -len(".json")] for path in glob.glob(services.paths.proved("*"))
    ]
    records = {name: services.record(name) for name in module.params["instances"] or existing}
    former = {
        name: record.previous
        for name, record in sorted(records.items())
        if record is not None and record.previous is not None
    }
    without = sorted(set(module.params["instances"]) - set(former))
    if without:
        services.fail(f"nothing was proved before the present deployment of {', '.join(without)}")
    if not former:
        services.fail("no instance of this host has a deployment to go back to")
    batch = module.params["batch"]
    for name, deployment in former.items():
        members = [one["name"] for one in (deployment.group or {}).get("members", [])]
        away = [member for member in members if batch and member not in batch]
        if away:
            services.fail(
                f"{name} spans hosts, and {', '.join(away)} is not in this run: "
                f"--limit {','.join(members)}"
            )
    wrong = []
    for name, deployment in former.items():
        record = records[name]
        services.results[name] = {
            "name": name,
            "unit": deployment.unit_name,
            "from_release": record.current.release if record else None,
            "to_release": deployment.release,
            "url": deployment.url,
            "ready_seconds": None,
        }
        if not services.paths.has_release(deployment.venv):
            services.fail(
                f"{deployment.venv}, with which {name} was proved, is not there any more: site.yml "
                f"-e vllm_release={deployment.release} installs it again, and deploys it"
            )
        wrong += [file for file in services.installed.instance(deployment) if not file.is_right()]
    if not module.check_mode:
        # What may have to be written is at hand before the first server is touched.
        now = [one.current for name, one in records.items() if one is not None and name in former]
        services.installed.common([*former.values(), *now])
        services.prover.prepare()
        for name, deployment in former.items():
            done = services.changes.change(deployment)
            services.results[name]["ready_seconds"] = done.seconds
    services.progress.close()
    module.exit_json(
        changed=True,
        instances=list(services.results.values()),
        diff=[file.diff() for file in wrong],
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "instances": {"type": "list", "elements": "str", "default": []},
            "batch": {"type": "list", "elements": "str", "default": []},
            **ARGUMENTS,
        },
        supports_check_mode=True,
    )
    run(module, roll_back, alone=True)


if __name__ == "__main__":
    main()
