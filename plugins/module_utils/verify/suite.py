# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The suite: which checks there are, what each may be given, and reading a user's own. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.numbers import number_in
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.kinds import GENERATING

SEVERITIES = ("error", "warning")

THINKING_TOKENS = 4096
THINKING_SECONDS = 300

CHECKS: dict[str, tuple[str, dict[str, Any]]] = {
    "health": ("error", {}),
    "version": ("error", {}),
    "models": ("error", {}),
    "chinese": ("ability", {"min_characters": 40, "max_tokens": 320}),
    "is_prime": ("ability", {"max_tokens": 320, "seconds": 10}),
    "multi_turn": ("ability", {"max_tokens": 48}),
    "streaming": ("error", {"max_tokens": 24}),
    "structured_output": ("error", {"max_tokens": 64}),
    "tool_call": ("ability", {"max_tokens": 96}),
    "concurrency": ("error", {"requests": 4, "max_tokens": 8}),
    "context_limit": ("error", {}),
    "api_key": ("error", {}),
    "attention_backend": ("error", {}),
    "gpu_memory": ("warning", {"allowance_gib": 2.0}),
}
"""The built-in checks in the order of the default suite: severity and options of each.

`ability` stands for the severity of what only a model that is able to can do; `warning` for what
answers are right without.
"""

CHATTING = ("chat", "reasoning", "multimodal")
LIMITED_TO: dict[str, tuple[str, ...]] = {
    "chinese": CHATTING,
    "is_prime": CHATTING,
    "multi_turn": CHATTING,
    "tool_call": CHATTING,
    "streaming": GENERATING,
    "structured_output": GENERATING,
    "context_limit": GENERATING,
    # A pooling model has no KV cache that fills its budget, and an encoder its own backend.
    "attention_backend": GENERATING,
    "gpu_memory": GENERATING,
    "question": GENERATING,
}
"""The kinds that a check is for; all, where it is not here."""

KIND_CHECKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "thinking": ("reasoning", "error", {}),
    "embedding": ("embed", "error", {}),
    "dimensions": ("embed", "error", {}),
    "similarity": ("embed", "ability", {}),
    "score": ("rerank", "error", {}),
    "ranking": ("rerank", "ability", {}),
    "classification": ("classify", "error", {}),
    "transcription": ("transcribe", "error", {"seconds": 120, "audio": "", "expect": ""}),
    "picture": ("multimodal", "ability", {"max_tokens": 64}),
}
"""What the default suite has more for one kind: that kind, severity and options of each."""

SERVER_CHECKS = {name: options for name, (kind, options) in CHECKS.items() if kind != "ability"}
ABILITY_CHECKS = {name: options for name, (kind, options) in CHECKS.items() if kind == "ability"}
DEFAULT_SUITE = tuple(CHECKS)
KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    **CHECKS,
    **{name: (severity, options) for name, (_kind, severity, options) in KIND_CHECKS.items()},
}
"""All built-in checks: severity and options of each."""

DEFAULT_QUESTIONS: tuple[dict[str, Any], ...] = (
    {
        "name": "completion",
        "prompt": "What is the capital of France?",
        "expect": "Paris",
        "max_tokens": 16,
    },
)

CONTINUED = "The capital of France is"

_COMMON = {
    "name": str,
    "severity": str,
    "retries": int,
    "timeout": (int, float),
    "instances": (list, str),
}
_OWN = {
    "prompt": str,
    "messages": list,
    "turns": list,
    "expect": (str, dict),
    "max_tokens": int,
    "temperature": (int, float),
}
_EXPECT: dict[str, Any] = {
    "regex": (str, list),
    "not_regex": (str, list),
    "contains": (str, list),
    "not_contains": (str, list),
    "json_schema": dict,
    "number": dict,
    "min_length": int,
    "max_length": int,
    "script": str,
}
_NUMBER = {"equals": (int, float), "tolerance": (int, float), "min": (int, float)}
_NUMBER_KEYS = {**_NUMBER, "max": (int, float), "which": str}
_NUMERIC = {
    *(
        key
        for key, kind in {**_COMMON, **_OWN, **_EXPECT, **_NUMBER_KEYS}.items()
        if kind in (int, (int, float))
    ),
    *(option for check in (*SERVER_CHECKS.values(), *ABILITY_CHECKS.values()) for option in check),
}


