# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The built-in checks of the suite, and the run of a suite.

A check returns what it saw, or raises: `Wrong` when the endpoint or the model is wrong, `Skip`
when it does not apply or cannot be made here.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Protocol

from ansible_collections.compute_plane.vllm.plugins.module_utils.verify import (
    sandbox as verify_sandbox,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.client import (
    CHAT,
    Client,
    Request,
    Wrong,
    content_of,
    message_of,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.suite import (
    Check,
    Subject,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.text import (
    code_in,
    han,
    number_problem,
    problems_with,
    script_problem,
)

CHINESE = "請用繁體中文，用三到五句話解釋什麼是機器學習。"  # noqa: RUF001 - Chinese punctuation
CONCEPTS = (
    ("資料", "數據", "資訊"),
    ("模型",),
    ("演算法", "算法"),
    ("預測", "判斷", "決策", "分類"),
    ("電腦", "計算機", "機器", "系統", "程式"),
    ("人工智慧", "人工智能"),
    ("規律", "模式", "規則", "特徵"),
    ("學習", "訓練", "經驗"),
)
LEAST_CONCEPTS = 3
LEAST_DIFFERENT = 20
"""Different Chinese characters; an answer that goes round in circles has fewer."""

IS_PRIME = (
    "Write a Python function is_prime(n) that returns True if the integer n is a prime number and"
    " False if it is not. Answer with the code only."
)
PRIMES = (2, 3, 5, 7, 11, 13, 97, 101, 7919, 104729)
COMPOSITES = (0, 1, 4, 6, 9, 15, 25, 49, 91, 121, 561, 1105, 7917, 7921, 104730, 104731)

TURNS = (
    "What is 15 * 23? Answer with the number only.",
    "Divide that by 5. Answer with the number only.",
)
REACHES = 69

STREAMED = "Count from one to ten in words."
CITY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Paris", "Berlin", "Madrid"]},
        "is_capital": {"type": "boolean"},
    },
    "required": ["city", "is_capital"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city's name"}},
            "required": ["city"],
        },
    },
}

GIB = 1 << 30
LEAST_USED = 0.5
"""Of a GPU's budget: vLLM takes all of it at its start, for weights and KV cache."""

# vLLM 0.14.1 and 0.26.0, vllm/platforms/cuda.py: "Using AttentionBackendEnum.TRITON_ATTN backend."
# where the backend was named, "Using FLASH_ATTN attention backend out of potential backends: ..."
# where vLLM chose.
_BACKEND = re.compile(
    r"Using (?:AttentionBackendEnum\.)?([A-Z][A-Z0-9_]+) (?:attention )?backend\b"
)


class Skip(Exception):
    """A check does not apply, or cannot be made here; the message says why."""


class Machine(Protocol):
    """What checks ask of the machine that the endpoint runs on."""

    def gpus(self) -> list[dict[str, Any]]:
        """The GPUs as `gpu_info` returns them."""

    def journal(self, unit: str, pattern: str) -> list[str]:
        """The lines of a unit's present run that match a pattern, oldest first."""


@dataclasses.dataclass
class Seen:
    """What a check asked and what it got, for the report."""

    question: str = ""
    answer: str = ""
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)


