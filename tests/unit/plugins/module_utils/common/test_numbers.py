# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers that come as text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.numbers import number_in


@given(st.integers(-(10**17), 10**17) | st.floats(0.001, 1e12))
def test_what_a_template_makes_of_a_number_is_that_number_again(number: float) -> None:
    assert number_in(str(number)) == number
    assert type(number_in(str(number))) is type(number)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "8000/tcp",
        "4k",
        "0x10",
        " 1",
        "1_000",
        "\u0661",
        "nan",
        "inf",
        "1.",
        "9" * 5000,
        True,
        None,
        [],
    ],
)
def test_anything_else_stays_as_it_is(value: Any) -> None:
    assert number_in(value) is value