class SuiteError(Exception):
    """The suite cannot be read; the message has a line for everything that is wrong.

    Args:
        problems: Lines `WHERE: WHAT`.

    Attributes:
        problems: The same, each as where and what.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = [problem.partition(": ")[::2] for problem in problems]


@dataclasses.dataclass(frozen=True)
class Check:
    """One entry of the suite.

    Attributes:
        name: What results call it.
        kind: A built-in's name, or `question`.
        severity: `error` or `warning`.
        retries: How often it is tried again.
        timeout: Seconds for one answer; `None` for the suite's.
        options: The built-in's, or the question's.
    """

    name: str
    kind: str
    severity: str
    retries: int = 0
    timeout: float | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _type_problems(where: str, entry: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    found = []
    for key, value in entry.items():
        if key not in known:
            found.append(f"{where}.{key}: there is no such key; there are {', '.join(known)}")
        elif not isinstance(value, known[key]) or (isinstance(value, bool)):
            kinds = known[key] if isinstance(known[key], tuple) else (known[key],)
            wanted = " or ".join(kind.__name__ for kind in kinds)
            found.append(f"{where}.{key}: {value!r} is not of type {wanted}")
    return found


def _expect_problems(where: str, expect: Any) -> list[str]:
    if isinstance(expect, str):
        expect = {"regex": expect}
    if not isinstance(expect, dict):
        return []
    found = _type_problems(where, expect, _EXPECT)
    if not expect:
        found.append(f"{where}: nothing is expected")
    for key in ("regex", "not_regex", "contains", "not_contains"):
        words = expect.get(key, [])
        for word in words if isinstance(words, list) else []:
            if not isinstance(word, str):
                found.append(f"{where}.{key}: {word!r} is not of type str")
    for key in ("regex", "not_regex"):
        patterns = expect.get(key, [])
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            try:
                re.compile(str(pattern))
            except re.error as error:
                found.append(f"{where}.{key}: {pattern!r} is no regular expression: {error}")
    if isinstance(expect.get("number"), dict):
        number = expect["number"]
        found += _type_problems(f"{where}.number", number, _NUMBER_KEYS)
        if not {"equals", "min", "max"} & set(number):
            found.append(f"{where}.number: give equals, min or max")
        if number.get("which", "last") not in ("first", "last", "any"):
            found.append(f"{where}.number.which: {number['which']!r} is not first, last or any")
    if expect.get("script", "traditional") not in ("traditional", "simplified"):
        found.append(f"{where}.script: {expect['script']!r} is not traditional or simplified")
    return found


def _conversation_problems(where: str, entry: Mapping[str, Any]) -> list[str]:
    found = []
    for key, parts in (("turns", (str,)), ("messages", (dict,))):
        said = entry.get(key, [""])
        if not isinstance(said, list) or said == [""]:
            continue
        if not said:
            found.append(f"{where}.{key}: nothing is said")
        for index, part in enumerate(said):
            if not isinstance(part, parts):
                found.append(f"{where}.{key}[{index}]: {part!r} is not of type {parts[0].__name__}")
            elif isinstance(part, dict):
                found += [
                    f"{where}.{key}[{index}].{name}: is missing"
                    for name in ("role", "content")
                    if name not in part
                ]
    return found


def _own_problems(where: str, entry: Mapping[str, Any]) -> list[str]:
    found = _type_problems(where, entry, {**_COMMON, **_OWN})
    if "name" not in entry:
        found.append(f"{where}: a question needs a name; a built-in check is named with check")
    if len({"prompt", "messages", "turns"} & set(entry)) != 1:
        found.append(f"{where}: give one of prompt, messages and turns")
    if "expect" not in entry:
        found.append(f"{where}.expect: is missing")
    if isinstance(entry.get("max_tokens"), int) and entry["max_tokens"] <= 0:
        found.append(f"{where}.max_tokens: {entry['max_tokens']} is not more than 0")
    found += _conversation_problems(where, entry)
    return found + _expect_problems(f"{where}.expect", entry.get("expect"))


def _entry_problems(where: str, entry: Any) -> list[str]:
    if not isinstance(entry, dict):
        return [f"{where}: {entry!r} is neither a built-in check's name nor a mapping"]
    found = []
    kind = entry.get("check")
    if "check" in entry:
        if not isinstance(kind, str) or kind not in KNOWN:
            return [f"{where}.check: there is no {kind!r}; there are {', '.join(sorted(KNOWN))}"]
        options = {
            name: (int, float) if isinstance(default, float) else type(default)
            for name, default in KNOWN[kind][1].items()
        }
        if "expect" in options:
            found += _expect_problems(f"{where}.expect", entry.get("expect"))
        rest = {key: value for key, value in entry.items() if key != "check"}
        found += _type_problems(where, rest, {**_COMMON, **options})
        found += [
            f"{where}.{name}: {entry[name]!r} is not more than 0"
            for name in options
            if isinstance(entry.get(name), (int, float)) and entry[name] <= 0
        ]
    else:
        found += _own_problems(where, entry)
    if entry.get("severity", "error") not in SEVERITIES:
        found.append(f"{where}.severity: {entry['severity']!r} is not error or warning")
    if isinstance(entry.get("retries"), int) and entry["retries"] < 0:
        found.append(f"{where}.retries: {entry['retries']} is less than 0")
    if isinstance(entry.get("timeout"), (int, float)) and entry["timeout"] <= 0:
        found.append(f"{where}.timeout: {entry['timeout']} is not more than 0")
    return found


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    plain = {}
    for key, value in entry.items():
        if key in _NUMERIC:
            plain[key] = number_in(value)
        elif key in ("expect", "number") and isinstance(value, Mapping):
            plain[key] = _plain(value)
        else:
            plain[key] = value
    # Ansible fills options that are not given with None.
    return {key: value for key, value in plain.items() if value is not None}


def read_suite(
    suite: Sequence[Any],
    questions: Sequence[Mapping[str, Any]],
    ability: str,
    instance: str,
    kind: str = "chat",
) -> list[Check]:
    """The checks of an instance, those that are for its kind.

    Args:
        suite: Names of built-in checks, mappings with `check` and its options, or own questions.
        questions: Own questions, which come after the suite.
        ability: The severity of `ABILITY_CHECKS`, where an entry says nothing else.
        instance: The instance; entries with `instances` are for those alone.
        kind: What it is asked for. The default suite has what is for this kind alone too.

    Raises:
        SuiteError: Everything that is wrong with it, at once.
    """
    if tuple(suite) == DEFAULT_SUITE:
        suite = [*suite, *(name for name, (only, *_rest) in KIND_CHECKS.items() if only == kind)]
    entries = [
        (f"suite[{i}]", {"check": entry} if isinstance(entry, str) else entry)
        for i, entry in enumerate(suite)
    ]
    entries += [(f"questions[{i}]", entry) for i, entry in enumerate(questions)]
    problems, checks = [], []
    if ability not in SEVERITIES:
        problems.append(f"ability: {ability!r} is not error or warning")
    for where, raw in entries:
        entry = _plain(raw) if isinstance(raw, Mapping) else raw
        found = _entry_problems(where, entry)
        problems += found
        if found or not isinstance(entry, dict):
            continue
        only = entry.get("instances", [instance])
        if instance in ([only] if isinstance(only, str) else only):
            check = _check(entry, ability)
            if is_for(check.kind, kind):
                checks.append(_continued(check) if kind == "base" else check)
    names = [check.name for check in checks]
    problems += [
        f"suite: there are two checks named {name}"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    if problems:
        raise SuiteError(problems)
    return checks


def is_for(check: str, kind: str) -> bool:
    """Whether a check is for models of a kind."""
    only = (KIND_CHECKS[check][0],) if check in KIND_CHECKS else LIMITED_TO.get(check)
    return only is None or kind in only


def _continued(check: Check) -> Check:
    """The default question as the beginning that a model without a chat template continues."""
    if check.options.get("prompt") != DEFAULT_QUESTIONS[0]["prompt"]:
        return check
    return dataclasses.replace(check, options={**check.options, "prompt": CONTINUED})


def _check(entry: Mapping[str, Any], ability: str) -> Check:
    kind = str(entry.get("check", "question"))
    usual, options = KNOWN.get(kind, ("error", {"max_tokens": 64, "temperature": 0}))
    usual = ability if usual == "ability" else usual
    own = {key: value for key, value in entry.items() if key not in _COMMON and key != "check"}
    if isinstance(own.get("expect"), str):
        own["expect"] = {"regex": own["expect"]}
    return Check(
        name=str(entry.get("name", kind)),
        kind=kind,
        severity=str(entry.get("severity", usual)),
        retries=int(entry.get("retries", 0)),
        timeout=entry.get("timeout"),
        options={**options, **own},
    )


def suite_digest(checks: Sequence[Check]) -> str:
    """What tells two suites apart: 16 hexadecimal digits."""
    text = json.dumps([dataclasses.asdict(check) for check in checks], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is known of the endpoint beforehand.

    Attributes:
        name: The instance.
        release: vLLM's version that must answer; `None` for any.
        max_model_len: Context length, in tokens, that must be reported; `None` for any.
        tools: Whether the server was started with automatic tool choice.
        attention_backend: The backend that the server was told to use; `None` when vLLM chooses.
        gpus: UUIDs of the GPUs that it uses.
        gpu_memory_utilization: The share of a GPU's memory that it may take.
        unit: Its systemd unit, where it runs on this machine.
        adapters: Names of the LoRA adapters that are served beside the model.
        kind: What it is asked for, as in the plan.
        parses_thought: Whether the server itself tells thought from answer (`--reasoning-parser`).
        model: The model's directory, where that is on this machine.
        overrides: What of its config.json the server was told to take otherwise.
        thinking_tokens: What a model that thinks gets beyond its answer.
        thinking_seconds: How long an answer may take with a thought before it.
    """

    name: str
    release: str | None = None
    max_model_len: int | None = None
    tools: bool = False
    attention_backend: str | None = None
    gpus: tuple[str, ...] = ()
    gpu_memory_utilization: float | None = None
    unit: str | None = None
    adapters: tuple[str, ...] = ()
    kind: str = "chat"
    parses_thought: bool = False
    model: str | None = None
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    thinking_tokens: int = THINKING_TOKENS
    thinking_seconds: float = THINKING_SECONDS
