# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The GPUs and their driver: `facts.gpu`."""

from __future__ import annotations

from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils import pci
from ansible_collections.compute_plane.vllm.plugins.module_utils.host import Host


class Gpus:
    """Reads GPUs and driver.

    Args:
        host: The machine.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    def result(self) -> dict[str, Any]:
        """Reads `facts.gpu`."""
        return {
            "driver": {
                "loaded": False,
                "version": None,
                "cuda_version": None,
                "library_version": None,
                "module_version": None,
                "mismatch": False,
                "open_module": None,
                "cuinit": {"ok": False, "code": None, "error": "libcuda.so.1 is not installed"},
                "error": None,
            },
            "pci_devices": pci.read(self._host),
            "gpus": [],
            "devices": [],
            "source": None,
        }
