# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is shown of long work."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible import context
from ansible.utils.context_objects import CLIArgs

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.progress import (
    INTERVAL,
    calm_interval,
    decimal_bytes,
    host_column,
    human_seconds,
    own_session,
    progress_line,
    this_run,
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


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (4.1e9, "4.1 GB"), (15.2e9, "15.2 GB")],
)
def test_bytes_for_people(count: float, text: str) -> None:
    assert decimal_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3900, "1 h 5 min")],
)
def test_seconds_for_people(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ({"what": "making the venv", "elapsed": 3.2}, "  h: making the venv: 3 s"),
        (
            {"what": "unpacking", "bytes_done": 2 * 10**9, "bytes_total": 8 * 10**9, "rate": 50e6},
            "  h: unpacking: 2.0 GB of 8.0 GB (25 %), 50.0 MB/s, 2 min 0 s left",
        ),
        (
            {"what": "fetching", "files_done": 1, "files_total": 4, "detail": "a.bin"},
            "  h: fetching: 1 of 4 files, a.bin",
        ),
        ({"what": "stopping"}, "  h: stopping"),
    ],
)
def test_a_line_of_every_kind_of_work(state: dict[str, object], line: str) -> None:
    assert progress_line("h", state) == line


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            {"args": ("plays/site.yml", "compute_plane.vllm.verify")},
            " with site.yml compute_plane.vllm.verify",
        ),
        ({}, ""),
    ],
)
def test_a_run_says_whose_it_is(
    monkeypatch: pytest.MonkeyPatch, args: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(context, "CLIARGS", CLIArgs(args))
    monkeypatch.setattr("getpass.getuser", lambda: "alice")
    monkeypatch.setattr("socket.gethostname", lambda: "laptop")
    assert this_run() == f"alice@laptop{said}"


def test_a_user_without_a_name_is_told_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)
    monkeypatch.setattr("os.getuid", lambda: 1234)
    assert this_run().startswith("user 1234@")
