# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu.gpus import pci_devices
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_utils.fake_host import (
    FakeHost,
)


def device(address, vendor, code, class_):
    base = f"/sys/bus/pci/devices/{address}"
    return {f"{base}/vendor": vendor, f"{base}/device": code, f"{base}/class": class_}


def test_only_nvidias_display_and_3d_controllers():
    host = FakeHost(
        {
            **device("0000:00:02.0", "0x8086\n", "0x9bc5\n", "0x030000\n"),  # Intel's graphics
            **device("0000:01:00.0", "0x10de\n", "0x2204\n", "0x030000\n"),
            **device("0000:01:00.1", "0x10de\n", "0x1aef\n", "0x040300\n"),  # the card's audio
            **device("0000:41:00.0", "0x10de\n", "0x2330\n", "0x030200\n"),
            "/sys/bus/pci/devices/0000:42:00.0/vendor": "0x10de\n",  # gone while being read
        }
    )
    assert pci_devices(host) == [
        {"address": "0000:01:00.0", "vendor": "0x10de", "device": "0x2204", "class": "0x030000"},
        {"address": "0000:41:00.0", "vendor": "0x10de", "device": "0x2330", "class": "0x030200"},
    ]


def test_no_bus():
    assert pci_devices(FakeHost()) == []
