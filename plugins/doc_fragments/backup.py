# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the parameters of the modules that make and restore a backup."""

from __future__ import annotations


class ModuleDocFragment:
    """Options in plugins/modules/vllm_backup.py."""

    DOCUMENTATION = r"""
options:
  file:
    description: The backup, a file on the controller, which may be encrypted by ansible-vault.
    type: path
    required: true
  paths:
    description: More files and directories of the host that a backup holds; small texts alone.
    type: list
    elements: path
    default: []
  model_hub:
    description: Where models of the Hub are; never part of a backup.
    type: path
    default: /var/lib/vllm/hub
  etc_dir:
    description: Where the instances' secrets are; of this directory a backup holds nothing else.
    type: path
    default: /etc/vllm
  state_dir:
    description: Where it is kept what was proved, verified and measured.
    type: path
    default: /var/lib/vllm
  unit_dir:
    description: Where systemd's units are, with your own drop-ins beside ours.
    type: path
    default: /etc/systemd/system
"""
