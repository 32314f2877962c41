#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation; `plugins/action/vllm_driver_plan.py` does it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_driver_plan
short_description: Plan how the NVIDIA driver of a host is installed, upgraded or mended
version_added: 1.0.0
description:
  - Says which packages in which versions would be installed, what would be held, what there is to
    go back to, and whether a reboot is due. Nothing is changed.
  - Fails with everything that is wrong at once, each with its remedy.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: Reads only.
  diff_mode:
    support: none
    description: There is nothing to differ.
options:
  source:
    description: Where the driver comes from, the distribution or NVIDIA's repository.
    type: str
    choices: [distribution, nvidia]
    default: distribution
  branch:
    description: The driver's branch, such as V(580), where the source has several.
    type: str
    default: ""
  modules:
    description:
      - Open or proprietary kernel modules. V(auto) takes open ones where the cards run with nothing
        else, or the source is NVIDIA's and the cards run with them.
    type: str
    choices: [auto, open, proprietary]
    default: auto
"""

EXAMPLES = r"""
- name: What would be done
  compute_plane.vllm.vllm_driver_plan:
    source: distribution
  register: driver
"""

RETURN = r"""
plan:
  description: What would be done.
  returned: always
  type: dict
  contains:
    version:
      description: The driver's version afterwards.
      type: str
      sample: 535.309.01
    modules:
      description: Which kernel modules.
      type: str
      sample: proprietary
    headers:
      description: Packages of kernel headers that are missing.
      type: list
      elements: str
      sample: [linux-headers-6.1.0-57-amd64]
    install:
      description: Packages that apt would install or upgrade, with their versions.
      type: list
      elements: str
      sample: [libcuda1=535.309.01-0+deb12u1]
    remove:
      description: Packages that apt would remove.
      type: list
      elements: str
      sample: []
    hold:
      description: Packages to hold, so that no unattended upgrade changes the driver.
      type: list
      elements: str
      sample: [nvidia-kernel-dkms, libcuda1]
    former:
      description: What to go back to.
      type: list
      elements: str
      sample: [libcuda1=535.261.03-1]
    reboot:
      description: Why a reboot is due; null where none is.
      type: str
      sample: nouveau is loaded, and has to go first
    unbuilt:
      description: Installed kernels that do not have the driver's module yet.
      type: list
      elements: str
      sample: [kernel 6.1.0-57-amd64 has no nvidia module]
problems:
  description: What is wrong, with remedies.
  returned: always
  type: list
  elements: str
  sample: []
"""
