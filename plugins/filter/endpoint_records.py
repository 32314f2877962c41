# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoint records as others need them: with an address that they can reach."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.registration import (
    with_public_url,
)

DOCUMENTATION = r"""
name: endpoint_records
author: compute_plane.vllm contributors (@compute-plane)
version_added: 0.1.0
short_description: Endpoint records as others need them
description:
  - Replaces the address of each record that has another one for others. An instance that listens on
    all of a host's addresses is named by the host's own.
positional: address, public_urls
options:
  _input:
    description: Endpoint records, as M(compute_plane.vllm.vllm_verify) returns them.
    type: list
    elements: dict
    required: true
  address:
    description: The host's address.
    type: str
    required: true
  public_urls:
    description: Addresses under which others reach an instance, by its name, in place of its own.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show where the endpoints are
  ansible.builtin.debug:
    msg: "{{ records | compute_plane.vllm.endpoint_records('10.0.0.7') | map(attribute='url') }}"
"""

RETURN = r"""
_value:
  description: The records.
  type: list
  elements: dict
"""


def endpoint_records(
    records: Iterable[Mapping[str, Any]], address: str, public_urls: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Give each record the address under which others reach it.

    Args:
        records: Endpoint records.
        address: The host's address.
        public_urls: Addresses in place of an instance's own, by its name.
    """
    urls = public_urls or {}
    return [with_public_url(dict(one), urls.get(one["instance"]), address) for one in records]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"endpoint_records": endpoint_records}
