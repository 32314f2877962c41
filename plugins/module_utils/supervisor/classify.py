# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server is doing, and whether it hangs: a pure function over samples and its log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from .sample import Sample

STARTING = "starting"
DOWNLOADING = "downloading"
LOADING = "loading"
COMPILING = "compiling"
CAPTURING = "capturing"
READY = "ready"
BUSY = "busy"
HUNG_AT_START = "hung at start"
HUNG_WHILE_SERVING = "hung while serving"
CRASHED = "crashed"
ORPHANED = "orphaned"
STOPPING = "stopping"
STOPPED = "stopped"

STATES = (
    STARTING,
    DOWNLOADING,
    LOADING,
    COMPILING,
    CAPTURING,
    READY,
    BUSY,
    HUNG_AT_START,
    HUNG_WHILE_SERVING,
    CRASHED,
    ORPHANED,
    STOPPING,
    STOPPED,
)
SERVING = (READY, BUSY)
ON_THE_WAY = (STARTING, DOWNLOADING, LOADING, COMPILING, CAPTURING)
BAD = (HUNG_AT_START, HUNG_WHILE_SERVING, CRASHED, ORPHANED)


@dataclass(frozen=True)
class Limits:
    """When standing still is hanging.

    Attributes:
        start_deadline: Seconds that a start may take; later it is told as late.
        start_stall: Seconds without any sign of work after which a start hangs.
        stall: Seconds without a token, with requests there and no sign of work (CPU and GPU idle),
            after which a server hangs.
        busy_stall: The same although CPU or GPU are busy; a prefill of many tokens in one step is
            work, and so is a kernel that never ends.
        idle_cores: CPU seconds a second below which a server does nothing.
        idle_gpu: GPU utilization in percent up to which a card does nothing.
    """

    start_deadline: float = 600.0
    start_stall: float = 120.0
    stall: float = 30.0
    busy_stall: float = 300.0
    idle_cores: float = 0.05
    idle_gpu: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """What a server is doing.

    Attributes:
        state: One of C(STATES).
        summary: One sentence for a person.
        evidence: The figures it rests on, with units.
        remedy: What to do about it; C(None) where there is nothing to do.
        percent: How far the loading of the weights is; C(None) where that is not known.
        cause: What the log says, as a short name such as C(no_compiler); C(None) without one.
    """

    state: str
    summary: str
    evidence: tuple[str, ...] = ()
    remedy: Optional[str] = None
    percent: Optional[int] = None
    cause: Optional[str] = None


def classify(samples: Sequence[Sample], log: Sequence[str], limits: Limits) -> Verdict:
    """Say what a server is doing.

    Args:
        samples: Looks at it, oldest first; those of the last C(busy_stall) seconds are enough.
        log: What it has written since its last start, oldest line first; the end of it is enough.
        limits: When standing still is hanging.

    Returns:
        The verdict. Never raises, also for samples in which nothing could be read.
    """
    raise NotImplementedError
