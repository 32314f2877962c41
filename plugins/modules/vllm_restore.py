#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put back what a backup holds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_restore
short_description: Put back what a backup of a host holds
version_added: 1.0.0
description:
  - Writes the files of a backup by M(compute_plane.vllm.vllm_backup) that the host does not have.
    A file that is there with another content stays, and is named, unless O(overwrite) is set.
  - Starts and stops nothing. C(site.yml) brings about what the inventory says, and proves it anew.
  - A file of an owner or a group that the host does not have yet becomes root's, readable by root
    alone, until C(site.yml) has made them.
author: compute_plane.vllm contributors (@compute-plane)
extends_documentation_fragment:
  - compute_plane.vllm.backup
  - compute_plane.vllm.lock
attributes:
  check_mode:
    support: full
    description: Says which files would be written.
  diff_mode:
    support: full
    description: Shows the paths of the files that are written; nothing of their contents.
options:
  overwrite:
    description: Whether a file that is there with another content is replaced.
    type: bool
    default: false
  run_dir:
    description: Where the lock of those who change what serves is.
    type: path
    default: /run/vllm
  progress:
    description: The file in which progress is kept; set by the action plugin.
    type: path
  files:
    description: What the backup holds, as a file on the host; set by the action plugin.
    type: path
seealso:
  - module: compute_plane.vllm.vllm_backup
"""

EXAMPLES = r"""
- name: Ensure the host has what was kept of it
  compute_plane.vllm.vllm_restore:
    file: "backups/{{ inventory_hostname }}.json"
"""

RETURN = r"""
restored:
  description: The files that were written.
  type: list
  elements: str
  returned: always
  sample: [/var/lib/vllm/proved/qwen2.5-7b-instruct.json]
differing:
  description: The files that are there with another content, and stayed.
  type: list
  elements: str
  returned: always
  sample: [/etc/vllm/qwen2.5-7b-instruct.env]
"""

import json

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common import lock
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.backup import (
    ARGUMENTS,
    Decision,
    Places,
    decide,
    read_files,
    text_of,
    write,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.paths import Paths


def restore(module: AnsibleModule) -> Decision:
    """Decide, and outside of check mode write.

    Raises:
        Failed: The backup holds what it may not, or somebody else changes the host.
        OSError: A file cannot be read or written.
    """
    entries = json.loads(read(module.params["files"]) or "[]")
    kept = read_files(entries, Places.of(module.params))
    overwrite = module.params["overwrite"]
    if module.check_mode:
        return decide(kept, {one.path: text_of(one.path) for one in kept}, overwrite)
    progress = Progress(module.params["progress"])
    asking = lock.Asking.of(module.params, progress.update)
    with lock.held(Paths.of(module.params).lock, "this host's services", asking):
        decision = decide(kept, {one.path: text_of(one.path) for one in kept}, overwrite)
        for one in decision.write:
            write(one)
    progress.close()
    return decision


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **ARGUMENTS,
            **lock.ARGUMENTS,
            "overwrite": {"type": "bool", "default": False},
            "run_dir": {"type": "path", "default": "/run/vllm"},
            "progress": {"type": "path"},
            "files": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        decision = restore(module)
    except (Failed, OSError) as error:
        module.fail_json(msg=str(error))
    written = sorted(one.path for one in decision.write)
    module.exit_json(
        changed=bool(written),
        restored=written,
        differing=sorted(decision.differing),
        diff={"before": "", "after": "".join(f"{path}\n" for path in written)},
    )


if __name__ == "__main__":
    main()
