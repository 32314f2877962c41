# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy import trials
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.causes import CAUSES
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.classify import (
    BY_FIGURES,
)

INSTANCE: dict[str, Any] = {
    "name": "a",
    "config": {"model": "/m", "attention-backend": "TRITON_ATTN"},
    "environment": {"CUDA_VISIBLE_DEVICES": "GPU-1"},
    "attention": {
        "mechanism": "flag",
        "key": "attention-backend",
        "trial": ["FLASH_ATTN", "TRITON_ATTN"],
    },
}


def names(recorded: dict[str, Any] | None, **changes: Any) -> list[str]:
    return [name for name, _ in trials.candidates({**INSTANCE, **changes}, recorded)]


def test_the_candidates_are_tried_in_the_plans_order() -> None:
    found = trials.candidates(INSTANCE, None)
    assert [name for name, _ in found] == ["FLASH_ATTN", "TRITON_ATTN"]
    assert [one["config"]["attention-backend"] for _, one in found] == ["FLASH_ATTN", "TRITON_ATTN"]
    assert all(one["environment"] == INSTANCE["environment"] for _, one in found)


def test_a_release_that_reads_a_variable_is_given_one() -> None:
    attention = {"mechanism": "environment", "key": "VLLM_ATTENTION_BACKEND", "trial": ["X"]}
    [(_, one)] = trials.candidates({**INSTANCE, "attention": attention}, None)
    assert one["environment"]["VLLM_ATTENTION_BACKEND"] == "X"
    assert one["config"] == INSTANCE["config"]


def test_what_was_recorded_is_used_and_nothing_else_is_tried() -> None:
    assert names({"backend": "TRITON_ATTN"}) == ["TRITON_ATTN"]
    assert names({"backend": "GONE"}) == ["FLASH_ATTN", "TRITON_ATTN"]


@pytest.mark.parametrize("attention", [None, {"mechanism": None, "key": None, "trial": []}])
def test_without_auto_nothing_is_tried(attention: dict[str, Any] | None) -> None:
    assert names(None, attention=attention) == []


def test_another_card_model_or_release_is_tried_anew() -> None:
    one = trials.key_of(INSTANCE, "0.14.1")
    assert trials.key_of(INSTANCE, "0.26.0") != one
    assert trials.key_of({**INSTANCE, "environment": {}}, "0.14.1") != one
    assert trials.key_of({**INSTANCE, "config": {"model": "/n"}}, "0.14.1") != one
    assert trials.key_of({**INSTANCE, "name": "b"}, "0.14.1") == one


def test_outcomes_are_read_as_they_were_written() -> None:
    outcomes = {"k": {"backend": "A", "tried": [{"backend": "A", "outcome": "answered"}]}}
    assert trials.read_trials(trials.trials_text(outcomes)) == outcomes


@pytest.mark.parametrize(
    "text", [None, "", "[]", '{"schema": 9, "trials": {}}', '{"schema": 1, "trials": {"k": []}}']
)
def test_what_is_not_readable_is_nothing(text: str | None) -> None:
    assert trials.read_trials(text) == {}


def test_the_reasons_are_told() -> None:
    tried = [{"backend": "A", "outcome": "hung"}, {"backend": "B", "outcome": "crashed"}]
    first, *rest = trials.no_backend(tried, 2).splitlines()
    assert first == "no attention backend works:"
    assert rest == ["A: hung", "B: crashed"]
    assert trials.no_backend(tried[:1], 2).splitlines() == [
        "the start failed for a reason that no other attention backend changes:",
        "A: hung",
    ]


def test_the_causes_that_end_a_trial_are_causes() -> None:
    assert {*BY_FIGURES, *(cause.name for cause in CAUSES)} >= trials.NOT_THE_BACKENDS
