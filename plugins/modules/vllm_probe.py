#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads everything about a host that the plan decides from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_probe
short_description: Read everything about a host that the vLLM plan decides from
version_added: 0.1.0
author:
  - compute_plane.vllm contributors (@compute-plane)
description:
  - Reads, in one round trip, what a plan for serving vLLM on a host depends on. That is the host
    itself, its Python interpreters, GPUs and their driver, CUDA toolkit and compilers, file
    systems, TCP ports, packages, local model directories, and what this collection deployed before.
  - Changes nothing and needs nothing on the host but Python.
  - What is not there is reported as not there. The module fails on wrong parameters only.
options:
  paths:
    description:
      - Absolute paths whose file systems to report. They need not exist yet; the nearest existing
        parent is looked at.
    type: list
    elements: path
    default: []
  packages:
    description:
      - Names of operating system packages whose versions to report (dpkg or rpm).
    type: list
    elements: str
    default: []
  models:
    description:
      - Local model directories to look into.
    type: list
    elements: path
    default: []
  python:
    description:
      - Python interpreters to ask, beside C(python3.*) in C(/usr/bin) and C(/usr/local/bin).
    type: list
    elements: path
    default: []
  opt_dir:
    description:
      - Where this collection keeps its tools and releases.
    type: path
    default: /opt/vllm
  etc_dir:
    description:
      - Where this collection keeps the instances' configurations.
    type: path
    default: /etc/vllm
  service_path:
    description:
      - The E(PATH) that the service will have. Compilers and C(nvcc) are looked for on it.
    type: str
    default: /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
attributes:
  check_mode:
    description: Can run in check mode and return what it would without.
    support: full
    details:
      - Only reads.
  diff_mode:
    description: Returns details on what has changed in diff mode.
    support: none
    details:
      - Changes nothing, so there is no difference to show.
seealso:
  - module: compute_plane.vllm.gpu_info
  - module: compute_plane.vllm.nvcc_info
"""

EXAMPLES = r"""
- name: Read what the plan needs
  compute_plane.vllm.vllm_probe:
    paths:
      - /opt/vllm
      - /var/lib/vllm
    packages:
      - gcc
      - python3-dev
    models:
      - /srv/models/qwen2.5-7b-instruct
  register: vllm_probe_result

- name: Show the GPUs
  ansible.builtin.debug:
    msg: "{{ vllm_probe_result.facts.gpu.gpus | map(attribute='name') }}"
"""

RETURN = r"""
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils import probe
from ansible_collections.compute_plane.vllm.plugins.module_utils.host import Host
from ansible_collections.compute_plane.vllm.plugins.module_utils.toolchain import SERVICE_PATH


def run(module: AnsibleModule, host: Host) -> None:
    """Reads the facts and ends the module.

    Args:
        module: The running module.
        host: The machine.
    """
    absolute = ("paths", "models", "python", "opt_dir", "etc_dir")
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
    questions = probe.Questions(**{name: module.params[name] for name in probe.Questions._fields})
    module.exit_json(changed=False, facts=probe.collect(host, questions))


def main() -> None:
    """Runs the module on this machine."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "default": []},
            "packages": {"type": "list", "elements": "str", "default": []},
            "models": {"type": "list", "elements": "path", "default": []},
            "python": {"type": "list", "elements": "path", "default": []},
            "opt_dir": {"type": "path", "default": "/opt/vllm"},
            "etc_dir": {"type": "path", "default": "/etc/vllm"},
            "service_path": {"type": "str", "default": SERVICE_PATH},
        },
        supports_check_mode=True,
    )
    run(module, Host())


if __name__ == "__main__":
    main()
