# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that runs, watches and stops one vLLM server for systemd.

The same files are part of the collection and are installed on the host, where the release's own
Python runs them; hence relative imports and nothing but the standard library.
"""
