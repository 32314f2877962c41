# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documents for contributors name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TOP = r"plugins|roles|releases|docs|tests|scripts|playbooks"


def section(heading: str) -> str:
    return ARCHITECTURE.split(f"## {heading}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_file_and_link_is_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(rf"`((?:{TOP})/[^`<* ]*)`", text)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert ((ROOT / name).parent / link).exists(), link


def test_a_function_that_is_named_is_in_the_file_beside_it() -> None:
    pairs = re.findall(r"`(\w+)` in `([^`]+)`", ARCHITECTURE)
    assert len(pairs) >= 6
    for function, path in pairs:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"(?m)^\s*def {function}\b|^{function}\b", text), (function, path)


def test_every_folder_of_module_utils_has_a_row() -> None:
    folders = {path.parent.name for path in (ROOT / "plugins/module_utils").glob("*/*.py")}
    rows = re.findall(
        r"(?m)^\| `(\w+)/` \|", section("The rooms of module_utils, from low to high")
    )
    assert folders == {*rows, "supervisor"}


def test_every_role_is_drawn() -> None:
    roles = {path.name for path in (ROOT / "roles").glob("vllm_*")}
    drawn = set(re.findall(r"vllm_\w+", section("Roles")))
    assert roles <= drawn
