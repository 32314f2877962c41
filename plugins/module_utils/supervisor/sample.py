# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one look at a server shows: its processes, its card, its port, its counters.

Everything is read from the kernel, from NVML and from the server's own C(/metrics), with no more
rights than a process of the server's user has; root sees the same from outside. What cannot be
read is C(None), which never means zero.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from .probe import Address, ProbeFailed, counters, request

CGROUPS = "/sys/fs/cgroup"
COMPILERS = (
    "as",
    "c++",
    "cc",
    "cc1",
    "cc1plus",
    "cicc",
    "clang",
    "clang++",
    "collect2",
    "cudafe++",
    "fatbinary",
    "g++",
    "gcc",
    "ld",
    "ninja",
    "nvcc",
    "nvlink",
    "ptxas",
)
"""Programs that a compilation consists of, as the kernel names them (15 bytes at most)."""
SCRAPE_TIMEOUT = 5.0
"""Seconds that C(/metrics) and C(/health) may take."""


@dataclass(frozen=True)
class Completion:
    """What became of a one-token completion that was asked for to see whether the engine computes.

    Attributes:
        outcome: C(answered); C(waiting), it is not back yet; C(timeout), nobody waits for it any
            more; C(failed), refused or answered with an error; C(denied), the server wants a key,
            which says nothing about the engine.
        seconds: How long it took, or has been under way.
        detail: The error's text; empty for the others.
    """

    outcome: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class Process:
    """A process of the server's.

    Attributes:
        pid: Its number.
        name: What it calls itself, such as C(VLLM::EngineCore) or C(cc1plus).
        state: The kernel's letter: R, S, D (waiting for a device), T (stopped), t (traced), Z.
        cpu_seconds: CPU time it has used, with that of children it has waited for.
        gpu_bytes: GPU memory it holds; C(None) when NVML does not tell.
        unit: The systemd unit that it belongs to, for strays.
    """

    pid: int
    name: str
    state: str = "S"
    cpu_seconds: float = 0.0
    gpu_bytes: Optional[int] = None
    unit: Optional[str] = None


@dataclass(frozen=True)
class Sample:
    """One look at one instance. C(None): not asked, or not to be had.

    Attributes:
        at: When it was taken, seconds on the monotonic clock.
        age: Seconds since the server was started.
        active_state: systemd's C(ActiveState).
        sub_state: systemd's C(SubState).
        result: systemd's C(Result): C(success), C(exit-code), C(oom-kill), C(watchdog), …
        restarts: systemd's C(NRestarts).
        is_notify: Whether C(active) means that the server has answered (C(Type=notify)).
        exit_status: Exit status of the server when it has ended; negative is a signal's number.
        processes: The live processes of the instance; the one that takes samples is not in it.
        cpu_seconds: CPU time of all of them, and of those that have ended.
        read_bytes: Bytes read from disks.
        written_bytes: Bytes written to disks.
        memory_bytes: Memory in use.
        memory_max_bytes: The unit's limit of it (C(MemoryMax)).
        oom_kills: How often the kernel has killed something in the unit for that limit.
        gpu_bytes: GPU memory held by these processes.
        gpu_utilization: The busiest of the cards they are on, in percent.
        compilers: Names of compiler processes that run below the server.
        listening: Whether somebody listens on the port.
        health: Status that C(/health) answered; 0 for no answer within the time.
        running: Requests under way, from C(/metrics).
        waiting: Requests that wait for their turn.
        work: The counters that move with every step of the engine.
        completion: The newest completion of our own.
        strays: Processes of this instance outside of a live unit, whom nobody watches.
        kv_cache_usage: How full the KV cache is, 0 to 1.
        generation_tokens: Tokens generated since the start.
    """

    at: float
    age: Optional[float] = None
    active_state: Optional[str] = None
    sub_state: Optional[str] = None
    result: Optional[str] = None
    restarts: Optional[int] = None
    is_notify: bool = False
    exit_status: Optional[int] = None
    processes: Optional[tuple[Process, ...]] = None
    cpu_seconds: Optional[float] = None
    read_bytes: Optional[int] = None
    written_bytes: Optional[int] = None
    memory_bytes: Optional[int] = None
    memory_max_bytes: Optional[int] = None
    oom_kills: Optional[int] = None
    gpu_bytes: Optional[int] = None
    gpu_utilization: Optional[float] = None
    compilers: tuple[str, ...] = ()
    listening: Optional[bool] = None
    health: Optional[int] = None
    running: Optional[int] = None
    waiting: Optional[int] = None
    work: tuple[tuple[str, float], ...] = ()
    completion: Optional[Completion] = None
    strays: tuple[Process, ...] = ()
    kv_cache_usage: Optional[float] = None
    generation_tokens: Optional[int] = None


class Sampler:
    """Takes samples of one instance.

    Args:
        address: Where it answers; C(None) asks nothing over the network.
        cgroup: The unit's control group as systemd names it (C(ControlGroup=)); C(None) for this
            process's own, which is how the supervisor uses it.
        exclude: Processes that are not the server's, such as the supervisor itself.
        gpu: Whether to ask NVML.
    """

    def __init__(
        self,
        address: Address | None,
        cgroup: str | None = None,
        exclude: Collection[int] = (),
        gpu: bool = True,
    ) -> None:
        raise NotImplementedError

    def take(
        self,
        age: float | None = None,
        completion: Completion | None = None,
        show: Mapping[str, str] | None = None,
        exit_status: int | None = None,
        health: bool = False,
    ) -> Sample:
        """Take one.

        Args:
            age: Seconds since the server was started, where the caller knows it.
            completion: The newest completion of the caller's own.
            show: What C(systemctl show) says of the unit; from outside only.
            exit_status: The server's exit status, when it has ended.
            health: Whether to ask C(/health) too.
        """
        raise NotImplementedError
