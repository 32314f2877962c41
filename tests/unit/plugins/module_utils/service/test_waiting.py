# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.service import waiting


@pytest.mark.parametrize(
    ("after", "crashed"),
    [
        # Between the stop and the start of a restart.
        ({"ActiveState": "inactive", "SubState": "dead", "NRestarts": "0", "Job": "77"}, False),
        ({"ActiveState": "inactive", "SubState": "dead", "NRestarts": "0", "Job": "0"}, True),
        ({"ActiveState": "active", "SubState": "running", "NRestarts": "0"}, False),
        ({"ActiveState": "activating", "SubState": "start", "NRestarts": "0"}, False),
        ({"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "0"}, True),
        ({"ActiveState": "active", "SubState": "running", "NRestarts": "1"}, True),
        ({"ActiveState": "failed", "SubState": "failed", "NRestarts": "0"}, True),
        ({"ActiveState": "inactive", "SubState": "dead", "NRestarts": "0"}, True),
    ],
)
def test_a_server_that_ended_by_itself(after: dict[str, str], crashed: bool) -> None:
    assert waiting.has_crashed({"NRestarts": "0"}, after) is crashed


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("(APIServer pid=924) INFO 11-22 22:05:28 [model.py:530] Resolved", "Resolved"),
        (
            "INFO 11-22 22:05:05 [importing.py:44] 0 active driver(s) found",
            "0 active driver(s) found",
        ),
        ("(EngineCore_DP0 pid=7) Loading safetensors: 50%", "Loading safetensors: 50%"),
        ("Traceback (most recent call last):", "Traceback (most recent call last):"),
        ("", ""),
    ],
)
def test_what_a_log_line_says(line: str, text: str) -> None:
    assert waiting.log_text(line) == text
