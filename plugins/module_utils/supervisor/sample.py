# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one look at a server shows: its processes, its card, its port, its counters.

Everything is read from the kernel, from NVML and from the server's own `/metrics`, with no more
rights than a process of the server's user has; root sees the same from outside. What cannot be
read is `None`, which never means zero.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from .health import is_ours
from .kernel import words
from .probe import Address, Counters, ProbeFailed, counters, is_served, request

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
"""Seconds that `/metrics` and `/health` may take."""
SCRUTINY_TIMEOUT = 2.0
"""The same where it is asked between two looks."""
TITLE = "VLLM::"
"""What the names of vLLM's own processes begin with, but for the first (`set_process_title` in
vllm/utils/system_utils.py)."""


@dataclass(frozen=True)
class Completion:
    """What became of a one-token completion that was asked for to see whether the engine computes.

    Attributes:
        outcome: `answered`; `waiting`, it is not back yet; `timeout`, nobody waits for it any
            more; `failed`, refused or answered with an error; `denied`, the server wants a key,
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
        name: What it calls itself, such as `VLLM::EngineCore` or `cc1plus`.
        state: The kernel's letter: R, S, D (waiting for a device), T (stopped), t (traced), Z.
        cpu_seconds: CPU time it has used, with that of children it has waited for.
        gpu_bytes: GPU memory it holds; `None` when NVML does not tell.
        unit: The systemd unit that it belongs to, for strays.
    """

    pid: int
    name: str
    state: str = "S"
    cpu_seconds: float = 0.0
    gpu_bytes: int | None = None
    unit: str | None = None

    @property
    def is_vllms(self) -> bool:
        """Whether it is one of vLLM's own, but for the first."""
        return self.name.startswith(TITLE)

    @property
    def computes(self) -> bool:
        """Whether it is an engine or one of its workers."""
        return self.name.startswith((f"{TITLE}Engine", f"{TITLE}Worker"))

    @property
    def is_stopped(self) -> bool:
        """Whether somebody has stopped it, or a debugger holds it."""
        return self.state in ("T", "t")


@dataclass(frozen=True)
class Sample:
    """One look at one instance. `None`: not asked, or not to be had.

    Attributes:
        at: When it was taken, seconds on the monotonic clock.
        age: Seconds since the server was started.
        active_state: systemd's `ActiveState`.
        sub_state: systemd's `SubState`.
        result: systemd's `Result`: `success`, `exit-code`, `oom-kill`, `watchdog`, …
        restarts: systemd's `NRestarts`.
        is_notify: Whether `active` means that the server has answered (`Type=notify`).
        exit_status: Exit status of the server when it has ended; negative is a signal's number.
        processes: The live processes of the instance; the one that takes samples is not in it.
        cpu_seconds: CPU time of all of them, and of those that have ended.
        read_bytes: Bytes read from disks.
        written_bytes: Bytes written to disks.
        memory_bytes: Memory in use.
        memory_max_bytes: The unit's limit of it (`MemoryMax`).
        oom_kills: How often the kernel has killed something in the unit for that limit.
        gpu_bytes: GPU memory held by these processes.
        gpu_utilization: The busiest of the cards they are on, in percent.
        compilers: Names of compiler processes that run below the server.
        listening: Whether somebody listens on the port.
        health: Status that `/health` answered; 0 for no answer within the time.
        running: Requests under way, from `/metrics`.
        waiting: Requests that wait for their turn.
        work: The counters that move with every step of the engine.
        completion: The newest completion of our own.
        strays: Processes of this instance outside of a live unit, whom nobody watches.
        kv_cache_usage: How full the KV cache is, 0 to 1.
        generation_tokens: Tokens generated since the start.
        kernel: What the kernel's log says of it since its start, once it has ended.
        said: How many lines it has written that tell of something new.
    """

    at: float
    age: float | None = None
    active_state: str | None = None
    sub_state: str | None = None
    result: str | None = None
    restarts: int | None = None
    is_notify: bool = False
    exit_status: int | None = None
    processes: tuple[Process, ...] | None = None
    cpu_seconds: float | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    memory_bytes: int | None = None
    memory_max_bytes: int | None = None
    oom_kills: int | None = None
    gpu_bytes: int | None = None
    gpu_utilization: float | None = None
    compilers: tuple[str, ...] = ()
    listening: bool | None = None
    health: int | None = None
    running: int | None = None
    waiting: int | None = None
    work: tuple[tuple[str, float], ...] = ()
    completion: Completion | None = None
    strays: tuple[Process, ...] = ()
    kv_cache_usage: float | None = None
    generation_tokens: int | None = None
    kernel: tuple[str, ...] = ()
    said: int | None = None


