# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import (
    Record,
    proved_text,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.prune import (
    prune,
    releases_to_remove,
)

if TYPE_CHECKING:
    from .conftest import Host


@pytest.fixture
def used(host: Host) -> Host:
    """A host with five releases, of which r1 serves and r0 is gone back to, and supervisors."""
    for number in range(5):
        folder = Path(host.paths.releases_dir, f"r{number}")
        folder.mkdir(parents=True)
        proof = {"proved_at": f"2026-01-0{number + 1}T00:00:00+00:00"}
        (folder / ".proved.json").write_text(json.dumps(proof))
    Path(host.paths.releases_dir, "unfinished").mkdir()
    for number in range(3):
        Path(host.paths.supervisors_dir, str(number)).mkdir(parents=True)
    record = Record(host.deployment(), host.deployment(venv=f"{host.paths.releases_dir}/r0"))
    Path(host.paths.proved("m")).parent.mkdir(parents=True)
    Path(host.paths.proved("m")).write_text(proved_text(record))
    return host


@pytest.mark.parametrize(
    ("keep", "removed"), [(9, []), (2, ["r2"]), (1, ["r2", "r3"]), (0, ["r2", "r3", "r4"])]
)
def test_what_nothing_uses_goes_but_for_the_newest(
    used: Host, keep: int, removed: list[str]
) -> None:
    paths, told = used.paths, list[str]()
    gone = prune(paths, keep, f"{paths.supervisors_dir}/1", told.append)
    assert [os.path.basename(path) for path in gone] == removed
    assert told == [f"removing {path}" for path in gone]
    left = {"r0", "r1", "r2", "r3", "r4", "unfinished"} - set(removed)
    assert set(os.listdir(paths.releases_dir)) == left
    # The one that serves and the one that the next start takes.
    assert sorted(os.listdir(paths.supervisors_dir)) == ["0", "1"]


def test_nothing_goes_when_a_record_is_not_understood(used: Host) -> None:
    Path(used.paths.proved("other")).write_text('{"schema": 99}')
    assert prune(used.paths, 0, f"{used.paths.supervisors_dir}/1", print) == []
    assert len(os.listdir(used.paths.releases_dir)) == 6
    assert len(os.listdir(used.paths.supervisors_dir)) == 3


PROVED = {
    "/r/0.12": "2026-01-01T00:00:00+00:00",
    "/r/0.13": "2026-02-01T00:00:00+00:00",
    "/r/0.14": "2026-03-01T00:00:00+00:00",
    "/r/0.15": "2026-04-01T00:00:00+00:00",
}


@pytest.mark.parametrize(
    ("used", "keep", "removed"),
    [
        (["/r/0.15"], 2, ["/r/0.12"]),
        (["/r/0.15"], 0, ["/r/0.12", "/r/0.13", "/r/0.14"]),
        (["/r/0.12/", "/r/0.15"], 0, ["/r/0.13", "/r/0.14"]),
        (["/r/0.12", "/r/0.13", "/r/0.14", "/r/0.15"], 0, []),
        ([], 4, []),
        (["/home/own"], 3, ["/r/0.12"]),
    ],
)
def test_releases_that_nothing_uses_go(used: list[str], keep: int, removed: list[str]) -> None:
    assert releases_to_remove(PROVED, used, keep) == removed
