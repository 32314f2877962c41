# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cheapest request of each kind."""

from __future__ import annotations

import io
import json
import wave
from email.parser import BytesParser

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import kinds
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import KINDS

# Answers of vLLM 0.14.1, shortened.
ANSWERS = {
    "chat": {"usage": {"completion_tokens": 1}},
    "base": {"usage": {"completion_tokens": 1}},
    "reasoning": {"usage": {"completion_tokens": 1}},
    "multimodal": {"usage": {"completion_tokens": 1}},
    "embed": {"data": [{"index": 0, "embedding": [-0.0435, 0.0017]}]},
    "rerank": {"data": [{"index": 0, "score": 0.0}]},
    "classify": {"data": [{"label": "LABEL_1", "probs": [0.4, 0.6], "num_classes": 2}]},
    "transcribe": {"text": "", "usage": {"type": "duration", "seconds": 1}},
}


def test_the_kinds_are_the_plans() -> None:
    assert {*kinds.KINDS, "auto"} == set(KINDS)


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_an_answer_of_its_kind_and_no_other(kind: str) -> None:
    question = kinds.question_of(kind, "m")
    for other, answer in ANSWERS.items():
        same = kinds.question_of(other, "m").path == question.path
        assert (question.problem(json.dumps(answer).encode()) is None) is same, other
    for broken in (b"", b"[]", b"{}", b'{"data": []}', b"null", b'{"data": [{"embedding": []}]}'):
        assert question.problem(broken)


def test_only_kinds_that_generate_are_asked_for_a_token() -> None:
    generating = {k for k in kinds.KINDS if kinds.question_of(k, "m").path == "/v1/completions"}
    assert generating == set(kinds.GENERATING)
    assert not generating & set(kinds.POOLING)


def test_speech_is_asked_with_a_form_that_holds_a_wav() -> None:
    question = kinds.question_of("transcribe", "m")
    head = f"Content-Type: {question.content_type}\r\n\r\n".encode()
    parts = BytesParser().parsebytes(head + question.body).get_payload()
    fields = {part.get_param("name", header="content-disposition"): part for part in parts}
    assert fields["model"].get_payload() == "m"
    with wave.open(io.BytesIO(fields["file"].get_payload(decode=True))) as file:
        assert (file.getnchannels(), file.getframerate()) == (1, 16000)
        assert file.getnframes() == 8000
