# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.notify import Notifier

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_what_is_said(tmp_path: Path, abstract: bool) -> None:
    address = f"@vllm-test-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0") if abstract else address)
        systemd.settimeout(5)
        notifier = Notifier(address)
        notifier.send("READY=1")
        notifier.status("loading\n43 %")
        notifier.status("loading 43 %")
        notifier.status("ready")
        heard = [systemd.recv(4096).decode() for _ in range(3)]
    assert heard == ["READY=1", "STATUS=loading 43 %", "STATUS=ready"]


def test_without_systemd_nothing_happens() -> None:
    Notifier("").send("READY=1")
