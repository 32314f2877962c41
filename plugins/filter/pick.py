# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of each item of a list, the values at given places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: pick
author: compute_plane.vllm contributors (@compute-plane)
version_added: 0.1.0
short_description: Of each item of a list, the values at given places
description:
  - Makes a list of dictionaries from a list of dictionaries or lists. What an item does not have is
    null.
positional: places
options:
  _input:
    description: The items, each a dictionary or a list.
    type: list
    elements: raw
    required: true
  places:
    description:
      - Where each value is taken from, by the key that it gets - a key, keys joined by dots, or the
        number of an element.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the name and the attention backend of each instance
  ansible.builtin.debug:
    msg: "{{ vllm_preflight_result.plan.instances | compute_plane.vllm.pick(places) }}"
  vars:
    places: {name: name, attention_backend: attention_backend.selected}
"""

RETURN = r"""
_value:
  description: A dictionary for each item.
  type: list
  elements: dict
"""


def value_at(item: Any, place: str | int) -> Any:
    """The value at a place of an item; None where there is none."""
    for key in place.split(".") if isinstance(place, str) else [place]:
        try:
            item = item[key]
        except (LookupError, TypeError):
            return None
    return item


def pick(
    items: Iterable[Mapping[str, Any] | Sequence[Any]], places: Mapping[str, str | int]
) -> list[dict[str, Any]]:
    """Take the values out of each item.

    Args:
        items: Dictionaries or lists.
        places: Where each value is, by the key that it gets.
    """
    return [{key: value_at(item, place) for key, place in places.items()} for item in items]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by name."""
        return {"pick": pick}
