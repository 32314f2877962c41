# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts and release data that the planner's tests share."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path

import pytest

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.release import ReleaseData
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.release_data import (
    default_releases_dir,
    load_release_data,
)

FIXTURES = Path(__file__).parents[4] / "fixtures"


@functools.cache
def _facts(name: str) -> str:
    return (FIXTURES / "facts" / f"{name}.json").read_text(encoding="utf-8")


@functools.cache
def _release_data(release: str, which: str) -> ReleaseData:
    folder = default_releases_dir() if which == "collection" else FIXTURES / "plan" / "releases"
    return load_release_data(folder, release)


@pytest.fixture(scope="session")
def facts():
    """Return a function from a machine's name to its facts, fresh each time."""
    return lambda name: copy.deepcopy(json.loads(_facts(name)))


@pytest.fixture(scope="session")
def release_data():
    """Return a function from a release to its data, read once."""
    return lambda release="0.14.1", which="collection": _release_data(release, which)
