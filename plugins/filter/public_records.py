# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoint records as others need them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.endpoint.published import (
    with_public_url,
)

DOCUMENTATION = r"""
name: public_records
author: compute_plane.vllm contributors (@compute-plane)
version_added: 0.1.0
short_description: Endpoint records as others need them
description:
  - Gives each endpoint record the address under which others reach the endpoint. A server that
    listens on all addresses is reached under the host's.
options:
  _input:
    description: Endpoint records.
    type: list
    elements: dict
    required: true
  address:
    description: The host's name or address, as others reach it.
    type: str
    required: true
  public_urls:
    description: URLs by instance, for endpoints that are reached in another way.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Where the endpoints are
  ansible.builtin.debug:
    msg: "{{ records | compute_plane.vllm.public_records(ansible_host) | map(attribute='url') }}"
"""

RETURN = r"""
_value:
  description: The records.
  type: list
  elements: dict
"""


def public_records(
    records: Sequence[Mapping[str, Any]],
    address: str,
    public_urls: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Endpoint records with the addresses under which others reach the endpoints."""
    urls = public_urls or {}
    return [with_public_url(record, urls.get(record["instance"]), address) for record in records]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"public_records": public_records}
