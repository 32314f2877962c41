# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of secrets, as systemd's `EnvironmentFile=` reads them. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import MANAGED

API_KEY = "VLLM_API_KEY"
"""Environment variable with the key that requests must bring."""


def environment_file(unit: str, variables: Mapping[str, str]) -> str:
    """A file for `EnvironmentFile=` (systemd.exec(5)).

    Args:
        unit: The unit's name, for the comment at the top.
        variables: Names and values.
    """
    lines = []
    for name, value in sorted(variables.items()):
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            raise ValueError(f"control character in the value of {name}")
        lines.append(name + '="' + re.sub(r'(["\\$`])', r"\\\1", value) + '"\n')
    return MANAGED.format(unit=unit) + "".join(lines)


# Patterns as text: most instances have no secrets, and compiling these takes longer than the rest.
_LINE = r"""(?xs) [ \t\n\r]*
    (?: [#;][^\n\r]*
      | (?P<name>[^\n\r][^=\n\r]*)
        (?: = (?P<quoted>(?: [ \t]* (?: '[^']*(?:'|\Z) | "(?:[^"\\]|\\.)*(?:"|\\?\Z) ) )*)
              [ \t]* (?P<plain>(?:[^\n\r\\]|\\(?:.|\Z))*?) [ \t]* (?=[\n\r]|\Z)
          | (?=[\n\r]|\Z) ) )"""
_QUOTED = r"""(?s)'([^']*)'?|"((?:[^"\\]|\\.)*)"?"""


def read_environment_file(text: str | None) -> dict[str, str]:
    """The variables in such a file, as :func:`environment_file` or a person wrote them.

    By systemd's own rules (systemd.exec(5), "EnvironmentFile="; src/basic/env-file.c), but that a
    comment ends with its line, as it does since systemd 254.

    Args:
        text: The file's content; `None` where there is none.
    """

    def unescaped(escaped: str, pattern: str) -> str:
        return re.sub(pattern, lambda match: match[1].strip("\n\r"), escaped, flags=re.DOTALL)

    variables = {}
    for line in re.finditer(_LINE, text) if text else ():
        name = (line["name"] or "").rstrip()
        if line["plain"] is None or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            continue
        parts = [
            single + unescaped(double, r'\\(["\\$`\n])')
            for single, double in re.findall(_QUOTED, line["quoted"])
        ]
        variables[name] = "".join([*parts, unescaped(line["plain"], r"\\(.|\Z)")])
    return variables
