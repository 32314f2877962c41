# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision: what will be done on a host, or every reason why not.

`planner.make_plan` is one pure function of the wanted state, the probed facts
and the release data. The other modules of this package are its parts; none of
them reads a file, a clock or the host. `docs/plan.md` describes the rules.
"""
