# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.units import parse_show

# systemctl show --property Id,ActiveState,MainPID of two units, Debian 12
SHOWN = """MainPID=0
Id=vllm@a.service
ActiveState=inactive

MainPID=77
Id=vllm@b.service
ActiveState=active
"""


def test_several_units_are_read_from_one_answer() -> None:
    assert parse_show(SHOWN) == {
        "vllm@a.service": {"MainPID": "0", "Id": "vllm@a.service", "ActiveState": "inactive"},
        "vllm@b.service": {"MainPID": "77", "Id": "vllm@b.service", "ActiveState": "active"},
    }
    assert parse_show("") == {}
