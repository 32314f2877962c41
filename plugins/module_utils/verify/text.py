# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is expected of an answer, and whether it holds. Pure, but for JSON schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Callable

from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.chinese_variants import (
    SIMPLIFIED_ONLY,
    TRADITIONAL_ONLY,
)

Validate = Callable[[Mapping[str, Any], Any], "str | None"]
"""What is wrong with a value by a JSON schema; `None` when nothing is."""

OTHER_SCRIPT_SHARE = 0.05
"""Of the characters that tell the scripts apart, how many may be of the other one."""

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?")
_FENCE = re.compile(r"```[ \t]*([\w+-]*)[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


def han(text: str) -> list[str]:
    """The Chinese characters of a text."""
    return _HAN.findall(text)


def script_problem(text: str, script: str) -> str | None:
    """Why a text is not in the wanted Chinese script; `None` when it is.

    Args:
        text: An answer.
        script: `traditional` or `simplified`.
    """
    characters = han(text)
    letters = [character for character in text if character.isalpha()]
    if not characters or len(characters) < len(letters) / 2:
        return f"it is not in Chinese: {len(characters)} of {len(letters)} letters are Chinese"
    sets = {"simplified": SIMPLIFIED_ONLY, "traditional": TRADITIONAL_ONLY}
    other = "simplified" if script == "traditional" else "traditional"
    right = [character for character in characters if character in sets[script]]
    wrong = [character for character in characters if character in sets[other]]
    if not right and not wrong:
        return f"no character of it tells {script} from {other} Chinese"
    if len(wrong) > OTHER_SCRIPT_SHARE * (len(right) + len(wrong)):
        some = "".join(dict.fromkeys(wrong))[:12]
        return (
            f"it is not in {script} Chinese: {len(wrong)} characters are {other} only"
            f" ({some}), {len(right)} {script} only"
        )
    return None


def numbers(text: str) -> list[float]:
    """The numbers in a text."""
    return [float(word.replace(",", "")) for word in _NUMBER.findall(text)]


def number_problem(text: str, wanted: Mapping[str, Any]) -> str | None:
    """Why the number of an answer is not as wanted; `None` when it is.

    Args:
        text: An answer.
        wanted: Any of `equals`, `tolerance` (default 0), `min`, `max`, and `which` of several
            numbers counts: `last` (default), `first` or `any`.
    """
    found = numbers(text)
    if not found:
        return "there is no number in it"
    which = wanted.get("which", "last")
    considered = {"last": found[-1:], "first": found[:1], "any": found}[which]

    def holds(number: float) -> bool:
        if "equals" in wanted and abs(number - wanted["equals"]) > wanted.get("tolerance", 0):
            return False
        return bool(wanted.get("min", number) <= number <= wanted.get("max", number))

    if any(holds(number) for number in considered):
        return None
    told = ", ".join(f"{number:g}" for number in considered)
    limits = ", ".join(
        f"{key} {wanted[key]:g}" for key in ("equals", "min", "max") if key in wanted
    )
    return f"its {which} number is {told}, expected {limits}"


def json_in(text: str) -> Any:
    """The JSON value that an answer is, or that is in its first code block.

    Raises:
        ValueError: There is none.
    """
    try:
        return json.loads(text)
    except ValueError:
        fenced = _FENCE.search(text)
        if fenced is None:
            raise
        return json.loads(fenced.group(2))


def code_in(text: str) -> str | None:
    """The Python code in an answer: its first block of code, or all of it; `None` without any."""
    for language, code in _FENCE.findall(text):
        if language.lower() in ("", "py", "python", "python3"):
            return str(code)
    return text if re.search(r"^\s*def \w+\(", text, re.MULTILINE) else None


def _words(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def problems_with(text: str, expect: Mapping[str, Any], validate: Validate) -> list[str]:
    """What is wrong with an answer; empty when everything expected of it holds.

    Args:
        text: The answer.
        expect: Any of `regex`, `not_regex`, `contains`, `not_contains`, `json_schema`,
            `number`, `min_length`, `max_length` (characters) and `script`.
        validate: Checks JSON schemas.
    """
    found = [
        f"nothing in it matches {pattern!r}"
        for pattern in _words(expect.get("regex", []))
        if not re.search(pattern, text)
    ]
    for pattern in _words(expect.get("not_regex", [])):
        match = re.search(pattern, text)
        if match:
            found.append(f"{match.group(0)[:60]!r} in it matches {pattern!r}")
    found += [
        f"{word!r} is not in it" for word in _words(expect.get("contains", [])) if word not in text
    ]
    found += [
        f"{word!r} is in it" for word in _words(expect.get("not_contains", [])) if word in text
    ]
    length = len(text.strip())
    if length < expect.get("min_length", 0):
        found.append(f"it has {length} characters, at least {expect['min_length']} are expected")
    if length > expect.get("max_length", length):
        found.append(f"it has {length} characters, at most {expect['max_length']} are expected")
    if "script" in expect:
        problem = script_problem(text, expect["script"])
        found += [problem] if problem else []
    if "number" in expect:
        problem = number_problem(text, expect["number"])
        found += [problem] if problem else []
    if "json_schema" in expect:
        try:
            value = json_in(text)
        except ValueError as error:
            found.append(f"it is not JSON: {error}")
        else:
            problem = validate(expect["json_schema"], value)
            found += [f"it does not fit the schema: {problem}"] if problem else []
    return found
