#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the endpoint records of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_endpoint_info
short_description: Read the endpoint records of a host
version_added: 1.0.0
description:
  - Returns the records of the endpoints that this host has, see docs/endpoint-record.md.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
    description: Changes nothing.
options:
  only:
    description: Instances to return; all when empty.
    type: list
    elements: str
    default: []
  etc_dir:
    description: Where the endpoint records are.
    type: path
    default: /etc/vllm
"""

EXAMPLES = r"""
- name: Find the endpoints of the host
  compute_plane.vllm.vllm_endpoint_info:
  register: found
"""

RETURN = r"""
records:
  description: The records, sorted by instance.
  type: list
  elements: dict
  returned: always
states:
  description: Instances by the state of their records.
  type: dict
  returned: always
  sample: {verified: [qwen2.5-7b-instruct], starting: [], failed: []}
"""

import glob

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.published import (
    STATES,
    read_record,
    record_path,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "only": {"type": "list", "elements": "str", "default": []},
            "etc_dir": {"type": "path", "default": "/etc/vllm"},
        },
        supports_check_mode=True,
    )
    records = []
    for path in sorted(glob.glob(record_path(module.params["etc_dir"], "*"))):
        record = read_record(read(path))
        if record is None or "instance" not in record:
            module.warn(f"{path} is no endpoint record")
        elif not module.params["only"] or record["instance"] in module.params["only"]:
            records.append(record)
    states = {
        state: [record["instance"] for record in records if record.get("state") == state]
        for state in STATES
    }
    module.exit_json(changed=False, records=records, states=states)


if __name__ == "__main__":
    main()
