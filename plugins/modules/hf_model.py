#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a model from a Hugging Face Hub, whole and verified."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_model
short_description: Bring a model from a Hugging Face Hub, whole and verified
version_added: 0.1.0
description:
  - Fetches the files of a model that vLLM loads into a cache of Hugging Face's own layout, so that
    other tools of that ecosystem work on it, and verifies each of them against the Hub's hash.
  - Nothing is visible under its final name before it is verified; the snapshot appears when all of
    its files are there.
  - A transfer that was cut, killed or rebooted away goes on where it stood. One from which no byte
    comes for O(stall_timeout) is ended and resumed.
  - A branch or tag is resolved to a commit once, and this commit is used from then on, until
    O(revision) changes or O(update=true).
  - When the commit is there and was verified before, the module neither reads the files nor uses
    the network nor starts the tools.
  - The files are readable by every user and writable by their owner only.
  - The action plugin of the same name shows the progress.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description:
      - Says what would be fetched and how many bytes that is. Asks the Hub where the list of
        files is not known yet; writes nothing.
  diff_mode:
    support: full
    description: Lists the model's files before and after.
requirements:
  - huggingface_hub from 1.0 on in the environment O(tools_path); not for O(state=absent), nor when
    nothing has to be fetched
extends_documentation_fragment:
  - compute_plane.vllm.lock
  - compute_plane.vllm.code
options:
  repo_id:
    description: The model's repository, as C(ORGANIZATION/NAME).
    type: str
    required: true
  revision:
    description:
      - A branch, a tag or a full commit hash. A commit hash is always the same model and needs no
        network when it is there.
      - Defaults to V(main) with O(state=present). With O(state=absent), no revision means all of
        them.
    type: str
  commit:
    description:
      - The commit that O(revision) was found to be at, for example by
        M(compute_plane.vllm.hf_model_info). It is used, and recorded, where none is recorded for
        O(revision) yet; so what was looked at is what is fetched, although a branch has moved
        since.
    type: str
  update:
    description:
      - Ask the Hub again which commit a branch or tag is at. When it has moved, the new commit is
        fetched; the old one stays until it is removed with O(state=absent).
      - When the Hub cannot be reached and the recorded commit is whole, this is a warning.
    type: bool
    default: false
  state:
    description:
      - V(present) brings the revision.
      - V(absent) removes the revision and every file that no other revision in the cache needs, as
        C(hf cache rm) does; and with the last revision all of the repository.
    type: str
    choices: [present, absent]
    default: present
  allow_patterns:
    description:
      - Shell patterns of the files to fetch, as in C(huggingface_hub.snapshot_download).
      - By default these are the files that vLLM loads - configuration, tokenizer, chat templates
        and one format of the weights, C(safetensors) where there is one - without files of other
        formats and engines.
    type: list
    elements: str
  ignore_patterns:
    description: Shell patterns of files not to fetch, in any case.
    type: list
    elements: str
  trust_remote_code:
    description:
      - Fetch the repository's Python files too, as vLLM's C(--trust-remote-code) needs. Without it
        they are not on the host.
    type: bool
    default: false
  cache_dir:
    description: The cache, in Hugging Face's own layout (C(HF_HUB_CACHE)).
    type: path
    default: /var/lib/vllm/hub
  endpoint:
    description: Address of the Hub or of a mirror.
    type: str
    default: https://huggingface.co
  token:
    description:
      - Token for private and gated models. It reaches only the O(endpoint), by the standard input
        of the process that talks to it; it is never stored. Tokens that lie on the host are not
        used.
    type: str
  verify:
    description:
      - How a model that was verified before is looked at again.
      - V(size) compares sizes and modification times, and hashes again what has been written to
        since.
      - V(sha256) hashes all of it again. A wrong file is fetched again in either case.
    type: str
    choices: [size, sha256]
    default: size
  fetch:
    description:
      - With V(false) nothing is fetched, written or asked for. A model that is not here, or not
        whole, is only reported (RV(whole)).
    type: bool
    default: true
  copy_from:
    description:
      - Another host whose cache has the revision, to copy it from there with rsync over SSH instead
        of fetching it from the Hub. What that host recorded of the revision, its commit and the
        hashes of its files, is taken over, and each file is compared with it. A copy that was cut
        goes on where it stood.
      - rsync and ssh must be installed on both.
    type: dict
    suboptions:
      source:
        description:
          - The other host's O(cache_dir) as rsync names it, C(USER@HOST:/PATH); or
            C(USER@HOST::MODULE), where the key is bound to an rsync daemon.
        type: str
        required: true
      identity_file:
        description: A private key on this host. When given, no other is offered.
        type: path
      known_hosts:
        description: A file on this host with the other's host keys. When given, only these count.
        type: path
      port:
        description: The other's SSH port.
        type: int
  max_workers:
    description: How many files are fetched side by side.
    type: int
    default: 8
  stall_timeout:
    description: Seconds without a byte after which a transfer is ended and resumed.
    type: int
    default: 60
  retries:
    description:
      - How often in a row something is tried again without a byte having come in between. While
        bytes come, a transfer may be cut any number of times.
    type: int
    default: 5
  tools_path:
    description: The environment that holds huggingface_hub.
    type: path
    default: /opt/vllm/tools
  progress:
    description: The file in which progress is kept; set by the action plugin.
    type: path
notes:
  - Transfers use plain HTTP. The xet protocol is switched off (C(HF_HUB_DISABLE_XET=1)), because it
    stalls and cannot be resumed.
  - Proxies and certificates are read from the task's environment (C(HTTPS_PROXY),
    C(SSL_CERT_FILE)). Variables of Hugging Face are not; the options say it all.