class Checks:
    """The checks of one endpoint.

    Args:
        client: The endpoint.
        subject: What is known of it.
        machine: Where it runs; `None` when that is elsewhere.
    """

    def __init__(self, client: Client, subject: Subject, machine: Machine | None) -> None:
        self.client = client
        self.subject = subject
        self.machine = machine
        self.seen = Seen()
        self.options: Mapping[str, Any] = {}
        self.length = subject.max_model_len
        """The context length, in tokens, as far as it is known."""

    def _tokens(self) -> int:
        """The longest answer that is asked for; half of a short context is left to the question."""
        wanted = int(self.options["max_tokens"])
        return wanted if self.length is None else max(1, min(wanted, self.length // 2))

    def _chat(self, messages: Sequence[Mapping[str, Any]], **parameters: Any) -> str:
        self.seen.question = str(messages[-1].get("content", ""))
        answer = self.client.chat(messages, **{"max_tokens": self._tokens(), **parameters})
        text = content_of(answer)
        self.seen.answer = text
        return text

    def _ask_user(self, prompt: str) -> str:
        text = self._chat([{"role": "user", "content": prompt}])
        if not text.strip():
            raise Wrong("the model answered nothing")
        return text

    # -- the server -----------------------------------------------------------------------------

    def health(self) -> str:
        """`/health` answers 200."""
        self.client.ask(Request("/health")).must_be(200)
        return "200"

    def version(self) -> str:
        """The server is the wanted release; a local label such as `+cpu` does not count."""
        if self.subject.release is None:
            raise Skip("no release is wanted")
        version = str(self.client.ask(Request("/version")).json().get("version"))
        if version.split("+", 1)[0] != self.subject.release:
            raise Wrong(f"the server is vLLM {version}, expected {self.subject.release}")
        return version

    def models(self) -> str:
        """The model is served, with the wanted context length, and each of its adapters answers."""
        data = self.client.ask(Request("/v1/models")).json().get("data")
        if not isinstance(data, list):
            raise Wrong("/v1/models has no list of models")
        models = {entry.get("id"): entry for entry in data if isinstance(entry, dict)}
        model, wanted = self.client.model, self.subject.max_model_len
        for name in (model, *self.subject.adapters):
            if name not in models:
                has = ", ".join(map(str, models)) or "no model"
                raise Wrong(f"the server has {has}, not {name}")
        length = models[model].get("max_model_len")
        if wanted is not None and length != wanted:
            raise Wrong(f"{model} has max_model_len {length}, expected {wanted}")
        self.length = length if isinstance(length, int) else None
        for name in self.subject.adapters:
            # The server lists an adapter before its matrices have met a request.
            body = {"model": name, "prompt": "The", "max_tokens": 1, "temperature": 0}
            self.client.ask(Request("/v1/completions", body)).must_be(200)
        return ", ".join([f"{model}, max_model_len {length}", *self.subject.adapters])

    def streaming(self) -> str:
        """A stream brings text in several pieces, says why it ends, and ends in order."""
        self.seen.question = STREAMED
        body = self.client.chat_request(
            [{"role": "user", "content": STREAMED}], max_tokens=self._tokens(), stream=True
        )
        answer = self.client.ask(body)
        lines = [line for line in answer.text.splitlines() if line.startswith("data:")]
        pieces, reason = [], None
        for line in lines:
            data = line[len("data:") :].strip()
            if data == "[DONE]":
                continue
            try:
                choice = json.loads(data)["choices"][0]
                piece = choice["delta"].get("content")
                reason = choice.get("finish_reason") or reason
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                if answer.problem is None and answer.status == 200:
                    raise Wrong(f"the stream has a chunk that is none: {data[:200]!r}") from error
                break
            pieces += [piece] if piece else []
        self.seen.answer = "".join(pieces)
        if answer.problem is not None and answer.status == 200:
            raise Wrong(f"the stream {answer.problem} after {len(pieces)} pieces")
        answer.must_be(200)
        if not lines or lines[-1][len("data:") :].strip() != "[DONE]":
            raise Wrong(f"the stream stops after {len(pieces)} pieces without [DONE]")
        if reason is None:
            raise Wrong("the stream does not say why it ends (finish_reason)")
        if len(pieces) < 2:
            raise Wrong(f"the stream has {len(pieces)} pieces with text, at least 2 are expected")
        first = answer.first if answer.first is not None else answer.seconds
        self.seen.figures["ttft_seconds"] = first
        return f"{len(pieces)} pieces, the first after {first:.3f} s"

    def structured_output(self) -> str:
        """An answer that was asked for by a JSON schema fits it."""
        prompt = "Is Paris a capital? Give the city, and whether it is one, as JSON."
        schema = {"name": "city", "schema": CITY}
        text = self._chat(
            [{"role": "user", "content": prompt}],
            response_format={"type": "json_schema", "json_schema": schema},
        )
        try:
            value = json.loads(text)
        except ValueError as error:
            raise Wrong(f"the answer is not JSON ({error}): {text[:200]!r}") from error
        problem = self.client.validate(CITY, value)
        if problem:
            raise Wrong(f"the answer does not fit the schema: {problem}: {text[:200]!r}")
        return text

    def concurrency(self) -> str:
        """Requests that come at once are all answered."""
        count = int(self.options["requests"])
        requests = [
            self.client.chat_request(
                [{"role": "user", "content": f"Say the number {number} in words."}],
                max_tokens=self._tokens(),
            )
            for number in range(1, count + 1)
        ]
        self.seen.question = f"{count} questions at once"
        problems, slowest = [], 0.0
        for number, answer in enumerate(self.client.ask_all(requests), start=1):
            slowest = max(slowest, answer.seconds)
            try:
                if not content_of(answer).strip():
                    raise Wrong("the model answered nothing")
            except Wrong as problem:
                problems.append(f"request {number}: {problem}")
        if problems:
            raise Wrong(f"{len(problems)} of {count} requests failed: {'; '.join(problems[:3])}")
        return f"{count} of {count} answered, the last after {slowest:.1f} s"

    def context_limit(self) -> str:
        """A context at the limit is accepted, one beyond it is refused as the request's fault."""
        if self.length is None:
            raise Skip("the server reports no max_model_len")

        def prompt(tokens: int) -> Request:
            # Token ids, so that the length is exact whatever the tokenizer.
            body = {"model": self.client.model, "prompt": [100] * tokens, "max_tokens": 1}
            return Request("/v1/completions", {**body, "temperature": 0})

        self.seen.question = f"prompts of {self.length - 1} and {self.length + 1} tokens"
        usage = self.client.ask(prompt(self.length - 1)).json().get("usage") or {}
        if usage.get("prompt_tokens") != self.length - 1:
            raise Wrong(
                f"of a prompt of {self.length - 1} tokens it read {usage.get('prompt_tokens')}"
            )
        self.client.ask(prompt(self.length + 1)).must_be(400)
        return f"{self.length - 1} tokens and one more accepted, {self.length + 1} refused (400)"

    def api_key(self) -> str:
        """Without the key, and with a wrong one, nothing is answered."""
        if self.client.key is None:
            raise Skip("the endpoint has no API key")
        for auth in ("none", "wrong"):
            self.client.ask(Request("/v1/models", auth=auth)).must_be(401)
        body = {"model": self.client.model, "messages": [{"role": "user", "content": "Hi"}]}
        self.client.ask(Request(CHAT, {**body, "max_tokens": 1}, auth="none")).must_be(401)
        self.client.ask(Request("/v1/models")).must_be(200)
        return "without it and with a wrong one: 401"

    def attention_backend(self) -> str:
        """The engine says in its log that it uses the backend that it was told to use."""
        wanted, unit = self.subject.attention_backend, self.subject.unit
        if wanted is None:
            raise Skip("no attention backend is planned")
        if self.machine is None or unit is None:
            raise Skip("the server's log is not on this machine")
        lines = self.machine.journal(unit, "Using .* backend")
        found = [match.group(1) for match in map(_BACKEND.search, lines) if match]
        if not found:
            raise Skip("the log of this start does not say which backend is used")
        self.seen.answer = found[0]
        if found[0] != wanted:
            raise Wrong(f"the engine uses {found[0]}, planned was {wanted}")
        return found[0]

    def gpu_memory(self) -> str:
        """The server's processes hold about the memory that it was given, on the planned GPUs."""
        share = self.subject.gpu_memory_utilization
        if self.machine is None or not self.subject.gpus or share is None:
            raise Skip("the plan has no GPU")
        known = {gpu["uuid"]: gpu for gpu in self.machine.gpus()}
        told, wrong = [], []
        for uuid in self.subject.gpus:
            gpu = known.get(uuid)
            if gpu is None:
                wrong.append(f"{uuid} is not there")
                continue
            total, free = gpu["memory_total_bytes"], gpu["memory_free_bytes"]
            used = sum(
                process["memory_used_bytes"] or 0
                for process in gpu["processes"]
                if process["unit"] == self.subject.unit
            )
            budget = total * share
            allowance = self.options["allowance_gib"] * GIB
            told.append(
                f"GPU {gpu['index']}: {used / GIB:.1f} GiB used of a budget of"
                f" {budget / GIB:.1f} GiB, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
            )
            if used < LEAST_USED * budget:
                wrong.append(f"{told[-1]}: much less than planned")
            elif used > budget + allowance:
                wrong.append(f"{told[-1]}: more than planned")
        self.seen.answer = "; ".join(told)
        if wrong:
            raise Wrong("; ".join(wrong))
        return self.seen.answer

    # -- the model ------------------------------------------------------------------------------

    def chinese(self) -> str:
        """Machine learning explained in Traditional Chinese: script, length, and sense."""
        text = self._ask_user(CHINESE)
        problem = script_problem(text, "traditional")
        characters = han(text)
        if problem:
            raise Wrong(problem)
        least = self.options["min_characters"]
        if len(characters) < least:
            raise Wrong(f"it has {len(characters)} Chinese characters, at least {least} expected")
        if len(set(characters)) < LEAST_DIFFERENT:
            raise Wrong(f"it goes round in circles: {len(set(characters))} different characters")
        met = [words[0] for words in CONCEPTS if any(word in text for word in words)]
        if len(met) < LEAST_CONCEPTS:
            raise Wrong(f"it does not explain machine learning: of its ideas it has only {met}")
        return text

    def is_prime(self) -> str:
        """The program that the model writes tells primes from composites, run in a sandbox."""
        try:
            verify_sandbox.check_usable()
        except verify_sandbox.Unusable as problem:
            raise Skip(str(problem)) from problem
        text = self._ask_user(IS_PRIME)
        code = code_in(text)
        if code is None:
            raise Wrong(f"there is no Python code in the answer: {text[:200]!r}")
        expected = {**dict.fromkeys(PRIMES, True), **dict.fromkeys(COMPOSITES, False)}
        run = verify_sandbox.call(
            code, "is_prime", list(expected), seconds=int(self.options["seconds"])
        )
        if run.returned is None:
            raise Wrong(f"the code was run: {run.problem}")
        wrong = [
            f"is_prime({number}) is {value!r}"
            for (number, right), value in zip(expected.items(), run.returned)
            if value is not right
        ]
        if wrong or len(run.returned) != len(expected):
            raise Wrong(f"the code was run, and is wrong: {', '.join(wrong[:5])}")
        return f"right for {len(PRIMES)} primes and {len(COMPOSITES)} other numbers"

    def multi_turn(self) -> str:
        """A calculation over two turns reaches 69."""
        return self._turns(TURNS, lambda text: number_problem(text, {"equals": REACHES}))

    def _turns(self, turns: Sequence[str], problem_with: Callable[[str], str | None]) -> str:
        messages: list[dict[str, str]] = []
        told = []
        text = ""
        for turn in turns:
            messages.append({"role": "user", "content": turn})
            text = self._chat(messages)
            messages.append({"role": "assistant", "content": text})
            told += [f"> {turn}", text]
        self.seen.question = " / ".join(turns)
        self.seen.answer = "\n".join(told)
        if not text.strip():
            raise Wrong("the model answered nothing")
        problem = problem_with(text)
        if problem:
            raise Wrong(f"it answered {text[:300]!r}: {problem}")
        return text

    def tool_call(self) -> str:
        """The model calls the one tool that answers the question, with the right argument."""
        if not self.subject.tools:
            raise Skip("tool calls are not enabled")
        prompt = "What is the weather in Taipei right now?"
        self.seen.question = prompt
        answer = self.client.chat(
            [{"role": "user", "content": prompt}],
            tools=[WEATHER],
            tool_choice="auto",
            max_tokens=self._tokens(),
        )
        message = message_of(answer)
        self.seen.answer = json.dumps(
            {key: message.get(key) for key in ("content", "tool_calls")}, ensure_ascii=False
        )
        calls = message.get("tool_calls")
        if not isinstance(calls, list) or not calls:
            raise Wrong(f"the model called no tool: {str(message.get('content'))[:200]!r}")
        try:
            function = calls[0]["function"]
            name, arguments = function["name"], json.loads(function["arguments"])
            city = arguments["city"]
        except (ValueError, LookupError, TypeError) as error:
            raise Wrong(f"the tool call is malformed: {self.seen.answer[:300]}") from error
        if name != "get_weather" or "taipei" not in str(city).lower():
            raise Wrong(f"it called {name}({arguments}), expected get_weather(city=Taipei)")
        return f"{name}({json.dumps(arguments, ensure_ascii=False)})"

    def question(self) -> str:
        """A user's own question."""
        expect = self.options["expect"]

        def problem_with(text: str) -> str | None:
            return "; ".join(problems_with(text, expect, self.client.validate)) or None

        if "turns" in self.options:
            return self._turns(self.options["turns"], problem_with)
        messages = self.options.get("messages") or [
            {"role": "user", "content": self.options["prompt"]}
        ]
        text = self._chat(messages, temperature=self.options["temperature"])
        problem = problem_with(text)
        if problem:
            raise Wrong(f"it answered {text[:300]!r}: {problem}")
        return text

    # -- the run --------------------------------------------------------------------------------

    def run(self, check: Check) -> dict[str, Any]:
        """Make one check, and again as often as it may be retried.

        Returns:
            `name`, `check` (its kind), `severity`, `outcome` (`passed`, `failed` or
            `skipped`), `passed` (it has not failed), `detail`, `question`, `answer`,
            `figures`, `seconds`, `model_seconds` (the part of it that was spent waiting for the
            endpoint) and `tries`.
        """
        began, waited = time.monotonic(), self.client.model_seconds
        usual = self.client.timeout
        if check.timeout is not None:
            self.client.timeout = float(check.timeout)
        tries = 0
        while True:
            tries += 1
            self.seen, self.options = Seen(), check.options
            try:
                detail, outcome = getattr(self, check.kind)(), "passed"
            except Skip as reason:
                detail, outcome = str(reason), "skipped"
            except Wrong as problem:
                detail, outcome = str(problem), "failed"
            if outcome != "failed" or tries > check.retries:
                break
        self.client.timeout = usual
        return {
            "name": check.name,
            "check": check.kind,
            "severity": check.severity,
            "outcome": outcome,
            "passed": outcome != "failed",
            "detail": detail,
            "question": self.seen.question,
            "answer": self.seen.answer,
            "figures": self.seen.figures,
            "seconds": round(time.monotonic() - began, 3),
            "model_seconds": round(self.client.model_seconds - waited, 3),
            "tries": tries,
        }
