# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the service can reach somebody's own environment, over real trees and links."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime import own

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody can enter."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


def venv(place: Path, python: Path) -> own.Own:
    binaries = place / "venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to(python)
    return own.Own(str(place / "venv"), str(place / "proofs"))


def python_in(folder: Path) -> Path:
    """A Python that is installed in a folder."""
    folder.mkdir(parents=True)
    (folder / "python3").write_text(f"#!/bin/sh\nexec {sys.executable} $@\n")
    (folder / "python3").chmod(0o755)
    return folder / "python3"


def test_one_whose_python_everybody_can_run(place: Path) -> None:
    venv(place, python_in(place / "usr" / "bin")).check()


def test_one_without_a_python(place: Path) -> None:
    with pytest.raises(Failed, match="bin/python is missing"):
        venv(place, place / "gone").check()


def test_one_whose_python_nobody_else_can_reach(place: Path) -> None:
    python = python_in(place / "closed" / "bin")
    (place / "closed").chmod(0o700)
    with pytest.raises(Failed, match=r"cannot enter .*/closed \(mode 0700\)"):
        venv(place, python).check()


@pytest.mark.parametrize("part", ["venv", "python"])
def test_one_that_the_unit_hides(part: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = venv(place, python_in(place / "usr" / "bin"))
    monkeypatch.setattr(own, "_HIDDEN", (str(place / ("venv" if part == "venv" else "usr")),))
    with pytest.raises(Failed, match="ProtectHome=yes hides"):
        found.check()
