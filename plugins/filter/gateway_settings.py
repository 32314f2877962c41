# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway is configured with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: gateway_settings
author: compute_plane.vllm contributors (@compute-plane)
version_added: 1.0.0
short_description: What a gateway is configured with
description:
  - Makes the models, their servers and the maps of a gateway from the endpoint records of hosts.
  - A host whose records nobody has read in this run, because it is away, keeps what the gateway
    knew of it.
options:
  _input:
    description: The hosts that serve.
    type: list
    elements: str
    required: true
  hostvars:
    description: Ansible's C(hostvars).
    type: dict
    required: true
  gateway:
    description: The gateway's name in the inventory.
    type: str
    required: true
  keys:
    description: The API keys.
    type: list
    elements: dict
    required: true
  paths:
    description: The paths that take requests with a model.
    type: list
    elements: str
    required: true
  former:
    description: The text of the gateway's C(endpoints.json).
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: What is wrong with it
  ansible.builtin.debug:
    msg: >-
      {{ (groups['vllm']
      | compute_plane.vllm.gateway_settings(hostvars, inventory_hostname, keys, paths)).problems }}
"""

RETURN = r"""
_value:
  description: C(problems), C(models), C(files) and C(secrets).
  type: dict
"""


def gateway_settings(
    hosts: Sequence[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    gateway: str,
    keys: Sequence[Mapping[str, Any]],
    paths: Sequence[str],
    former: str = "",
) -> dict[str, Any]:
    """What a gateway is configured with."""
    # Ansible loads every filter where it needs one.
    from ansible_collections.compute_plane.vllm.plugins.plugin_utils.gateway import (
        settings,
        with_former,
    )

    return settings(with_former(hosts, hostvars, former), keys, gateway, paths)


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"gateway_settings": gateway_settings}
