# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cheapest request that makes an engine of each kind compute, and what its answer must have.

`/health` and `/v1/models` answer 200 also when the engine hangs (vllm issue 42897).

It stands here because the supervisor runs without the rest of the collection.
"""

from __future__ import annotations

import io
import json
import math
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

GENERATING = ("chat", "base", "reasoning", "multimodal")
"""Kinds of which a token is asked for."""
POOLING = ("embed", "rerank", "classify")
"""Kinds that generate nothing (vLLM's `--runner pooling`)."""
KINDS = (*GENERATING, *POOLING, "transcribe")

BRIEFLY = {
    "chat_template_kwargs": {"enable_thinking": False, "thinking": False},
    "reasoning_effort": "low",
}
"""What a request says to have a model think less, where it has one of these switches.

Qwen3 and GLM-4.5 read `enable_thinking`, DeepSeek-V3.1 and Granite `thinking`, gpt-oss
`reasoning_effort`; others ignore them. vllm 0.14.1, docs/features/reasoning_outputs.md and
vllm/entrypoints/openai/serving_chat.py.
"""

_PROOF = "The capital of France is"
_RATE = 16000  # samples a second
_BOUNDARY = "compute-plane-probe-7c1f0b"
_FIELD = "Content-Disposition: form-data"


@dataclass(frozen=True)
class Question:
    """A request, and how its answer is judged.

    Attributes:
        path: With its leading slash.
        body: What is posted.
        content_type: The body's.
        problem: Says what is wrong with an answer of status 200; `None` when nothing is.
    """

    path: str
    body: bytes
    content_type: str
    problem: Callable[[bytes], str | None]


def _one_token(answer: Mapping[str, Any]) -> str | None:
    tokens = answer["usage"]["completion_tokens"]
    return None if tokens == 1 else f"computed {tokens} tokens instead of one"


def _vector(answer: Mapping[str, Any]) -> str | None:
    vector = answer["data"][0]["embedding"]
    return None if vector and all(map(math.isfinite, vector)) else "computed no embedding"


def _score(answer: Mapping[str, Any]) -> str | None:
    return None if math.isfinite(answer["data"][0]["score"]) else "computed no score"


def _label(answer: Mapping[str, Any]) -> str | None:
    return None if answer["data"][0]["probs"] else "computed no label"


def _text(answer: Mapping[str, Any]) -> str | None:
    return None if isinstance(answer["text"], str) else "computed no text"


def _judge(path: str, of: Callable[[Mapping[str, Any]], str | None]) -> Any:
    def problem(content: bytes) -> str | None:
        try:
            found = of(json.loads(content))
        except (ValueError, LookupError, TypeError, AttributeError):
            return f"{path} answered {content[:200]!r}"
        return found and f"{path} {found}"

    return problem


def question_of(kind: str, model: str) -> Question:
    """The cheapest request of a kind.

    Args:
        kind: One of `KINDS`.
        model: The name that requests give.
    """
    body: dict[str, Any] = {"model": model}
    more: dict[str, Any]
    if kind == "embed":
        path, more, of = "/v1/embeddings", {"input": "1"}, _vector
    elif kind == "rerank":
        path, more, of = "/score", {"text_1": "1", "text_2": "1"}, _score
    elif kind == "classify":
        path, more, of = "/classify", {"input": "1"}, _label
    elif kind == "transcribe":
        path = "/v1/audio/transcriptions"
        form = multipart({"model": model, "temperature": "0"}, silence(0.5))
        return Question(path, form, multipart_type(), _judge(path, _text))
    else:
        path = "/v1/completions"
        more, of = {"prompt": "1", "max_tokens": 1, "temperature": 0}, _one_token
    content = json.dumps({**body, **more}).encode()
    return Question(path, content, "application/json", _judge(path, of))


@dataclass(frozen=True)
class Proof:
    """A request whose answer is the same as long as the weights are.

    Attributes:
        path: With its leading slash.
        body: What is posted.
        content_type: The body's.
        values: What was computed, of an answer: tokens, texts, or numbers as `float`.
    """

    path: str
    body: bytes
    content_type: str
    values: Callable[[bytes], list[Any]]


def proof_of(kind: str, model: str) -> Proof:
    """What a server of a kind is asked before and after its sleep.

    Args:
        kind: One of `KINDS`.
        model: The name that requests give.
    """
    question = question_of(kind, model)
    body = question.body
    if kind == "embed":

        def of(answer: Any) -> list[Any]:
            return [float(one) for one in answer["data"][0]["embedding"]]

    elif kind == "rerank":

        def of(answer: Any) -> list[Any]:
            return [float(answer["data"][0]["score"])]

    elif kind == "classify":

        def of(answer: Any) -> list[Any]:
            return [float(one) for one in answer["data"][0]["probs"]]

    elif kind == "transcribe":

        def of(answer: Any) -> list[Any]:
            return [str(answer["text"])]

    else:
        # Shorter than a block of the prefix cache, so that it is computed anew each time;
        # `ignore_eos` and `return_token_ids` are vLLM's own (0.14.1 and 0.26.0, CompletionRequest).
        more = {"prompt": _PROOF, "max_tokens": 16, "temperature": 0}
        more.update(ignore_eos=True, return_token_ids=True)
        body = json.dumps({"model": model, **more}).encode()

        def of(answer: Any) -> list[Any]:
            tokens = answer["choices"][0]["token_ids"]
            return [int(token) for token in tokens]

    def values(content: bytes) -> list[Any]:
        found = of(json.loads(content))
        if not found:
            raise ValueError("nothing was computed")
        return found

    return Proof(question.path, body, question.content_type, values)


def silence(seconds: float) -> bytes:
    """A WAV file of one channel in which nothing is heard."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(b"\0\0" * int(_RATE * seconds))
    return stream.getvalue()


def multipart_type() -> str:
    """The content type of :func:`multipart`."""
    return f"multipart/form-data; boundary={_BOUNDARY}"


def multipart(fields: Mapping[str, str], wav: bytes) -> bytes:
    """A form with a WAV file, as the transcriptions API takes it (RFC 7578)."""
    parts = [
        f'--{_BOUNDARY}\r\n{_FIELD}; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'{_FIELD}; name="file"; filename="speech.wav"'
    parts.append(f"--{_BOUNDARY}\r\n{head}\r\nContent-Type: audio/wav\r\n\r\n".encode() + wav)
    return b"".join([*parts, f"\r\n--{_BOUNDARY}--\r\n".encode()])
