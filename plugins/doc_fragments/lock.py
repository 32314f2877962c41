# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the parameters of every module that takes a lock of the host."""

from __future__ import annotations


class ModuleDocFragment:
    """Options in plugins/module_utils/common/lock.py."""

    DOCUMENTATION = r"""
options:
  lock_timeout:
    description:
      - How long to wait for another run that changes the same on this host, in seconds. The wait is
        told with whose run that is and since when; after it the task fails and has changed nothing.
      - A lock ends with the process that has it, so one that was killed keeps nobody waiting.
      - In check mode nothing is locked.
    type: int
    default: 1800
  asked_by:
    description: What others are told about this run; set by the action plugin.
    type: str
"""
