#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what the plan decides from; documented in `vllm_probe.yml`."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils import probe
from ansible_collections.compute_plane.vllm.plugins.module_utils.common import late
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.toolchain import SERVICE_PATH
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub import record


def run(module: AnsibleModule, host: Host) -> None:
    """Reads the facts and ends the module."""
    absolute = ("paths", "models", "python", "opt_dir", "etc_dir", "state_dir", "hub_dir")
    relative = [
        f"{name}: {path}"
        for name in absolute
        for path in (
            [module.params[name]] if isinstance(module.params[name], str) else module.params[name]
        )
        if not path.startswith("/")
    ]
    if relative:
        module.fail_json(msg=f"Give absolute paths. Not absolute: {', '.join(relative)}")
    records = [
        {**model, **record.read(module.params["hub_dir"], model["repo_id"], model["revision"])}
        for model in module.params["hub"]
    ]
    questions = probe.Questions(**{name: module.params[name] for name in probe.Questions._fields})
    found = {entry["path"] for entry in records} - {None, *questions.models}
    questions = questions._replace(models=[*questions.models, *sorted(found)])
    late.use(module.params["code_archive"])
    try:
        facts = probe.collect(host, questions)
    except late.CodeNeeded:
        module.fail_json(**late.ASKS)
    # The controller makes `facts.hub` of the records (`plugin_utils/probing.py`).
    module.exit_json(changed=False, facts=facts, records=records)


def main() -> None:
    """Runs the module on this machine."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "default": []},
            "packages": {"type": "list", "elements": "str", "default": []},
            "models": {"type": "list", "elements": "path", "default": []},
            "hub": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "repo_id": {"type": "str", "required": True},
                    "revision": {"type": "str", "default": "main"},
                    "trust_remote_code": {"type": "bool", "default": False},
                },
            },
            "hub_dir": {"type": "path", "default": "/var/lib/vllm/hub"},
            "python": {"type": "list", "elements": "path", "default": []},
            "opt_dir": {"type": "path", "default": "/opt/vllm"},
            "etc_dir": {"type": "path", "default": "/etc/vllm"},
            "state_dir": {"type": "path", "default": "/var/lib/vllm"},
            "service_path": {"type": "str", "default": SERVICE_PATH},
            **late.ARGUMENTS,
        },
        supports_check_mode=True,
    )
    run(module, Host())


if __name__ == "__main__":
    main()