@dataclass(frozen=True)
class Scheduled:
    """A thread as the kernel schedules it.

    Attributes:
        state: The kernel's letter, as of a process.
        ran: Seconds on a CPU since its start.
        waited: Seconds for which it was runnable and had none, told when it gets one again.
    """

    state: str
    ran: float
    waited: float


@dataclass(frozen=True)
class Glance:
    """What can be read in a moment, so that it is read again and again.

    Attributes:
        at: When, seconds on the monotonic clock.
        processes: As in a sample.
        mains: The main threads of those that compute, by PID; without those of which the kernel
            does not tell.
    """

    at: float
    processes: tuple[Process, ...] | None = None
    mains: Mapping[int, Scheduled] = field(default_factory=dict)


@dataclass(frozen=True)
class Scrutiny:
    """A closer look at processes that seem to do nothing.

    Attributes:
        at: When, seconds on the monotonic clock.
        counters: What `/metrics` said before the rest was read; `None` without an answer.
        threads: All threads, by PID and TID.
        gpu_utilization: Of the busiest card they are on, in percent; 0 for a server without cards,
            `None` where it cannot be told.
    """

    at: float
    counters: Counters | None
    threads: Mapping[tuple[int, int], Scheduled]
    gpu_utilization: float | None


_JIFFIES = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_ANSWERED = re.compile(r" answered (\d{3}):")
_LISTEN = "0A"  # TCP_LISTEN in the kernel's include/net/tcp_states.h
_EXITED, _KILLED, _DUMPED = (
    "1",
    "2",
    "3",
)  # CLD_* of <bits/siginfo-consts.h>, as ExecMainCode= has it

SHOW = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "NRestarts",
    "Type",
    "MainPID",
    "ControlGroup",
    "ExecMainCode",
    "ExecMainStatus",
    "ExecMainStartTimestampMonotonic",
    "InvocationID",
    "StatusText",
    "UnitFileState",
)
"""Properties of `systemctl show` that :meth:`Sampler.take` reads, and those that tell the rest."""


def read_file(path: str, limit: int = 1 << 20) -> str | None:
    """The text of a file of the kernel's; `None` when it is not there or not ours to read."""
    try:
        with open(path, "rb") as stream:
            return stream.read(limit).decode("utf-8", "replace")
    except OSError:
        return None


def number(text: str | None) -> int | None:
    """A number that stands alone; `None` for anything else, such as `max`."""
    try:
        return int(text or "")
    except ValueError:
        return None


def table(text: str | None) -> dict[str, int]:
    """Lines of a name and a number, as in `cpu.stat`, `memory.events` and `/proc/PID/io`."""
    rows = {}
    for line in (text or "").splitlines():
        words = line.replace(":", " ").split()
        if len(words) == 2 and words[1].isdigit():
            rows[words[0]] = int(words[1])
    return rows


def disk_bytes(text: str | None) -> tuple[int, int] | None:
    """Bytes read and written in `io.stat` of a control group (kernel's cgroup-v2.rst)."""
    if text is None:
        return None
    return (
        sum(int(count) for count in re.findall(r"\brbytes=(\d+)", text)),
        sum(int(count) for count in re.findall(r"\bwbytes=(\d+)", text)),
    )


def is_listening(tables: Iterable[str | None], port: int) -> bool | None:
    """Whether a port is listened on, by `/proc/net/tcp` and `tcp6`."""
    texts = [text for text in tables if text is not None]
    if not texts:
        return None
    wanted = f":{port:04X}"
    return any(
        fields[3] == _LISTEN and fields[1].endswith(wanted)
        for text in texts
        for fields in (line.split() for line in text.splitlines()[1:])
        if len(fields) > 3
    )


