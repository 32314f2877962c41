# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/model-memory.md: current, and no figure in it where the plan and vLLM differ."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_page_is_that_of_the_plan_and_of_vllms_answers() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/model-table", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_where_two_figures_stand_they_are_near() -> None:
    pairs = re.findall(r"\| ([\d.]+) / ([\d.]+) ", (ROOT / "docs/model-memory.md").read_text())
    assert all(abs(float(plan) / float(vllm) - 1) < 0.02 for plan, vllm in pairs), pairs
