# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA devices that the PCI bus shows, driver or not."""

from __future__ import annotations

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host

PCI_DIR = "/sys/bus/pci/devices"
NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"  # PCI base class 03: display controllers, 3D controllers among them


def read(host: Host) -> list[dict[str, str]]:
    """Reads `facts.gpu.pci_devices`.

    Args:
        host: The machine.

    Returns:
        address, vendor, device and class of each NVIDIA display or 3D controller, as sysfs
        prints them.
    """
    devices = []
    for address in host.listdir(PCI_DIR):
        entry = {"address": address}
        for key in ("vendor", "device", "class"):
            entry[key] = (host.read_text(f"{PCI_DIR}/{address}/{key}") or "").strip()
            if key == "vendor" and entry[key] != NVIDIA:
                break
        else:
            if entry["class"].startswith(_DISPLAY_CLASS):
                devices.append(entry)
    return devices
