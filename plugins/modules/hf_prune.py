#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove the revisions of models that nothing refers to."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_prune
short_description: Remove the revisions of models that nothing refers to
version_added: 0.1.0
description:
  - Looks for the paths of revisions in the files of O(references), which are the configurations of
    the deployed instances and the records of what a rollback goes back to, and in O(keep). Removes
    every other revision that M(compute_plane.vllm.hf_model) brought to the cache, as
    C(hf cache rm) does.
  - What other tools brought to the cache stays.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: Says what would be removed.
  diff_mode:
    support: full
    description: Lists the revisions before and after.
options:
  cache_dir:
    description: The cache, in Hugging Face's own layout (C(HF_HUB_CACHE)).
    type: path
    default: /var/lib/vllm/hub
  keep:
    description: Paths of revisions that stay although nothing refers to them yet.
    type: list
    elements: str
    default: []
  references:
    description:
      - Directories whose files refer to revisions. A file that cannot be read ends the task before
        anything is removed.
    type: list
    elements: path
    default: [/etc/vllm, /var/lib/vllm/proved]
"""

EXAMPLES = r"""
- name: Remove what neither serves nor can be gone back to
  compute_plane.vllm.hf_prune:
    keep: "{{ vllm_model_paths.values() | list }}"
"""

RETURN = r"""
removed:
  description: The revisions that were removed, or in check mode would be.
  type: list
  elements: str
  returned: success
  sample: [models--ORG--NAME/snapshots/bb46c15ee4bb56c5b63245ef50fd7637234d6f75]
bytes:
  description: Bytes that this freed.
  type: int
  returned: success
  sample: 15231233024
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import Asking
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.prune import (
    own_repositories,
    referred_to,
    surplus,
    texts_below,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import CacheError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "cache_dir": {"type": "path", "default": "/var/lib/vllm/hub"},
            "keep": {"type": "list", "elements": "str", "default": []},
            "references": {
                "type": "list",
                "elements": "path",
                "default": ["/etc/vllm", "/var/lib/vllm/proved"],
            },
        },
        supports_check_mode=True,
    )
    before: list[str] = []
    removed: list[str] = []
    freed = 0
    # A run that brings something to a repository is not waited for: this can be done another time.
    at_once = Asking("hf_prune", 0, lambda *_, **__: None)
    try:
        used = referred_to([*module.params["keep"], *texts_below(module.params["references"])])
        for cache in own_repositories(module.params["cache_dir"]):
            before += [f"{cache.name}/snapshots/{commit}" for commit in cache.commits()]
            for commit in surplus(cache, used):
                # What check mode says of two revisions that share files is their common bytes less.
                size = cache.removal(commit).bytes
                if not module.check_mode:
                    try:
                        with cache.lock(at_once):
                            cache.remove(cache.removal(commit), commit)
                    except Failed as busy:
                        module.warn(f"{busy}; what nothing refers to stays until the next run")
                        break
                freed += size
                removed.append(f"{cache.name}/snapshots/{commit}")
    except CacheError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}; nothing more was removed")
    module.exit_json(
        changed=bool(removed),
        removed=removed,
        bytes=freed,
        diff={
            "before": "".join(f"{path}\n" for path in before),
            "after": "".join(f"{path}\n" for path in before if path not in removed),
        },
    )


if __name__ == "__main__":
    main()
