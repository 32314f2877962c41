# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan's KV cache against what vLLM itself answered (`scripts/kv-oracle`)."""

from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.memory import model_length
from ansible_collections.compute_plane.vllm.tests.unit.plugins.plugin_utils.plan.oracle import (
    ANSWERS,
    GIB,
    bytes_of_a_token,
    bytes_of_states,
    planned,
)

ROWS = [
    pytest.param(release, name, tensor, id=f"{release}-{name}-{tensor}")
    for release, models in ANSWERS.items()
    for name, by_size in models.items()
    for tensor, answer in by_size.items()
    if "error" not in answer
]


@pytest.mark.parametrize(("release", "name", "size"), ROWS)
def test_bytes_of_a_token_and_of_a_state(release, name, size):
    answer = ANSWERS[release][name][size]
    cache, _model = planned(release, name, size)
    assert cache is not None
    assert cache.token_bytes == pytest.approx(bytes_of_a_token(answer["layers"]), rel=0.01)
    assert cache.state_bytes == pytest.approx(bytes_of_states(answer["layers"]), rel=0.01)


@pytest.mark.parametrize(("release", "name", "size"), ROWS)
def test_what_a_request_needs(release, name, size):
    answer = ANSWERS[release][name][size]
    cache, _model = planned(release, name, size)
    assert cache is not None
    if len(answer["groups"]) > 1 and release == "0.14.1":
        # Its check at start looks at one group of several (_max_memory_usage_bytes_from_groups).
        return
    for tokens, needed in answer.get("request_bytes", {}).items():
        assert cache.request_bytes(int(tokens)) == pytest.approx(needed, rel=0.01), tokens


@pytest.mark.parametrize(("release", "name", "size"), ROWS)
def test_the_longest_context(release, name, size):
    answer = ANSWERS[release][name][size]
    cache, model = planned(release, name, size)
    assert cache is not None
    # vllm/config/model.py takes 2048 where config.json says nothing.
    assert (model_length(model) or 2048) == answer["max_model_len"]
    for memory, holds in answer.get("holds", {}).items():
        longest = cache.longest(int(memory) * GIB, answer["max_model_len"])
        assert longest == pytest.approx(holds, rel=0.02, abs=16), memory


@pytest.mark.parametrize("release", sorted(ANSWERS))
def test_at_least_forty_models_were_asked_about(release):
    assert sum("error" not in row["tp1"] for row in ANSWERS[release].values()) >= 40
