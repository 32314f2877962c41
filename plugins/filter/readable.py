# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A text of several lines as Ansible prints it line by line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible import constants

DOCUMENTATION = r"""
name: readable
author: compute_plane.vllm contributors (@compute-plane)
version_added: 0.1.0
short_description: A text of several lines as Ansible prints it line by line
description:
  - Ansible's default output prints a text of several lines as one line with C(\n) in it, unless its
    C(result_format) is C(yaml); a list of lines it prints as lines, but folds them in YAML.
options:
  _input:
    description: The text.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: The report
  ansible.builtin.debug:
    msg: "{{ preflight.report | compute_plane.vllm.readable }}"
"""

RETURN = r"""
_value:
  description: The text itself where results are printed as YAML, else the list of its lines.
  type: raw
"""


def readable(text: str) -> str | list[str]:
    """Return the text in the form that the output shows line by line."""
    form = constants.config.get_config_value(
        "result_format", plugin_type="callback", plugin_name="default"
    )
    return text if form == "yaml" else text.splitlines()


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"readable": readable}
