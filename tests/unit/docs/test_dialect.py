# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docstrings speak one dialect."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("folder", ["plugins", "tests", "benchmarks"])
def test_names_in_docstrings_are_in_single_backticks(folder: str) -> None:
    wrong = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                found = re.findall(r"(?<![\w`.])[CVOMP]\(|(?<!`)``(?!`)", str(node.value.value))
                wrong += [f"{path.relative_to(ROOT)}:{node.lineno}: {one}" for one in found]
    assert wrong == []
