# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The texts that end a run."""

from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub import errors as hf_errors
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.errors import (
    explain,
)

CODES = sorted({code.removesuffix("+token") for code in hf_errors._TEXTS})


@pytest.mark.parametrize("has_token", [False, True])
@pytest.mark.parametrize("code", CODES)
def test_every_code_says_what_where_and_what_the_hub_said(code: str, has_token: bool) -> None:
    text = explain(
        {"code": code, "message": "these are\nthe Hub's words.", "status": 418, "retry_after": 9.0},
        repo_id="org/name",
        revision="v1",
        endpoint="https://hub.example/",
        tools="/opt/tools",
        has_token=has_token,
        cache_dir="/var/cache/hub",
        path="model.safetensors",
        have="1 of 2 GiB are here and stay.",
    )
    assert "\n" not in text
    assert "None" not in text
    assert "{" not in text
    assert "https://hub.example//" not in text
    names = ("org/name", "/var/cache/hub", "/opt/tools", "https://hub.example")
    assert any(name in text for name in names)
    if code not in ("rate", "range"):
        assert "these are the Hub's words" in text
    if code == "rate":
        assert "asks to wait 9 s" in text


def test_without_a_file_or_a_status() -> None:
    text = explain(
        {"code": "other", "message": "x" * 1000, "trace": "  at line 1"},
        "org/name",
        "main",
        "https://hub.example",
        "/opt/tools",
        False,
        "/c",
    )
    assert text.startswith("the list of files of org/name cannot be had")
    assert len(text) < 700
    assert text.endswith("  at line 1")


def test_transient_codes_have_texts() -> None:
    assert set(CODES) >= hf_errors.TRANSIENT
