#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Register verified endpoints, and withdraw those that are not."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_endpoint_registration
short_description: Register verified endpoints with a registry, and withdraw those that are not
version_added: 0.1.0
description:
  - Registers the endpoint records of a host at an address each, with C(PUT), and withdraws them
    with C(DELETE). Only a record whose state is C(verified) is registered; any other is withdrawn.
  - Nothing is sent where the registry has the record already. A registry that has lost it gets it
    again. A record is another one when anything but its verification and its measured figures is
    another.
  - Where each record was registered is kept on the host, so that it is withdrawn from there when
    its instance is gone, or the template is another.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: Asks the registry what it has, and says what would be sent.
  diff_mode:
    support: none
    description: The result says what was sent.
options:
  url:
    description:
      - The template of a record's address, with C({host}) and C({instance}), such as
        V(https://registry.example/v1/endpoints/{host}/{instance}).
    type: str
    required: true
  token:
    description: Sent as a bearer token.
    type: str
  host:
    description: The host's name there.
    type: str
    required: true
  state:
    description:
      - V(absent) withdraws everything of this host that was registered, or O(only) some of it,
        whatever the records say.
    type: str
    choices: [present, absent]
    default: present
  only:
    description: Instances to look at; every other is left alone. All when empty.
    type: list
    elements: str
    default: []
  address:
    description: The host's address, for instances that listen on all of its addresses.
    type: str
  public_urls:
    description: Addresses under which others reach an instance, by its name, in place of its own.
    type: dict
    default: {}
  timeout:
    description: Seconds for one answer of the registry.
    type: int
    default: 10
  retries:
    description:
      - How often a request is tried again when the registry cannot be reached, is slow, or has
        trouble of its own; after 1, 2, 4, … seconds, or as long as it asks for, at most a minute.
    type: int
    default: 4
  validate_certs:
    description: Whether the registry's certificate must be right.
    type: bool
    default: true
  ca_path:
    description: A file of certificate authorities to trust instead of the system's.
    type: path
  etc_dir:
    description: Where the endpoint records are.
    type: path
    default: /etc/vllm
  state_dir:
    description: Where it is kept what is registered.
    type: path
    default: /var/lib/vllm
"""

EXAMPLES = r"""
- name: What is verified is registered, the rest is not
  compute_plane.vllm.vllm_endpoint_registration:
    url: https://registry.example/v1/endpoints/{host}/{instance}
    token: "{{ registry_token }}"
    host: ac-3090

- name: It is about to be stopped
  compute_plane.vllm.vllm_endpoint_registration:
    url: https://registry.example/v1/endpoints/{host}/{instance}
    token: "{{ registry_token }}"
    host: ac-3090
    only: [qwen2.5-7b-instruct]
    state: absent
"""

RETURN = r"""
registered:
  description: Addresses that were sent a record.
  type: list
  elements: str
  returned: always
  sample: [https://registry.example/v1/endpoints/ac-3090/qwen2.5-7b-instruct]
withdrawn:
  description: Addresses from which a record was withdrawn.
  type: list
  elements: str
  returned: always
  sample: []
"""

import glob
import json
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import File
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.published import (
    record_path,
    with_public_url,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.registration import (
    Registry,
    RegistryError,
    address,
)


class Registration:
    """The registration of a host's endpoints.

    Args:
        module: The module that runs.
    """

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.registry = Registry(
            self.params["token"],
            timeout=self.params["timeout"],
            retries=self.params["retries"],
            validate_certs=self.params["validate_certs"],
            ca_path=self.params["ca_path"],
        )
        self.registered: list[str] = []
        self.withdrawn: list[str] = []

    def note(self, instance: str) -> File:
        """The file that tells where an instance is registered."""
        path = os.path.join(self.params["state_dir"], "registered", f"{instance}.json")
        return File(path, None, 0o600)

    def records(self) -> dict[str, dict[str, Any]]:
        """The endpoint records of this host, by instance."""
        found = {}
        for path in sorted(glob.glob(record_path(self.params["etc_dir"], "*"))):
            try:
                record = json.loads(read(path) or "")
                found[str(record["instance"])] = record
            except (ValueError, LookupError, TypeError):
                self.module.warn(f"{path} is no endpoint record")
        return found

    def former(self, instance: str) -> str | None:
        """Where an instance was registered last."""
        try:
            return str(json.loads(self.note(instance).before or "")["url"])
        except (ValueError, LookupError, TypeError):
            return None

    def register(self, instance: str, record: dict[str, Any]) -> None:
        """See to it that the registry has a record."""
        url = address(self.params["url"], self.params["host"], instance)
        former = self.former(instance)
        if former not in (None, url):
            self.withdraw(instance)
        if not self.registry.has(url, record):
            self.registered.append(url)
            if not self.module.check_mode:
                self.registry.put(url, record)
        note = self.note(instance)
        note.text = json.dumps({"url": url}) + "\n"
        if not self.module.check_mode and not note.is_right():
            note.write()

    def withdraw(self, instance: str) -> None:
        """See to it that the registry does not have an instance that was registered."""
        url = self.former(instance)
        if url is None:
            return
        if self.module.check_mode or self.registry.delete(url):
            self.withdrawn.append(url)
        if not self.module.check_mode:
            self.note(instance).write()


def run(module: AnsibleModule) -> None:
    """Register and withdraw, as far as the registry lets it; then tell all that went wrong."""
    os.umask(0o022)
    registration = Registration(module)
    records = registration.records()
    noted = [
        os.path.basename(path)[: -len(".json")]
        for path in sorted(glob.glob(registration.note("*").path))
    ]
    problems = []
    only = module.params["only"]
    is_wanted = module.params["state"] == "present"
    every = sorted({*records, *noted})
    for instance in (name for name in every if not only or name in only):
        record = records.get(instance)
        try:
            if is_wanted and record is not None and record.get("state") == "verified":
                url = module.params["public_urls"].get(instance)
                registration.register(
                    instance, with_public_url(record, url, module.params["address"])
                )
            else:
                registration.withdraw(instance)
        except RegistryError as problem:
            problems.append(f"{instance}: {problem}")
    result = {
        "changed": bool(registration.registered or registration.withdrawn),
        "registered": registration.registered,
        "withdrawn": registration.withdrawn,
    }
    if problems:
        module.fail_json(msg="\n".join(problems), **result)
    module.exit_json(**result)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "token": {"type": "str", "no_log": True},
            "host": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "only": {"type": "list", "elements": "str", "default": []},
            "address": {"type": "str"},
            "public_urls": {"type": "dict", "default": {}},
            "timeout": {"type": "int", "default": 10},
            "retries": {"type": "int", "default": 4},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
            "etc_dir": {"type": "path", "default": "/etc/vllm"},
            "state_dir": {"type": "path", "default": "/var/lib/vllm"},
        },
        supports_check_mode=True,
    )
    run(module)


if __name__ == "__main__":
    main()
