# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of several lines, by the form in which Ansible prints results."""

from __future__ import annotations

import pytest
from ansible import constants

from ansible_collections.compute_plane.vllm.plugins.filter.readable import readable


@pytest.mark.parametrize(("form", "shown"), [("yaml", "a\n\n b\n"), ("json", ["a", "", " b"])])
def test_a_text_is_shown_in_lines(
    monkeypatch: pytest.MonkeyPatch, form: str, shown: str | list[str]
) -> None:
    monkeypatch.setattr(constants.config, "get_config_value", lambda *_, **__: form)
    assert readable("a\n\n b\n") == shown
