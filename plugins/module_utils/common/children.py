# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that a module starts and that must not outlive it."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Callable

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def dies_with(parent: int) -> Callable[[], None]:
    """What a child calls before it becomes another program (`preexec_fn` of one thread).

    Were it to live on after a kill, it would write beside the next run.

    Args:
        parent: The process id of the one that starts it.
    """
    prctl = ctypes.CDLL(None).prctl

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before
            os._exit(1)

    return bind
