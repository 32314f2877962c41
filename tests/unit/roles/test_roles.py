# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for all roles and playbooks together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FILES = [
    ROOT / "site.yml",
    *sorted((ROOT / "playbooks").glob("*.yml")),
    *sorted((ROOT / "roles").glob("*/tasks/*.yml")),
    *sorted((ROOT / "roles").glob("*/handlers/*.yml")),
]
VERBS = {
    "Ensure": "what is so afterwards",
    "Check": "what must be so, or the play ends",
    "Find": "what later tasks need to know; changes nothing",
    "Measure": "what a figure is taken of",
    "Show": "what is printed",
    "Fail": "why the play ends here",
}


def tasks(path: Path) -> Iterator[dict[str, Any]]:
    """Every play, block and task of a file."""

    def walk(entries: Any) -> Iterator[dict[str, Any]]:
        for entry in entries or []:
            yield entry
            for part in (
                "pre_tasks",
                "tasks",
                "post_tasks",
                "handlers",
                "block",
                "rescue",
                "always",
            ):
                yield from walk(entry.get(part))

    return walk(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_of_plays_and_tasks_begin_with_what_they_do(path: Path) -> None:
    names = [str(task.get("name")) for task in tasks(path)]
    assert names
    assert [name for name in names if name.split()[0] not in VERBS] == []
