# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is shown of long work."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.progress import (
    INTERVAL,
    calm_interval,
    host_column,
    own_session,
    progress_line,
)


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ({"what": "starting"}, "  h: starting"),
        ({"what": "starting", "elapsed": 61.2, "detail": "x"}, "  h: starting: 1 min 1 s, x"),
        (
            {
                "what": "downloading a/b",
                "files_done": 3,
                "files_total": 10,
                "bytes_done": 6_600_000_000,
                "bytes_total": 15_200_000_000,
                "rate": 112_300_000,
            },
            (
                "  h: downloading a/b: 3 of 10 files, 6.6 GB of 15.2 GB (43 %), 112.3 MB/s,"
                " 1 min 17 s left"
            ),
        ),
        (
            {"what": "d", "bytes_done": 1, "bytes_total": 2, "rate": 0},
            "  h: d: 1 B of 2 B (50 %)",
        ),
    ],
)
def test_a_line(state: dict[str, Any], line: str) -> None:
    assert progress_line("h", state) == line


def test_lines_of_several_hosts() -> None:
    batch = ["near", "far-away"]
    names = [
        host_column({"inventory_hostname": name, "ansible_play_batch": batch}) for name in batch
    ]
    assert names == ["near    ", "far-away"]
    assert host_column({"inventory_hostname": "alone"}) == "alone"


@pytest.mark.parametrize("hosts", [0, 1, 4, 5, 40])
def test_many_hosts_do_not_flood(hosts: int) -> None:
    assert calm_interval(hosts) >= INTERVAL
    assert hosts / calm_interval(hosts) <= 4 / INTERVAL + 1e-9


def test_a_session_of_its_own() -> None:
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/a"), become=None, host="h")
    session = own_session(connection)
    session._shell.tmpdir = "/b"
    assert connection._shell.tmpdir == "/a"
    assert session.host == "h"