def parse_process(pid: int, stat: str, title: str | None) -> Process | None:
    """One process from `/proc/PID/stat` and `cmdline` (proc(5)); `None` for a zombie."""
    try:
        name = stat[stat.index("(") + 1 : stat.rindex(")")]
        fields = stat[stat.rindex(")") + 2 :].split()
        state, ticks = fields[0], sum(int(field) for field in fields[11:15])
    except (ValueError, IndexError):
        return None
    if state in "ZX":
        return None
    first = (title or "").split("\0", 1)[0]
    # vLLM's processes write a title over their arguments (vllm/utils/system_utils.py).
    shown = first.split(" ", 1)[0] if first.startswith(TITLE) else name
    return Process(pid, shown, state, ticks / _JIFFIES)


def parse_scheduled(state: str, schedstat: str | None) -> Scheduled | None:
    """A thread from its `schedstat` (kernel's sched-stats.rst).

    Returns:
        `None` where it is not there, or all zeros, as of a kernel that does not count.
    """
    figures = (schedstat or "").split()
    if len(figures) < 2 or not figures[0].isdigit() or not figures[1].isdigit():
        return None
    ran, waited = int(figures[0]) / 1e9, int(figures[1]) / 1e9
    return Scheduled(state, ran, waited) if ran else None


class ControlGroup:
    """The control group of a unit, in whichever layout this host has.

    Args:
        path: As systemd names it, such as `/system.slice/vllm.slice/vllm@chat.service`; `None`
            for this process's own.
    """

    def __init__(self, path: str | None = None) -> None:
        self._unified = not os.path.isdir(os.path.join(CGROUPS, "systemd"))
        self.path = self._own() if path is None else path

    def _own(self) -> str:
        for line in (read_file("/proc/self/cgroup") or "").splitlines():
            _number, controllers, path = line.split(":", 2)
            if controllers == ("" if self._unified else "name=systemd"):
                return path
        return "/"

    def read(self, controller: str, name: str) -> str | None:
        """A file of one controller (v1) or of the one tree (v2); nothing of the root group."""
        if self.path in ("", "/"):  # a unit that has ended, or no unit at all
            return None
        folder = CGROUPS if self._unified else os.path.join(CGROUPS, controller)
        return read_file(os.path.join(folder, self.path.lstrip("/"), name))

    def pids(self) -> list[int] | None:
        """Its processes; `None` where there is no such group."""
        text = self.read("systemd", "cgroup.procs")
        return None if text is None else [int(pid) for pid in text.split()]

    def cpu_seconds(self) -> float | None:
        """CPU time of everything that has ever run in it."""
        if self._unified:
            used = table(self.read("cpu", "cpu.stat")).get("usage_usec")
            return None if used is None else used / 1e6
        used = number(self.read("cpuacct", "cpuacct.usage"))
        return None if used is None else used / 1e9

    def disk_bytes(self) -> tuple[int, int] | None:
        """Bytes read from and written to disks."""
        return disk_bytes(self.read("blkio", "io.stat")) if self._unified else None

    def memory(self) -> tuple[int | None, int | None, int | None]:
        """Bytes in use, the limit (`None` without one), and how often it killed."""
        if self._unified:
            return (
                number(self.read("memory", "memory.current")),
                number(self.read("memory", "memory.max")),
                table(self.read("memory", "memory.events")).get("oom_kill"),
            )
        limit = number(self.read("memory", "memory.limit_in_bytes"))
        return (
            number(self.read("memory", "memory.usage_in_bytes")),
            None if limit is None or limit >= 1 << 60 else limit,  # v1 has no word for "none"
            table(self.read("memory", "memory.oom_control")).get("oom_kill"),
        )


class _Utilization(ctypes.Structure):
    """nvmlUtilization_t (https://docs.nvidia.com/deploy/nvml-api/)."""

    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class _ProcessInfo(ctypes.Structure):
    """nvmlProcessInfo_t of the functions that end in _v2 and _v3."""

    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


