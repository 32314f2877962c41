# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Careful access to what the probe reported.

Facts come from a real host, so any of them may be missing or odd. These
helpers return what has the expected type and a default for everything else;
a rule that finds None says so in a note and does not guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def dig(value: Any, *path: str) -> Any:
    """Return `value[path[0]][path[1]]…`, or None where a step is missing."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def mapping(value: Any, *path: str) -> Mapping[str, Any]:
    """Return the mapping at `path`, or an empty one."""
    found = dig(value, *path)
    return found if isinstance(found, Mapping) else {}


def rows(value: Any, *path: str) -> list[Mapping[str, Any]]:
    """Return the list of mappings at `path`, leaving out what is not a mapping."""
    found = dig(value, *path)
    if not isinstance(found, list):
        return []
    return [item for item in found if isinstance(item, Mapping)]


def words(value: Any, *path: str) -> list[str]:
    """Return the list of strings at `path`, leaving out what is not a string."""
    found = dig(value, *path)
    if not isinstance(found, list):
        return []
    return [item for item in found if isinstance(item, str)]


def text(value: Any, *path: str) -> str | None:
    """Return the non-empty string at `path`, or None."""
    found = dig(value, *path)
    return found if isinstance(found, str) and found else None


def integer(value: Any, *path: str) -> int | None:
    """Return the integer of at most 64 bits at `path` (never a boolean), or None."""
    found = dig(value, *path)
    if isinstance(found, bool) or not isinstance(found, int):
        return None
    return found if abs(found) < 2**63 else None


def number(value: Any, *path: str) -> float | None:
    """Return the finite number at `path` (never a boolean), or None."""
    found = dig(value, *path)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    return found if abs(found) < 2**63 else None


def version_tuple(value: Any) -> tuple[int, ...]:
    """Return the leading numbers of a dotted version: `"590.48.01"` is (590, 48, 1).

    Anything that does not begin with a number gives an empty tuple.
    """
    parts: list[int] = []
    for part in str(value).split("."):
        digits = ""
        for char in part:
            if not ("0" <= char <= "9"):
                break
            digits += char
        if not digits:
            break
        parts.append(int(digits))
        if digits != part:
            break
    return tuple(parts)


GIB = 1024**3


def gib(count: float) -> str:
    """Return a number of bytes in GiB with one decimal: `"20.4 GiB"`."""
    return f"{count / GIB:.1f} GiB"
