# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a model on demand is, as its supervisor tells the broker."""

from __future__ import annotations

ASLEEP = "asleep"
"""Its supervisor is there, a server is not."""
STARTING = "starting"
READY = "ready"
STOPPING = "stopping"
SLEEPING = "sleeping"
"""Its server is there and sleeps: it holds `Model.asleep` and computes nothing."""
GONE = "gone"
"""Its supervisor cannot be reached: it is being started by systemd, or somebody has stopped it."""
GIVEN_UP = "given up"
"""Its supervisor has ended after too many starts that failed."""
AWAKE = (STARTING, READY, STOPPING)
"""The phases in which a model holds all of its memory."""