_NOT_AVAILABLE = (1 << 64) - 1  # NVML_VALUE_NOT_AVAILABLE
_MOST_PROCESSES = 256


class Cards:
    """What NVML tells of processes on cards, straight from the library.

    A card that has fallen off the bus can hang any call. It is then a thread that hangs, and NVML
    is not asked again.
    """

    def __init__(self) -> None:
        self._library: ctypes.CDLL | None = None
        self._handles: list[ctypes.c_void_p] = []
        self._hangs = False
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL("libnvidia-ml.so.1")
            if library.nvmlInit_v2() == 0:
                self._library = library

    def _find(self, library: ctypes.CDLL) -> None:
        count = ctypes.c_uint()
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return
        for index in range(count.value):
            handle = ctypes.c_void_p()
            if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) == 0:
                self._handles.append(handle)

    def _ask(self) -> list[tuple[dict[int, int | None], float | None]]:
        library = self._library
        if library is None:
            return []
        if not self._handles:
            self._find(library)
        found = []
        for handle in self._handles:
            memory: dict[int, int | None] = {}
            buffer, count = (_ProcessInfo * _MOST_PROCESSES)(), ctypes.c_uint(_MOST_PROCESSES)
            listed = getattr(library, "nvmlDeviceGetComputeRunningProcesses_v3", None) or getattr(
                library, "nvmlDeviceGetComputeRunningProcesses_v2", None
            )
            if listed is not None and listed(handle, ctypes.byref(count), buffer) == 0:
                for process in buffer[: count.value]:
                    memory[process.pid] = None if process.used == _NOT_AVAILABLE else process.used
            rates = _Utilization()
            told = library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(rates)) == 0
            found.append((memory, float(rates.gpu) if told else None))
        return found

    def read(self, timeout: float = 5.0) -> list[tuple[dict[int, int | None], float | None]] | None:
        """Memory by process, and utilization in percent, of each card; `None` without NVML."""
        if self._library is None or self._hangs:
            return None
        answers: list[list[tuple[dict[int, int | None], float | None]]] = []
        thread = threading.Thread(target=lambda: answers.append(self._ask()), daemon=True)
        thread.start()
        thread.join(timeout)
        self._hangs = thread.is_alive()
        return answers[0] if answers else None


def on_cards(
    cards: list[tuple[dict[int, int | None], float | None]] | None, pids: Collection[int]
) -> tuple[dict[int, int], float | None]:
    """Bytes by process, and the busiest utilization, of the cards that hold these processes."""
    memory: dict[int, int] = {}
    busiest: float | None = None
    for processes, utilization in cards or []:
        ours = {pid: used for pid, used in processes.items() if pid in pids}
        if ours and utilization is not None:
            busiest = utilization if busiest is None else max(busiest, utilization)
        for pid, used in ours.items():
            if used is not None:
                memory[pid] = memory.get(pid, 0) + used
    return memory, busiest


def belongs_to(instance: str, command: str, environment: str) -> bool:
    """Whether a process was started for an instance, by what it was started with.

    Args:
        instance: The instance's name.
        command: `/proc/PID/cmdline`.
        environment: `/proc/PID/environ`.
    """
    words = command.split("\0")
    for word, following in zip(words, words[1:]):
        if word == "--config" and following.endswith(f"/{instance}.yaml"):
            return True
    return any(
        variable.startswith("VLLM_CACHE_ROOT=") and f"/vllm/{instance}/" in f"{variable}/"
        for variable in environment.split("\0")
    )


def ended_with(show: Mapping[str, str]) -> int | None:
    """How a unit's main process ended: its status, or a signal's number negated."""
    if (number(show.get("MainPID")) or 0) > 0:
        return None
    status = number(show.get("ExecMainStatus"))
    code = show.get("ExecMainCode")
    if status is None or code not in (_EXITED, _KILLED, _DUMPED):
        return None
    return status if code == _EXITED else 0 - status


