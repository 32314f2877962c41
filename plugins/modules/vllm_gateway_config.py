#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configure a gateway, and have it go on without dropping a request."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_gateway_config
short_description: Configure a gateway, and have it go on without dropping a request
version_added: 1.0.0
description:
  - Ensures that a folder holds the files of a gateway and no others, and that HAProxy runs with
    them.
  - HAProxy reads the files in a folder of their own before they are put in place. A gateway that
    runs is reloaded; requests under way go on in the former process. Where no new process takes
    over, the former files are put back.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: HAProxy reads the files in check mode too.
  diff_mode:
    support: full
    description: Contents of O(secrets) are not shown.
options:
  files:
    description: Contents by name; C(haproxy.cfg) is the main one.
    type: dict
    required: true
  secrets:
    description: Contents by name of files that root alone may read.
    type: dict
    default: {}
  folder:
    description: Where they are.
    type: path
    default: /etc/vllm-gateway
  unit:
    description: The systemd unit of the gateway.
    type: str
    default: vllm-gateway.service
  program:
    description: HAProxy.
    type: path
    default: /usr/sbin/haproxy
  version:
    description:
      - The version of HAProxy's package. One that is not known to decode JSON safely
        (CVE-2025-11230) is refused.
    type: str
    required: true
  socket:
    description: Where the gateway listens for commands.
    type: path
    default: /run/vllm-gateway/admin.sock
"""

EXAMPLES = r"""
- name: The gateway runs with this configuration
  compute_plane.vllm.vllm_gateway_config:
    version: 3.0.11-1+deb13u5
    files:
      haproxy.cfg: "{{ lookup('ansible.builtin.template', 'haproxy.cfg.j2') }}"
"""

RETURN = r"""
files:
  description: Files that were written or removed; in check mode, that would be.
  type: list
  elements: str
  returned: always
  sample: [/etc/vllm-gateway/haproxy.cfg]
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.gateway.files import (
    PENDING,
    Unit,
    apply,
    check,
    wanted_files,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.gateway.runtime import (
    SOCKET,
    Gateway,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.gateway.versions import problem


def run(module: AnsibleModule) -> None:
    """Compare, check, write and go on.

    Raises:
        Failed: HAProxy is not safe, or does not take the files.
    """
    params = module.params
    wrong = problem(params["version"])
    if wrong is not None:
        raise Failed(wrong)
    folder = params["folder"]
    files = wanted_files(folder, params["files"], params["secrets"])
    different = [file for file in files if not file.is_right()]
    unit = Unit(params["unit"], module.run_command, Gateway(params["socket"]))
    is_due = (
        bool(different) or os.path.exists(os.path.join(folder, PENDING)) or not unit.is_active()
    )
    if is_due:
        check(files, params["program"], module.run_command)
        if not module.check_mode:
            apply(files, folder, unit)
    module.exit_json(
        changed=is_due,
        files=[file.path for file in different],
        diff=[file.diff() for file in different],
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "dict", "required": True},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "folder": {"type": "path", "default": "/etc/vllm-gateway"},
            "unit": {"type": "str", "default": "vllm-gateway.service"},
            "program": {"type": "path", "default": "/usr/sbin/haproxy"},
            "version": {"type": "str", "required": True},
            "socket": {"type": "path", "default": SOCKET},
        },
        supports_check_mode=True,
    )
    try:
        run(module)
    except Failed as failure:
        module.fail_json(msg=str(failure))


if __name__ == "__main__":
    main()
