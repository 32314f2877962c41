#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep what of a host cannot be downloaded or made again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_backup
short_description: Keep what of a host cannot be downloaded or made again
version_added: 1.0.0
description:
  - Writes one JSON file on the controller with what was proved, verified, measured and chosen on
    the host, the servers' secrets, and drop-ins of your own beside the units.
  - Models, releases and caches are not in it, nor what the inventory makes again.
  - The file is readable by its owner alone, since it holds secrets. One that is there already and
    says the same is left as it is, also when C(ansible-vault) has encrypted it; a new one is
    written in clear.
author: compute_plane.vllm contributors (@compute-plane)
extends_documentation_fragment:
  - compute_plane.vllm.backup
attributes:
  check_mode:
    support: full
    description: Says whether the file would be written.
  diff_mode:
    support: full
    description: Shows which files the backup holds, with their lengths; nothing of their contents.
seealso:
  - module: compute_plane.vllm.vllm_restore
"""

EXAMPLES = r"""
- name: Ensure there is a backup of this host
  compute_plane.vllm.vllm_backup:
    file: "backups/{{ inventory_hostname }}.json"
"""

RETURN = r"""
file:
  description: The backup on the controller.
  type: str
  returned: always
  sample: /srv/ansible/backups/ac-3090.json
paths:
  description: The files of the host that it holds.
  type: list
  elements: str
  returned: always
  sample: [/etc/vllm/qwen2.5-7b-instruct.env, /var/lib/vllm/proved/qwen2.5-7b-instruct.json]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.backup import (
    ARGUMENTS,
    Places,
    find,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        found = find(Places.of(module.params))
    except (Failed, OSError) as error:
        module.fail_json(msg=str(error))
    # The action plugin takes the contents out of the result and writes the file.
    module.exit_json(
        changed=False,
        paths=[one.path for one in found],
        files=[one._asdict() for one in found],
    )


if __name__ == "__main__":
    main()
