#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say why a vLLM server ended, from a log file of it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_diagnose
short_description: Say why a vLLM server ended, from a log file of it
version_added: 1.0.0
description:
  - Reads a log file of any vLLM server, also of one that this collection has not installed, and
    says why it ended and what to do about it, as the supervisor would have.
  - Prefixes of journald, syslog, docker compose, C(kubectl logs) and colours are understood. A
    file of several starts is judged by the last one that failed.
  - What it returns has no secrets, tokens, names of hosts and users, and addresses. Changes
    nothing.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: It changes nothing.
  diff_mode:
    support: none
    description: It changes nothing.
options:
  path:
    description: The log file.
    type: path
    required: true
  exit_status:
    description: How the server ended, where that is known, such as V(137), or V(-9) for a signal.
    type: int
  secrets:
    description: Values that must not be returned, beside what looks like a token.
    type: list
    elements: str
    default: []
  names:
    description: Names of hosts that must not be returned, beside this one's.
    type: list
    elements: str
    default: []
  users:
    description: Names of users that must not be returned.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Somebody else's failure
  compute_plane.vllm.vllm_diagnose:
    path: /home/me/vllm.log
  register: diagnosis
  delegate_to: localhost

- name: Why
  ansible.builtin.debug:
    msg: "{{ diagnosis.cause }}: {{ diagnosis.summary }}. {{ diagnosis.remedy }}"
"""

RETURN = r"""
cause:
  description:
    - Short name of the cause, as in docs/troubleshooting.md; null for a log that tells of no end.
  returned: always
  type: str
  sample: gpu_out_of_memory
summary:
  description: The cause as a person would say it.
  returned: always
  type: str
evidence:
  description: What it rests on; the line of the log begins with C(log).
  returned: always
  type: list
  elements: str
remedy:
  description: What to do about it.
  returned: always
  type: str
telling:
  description: The part of the log that says it.
  returned: always
  type: list
  elements: str
start:
  description: Which of the starts in the file that is.
  returned: always
  type: int
starts:
  description: How many starts the file has.
  returned: always
  type: int
"""

import os
import socket

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.status.diagnose import diagnose
from ansible_collections.compute_plane.vllm.plugins.module_utils.status.redact import Redactor

MOST_BYTES = 256 << 20
"""Of a larger file the end is read."""


def main() -> None:
    """Run the module."""
    strings = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "exit_status": {"type": "int"},
            "secrets": {**strings, "no_log": True},
            "names": strings,
            "users": strings,
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        with open(params["path"], "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - MOST_BYTES))
            lines = stream.read().decode("utf-8", "replace").split("\n")
    except OSError as problem:
        module.fail_json(msg=f"{params['path']}: {problem.strerror}; name a log file that is there")
    if not any(line.strip() for line in lines):
        module.fail_json(msg=f"{params['path']} is empty; name the log of a vLLM server")
    redactor = Redactor(
        params["secrets"], [socket.gethostname(), *params["names"]], params["users"]
    )
    found = redactor.value(diagnose(lines, params["exit_status"]))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
