# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The built-in checks of the suite, and the run of a suite.

A check returns what it saw, or raises: `Wrong` when the endpoint or the model is wrong, `Skip`
when it does not apply or cannot be made here.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
import struct
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Protocol

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.kinds import (
    BRIEFLY,
    GENERATING,
    multipart,
    multipart_type,
    question_of,
    silence,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify import (
    sandbox as verify_sandbox,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.verify.client import (
    CHAT,
    Answer,
    Client,
    Request,
    Wrong,
    message_of,
    thought_and_answer,
    told_apart,
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
# Beginnings that a model without a chat template goes on with.
CONTINUED_STREAM = "one, two, three, four, five,"
COUNTED = "Page {number} of the book is about"
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

RIDDLE = "A farmer has 17 sheep. All but 9 run away. How many sheep are left?"

SLOWEST_READING = 50.0
"""Tokens of a prompt a second, for which a context of any length is given time. Two cores with
other work beside read fewer than 140 of SmolLM2-135M's."""

GIB = 1 << 30
COMMUNICATORS = int(1.4 * GIB)
"""Bytes that NCCL may hold beside the budget on each GPU of a tensor parallel group: 1.32 GiB on
two H200, where a group's processes held 2.4 GiB more than the budget and a single one 0.6."""
LEAST_USED = 0.5
"""Of a GPU's budget: vLLM takes all of it at its start, for weights and KV cache."""

# vLLM 0.14.1 and 0.26.0, vllm/platforms/cuda.py: "Using AttentionBackendEnum.TRITON_ATTN backend."
# where the backend was named, "Using FLASH_ATTN attention backend out of potential backends: ..."
# where vLLM chose.
_BACKEND = re.compile(
    r"Using (?:AttentionBackendEnum\.)?([A-Z][A-Z0-9_]+) (?:attention )?backend\b"
)


CLOSE = 0.01
"""Two figures that far apart are the same, in the arithmetic of float16."""
SAME = 1e-4
MULTILINGUAL = 100_000
"""Tokens: BERT's English vocabulary has 30522, XLM-R's 250002, Qwen3's 151669, Gemma's 262144."""
PAIRS = (
    (
        "A man is eating a meal.",
        "Someone is having some food.",
        "The central bank raised interest rates yesterday.",
    ),
    ("一隻貓在沙發上睡覺。", "有隻小貓正在沙發上打盹。", "央行昨天宣布調高利率。"),
)
"""A text, a paraphrase and a stranger, in English and in Traditional Chinese."""
QUERY = "What is the capital of France?"
DOCUMENTS = (
    "The Nile is the longest river in Africa.",
    "Bread is made of flour, water and yeast.",
    "Paris is the capital and largest city of France.",
    "A prime number has exactly two divisors.",
)
RIGHT = 2
MOST_OF_NOTHING = 12
"""Words that a model may hear in a second of silence: Whisper is known to hear a few."""
COLOURS = {"red": (220, 20, 20), "blue": (20, 40, 220), "green": (20, 150, 40)}
SHAPES: dict[str, Callable[[float, float], bool]] = {
    "circle": lambda x, y: x * x + y * y <= 1,
    "square": lambda x, y: max(abs(x), abs(y)) <= 0.9,
    "triangle": lambda x, y: -0.9 <= y <= 0.9 and abs(x) <= (0.9 + y) / 1.8,
}
"""Whether a point belongs to a shape: from -1 to 1, to the right and down."""
CALLED = {"circle": ("circle", "disc", "disk", "dot", "round"), "square": ("square", "rectang")}
"""What a shape may be called, where that is not its name alone."""
PICTURES = (("red", "circle"), ("blue", "square"), ("green", "triangle"))
_SIDE = 96


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """How alike two vectors are: 1 for the same direction."""
    lengths = math.sqrt(sum(v * v for v in one)) * math.sqrt(sum(v * v for v in other))
    return sum(a * b for a, b in zip(one, other)) / lengths if lengths else 0.0


def drawing(colour: str, shape: str) -> bytes:
    """A PNG with a shape of a colour on white.

    The format: https://www.w3.org/TR/png-3/#5Chunk-layout.
    """

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    # The shape takes the middle half of each side.
    at = [(position - _SIDE / 2) / (_SIDE / 4) for position in range(_SIDE)]
    ink, paper = bytes(COLOURS[colour]), b"\xff\xff\xff"
    rows = [b"\0" + b"".join(ink if SHAPES[shape](x, y) else paper for x in at) for y in at]
    head = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def read_bytes(path: str) -> bytes:
    """A file's content."""
    with open(path, "rb") as stream:
        return stream.read()


class Skip(Exception):
    """A check does not apply, or cannot be made here; the message says why."""


class Machine(Protocol):
    """What checks ask of the machine that the endpoint runs on."""

    def gpus(self) -> list[dict[str, Any]]:
        """The GPUs as `gpu_info` returns them."""

    def journal(self, unit: str, pattern: str) -> list[str]:
        """The lines of a unit's present run that match a pattern, oldest first."""

    def model_file(self, path: str) -> Any:
        """A JSON file of a model; `None` where there is none."""


@dataclasses.dataclass
class Seen:
    """What a check asked and what it got, for the report."""

    question: str = ""
    answer: str = ""
    thought: str = ""
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
        self._has_timeout = False
        self.length = subject.max_model_len
        """The context length, in tokens, as far as it is known."""
        self._switch = True

    def _tokens(self) -> int:
        """The longest answer that is asked for; half of a short context is left to the question."""
        wanted = int(self.options.get("max_tokens", 0))
        if self._thinks:
            wanted += self.subject.thinking_tokens
        return wanted if self.length is None else max(1, min(wanted, self.length // 2))

    @property
    def _thinks(self) -> bool:
        return self.subject.kind == "reasoning" or self.subject.parses_thought

    def _request(self, messages: Sequence[Mapping[str, Any]], **parameters: Any) -> Request:
        """What asks a model of this kind: a chat, or the beginning of a text to be continued."""
        if self.subject.kind == "base":
            if len(messages) > 1:
                raise Skip("the model has no chat template, and so no turns")
            body = {"model": self.client.model, "prompt": str(messages[0].get("content", ""))}
            return Request("/v1/completions", {**body, "temperature": 0, **parameters})
        if not self._thinks:
            return self.client.chat_request(messages, **parameters)
        if self._switch:
            parameters = {**BRIEFLY, **parameters}
        request = self.client.chat_request(messages, **parameters)
        timeout = max(self.client.timeout, self.subject.thinking_seconds)
        return dataclasses.replace(request, timeout=timeout)

    def _ask(self, messages: Sequence[Mapping[str, Any]], **parameters: Any) -> Answer:
        answer = self.client.ask(self._request(messages, **parameters))
        if self._thinks and self._switch and answer.status == 400 and "template" in answer.text:
            # vllm 0.14.1, vllm/tokenizers/mistral.py: "chat_template is not supported for Mistral
            # tokenizers", which includes its arguments.
            self._switch = False
            answer = self.client.ask(self._request(messages, **parameters))
        return answer

    def _told(self, answer: Answer) -> str:
        """The text of an answer, without the thought before it.

        Raises:
            Wrong: There is none, or the thought did not come to an end.
        """
        if self.subject.kind == "base":
            try:
                return str(answer.json()["choices"][0]["text"])
            except (LookupError, TypeError) as error:
                raise Wrong(f"{answer.path} has no choice in it: {answer.text[:200]!r}") from error
        thought, text = thought_and_answer(answer)
        self.seen.thought = thought
        if thought and not text.strip():
            raise Wrong(
                f"it thought and came to no answer within {self._tokens()} tokens: "
                f"{thought[:200]!r}"
            )
        return text

    def _chat(self, messages: Sequence[Mapping[str, Any]], **parameters: Any) -> str:
        self.seen.question = str(messages[-1].get("content", ""))
        answer = self._ask(messages, **{"max_tokens": self._tokens(), **parameters})
        text = self._told(answer)
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
        prompt = CONTINUED_STREAM if self.subject.kind == "base" else STREAMED
        self.seen.question = prompt
        answer = self._ask(
            [{"role": "user", "content": prompt}], max_tokens=self._tokens(), stream=True
        )
        lines = [line for line in answer.text.splitlines() if line.startswith("data:")]
        pieces, thoughts, reason = [], [], None
        for line in lines:
            data = line[len("data:") :].strip()
            if data == "[DONE]":
                continue
            try:
                choice = json.loads(data)["choices"][0]
                delta = (
                    choice["delta"] if self.subject.kind != "base" else {"content": choice["text"]}
                )
                piece = delta.get("content")
                thought = delta.get("reasoning") or delta.get("reasoning_content")
                reason = choice.get("finish_reason") or reason
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                if answer.problem is None and answer.status == 200:
                    raise Wrong(f"the stream has a chunk that is none: {data[:200]!r}") from error
                break
            pieces += [piece] if piece else []
            thoughts += [thought] if thought else []
        told = told_apart("".join(pieces), "".join(thoughts))
        self.seen.thought, self.seen.answer = told
        # What it thinks is streamed as well, before any answer.
        pieces = [*thoughts, *pieces]
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
        if not self.subject.gpus and self.subject.release == "0.14.1":
            # vllm 0.14.1, vllm/v1/structured_output/utils.py, apply_grammar_bitmask: pins memory
            # while something in the batch is not held to a schema (another's request, the
            # supervisor's question, a thought), which ends an engine without a GPU.
            raise Skip("vLLM 0.14.1 on a CPU dies of a schema beside any other request")
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
        if self.subject.kind not in GENERATING:
            return self._at_once(count)
        base = self.subject.kind == "base"
        said = COUNTED if base else "Say the number {number} in words."
        requests = [
            self._request(
                [{"role": "user", "content": said.format(number=number)}],
                max_tokens=int(self.options["max_tokens"]),
            )
            for number in range(1, count + 1)
        ]
        self.seen.question = f"{count} questions at once"
        problems, slowest = [], 0.0
        for number, answer in enumerate(self.client.ask_all(requests), start=1):
            slowest = max(slowest, answer.seconds)
            try:
                texts = (self._told(answer),) if base else thought_and_answer(answer)
                if not any(text.strip() for text in texts):
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
            timeout = None
            if not self._has_timeout:
                timeout = max(self.client.timeout, tokens / SLOWEST_READING)
            return Request("/v1/completions", {**body, "temperature": 0}, timeout=timeout)

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
            if len(self.subject.gpus) > 1:
                allowance += COMMUNICATORS
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
        answer = self._ask(
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

    # -- kinds ----------------------------------------------------------------------------------

    def _at_once(self, count: int) -> str:
        """Requests of a kind that generates nothing, at once."""
        slowest = 0.0
        for number, answer in enumerate(self.client.ask_all([self._cheapest()] * count), start=1):
            slowest = max(slowest, answer.seconds)
            problem = question_of(self.subject.kind, self.client.model).problem(
                answer.must_be(200).text.encode()
            )
            if problem is not None:
                raise Wrong(f"request {number}: {problem}")
        return f"{count} of {count} answered, the last after {slowest:.1f} s"

    def _cheapest(self) -> Request:
        question = question_of(self.subject.kind, self.client.model)
        return Request(question.path, content=question.body, content_type=question.content_type)

    def thinking(self) -> str:
        """It thinks, comes to an answer within its budget, and both can be told apart."""
        self.seen.question = RIDDLE
        answer = self.client.ask(
            dataclasses.replace(
                self.client.chat_request(
                    [{"role": "user", "content": RIDDLE}], max_tokens=self._tokens()
                ),
                timeout=max(self.client.timeout, self.subject.thinking_seconds),
            )
        )
        message = message_of(answer)
        text = self._told(answer)
        self.seen.answer = text
        if self.subject.parses_thought and "</think>" in str(message.get("content") or ""):
            raise Wrong(f"the reasoning parser left the thought in the answer: {text[:200]!r}")
        if not text.strip():
            raise Wrong("the model answered nothing")
        if not self.seen.thought:
            raise Skip(f"it answered without a thought that can be told from it: {text[:200]!r}")
        tokens = (answer.json().get("usage") or {}).get("completion_tokens")
        self.seen.figures["thinking_tokens"] = tokens
        return f"{len(self.seen.thought)} characters of thought, then {text[:200]!r}"

    def _vectors(self, texts: Sequence[str], **more: Any) -> list[list[float]]:
        self.seen.question = " / ".join(texts)
        body = {"model": self.client.model, "input": list(texts), **more}
        answer = self.client.ask(Request("/v1/embeddings", body))
        try:
            rows = answer.json()["data"]
            found = [[float(value) for value in row["embedding"]] for row in rows]
        except (LookupError, TypeError, ValueError) as error:
            raise Wrong(f"/v1/embeddings has no vector in it: {answer.text[:200]!r}") from error
        if len(found) != len(texts):
            raise Wrong(f"of {len(texts)} texts came {len(found)} vectors")
        for vector in found:
            if not vector or not all(map(math.isfinite, vector)):
                raise Wrong(f"a vector has values that are no numbers: {str(vector)[:200]}")
            if not any(vector):
                raise Wrong("a vector is nothing but zeros")
        return found

    def _model_file(self, name: str) -> Any:
        """A JSON file of the model; empty where it is not at hand."""
        if self.machine is None or self.subject.model is None:
            return {}
        return self.machine.model_file(f"{self.subject.model}/{name}") or {}

    def _config(self) -> dict[str, Any]:
        config = self._model_file("config.json")
        return {**(config if isinstance(config, dict) else {}), **self.subject.overrides}

    def embedding(self) -> str:
        """Vectors of the model's dimension, finite, repeatable, of length 1 where it says so."""
        one, again, other = self._vectors([PAIRS[0][0], PAIRS[0][0], PAIRS[0][2]])
        config = self._config()
        part = config.get("text_config")
        text = part if isinstance(part, dict) else config
        modules = self._model_file("modules.json")
        types = [str(row.get("type")) for row in modules] if isinstance(modules, list) else []
        wanted = text.get("hidden_size") if not any("Dense" in name for name in types) else None
        if len({len(one), len(other)}) != 1 or (wanted is not None and len(one) != wanted):
            raise Wrong(f"vectors of {len(one)} and {len(other)} values, expected {wanted}")
        length = math.sqrt(sum(value * value for value in one))
        if any(name.endswith("Normalize") for name in types) and abs(length - 1) > CLOSE:
            raise Wrong(f"the model normalises, and a vector has the length {length:.4f}")
        if cosine(one, again) < 1 - CLOSE:
            raise Wrong(f"the same text has two vectors, {cosine(one, again):.4f} alike")
        if cosine(one, other) > 1 - SAME:
            raise Wrong("different texts have the same vector")
        self.seen.figures["dimension"] = len(one)
        self.seen.answer = str(one[:8])
        return f"{len(one)} values, length {length:.3f}"

    def dimensions(self) -> str:
        """Shorter vectors, where the model was trained so that they make sense (Matryoshka)."""
        config = self._config()
        offered = config.get("matryoshka_dimensions")
        if not (config.get("is_matryoshka") or offered):
            raise Skip("the model does not say that it is Matryoshka")
        full = len(self._vectors(["1"])[0])
        wanted = min(offered) if isinstance(offered, list) and offered else max(1, full // 2)
        short = self._vectors(["1"], dimensions=wanted)[0]
        if len(short) != wanted:
            raise Wrong(f"of {wanted} dimensions that were asked for came {len(short)}")
        return f"{wanted} of {full} values"

    def similarity(self) -> str:
        """A paraphrase is nearer than a stranger, also in Chinese where the model has it."""
        vocabulary = self._config().get("vocab_size")
        multilingual = isinstance(vocabulary, int) and vocabulary >= MULTILINGUAL
        told = []
        for text, paraphrase, stranger in PAIRS if multilingual else PAIRS[:1]:
            one, near, far = self._vectors([text, paraphrase, stranger])
            told.append(f"{cosine(one, near):.3f} against {cosine(one, far):.3f}")
            if cosine(one, near) <= cosine(one, far):
                raise Wrong(f"{stranger!r} is nearer to {text!r} than {paraphrase!r}: {told[-1]}")
        self.seen.answer = "; ".join(told)
        return self.seen.answer

    def score(self) -> str:
        """A score for a question and a document, the same again."""
        pair = {"text_1": QUERY, "text_2": DOCUMENTS[RIGHT]}
        self.seen.question = f"{QUERY} / {DOCUMENTS[RIGHT]}"
        scores = []
        for _time in range(2):
            answer = self.client.ask(Request("/score", {"model": self.client.model, **pair}))
            try:
                scores.append(float(answer.json()["data"][0]["score"]))
            except (LookupError, TypeError, ValueError) as error:
                raise Wrong(f"/score has no score in it: {answer.text[:200]!r}") from error
        if not all(map(math.isfinite, scores)) or abs(scores[0] - scores[1]) > CLOSE:
            raise Wrong(f"the same pair has the scores {scores[0]} and {scores[1]}")
        return f"{scores[0]:.4f}"

    def ranking(self) -> str:
        """Of some documents the one that answers the question comes first."""
        self.seen.question = QUERY
        body = {"model": self.client.model, "query": QUERY, "documents": list(DOCUMENTS)}
        answer = self.client.ask(Request("/rerank", body))
        try:
            rows = answer.json()["results"]
            scores = {int(row["index"]): float(row["relevance_score"]) for row in rows}
        except (LookupError, TypeError, ValueError) as error:
            raise Wrong(f"/rerank has no results in it: {answer.text[:200]!r}") from error
        self.seen.answer = json.dumps(scores)
        if set(scores) != set(range(len(DOCUMENTS))):
            raise Wrong(f"of {len(DOCUMENTS)} documents {sorted(scores)} came back")
        best = max(scores, key=lambda index: scores[index])
        if best != RIGHT:
            raise Wrong(f"{DOCUMENTS[best]!r} comes before {DOCUMENTS[RIGHT]!r}: {scores}")
        return f"{scores[RIGHT]:.4f} against {sorted(scores.values())[-2]:.4f}"

    def classification(self) -> str:
        """Each text gets one of the model's labels, and a probability for each."""
        texts = ["I love this, it is wonderful.", "This is terrible, I hate it."]
        self.seen.question = " / ".join(texts)
        body = {"model": self.client.model, "input": texts}
        answer = self.client.ask(Request("/classify", body))
        names = self._config().get("id2label") or {}
        told = []
        try:
            rows = answer.json()["data"]
            for row in rows:
                probs = [float(value) for value in row["probs"]]
                if len(probs) != row["num_classes"] or not all(map(math.isfinite, probs)):
                    raise Wrong(f"{row['num_classes']} labels have the probabilities {probs}")
                if names and (len(probs) != len(names) or row["label"] not in names.values()):
                    raise Wrong(f"{row['label']!r} is none of the labels {list(names.values())}")
                told.append(f"{row['label']} ({max(probs):.2f})")
        except (LookupError, TypeError, ValueError) as error:
            raise Wrong(f"/classify has no label in it: {answer.text[:200]!r}") from error
        if len(told) != len(texts):
            raise Wrong(f"of {len(texts)} texts {len(told)} have a label")
        self.seen.answer = ", ".join(told)
        return self.seen.answer

    def transcription(self) -> str:
        """Speech is written down as expected; of a quiet second no speech is made."""
        audio = str(self.options["audio"])
        self.seen.question = audio or "a second in which nothing is heard"
        try:
            sound = read_bytes(audio) if audio else silence(1.0)
        except OSError as error:
            raise Wrong(f"the recording cannot be read where the check runs: {error}") from error
        form = multipart({"model": self.client.model, "temperature": "0"}, sound)
        path, seconds = "/v1/audio/transcriptions", float(self.options["seconds"])
        answer = self.client.ask(
            Request(path, content=form, content_type=multipart_type(), timeout=seconds)
        )
        text = answer.json().get("text")
        if not isinstance(text, str):
            raise Wrong(f"{path} has no text in it: {answer.text[:200]!r}")
        self.seen.answer = text
        if not audio and len(text.split()) > MOST_OF_NOTHING:
            raise Wrong(f"of a quiet second it made {len(text.split())} words: {text[:200]!r}")
        if audio and not text.strip():
            raise Wrong(f"it heard nothing in {audio}")
        problem = problems_with(text, self.options["expect"] or {}, self.client.validate)
        if problem:
            raise Wrong(f"it heard {text[:300]!r}: {'; '.join(problem)}")
        return f"{text!r}"

    def picture(self) -> str:
        """Colour and shape of three pictures that are made for the question are named."""
        told = []
        for colour, shape in PICTURES:
            said = self._see(drawing(colour, shape))
            told.append(f"{colour} {shape}: {said[:100]}")
            names = CALLED.get(shape, (shape,))
            if colour not in said.lower() or not any(name in said.lower() for name in names):
                raise Wrong(f"a {colour} {shape} on white is to it: {said[:200]!r}")
        self.seen.answer = "; ".join(told)
        return self.seen.answer

    def _see(self, png: bytes) -> str:
        url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        asked = (
            "Which colour has the shape in this picture, and is it a circle, a square or a "
            "triangle? Answer with two words."
        )
        content = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": asked},
        ]
        text = self._chat([{"role": "user", "content": content}])
        self.seen.question = asked
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
        self._has_timeout = check.timeout is not None
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
            **({"thought": self.seen.thought} if self.seen.thought else {}),
            "figures": self.seen.figures,
            "seconds": round(time.monotonic() - began, 3),
            "model_seconds": round(self.client.model_seconds - waited, 3),
            "tries": tries,
        }
