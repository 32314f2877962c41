# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report that people read."""

from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.planner import make_plan
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.report import (
    WIDTH,
    render,
    table,
)

MODEL = "/srv/models/qwen2.5-7b-instruct"


def _report(found, data, **instance):
    wanted = {
        "release": "0.14.1",
        "instances": [{"name": "qwen", "model": MODEL, **instance}],
    }
    return render(make_plan(wanted, found, data), found)


def _flat(text: str) -> str:
    return " ".join(text.split())


def test_ac_3090_tells_the_record(facts, release_data):
    text = _report(facts("ac-3090"), release_data(), max_model_len=4096, enforce_eager=True)
    flat = _flat(text)
    assert "NVIDIA GeForce RTX 3090, compute capability 8.6" in flat
    assert "cu128; driver 590.48.01 runs it natively" in flat
    assert "> TRITON_ATTN works needs no nvcc" in flat
    assert "FLASH_ATTN works" in flat
    assert "hung at start in the recorded deployment" in flat
    assert "FLASHINFER no compiles its kernels at run time with nvcc, which is not on the" in flat
    assert "XFORMERS no not in vLLM 0.14.1" in flat
    assert "TORCH_SDPA no" in flat
    assert "must be registered before use" in flat
    assert "budget 20.0 GiB 0.85 of 23.6 GiB" in flat
    assert "KV cache 4.5 GiB" in flat
    assert text.endswith("No problems.")
    headings = [line for line in text.splitlines() if line in _HEADINGS]
    assert headings == ["Found", "Will be done"]


_HEADINGS = ("Found", "Will be done", "Would be done", "Wrong", "Worth knowing")


@pytest.mark.parametrize(
    ("source", "told"), [("", "1.0 GB to download"), ("gpu1", "1.0 GB to copy from gpu1")]
)
def test_it_says_where_a_model_comes_from(facts, release_data, source, told):
    wanted = {
        "release": "0.14.1",
        "host_name": "gpu2",
        "model_from": source,
        "instances": [{"name": "qwen", "model": "acme/one"}],
    }
    entry = {"repo_id": "acme/one", "revision": "main", "commit": "1" * 40}
    found = facts("cpu-debian-12")
    found["hub"] = [{**entry, "asked": None, "error": None, "download_bytes": 10**9}]
    assert f"acme/one at {'1' * 12}, {told}" in _flat(
        render(make_plan(wanted, found, release_data()), found)
    )


def test_sections_come_in_order_and_say_that_nothing_is_done(facts, release_data):
    text = _report(facts("t4"), release_data(), dtype="bfloat16")
    headings = [line for line in text.splitlines() if line in _HEADINGS]
    assert headings == ["Found", "Would be done", "Wrong", "Worth knowing"]
    assert "Remedy: set dtype: float16" in _flat(text)
    assert text.endswith("nothing will be changed.")


def test_columns_are_aligned(facts, release_data):
    lines = _report(facts("ac-3090"), release_data()).splitlines()
    rows = [line for line in lines if "_ATTN" in line or line.strip().startswith("FLASHINFER")]
    assert len({line.index(" works " if " works " in line else " no ") for line in rows[:3]}) == 1
    assert all(len(line) <= WIDTH for line in lines)


def test_a_long_word_is_never_cut():
    word = "/" + "x" * 100
    assert any(word in line for line in table([("Path", word)]))


@pytest.mark.parametrize("odd", [None, [], "text", {"host": []}, {"gpu": {"gpus": [None, 7]}}])
def test_odd_facts_give_a_report(odd, release_data):
    assert _report(odd, release_data()).startswith("Found")