"""

EXAMPLES = r"""
- name: Bring a model at a commit
  compute_plane.vllm.hf_model:
    repo_id: Qwen/Qwen2.5-7B-Instruct
    revision: a09a35458c702b33eeacc393d103063234e8bc28

- name: Bring a gated model at what main is now, and keep that
  compute_plane.vllm.hf_model:
    repo_id: meta-llama/Llama-3.1-8B-Instruct
    token: "{{ vault_hf_token }}"

- name: Follow a branch
  compute_plane.vllm.hf_model:
    repo_id: Qwen/Qwen2.5-7B-Instruct
    revision: main
    update: true

- name: Bring one quantisation of a GGUF repository
  compute_plane.vllm.hf_model:
    repo_id: Qwen/Qwen2.5-7B-Instruct-GGUF
    allow_patterns: ["*q4_k_m*.gguf"]

- name: Remove a commit that nothing serves any more
  compute_plane.vllm.hf_model:
    repo_id: Qwen/Qwen2.5-7B-Instruct
    revision: bb46c15ee4bb56c5b63245ef50fd7637234d6f75
    state: absent
"""

RETURN = r"""
path:
  description: The snapshot, which is what vLLM is given as the model.
  type: str
  returned: when O(state=present) and the commit is known
  sample: /var/lib/vllm/hub/models--ORG--NAME/snapshots/a09a35458c702b33eeacc393d103063234e8bc28
commit:
  description: The commit that the revision stands for.
  type: str
  returned: when it is known
  sample: a09a35458c702b33eeacc393d103063234e8bc28
weights:
  description: Format of the weights; null with O(allow_patterns).
  type: str
  returned: when O(state=present) and the commit is known
  sample: safetensors
bytes:
  description:
    - Bytes of the model's files. In check mode null when the Hub could not be asked because the
      tools are not there yet.
    - With O(state=absent) the bytes that are freed.
  type: int
  returned: success
  sample: 15242807008
bytes_fetched:
  description: Bytes that came from the Hub, or in check mode that would.
  type: int
  returned: when O(state=present)
  sample: 15242807008
files_fetched:
  description: Files that came from the Hub, or in check mode that would, by their path.
  type: list
  elements: str
  returned: when O(state=present)
  sample: [config.json, model-00001-of-00004.safetensors]
files_reused:
  description: Files that were there already.
  type: list
  elements: str
  returned: when O(state=present)
  sample: [tokenizer.json]
whole:
  description: Whether all of the model is here, as it was when it was verified.
  type: bool
  returned: when O(fetch=false)
  sample: true
other_commits:
  description: Other commits of the repository in the cache.
  type: list
  elements: str
  returned: when O(state=present)
  sample: [bb46c15ee4bb56c5b63245ef50fd7637234d6f75]
restarts:
  description: How often the transfer stalled or broke so that its process was started again.
  type: int
  returned: when O(state=present)
  sample: 0
seconds:
  description: How long the module took.
  type: float
  returned: success
  sample: 184.2
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common import late
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import (
    ARGUMENTS as LOCK_ARGUMENTS,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.model import (
    Model,
    problems,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import CacheError


def main() -> None:
    """Run the module."""
    began = time.monotonic()
    module = AnsibleModule(
        argument_spec={
            "repo_id": {"type": "str", "required": True},
            "revision": {"type": "str"},
            "commit": {"type": "str"},
            "update": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "allow_patterns": {"type": "list", "elements": "str"},
            "ignore_patterns": {"type": "list", "elements": "str"},
            "trust_remote_code": {"type": "bool", "default": False},
            "cache_dir": {"type": "path", "default": "/var/lib/vllm/hub"},
            "endpoint": {"type": "str", "default": "https://huggingface.co"},
            "token": {"type": "str", "no_log": True},
            "verify": {"type": "str", "choices": ["size", "sha256"], "default": "size"},
            "fetch": {"type": "bool", "default": True},
            "copy_from": {
                "type": "dict",
                "options": {
                    "source": {"type": "str", "required": True},
                    "identity_file": {"type": "path"},
                    "known_hosts": {"type": "path"},
                    "port": {"type": "int"},
                },
            },
            "max_workers": {"type": "int", "default": 8},
            "stall_timeout": {"type": "int", "default": 60},
            "retries": {"type": "int", "default": 5},
            "tools_path": {"type": "path", "default": "/opt/vllm/tools"},
            "progress": {"type": "path"},
            **LOCK_ARGUMENTS,
            **late.ARGUMENTS,
        },
        supports_check_mode=True,
    )
    found = problems(module.params)
    if found:
        module.fail_json(msg="; ".join(found))
    os.umask(0o022)
    late.use(module.params["code_archive"])
    run = Model(module)
    failure = None
    try:
        if module.params["state"] == "absent":
            run = late.late("hub.bring").Bringing(module)
            run.absent()
        elif not run.is_settled():
            run = late.late("hub.bring").Bringing(module)
            run.present()
    except late.CodeNeeded:
        module.fail_json(**late.ASKS)
    except (Failed, CacheError) as error:
        failure = str(error)
    except OSError as error:
        where = error.filename or module.params["cache_dir"]
        failure = f"{where}: {error.strerror}. The cache cannot be used as it is"
    finally:
        run.close()
    if not module._diff:
        run.result.pop("diff", None)
    result = {**run.result, "seconds": round(time.monotonic() - began, 3)}
    if failure is not None:
        module.fail_json(msg=failure, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
