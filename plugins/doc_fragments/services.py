# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the parameters of every module that starts a server."""

from __future__ import annotations


class ModuleDocFragment:
    """Options in plugins/module_utils/service/services.py."""

    DOCUMENTATION = r"""
options:
  start_timeout:
    description: How long a server may take until it has computed a token, in seconds.
    type: int
    default: 600
  drain:
    description:
      - How long requests under way get when a server is stopped, in seconds. New ones are refused
        with status 503 meanwhile.
    type: int
    default: 30
  api_keys:
    description:
      - The key that requests must bring, by the instance's name; kept in C(<name>.env) under
        O(etc_dir), which only root and the servers read. An instance that is not named needs none,
        but for a file C(<name>.env) that somebody else has written, which stays as it is.
      - When not given, keys stay as they are.
    type: dict
  answer_timeout:
    description: The longest wait for one answer, in seconds.
    type: int
    default: 60
  user:
    description: The system user and group of the servers; made where they are missing.
    type: str
    default: vllm
  run_dir:
    description: Where the servers' supervisors leave what they have found.
    type: path
    default: /run/vllm
  supervisors_dir:
    description: Where the supervisor is installed, in a folder named by its content.
    type: path
    default: /opt/vllm/supervisor
  releases_dir:
    description: Where the releases' virtual environments are.
    type: path
    default: /opt/vllm/releases
  progress:
    description: The file in which progress is kept; set by the action plugin.
    type: path
  supervisor:
    description: The name of the newest supervisor's folder; set by the action plugin.
    type: str
"""

    # DIRECTORIES in plugins/module_utils/common/directories.py.
    DIRECTORIES = r"""
options:
  etc_dir:
    description: Where the configuration files are.
    type: path
    default: /etc/vllm
  state_dir:
    description: Where it is kept what was proved.
    type: path
    default: /var/lib/vllm
  unit_dir:
    description: Where units are.
    type: path
    default: /etc/systemd/system
"""
