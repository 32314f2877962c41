# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoint records as targets of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

DOCUMENTATION = r"""
name: prometheus_targets
author: compute_plane.vllm contributors (@compute-plane)
version_added: 0.1.0
short_description: Endpoint records as targets of Prometheus
description:
  - Makes what a file of Prometheus's C(file_sd_configs) holds,
    U(https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config).
positional: host, labels
options:
  _input:
    description: Endpoint records, as P(compute_plane.vllm.public_records#filter) returns them.
    type: list
    elements: dict
    required: true
  host:
    description: The label C(host).
    type: str
    required: true
  labels:
    description: Further labels.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Ensure the targets for Prometheus are there
  ansible.builtin.copy:
    content: "{{ records | compute_plane.vllm.prometheus_targets('gpu1') | to_nice_json }}"
    dest: /etc/prometheus/vllm.json
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The targets.
  type: list
  elements: dict
"""


def prometheus_targets(
    records: Iterable[Mapping[str, Any]], host: str, labels: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Make the targets.

    Args:
        records: Endpoint records.
        host: The host's name in the inventory.
        labels: Further labels.
    """
    return [
        {
            "targets": [urlsplit(record["url"]).netloc],
            "labels": {
                "__scheme__": urlsplit(record["url"]).scheme,
                "__metrics_path__": "/metrics",
                "host": host,
                "instance_name": record["instance"],
                "model": record["served_model_name"],
                "release": record["release"],
                **(labels or {}),
            },
        }
        for record in records
    ]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"prometheus_targets": prometheus_targets}
