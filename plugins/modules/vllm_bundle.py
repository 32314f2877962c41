#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a directory from which a host without a way out installs, or check one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_bundle
short_description: Make a bundle for hosts without a way out, or check one
version_added: 0.1.0
description:
  - Makes one directory with every wheel that a release's locks and the tools' lock name, the locks,
    models, and a manifest with the SHA-256 of every file; or checks such a directory.
  - The wheels may be for another Python than the one that fetches them.
  - What is there and right is not fetched again, so a run that was interrupted is simply repeated.
    The manifest is written last and in one step; a directory without it is not a bundle.
  - The action plugin of the same name shows the progress.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: Says what would be fetched; asks no package index.
  diff_mode:
    support: full
    description: Lists the bundle's files before and after.
requirements:
  - pip and the Python library packaging, which ansible-core brings; for O(state=present)
extends_documentation_fragment:
  - compute_plane.vllm.lock
options:
  path:
    description: The bundle's directory. It must be new, empty, or a bundle.
    type: path
    required: true
  state:
    description:
      - V(present) makes the bundle.
      - V(verified) changes nothing and checks that O(path) is whole and the one that is needed.
    type: str
    choices: [present, verified]
    default: present
  release:
    description: The vLLM version, recorded in the manifest. Required with O(state=present).
    type: str
  accelerator:
    description: The accelerator, recorded in the manifest. Required with O(state=present).
    type: str
  platform:
    description:
      - What the wheels must run on, such as V(x86_64-manylinux_2_28). Required with
        O(state=present).
    type: str
  locks:
    description:
      - The release's locks, each with C(name) (its file name), C(python) (the minor version that it
        is for) and C(text). Required with O(state=present).
    type: list
    elements: dict
    suboptions:
      name:
        description: The file name.
        type: str
        required: true
      python:
        description: The minor version, such as V(3.11).
        type: str
        required: true
      text:
        description: The lock in the requirements format, with hashes.
        type: str
        required: true
  tools_lock:
    description: The text of the lock of the tools' environment. Required with O(state=present).
    type: str
  models:
    description:
      - Directories of models, each put below C(models/) under its own name; by hard links where the
        file system is the same. A snapshot in Hugging Face's cache gets its repository's name.
    type: list
    elements: path
    default: []
  download_bytes:
    description:
      - About how many bytes the wheels of a lock have, to see beforehand whether there is room.
        With V(0) only the room for models is looked at.
    type: int
    default: 0
  python:
    description:
      - A Python on the controller that has pip. By default the one that the module runs in.
    type: path
  workers:
    description: How many wheels are fetched side by side.
    type: int
    default: 4
  lock:
    description: The lock that is needed, as the plan names it. For O(state=verified).
    type: str
  lock_sha256:
    description:
      - The hash of that lock. For O(state=verified). Without it only the tools are needed, and the
        bundle may be for any lock.
    type: str
  tools_lock_sha256:
    description: The hash of the tools' lock. Required with O(state=verified).
    type: str
  fail_on_problem:
    description:
      - Whether a bundle that cannot be used fails the task. With V(false) it is only returned as
        RV(problem). For O(state=verified).
    type: bool
    default: true
  progress:
    description: The file in which progress is kept; set by the action plugin.
    type: path
notes:
  - Mirrors, proxies, certificates and credentials of the package index are read from the task's
    environment, in pip's own variables, and from pip's configuration.
"""

EXAMPLES = r"""
- name: Make a bundle on the controller
  compute_plane.vllm.vllm_bundle:
    path: /srv/bundle-0.14.1-cuda
    release: "0.14.1"
    accelerator: cuda
    platform: x86_64-manylinux_2_31
    locks:
      - name: cuda-py311.txt
        python: "3.11"
        text: "{{ lookup('ansible.builtin.file', 'releases/0.14.1/cuda-py311.txt', rstrip=false) }}"
    tools_lock: "{{ lookup('ansible.builtin.file', 'requirements/tools.txt', rstrip=false) }}"
  delegate_to: localhost

- name: Is the bundle on the host whole, and the right one?
  compute_plane.vllm.vllm_bundle:
    path: /srv/bundle
    state: verified
    lock: "{{ plan.runtime.lock }}"
    lock_sha256: "{{ plan.runtime.lock_sha256 }}"
    tools_lock_sha256: "{{ tools_lock | hash('sha256') }}"
"""

RETURN = r"""
path:
  description: The bundle.
  type: str
  returned: always
  sample: /srv/bundle
bytes:
  description: Size of all of the bundle's files; in check mode of those that are there.
  type: int
  returned: success
  sample: 4408210554
files:
  description: How many files the bundle has; in check mode those that are there.
  type: int
  returned: success
  sample: 175
fetched:
  description: The packages that were fetched, or in check mode would be.
  type: list
  elements: str
  returned: when O(state=present)
  sample: [torch==2.9.1]
problem:
  description: Why the bundle cannot be used, and what to do; null where it can.
  type: str
  returned: when O(state=verified)
  sample: null
seconds:
  description: How long the module took.
  type: float
  returned: success
  sample: 241.5
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import (
    ARGUMENTS as LOCK_ARGUMENTS,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.bundle_files import (
    BundleFiles,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.bundle_maker import (
    PACKAGING_ERROR,
    BundleMaker,
)


def main() -> None:
    """Run the module."""
    os.umask(0o022)  # what is made here is read by others
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "verified"], "default": "present"},
            "release": {"type": "str"},
            "accelerator": {"type": "str"},
            "platform": {"type": "str"},
            "locks": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "python": {"type": "str", "required": True},
                    "text": {"type": "str", "required": True},
                },
            },
            "tools_lock": {"type": "str"},
            "models": {"type": "list", "elements": "path", "default": []},
            "download_bytes": {"type": "int", "default": 0},
            "python": {"type": "path"},
            "workers": {"type": "int", "default": 4},
            "lock": {"type": "str"},
            "lock_sha256": {"type": "str"},
            "tools_lock_sha256": {"type": "str"},
            "fail_on_problem": {"type": "bool", "default": True},
            "progress": {"type": "path"},
            **LOCK_ARGUMENTS,
        },
        required_if=[
            ("state", "present", ["release", "accelerator", "platform", "locks", "tools_lock"]),
            ("state", "verified", ["tools_lock_sha256"]),
        ],
        supports_check_mode=True,
    )
    began = time.monotonic()
    makes = module.params["state"] == "present"
    if makes and PACKAGING_ERROR is not None:
        module.fail_json(msg=missing_required_lib("packaging"), exception=PACKAGING_ERROR)
    progress = Progress(module.params["progress"])
    path = module.params["path"].rstrip("/") or "/"
    try:
        if makes:
            result = BundleMaker(module.params, progress, module.check_mode).present()
        else:
            result = BundleFiles(module.params, progress).verified()
    except (Failed, OSError) as error:
        progress.close()
        module.fail_json(msg=str(error), path=path)
    progress.close()
    result["seconds"] = round(time.monotonic() - began, 1)
    module.exit_json(path=path, **result)


if __name__ == "__main__":
    main()
