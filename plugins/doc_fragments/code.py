# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the parameter of every module that takes code late."""

from __future__ import annotations


class ModuleDocFragment:
    """Options in plugins/module_utils/common/late.py."""

    DOCUMENTATION = r"""
options:
  code_archive:
    description:
      - A zip file on the host of the code that only a run with work to do needs. The action plugin
        sends it to a host that asks for it.
    type: path
"""
