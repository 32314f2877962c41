# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of release data share: the repository and its programs without a suffix."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]


def program(name: str) -> ModuleType:
    """Import a program of `scripts/`, which has no suffix, as a module."""
    module_name = name.replace("-", "_") + "_program"
    loader = SourceFileLoader(module_name, str(ROOT / "scripts" / name))
    spec = importlib.util.spec_from_loader(module_name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def lock_program() -> ModuleType:
    """`scripts/lock`."""
    return program("lock")


@pytest.fixture(scope="session")
def serve_flags_program() -> ModuleType:
    """`scripts/serve-flags`."""
    return program("serve-flags")


@pytest.fixture(scope="session")
def releases_program() -> ModuleType:
    """`scripts/releases`."""
    return program("releases")