def started(show: Mapping[str, str]) -> float | None:
    """When a unit's main process was started, on the monotonic clock; `None` for never."""
    micro = number(show.get("ExecMainStartTimestampMonotonic"))
    return micro / 1e6 if micro else None


class Sampler:
    """Takes samples of one instance.

    Args:
        address: Where it answers; `None` asks nothing over the network.
        cgroup: The unit's control group as systemd names it (`ControlGroup=`); `None` for this
            process's own, which is how the supervisor uses it.
        exclude: Processes that are not the server's, such as the supervisor itself.
        gpu: Whether to ask NVML.
        instance: Looks also for processes of this instance outside of the unit, as root can.
    """

    def __init__(
        self,
        address: Address | None,
        cgroup: str | None = None,
        exclude: Collection[int] = (),
        gpu: bool = True,
        instance: str | None = None,
    ) -> None:
        self._address = address
        self._group = ControlGroup(cgroup)
        self._exclude = frozenset(exclude)
        self._cards = Cards() if gpu else None
        self._instance = instance

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
            show: What `systemctl show` says of the unit; from outside only.
            exit_status: The server's exit status, when it has ended.
            health: Whether to ask `/health` too.
        """
        show = show or {}
        at = time.monotonic()
        began = started(show)
        pids = self._group.pids()
        processes = None if pids is None else self._processes(pids)
        cards = self._cards.read() if self._cards is not None else None
        own = [] if processes is None else processes
        memory, utilization = on_cards(cards, [process.pid for process in own])
        own = [replace(process, gpu_bytes=memory.get(process.pid)) for process in own]
        cpu = self._group.cpu_seconds()
        if cpu is None and processes is not None:
            cpu = sum(process.cpu_seconds for process in own)
        disk = self._group.disk_bytes() or self._disk_of(own)
        used, limit, kills = self._group.memory()
        listening = self.listening()
        counted = self._counters() if listening else None
        age = at - began if age is None and began is not None else age
        exit_status = ended_with(show) if exit_status is None else exit_status
        has_ended = exit_status is not None or show.get("ActiveState") == "failed"
        live = show.get("ActiveState", "active") in ("active", "activating", "deactivating")
        return Sample(
            at=at,
            age=age,
            active_state=show.get("ActiveState"),
            sub_state=show.get("SubState"),
            result=show.get("Result"),
            restarts=number(show.get("NRestarts")),
            is_notify=show.get("Type", "").startswith("notify"),
            exit_status=exit_status,
            processes=None if processes is None else tuple(own),
            cpu_seconds=cpu,
            read_bytes=None if disk is None else disk[0],
            written_bytes=None if disk is None else disk[1],
            memory_bytes=self._resident(own) if used is None and own else used,
            memory_max_bytes=limit,
            oom_kills=kills,
            gpu_bytes=None if cards is None else sum(memory.values()),
            gpu_utilization=utilization,
            compilers=tuple(p.name for p in own if p.name in COMPILERS),
            listening=listening,
            health=self._health() if health and listening else None,
            running=None if counted is None else counted.running,
            waiting=None if counted is None else counted.waiting,
            work=() if counted is None else counted.work,
            completion=completion,
            strays=self._strays([process.pid for process in own], live),
            kv_cache_usage=None
            if counted is None
            else dict(counted.work).get("vllm:kv_cache_usage_perc"),
            generation_tokens=None if counted is None else counted.tokens,
            kernel=words(at - age) if has_ended and age is not None else (),
        )

    def glance(self) -> Glance:
        """Look for a moment: it takes some ten files of the kernel's."""
        at = time.monotonic()
        pids = self._group.pids()
        if pids is None:
            return Glance(at)
        processes = self._processes(pids)
        mains = {}
        for process in processes:
            if process.computes:
                # Of a process it is the figures of its main thread.
                text = read_file(f"/proc/{process.pid}/schedstat")
                scheduled = parse_scheduled(process.state, text)
                if scheduled is not None:
                    mains[process.pid] = scheduled
        return Glance(at, tuple(processes), mains)

    def scrutinize(self, pids: Iterable[int]) -> Scrutiny:
        """Look closer at processes, with the server's counters."""
        counted = self._counters(SCRUTINY_TIMEOUT)
        utilization: float | None = 0.0
        if self._cards is not None:
            pids = list(pids)
            utilization = on_cards(self._cards.read(), pids)[1]
        at = time.monotonic()
        threads = {}
        for pid in pids:
            for tid in _threads(pid):
                folder = f"/proc/{pid}/task/{tid}"
                stat = read_file(f"{folder}/stat") or ""
                state = stat[stat.rfind(")") + 2 :][:1]
                scheduled = parse_scheduled(state, read_file(f"{folder}/schedstat"))
                if scheduled is not None:
                    threads[pid, tid] = scheduled
        return Scrutiny(at, counted, threads, utilization)

    def holders(self, pids: Iterable[int]) -> set[int]:
        """Which of these processes the driver still names as users of a card's memory."""
        cards = self._cards.read() if self._cards is not None else None
        return {pid for memory, _utilization in cards or [] for pid in memory}.intersection(pids)

    def _processes(self, pids: Iterable[int]) -> list[Process]:
        found = []
        for pid in pids:
            stat = None if pid in self._exclude else read_file(f"/proc/{pid}/stat")
            if stat is not None:
                process = parse_process(pid, stat, read_file(f"/proc/{pid}/cmdline", 4096))
                if process is not None:
                    found.append(process)
        return found

    @staticmethod
    def _disk_of(processes: Iterable[Process]) -> tuple[int, int] | None:
        rows = [table(read_file(f"/proc/{process.pid}/io")) for process in processes]
        rows = [row for row in rows if row]
        if not rows:
            return None
        return (
            sum(row.get("read_bytes", 0) for row in rows),
            sum(row.get("write_bytes", 0) for row in rows),
        )

    @staticmethod
    def _resident(processes: Iterable[Process]) -> int:
        pages = 0
        for process in processes:
            words = (read_file(f"/proc/{process.pid}/statm") or "").split()
            pages += int(words[1]) if len(words) > 1 else 0
        return pages * _PAGE

    def listening(self) -> bool | None:
        """Whether somebody listens on the port; `None` where there is none or it cannot be seen."""
        if self._address is None:
            return None
        if self._address.uds is not None:
            return is_served(self._address.uds)
        files = ("/proc/net/tcp", "/proc/net/tcp6")
        return is_listening([read_file(path, 8 << 20) for path in files], self._address.port)

    def _counters(self, timeout: float = SCRAPE_TIMEOUT) -> Counters | None:
        if self._address is None:
            return None
        try:
            return counters(self._address, timeout)
        except (ProbeFailed, ValueError):
            return None

    def _health(self) -> int | None:
        if self._address is None:
            return None
        try:
            request(self._address, "/health", None, SCRAPE_TIMEOUT)
        except ProbeFailed as problem:
            if is_ours(str(problem)):
                return None  # it says nothing of vLLM's own
            answered = _ANSWERED.search(str(problem))
            return int(answered.group(1)) if answered else 0
        return 200

    def _strays(self, pids: Collection[int], live: bool) -> tuple[Process, ...]:
        """Processes of this instance that no live unit holds."""
        if self._instance is None:
            return ()
        strays = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) in self._exclude:
                continue
            pid = int(entry)
            if pid in pids:
                if live:
                    continue
            else:
                command = read_file(f"/proc/{entry}/cmdline", 65536) or ""
                if "vllm" not in command.lower():
                    continue
                environment = read_file(f"/proc/{entry}/environ") or ""
                if not belongs_to(self._instance, command, environment):
                    continue
            strays += [replace(process, unit=_unit_of(pid)) for process in self._processes([pid])]
        return tuple(strays)


def _threads(pid: int) -> list[int]:
    """The threads of a process; none where it has just ended."""
    try:
        return [int(entry) for entry in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def _unit_of(pid: int) -> str | None:
    """The innermost unit in a process's control group."""
    names = re.findall(
        r"/([^/\n]+\.(?:service|scope))(?=/|$)",
        read_file(f"/proc/{pid}/cgroup") or "",
        re.MULTILINE,
    )
    return names[-1] if names else None
