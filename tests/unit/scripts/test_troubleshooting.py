# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/troubleshooting.md and its Chinese: current, and of settings that there are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted(ROOT.glob("docs/troubleshooting*.md"))


def test_the_pages_are_those_of_the_causes() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/troubleshooting", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_remedies_name_variables_that_there_are(page: Path) -> None:
    assert len(PAGES) == 2
    specs = "".join(path.read_text() for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
    named = set(re.findall(r"\bvllm_[a-z]+(?:_[a-z]+)*\b", page.read_text()))
    unknown = {name for name in named if not re.search(rf"^ +{name}:", specs, re.MULTILINE)}
    assert unknown == set()
