#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of an NVIDIA driver a host has, and what its package manager would do."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_driver_info
short_description: What of an NVIDIA driver a host has, and what its package manager would do
version_added: 1.0.0
description:
  - Reads what decides how the NVIDIA driver of a Debian or Ubuntu host is installed or upgraded.
  - Asks apt, with C(--simulate), what installing packages would do. Nothing is changed.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: Reads only.
  diff_mode:
    support: none
    description: There is nothing to differ.
options:
  packages:
    description: Packages to ask apt about.
    type: list
    elements: str
    default: []
  simulate:
    description: Packages whose installation is simulated, each a name or C(NAME=VERSION).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Find the driver
  compute_plane.vllm.vllm_driver_info:
    packages: [nvidia-kernel-dkms, libcuda1]
    simulate: [nvidia-kernel-dkms, libcuda1]
  register: driver
"""

RETURN = r"""
driver:
  description: What there is.
  returned: always
  type: dict
  contains:
    distribution:
      description: C(id), C(version_id) and C(version_codename) of os-release(5).
      type: dict
      sample: {id: debian, version_id: "12", version_codename: bookworm}
    kernel:
      description: The release of the running kernel.
      type: str
      sample: 6.1.0-57-amd64
    kernels:
      description: Installed kernels, whether headers are there, and their nvidia module's version.
      type: list
      elements: dict
      sample: [{name: 6.1.0-57-amd64, headers: true, module: 535.309.01}]
    cards:
      description: The PCI device ids of NVIDIA cards.
      type: list
      elements: str
      sample: ["0x2204"]
    loaded:
      description: The version of the module that is loaded; null for none.
      type: str
      sample: 535.309.01
    nouveau:
      description: Whether nouveau is loaded.
      type: bool
      sample: false
    packages:
      description: Installed packages of a driver, headers and dkms; null without dpkg.
      type: dict
      sample: {nvidia-kernel-dkms: 535.309.01-0+deb12u1}
    candidates:
      description: What apt says of each of O(packages), with where its candidate comes from.
      type: dict
      sample: {libcuda1: {installed: null, candidate: 535.309.01-0+deb12u1, origins: []}}
    dkms:
      description: What C(dkms status) says.
      type: list
      elements: dict
      sample:
        - module: nvidia-current
          version: 535.309.01
          kernel: 6.1.0-57-amd64
          state: installed
    run_file:
      description: What NVIDIA's C(.run) installer has left; null for nothing.
      type: str
      sample: null
    secure_boot:
      description: Whether only signed modules are loaded; null where there is no UEFI.
      type: bool
      sample: false
    mok_enrolled:
      description: Whether the firmware trusts dkms's key; null where that cannot be told.
      type: bool
      sample: null
simulation:
  description: What apt would do, C(actions), and why it cannot, C(error).
  returned: when O(simulate) is given
  type: dict
  sample:
    error: null
    actions: [{what: Inst, package: libcuda1, version: 535.309.01-0+deb12u1}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import installation
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "default": []},
            "simulate": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    host = Host()
    found = {"driver": installation.read(host, module.params["packages"])}
    if module.params["simulate"]:
        found["simulation"] = installation.simulate(host, module.params["simulate"])
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
