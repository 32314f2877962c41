# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of the Hub's answers, without a Hub."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.listing import (
    base_models,
    chosen_files,
    index_is_needed,
    listed,
    side_by_side,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import RepoFile

INDEX = "model.safetensors.index.json"
SHA256 = "a" * 64
SHA1 = "b" * 40


def files(*names: str) -> list[RepoFile]:
    return [RepoFile(name, 1, SHA1, None) for name in names]


@pytest.mark.parametrize(
    ("names", "needed"),
    [
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], False),
        (["model-00001-of-00001.safetensors"], False),
        (["model-00001-of-00001.safetensors", "1_Dense/model.safetensors"], False),
        # What is not one whole set, and nothing else, only the index tells.
        (["model.safetensors"], True),
        (["model-00001-of-00002.safetensors"], True),
        (["model-00001-of-00002.safetensors", "model-00003-of-00002.safetensors"], True),
        (["model-00001-of-00001.safetensors", "vision.safetensors"], True),
        (["model-00001-of-00001.safetensors", "old-00001-of-00001.safetensors"], True),
        (["model-00001-of-00002.safetensors", "model-00001-of-00001.safetensors"], True),
        (["a.safetensors", "b.safetensors"], True),
    ],
)
def test_the_index_is_asked_for_where_it_tells_something(names: list[str], needed: bool) -> None:
    assert index_is_needed(files(*names, INDEX)) is needed
    assert not index_is_needed(files(*names))


def test_files_as_the_hub_lists_them() -> None:
    siblings: list[dict[str, Any]] = [
        {"rfilename": "config.json", "size": 7, "blobId": SHA1},
        {
            "rfilename": "model.safetensors",
            "size": 9,
            "blobId": SHA1,
            "lfs": {"sha256": SHA256, "size": 9},
        },
    ]
    assert listed({"siblings": siblings}) == [
        RepoFile("config.json", 7, SHA1, None),
        RepoFile("model.safetensors", 9, SHA256, SHA256),
    ]


@pytest.mark.parametrize(
    "siblings",
    [
        None,
        [],
        [{"rfilename": "config.json"}],
        [{"rfilename": "config.json", "size": None, "blobId": SHA1}],
        [{"rfilename": "../config.json", "size": 1, "blobId": SHA1}],
        [{"rfilename": "/etc/passwd", "size": 1, "blobId": SHA1}],
        [{"rfilename": "config.json", "size": 1, "blobId": "../../x"}],
        ["config.json"],
        {"config.json": 1},
        7,
        [{"rfilename": "m", "lfs": 7}],
    ],
)
def test_what_cannot_be_a_list_of_files_is_none(siblings: Any) -> None:
    assert listed({"siblings": siblings}) == []


@pytest.mark.parametrize(
    ("card", "models"),
    [
        (None, []),
        ("base_model", []),
        ({}, []),
        ({"base_model": None}, []),
        ({"base_model": "org/name"}, ["org/name"]),
        ({"base_model": ["org/name", 7, "org/other"]}, ["org/name", "org/other"]),
    ],
)
def test_what_a_model_was_made_from(card: Any, models: list[str]) -> None:
    assert base_models({"cardData": card}) == models


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": {"a": "gone.safetensors"}}'])
def test_an_index_that_is_damaged_leaves_nothing_to_serve(index: str) -> None:
    names = ["a.safetensors", "b.safetensors", INDEX, "config.json"]
    assert chosen_files(files(*names), False, index) == []


def slept(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_side_by_side_waits_no_longer_than_it_may() -> None:
    began = time.monotonic()
    assert side_by_side(slept, [0.0, 60.0], seconds=0.3) == {0.0: 0.0}
    assert time.monotonic() - began < 30


def test_side_by_side_keeps_the_order_and_raises() -> None:
    assert list(side_by_side(slept, [0.06, 0.0, 0.03])) == [0.06, 0.0, 0.03]
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda key: 1 // key, [1, 0])
