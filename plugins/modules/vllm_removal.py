#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove what this collection has put into its directories, and nothing else."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_removal
short_description: Remove what this collection has put into its directories
version_added: 0.1.0
description:
  - Removes releases, tools, caches, configurations, secrets and records from C(/etc/vllm),
    C(/opt/vllm), C(/var/lib/vllm), C(/var/cache/vllm) and C(/run), and each directory in which
    nothing is left.
  - Whatever else lies there stays, wherever it is - models, bundles, virtual environments and other
    files that somebody put there, and what is mounted there. Of a symbolic link the link goes at
    most.
  - The services must have been stopped.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: Says what would go and what would stay.
  diff_mode:
    support: full
    description: Lists what goes.
options:
  model_hub:
    description: Where the models of a Hub are. What is in V(/var/lib/vllm/hub) counts as well.
    type: path
    default: /var/lib/vllm/hub
  models:
    description:
      - Whether these models go too, where they lie in one of the directories above.
    type: bool
    default: false
  keep:
    description: Further paths that stay.
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: Remove all but the models
  compute_plane.vllm.vllm_removal:
    model_hub: /srv/hub
"""

RETURN = r"""
removed:
  description: What was removed, each with all below it; in check mode what would be.
  type: list
  elements: str
  returned: always
  sample: [/etc/vllm, /opt/vllm, /var/lib/vllm/proved]
kept:
  description: Why each path stays that this collection did not make, or that was to stay.
  type: dict
  returned: always
  sample: {/var/lib/vllm/hub: models}
"""

import glob
import os
import shutil

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.mounts import parse_mountinfo
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.removal import (
    HUB,
    Decision,
    configured_paths,
)


def named_on_host(etc_dir: str = "/etc/vllm") -> dict[str, str]:
    """The paths that the instances' configurations name, each with where it is named."""
    found = {}
    for path in glob.glob(os.path.join(etc_dir, "*.yaml")):
        with open(path, encoding="utf-8", errors="replace") as stream:
            found.update(dict.fromkeys(configured_paths(stream.read()), f"named in {path}"))
    return found


def remove(path: str) -> None:
    """Remove a file, a link or a directory with all below it."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "model_hub": {"type": "path", "default": HUB},
            "models": {"type": "bool", "default": False},
            "keep": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
            mounts = [mount.point for mount in parse_mountinfo(stream.read())]
        keep = {**dict.fromkeys(module.params["keep"], "yours"), **named_on_host()}
        found = Decision(module.params["model_hub"], module.params["models"], keep, mounts).decide()
        if not module.check_mode:
            for path in found.paths:
                remove(path)
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename}: {error.strerror}; mend that and run again: what was removed"
            " is gone, the rest is as it was"
        )
    module.exit_json(
        changed=bool(found.paths),
        removed=found.paths,
        kept=found.kept,
        diff={"before": "".join(f"{path}\n" for path in found.paths), "after": ""},
    )


if __name__ == "__main__":
    main()
