# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.service import installed

# /proc/driver/nvidia/gpus/<bus>/information as the driver writes it.
INFORMATION = """\
Model: \t\t NVIDIA GeForce RTX 3090
IRQ:   \t\t 120
GPU UUID: \t GPU-{uuid}
Video BIOS: \t 94.02.42.00.0f
Bus Type: \t PCIe
Bus Location: \t 0000:01:00.0
Device Minor: \t {minor}
"""


@pytest.mark.parametrize(
    ("gpus", "nodes"),
    [
        (["GPU-a"], ["/dev/nvidia1"]),
        (["GPU-b", "GPU-a"], ["/dev/nvidia0", "/dev/nvidia1"]),
        (["GPU-c"], None),
        (["0"], None),
        ([], []),
    ],
)
def test_the_nodes_of_gpus(gpus: list[str], nodes: list[str] | None) -> None:
    texts = [INFORMATION.format(uuid="a", minor=1), INFORMATION.format(uuid="b", minor=0), ""]
    assert installed.device_nodes(gpus, texts) == nodes
