# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark.run import idle_lines


@pytest.mark.parametrize(
    ("watts", "lines"),
    [
        ([], []),
        ([84.6], ["without requests: 85 W"]),
        ([84.6, 20.0], ["without requests: 105 W"]),
        ([84.6, None], []),
    ],
)
def test_what_a_server_takes_without_requests(watts: list[float | None], lines: list[str]) -> None:
    idle = {str(number): {"power_watts": one} for number, one in enumerate(watts)}
    assert idle_lines(idle) == lines
