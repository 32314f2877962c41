# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The short verification: what is asked of an endpoint that has passed its suite before.

It uses Ansible's own HTTP client, since a run in which nothing changes has no time to start another
Python for httpx. The whole suite is `verify/run.py`'s.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    Endpoint,
    EndpointError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.kinds import (
    BRIEFLY,
    GENERATING,
    question_of,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.suite import Check

ANYTHING: dict[str, Any] = {
    "name": "completion",
    "messages": [{"role": "user", "content": "Say hello."}],
    "expect": r"\S",
    "max_tokens": 4,
}
"""What is asked where the suite has no short question of its own."""


def short_question(suite: Sequence[Check]) -> list[dict[str, Any]]:
    """The one question that is put when the suite has passed before: the first that is an error."""
    for check in suite:
        options = check.options
        if check.kind != "question" or check.severity != "error" or "turns" in options:
            continue
        pattern = options["expect"].get("regex")
        if set(options["expect"]) != {"regex"} or not isinstance(pattern, str):
            continue
        prompt = [{"role": "user", "content": options.get("prompt")}]
        return [
            {
                "name": check.name,
                "messages": options.get("messages") or prompt,
                "expect": pattern,
                "max_tokens": options["max_tokens"],
                "temperature": options["temperature"],
            }
        ]
    return [ANYTHING]


class CheckFailed(Exception):
    """The server answered, but not with what is expected; the message says both."""


def check_health(endpoint: Endpoint) -> str:
    """`/health` answers 200."""
    endpoint.health()
    return "200"


def check_version(endpoint: Endpoint, release: str) -> str:
    """The server is the wanted release; a local label such as `+cpu` does not count."""
    version = endpoint.version()
    if version.split("+", 1)[0] != release:
        raise CheckFailed(f"the server is vLLM {version}, expected {release}")
    return version


def check_models(endpoint: Endpoint, model: str, max_model_len: int | None) -> str:
    """The model is served, with the wanted context length where one is wanted."""
    models = {entry.get("id"): entry for entry in endpoint.models()}
    if model not in models:
        raise CheckFailed(f"the server has {', '.join(map(str, models))}, expected {model}")
    length = models[model].get("max_model_len")
    if max_model_len is not None and length != max_model_len:
        raise CheckFailed(f"{model} has max_model_len {length}, expected {max_model_len}")
    return f"{model}, max_model_len {length}"


def check_computes(endpoint: Endpoint, model: str, kind: str) -> str:
    """An engine that generates nothing computes."""
    question = question_of(kind, model)
    answer = endpoint.request(question.path, question.body, question.content_type)
    problem = question.problem(answer)
    if problem is not None:
        raise CheckFailed(problem)
    return f"{question.path} answered"


def _continued(endpoint: Endpoint, model: str, question: Mapping[str, Any]) -> str:
    """How a model without a chat template goes on."""
    body = {"model": model, "prompt": question["messages"][-1]["content"]}
    more = {key: question[key] for key in ("max_tokens", "temperature") if key in question}
    answer = endpoint.json("/v1/completions", {"max_tokens": 64, "temperature": 0, **body, **more})
    try:
        return str(answer["choices"][0]["text"])
    except (LookupError, TypeError) as error:
        raise EndpointError(f"/v1/completions has no choice in it: {answer}") from error


def _thought(endpoint: Endpoint, model: str, question: Mapping[str, Any]) -> str:
    """An answer, or the thought before it where that is as far as it comes in so many tokens."""
    body = {
        "model": model,
        "messages": list(question["messages"]),
        "max_tokens": question.get("max_tokens", 64),
        "temperature": question.get("temperature", 0),
    }
    path = "/v1/chat/completions"
    try:
        answer = endpoint.json(path, {**body, **BRIEFLY})
    except EndpointError as error:
        if "answered 400" not in str(error) or "template" not in str(error):
            raise
        answer = endpoint.json(path, body)
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        thought = message.get("reasoning") or message.get("reasoning_content")
        # What follows a long thought is cut off with it, to a line's end or half a word.
        is_cut = bool(thought) and choice.get("finish_reason") == "length"
        content = None if is_cut else message.get("content")
        return content or f"(it thinks) {thought or ''}".strip()
    except (LookupError, TypeError, AttributeError) as error:
        raise EndpointError(f"{path} has no choice in it: {answer}") from error


def check_question(
    endpoint: Endpoint, model: str, question: Mapping[str, Any], kind: str = "chat"
) -> str:
    """The model answers a conversation with something that matches a regular expression."""
    if kind == "base":
        answer = _continued(endpoint, model, question)
    elif kind == "reasoning":
        answer = _thought(endpoint, model, question)
        # That it comes to the right answer was seen by the suite; here there is no time for it.
        unfinished = answer.startswith("(it thinks) ") or "</think>" not in answer
        if unfinished and answer.lstrip().startswith(("(it thinks) ", "<think>")):
            return answer
    else:
        answer = endpoint.chat(
            model,
            list(question["messages"]),
            max_tokens=question.get("max_tokens", 64),
            temperature=question.get("temperature", 0),
        )
    if not re.search(question["expect"], answer):
        raise CheckFailed(f"it answered {answer!r}, expected a match of {question['expect']!r}")
    return answer


def run_check(name: str, check: Callable[[], str]) -> dict[str, Any]:
    """Run one check.

    Returns:
        `name`, `passed`, `detail` (what was answered, or what is wrong) and `seconds`.
    """
    began = time.monotonic()
    try:
        detail, passed = check(), True
    except (CheckFailed, EndpointError) as problem:
        detail, passed = str(problem), False
    seconds = round(time.monotonic() - began, 3)
    return {"name": name, "passed": passed, "detail": detail, "seconds": seconds}


def verify(
    endpoint: Endpoint,
    model: str,
    release: str | None,
    max_model_len: int | None,
    questions: list[dict[str, Any]],
    kind: str = "chat",
) -> list[dict[str, Any]]:
    """Run all checks of an endpoint, also when one fails.

    Args:
        endpoint: The server.
        model: The served model's name.
        release: vLLM's version that must answer; `None` for any.
        max_model_len: Context length, in tokens, that must be reported; `None` for any.
        questions: Conversations with `name`, `messages`, `expect`, and as wanted
            `max_tokens` (default 64) and `temperature` (default 0).
        kind: What it is asked for; one that generates nothing is asked to compute instead.
    """
    checks: list[tuple[str, Callable[[], str]]] = [("health", lambda: check_health(endpoint))]
    if release is not None:
        checks.append(("version", lambda: check_version(endpoint, release)))
    checks.append(("models", lambda: check_models(endpoint, model, max_model_len)))
    if kind not in GENERATING:
        checks.append(("computes", lambda: check_computes(endpoint, model, kind)))
        questions = []
    checks += [
        (question["name"], functools.partial(check_question, endpoint, model, question, kind))
        for question in questions
    ]
    return [run_check(name, check) for name, check in checks]
