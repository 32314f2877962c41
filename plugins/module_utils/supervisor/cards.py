# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a card is lost, or cannot compute before somebody has seen to it.

The supervisor has no right to read the kernel's log. The driver tells it the same through NVML:
each Xid as an event, which action would bring a card back, and that a card is lost. Root, who asks
for the status, reads the kernel.

What an Xid asks for: NVIDIA, "Analyzing Xid Errors with the Xid Catalog",
https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html. Functions and values of NVML:
https://docs.nvidia.com/deploy/nvml-api/, and pynvml 13.580's constants.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

LOST, OVERHEATED, MEMORY, RESET = (
    "gpu_lost",
    "gpu_overheated",
    "gpu_memory_error",
    "gpu_needs_reset",
)
_AGAIN = "Then systemctl start the unit, where it has stayed down (vllm_service_gpu_lost)."
CAUSES = {
    LOST: (
        "the GPU is lost: it has fallen off the bus and does not answer its driver any more",
        (
            "Reboot the host, or switch it off and on where the card does not come back. If it is "
            "lost again, look at its seat, power cables, riser, power supply and heat; "
            f"vllm_gpu_power_limit takes peaks off the supply. {_AGAIN}"
        ),
    ),
    OVERHEATED: (
        "the GPU is lost, and it was too hot just before",
        (
            "See to fans, filters and the air of the case, and set vllm_gpu_power_limit lower; "
            f"then reboot the host. {_AGAIN}"
        ),
    ),
    MEMORY: (
        "the GPU's memory has an error that cannot be corrected",
        (
            "End what uses the card and reset it (nvidia-smi --gpu-reset -i its index), or reboot "
            "the host. If it comes back, have the card replaced; nvidia-smi -q -d ECC,ROW_REMAPPER "
            f"shows its counts. {_AGAIN}"
        ),
    ),
    RESET: (
        "the GPU cannot compute before it is reset, or the host rebooted",
        (
            "End what uses the card and reset it (nvidia-smi --gpu-reset -i its index); reboot the "
            "host where that is refused, or where Xid 154 in journalctl -k asks for it. If it "
            f"comes back, try a newer driver (playbooks/driver.yml). {_AGAIN}"
        ),
    ),
}
"""Why a server ends with its card, as no log of it tells: summary and remedy."""

# By number: cause, and what it says. 94, a contained memory error, is not among them: to start the
# server again is enough.
_XIDS = {
    79: (LOST, "the GPU has fallen off the bus"),
    48: (MEMORY, "double-bit memory error"),
    95: (MEMORY, "uncontained memory error"),
    140: (MEMORY, "memory error that was not recovered from"),
    119: (RESET, "the GPU's own processor (GSP) does not answer"),
    120: (RESET, "the GPU's own processor (GSP) has failed"),
}
_RECOVERY = 154  # "GPU recovery action changed"; the number alone may also mean that all is well
# nvmlDeviceGpuRecoveryAction_t; what may be done when convenient is not among them.
_ACTIONS = {1: "a reset of the GPU", 2: "a reboot", 6: "a reset of its bus", 7: "a reboot"}
# What the log of a server may say that has ended with its card.
_MAY_BE_THE_CARD = frozenset(
    {
        *CAUSES,
        "driver_state",
        "no_gpu",
        "gpu_failed",
        "illegal_access",
        "nccl_failed",
        "nccl_timeout",
        "worker_timeout",
        "workers_wait",
        "completion_failed",
        "engine_died",
        "engine_failed",
        "killed",
        "watchdog",
        "timeout",
        "unknown",
    }
)
_ORDER = (LOST, OVERHEATED, MEMORY, RESET)
_KERNEL_XID = re.compile(r"NVRM: Xid \(PCI:(?P<bus>[\w:.]+)\): (?P<xid>\d+)\b(?P<text>.*)")
_KERNEL_LOST = re.compile(r"NVRM: GPU .*has fallen off the bus")
_KERNEL_ACTION = re.compile(r"recovery action changed from .* to 0x[0-9a-f]+ \((?P<action>[^)]*)\)")
_URGENT = re.compile(r"^(?!.*drain).*(?:reset|reboot|FLR)", re.IGNORECASE)


@dataclass(frozen=True)
class Trouble:
    """Why a card cannot compute.

    Attributes:
        cause: A key of `CAUSES`.
        evidence: What was seen.
    """

    cause: str
    evidence: str

    @property
    def is_lost(self) -> bool:
        """Whether nothing can compute on it, so that its server need not be waited for."""
        return self.cause in (LOST, OVERHEATED)


@dataclass(frozen=True)
class Card:
    """What the driver tells of a card.

    Attributes:
        uuid: Its UUID; empty where it does not tell it.
        lost: Whether the driver says so.
        xids: The Xids since somebody looked first.
        action: What would bring it back, `nvmlDeviceGpuRecoveryAction_t`.
        celsius: Its temperature when that was read last.
        slowdown: The temperature at which it slows itself down.
    """

    uuid: str
    lost: bool = False
    xids: tuple[int, ...] = ()
    action: int = 0
    celsius: int | None = None
    slowdown: int | None = None


def explains(trouble: Trouble, cause: str | None, ours: bool) -> bool:
    """Whether a server has ended with a card, rather than for what its log says.

    Args:
        trouble: What is wrong with the card.
        cause: The cause by the log; `None` for none.
        ours: Whether it is known to be one of the server's own.
    """
    return (ours and trouble.is_lost) or cause is None or cause in _MAY_BE_THE_CARD


def _first(found: Iterable[Trouble]) -> Trouble | None:
    ranked = sorted(found, key=lambda trouble: _ORDER.index(trouble.cause))
    return ranked[0] if ranked else None


def trouble(cards: Iterable[Card]) -> Trouble | None:
    """What is wrong with the worst of these cards; `None` where nothing is."""
    found = []
    for card in cards:
        name = f"the driver: {card.uuid or 'a GPU'}"
        if card.lost or 79 in card.xids:
            told = f"{name} is lost" if card.lost else f"{name}: Xid 79"
            if card.celsius is not None:
                told += f"; it had {card.celsius} °C"
            hot = (
                card.celsius is not None
                and card.slowdown is not None
                and card.celsius >= card.slowdown
            )
            if hot:
                told += f", and slows down at {card.slowdown}"
            found.append(Trouble(OVERHEATED if hot else LOST, told))
        for xid in card.xids:
            if xid in _XIDS and xid != 79:
                cause, what = _XIDS[xid]
                found.append(Trouble(cause, f"{name}: Xid {xid}, {what}"))
        if card.action in _ACTIONS:
            found.append(Trouble(RESET, f"{name} asks for {_ACTIONS[card.action]}"))
    return _first(found)


def trouble_in_kernel(lines: Sequence[str]) -> Trouble | None:
    """What the kernel's lines tell of cards; `None` where that is nothing of the kind.

    Args:
        lines: Their texts.
    """
    found = []
    for line in lines:
        match = _KERNEL_XID.search(line)
        if match is None:
            if _KERNEL_LOST.search(line):
                found.append(Trouble(LOST, f"kernel: {line}"))
            continue
        xid = int(match.group("xid"))
        if xid == _RECOVERY:
            told = _KERNEL_ACTION.search(match.group("text"))
            if told is not None and _URGENT.search(told.group("action")):
                found.append(Trouble(RESET, f"kernel: {line}"))
        elif xid in _XIDS:
            found.append(Trouble(_XIDS[xid][0], f"kernel: {line}"))
    return _first(found)


# -- asking the driver ----------------------------------------------------------------------------

LIBRARY = "libnvidia-ml.so.1"
_NO_FUNCTION, _GPU_IS_LOST = 13, 15  # nvmlReturn_t
_XID_EVENTS = 8  # nvmlEventTypeXidCriticalError
_RECOVERY_ACTION = 230  # NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
_SLOWDOWN = 1  # NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
_MOST_EVENTS = 64
_UUID_LENGTH = 96


class _Event(ctypes.Structure):
    """nvmlEventData_t of nvmlEventSetWait_v2."""

    _fields_ = [
        ("device", ctypes.c_void_p),
        ("type", ctypes.c_ulonglong),
        ("data", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


class _Field(ctypes.Structure):
    """nvmlFieldValue_t; the value is a union of eight bytes."""

    _fields_ = [
        ("id", ctypes.c_uint),
        ("scope", ctypes.c_uint),
        ("timestamp", ctypes.c_longlong),
        ("latency", ctypes.c_longlong),
        ("type", ctypes.c_uint),
        ("result", ctypes.c_int),
        ("value", ctypes.c_uint),
        ("rest", ctypes.c_uint),
    ]


def named(visible: str | None) -> list[str]:
    """The UUIDs in `CUDA_VISIBLE_DEVICES`; none where cards are named otherwise."""
    return [word.strip() for word in (visible or "").split(",") if word.strip().startswith("GPU-")]


class Watch:
    """The driver's word on some cards, asked again and again.

    A card that has fallen off the bus can hang any call. It is then a thread that hangs, and the
    driver is not asked again.

    Args:
        uuids: The cards; all that the driver lists where it is empty.
    """

    def __init__(self, uuids: Sequence[str] = ()) -> None:
        self._uuids = uuids
        self._library: Any = None
        self.hangs = False
        """Whether the driver did not answer in time; it is then not asked again."""
        self._handles: dict[int, Card] = {}
        self._gone: list[Card] = []
        self._events = ctypes.c_void_p()
        self._found = False
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(LIBRARY)
            if library.nvmlInit_v2() == 0:
                self._library = library

    def read(self, timeout: float = 5.0) -> list[Card]:
        """What the driver tells now; nothing where it cannot be asked."""
        if self._library is None or self.hangs:
            return []
        answers: list[list[Card]] = []

        thread = threading.Thread(target=lambda: answers.append(self._ask()), daemon=True)
        thread.start()
        thread.join(timeout)
        self.hangs = thread.is_alive()
        return answers[0] if answers else []

    def close(self) -> None:
        """Let go of the cards, which cannot be reset while somebody holds them."""
        if self._library is not None and not self.hangs:
            self._call("nvmlShutdown")
        self._library = None

    def _call(self, function: str, *arguments: Any) -> int:
        """What a function of the library returns; `_NO_FUNCTION` where a driver lacks it."""
        known = getattr(self._library, function, None)
        return _NO_FUNCTION if known is None else int(known(*arguments))

    def _uuid(self, handle: ctypes.c_void_p) -> str:
        buffer = ctypes.create_string_buffer(_UUID_LENGTH)
        code = self._call("nvmlDeviceGetUUID", handle, buffer, ctypes.c_uint(_UUID_LENGTH))
        return buffer.value.decode("ascii", "replace") if code == 0 else ""

    def _find(self) -> None:
        """Find the cards. One that is lost cannot tell whether it is one of them."""
        count = ctypes.c_uint()
        if self._call("nvmlDeviceGetCount_v2", ctypes.byref(count)) != 0:
            return
        self._call("nvmlEventSetCreate", ctypes.byref(self._events))
        nameless = 0
        for index in range(count.value):
            handle = ctypes.c_void_p()
            code = self._call("nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(handle))
            uuid = self._uuid(handle) if code == 0 else ""
            nameless += code == _GPU_IS_LOST
            if code == 0 and (not self._uuids or uuid in self._uuids):
                self._handles[handle.value or 0] = self._described(handle, uuid)
        if nameless:
            present = {card.uuid for card in self._handles.values()}
            absent = [uuid for uuid in self._uuids if uuid not in present]
            self._gone = [Card(uuid, lost=True) for uuid in (absent if self._uuids else [""])]
        self._found = True

    def _described(self, handle: ctypes.c_void_p, uuid: str) -> Card:
        slowdown = ctypes.c_uint()
        code = self._call(
            "nvmlDeviceGetTemperatureThreshold", handle, _SLOWDOWN, ctypes.byref(slowdown)
        )
        if self._events:
            self._call(
                "nvmlDeviceRegisterEvents", handle, ctypes.c_ulonglong(_XID_EVENTS), self._events
            )
        return Card(uuid, slowdown=slowdown.value if code == 0 else None)

    def _hear(self) -> None:
        """Take the Xids that there were since the last look."""
        event = _Event()
        for _number in range(_MOST_EVENTS if self._events else 0):
            if self._call("nvmlEventSetWait_v2", self._events, ctypes.byref(event), 0) != 0:
                return
            uuid = self._uuid(ctypes.c_void_p(event.device))
            for number, card in self._handles.items():
                # By the handle too: a card that is lost does not tell its UUID.
                if event.type == _XID_EVENTS and (number == event.device or card.uuid == uuid):
                    self._handles[number] = replace(card, xids=(*card.xids, int(event.data)))

    def _action(self, handle: ctypes.c_void_p) -> int:
        field = _Field(id=_RECOVERY_ACTION)
        code = self._call("nvmlDeviceGetFieldValues", handle, 1, ctypes.byref(field))
        return int(field.value) if code == 0 and field.result == 0 else 0

    def _ask(self) -> list[Card]:
        if not self._found:
            self._find()
        self._hear()
        for number, card in self._handles.items():
            handle, celsius = ctypes.c_void_p(number), ctypes.c_uint()
            code = self._call("nvmlDeviceGetTemperature", handle, 0, ctypes.byref(celsius))
            if code == _GPU_IS_LOST:
                self._handles[number] = replace(card, lost=True)
            elif code == 0:
                self._handles[number] = replace(card, celsius=celsius.value)
            if code == 0:
                self._handles[number] = replace(self._handles[number], action=self._action(handle))
        return [*self._gone, *self._handles.values()]


# -- what follows ---------------------------------------------------------------------------------

FAIL, RESTART, RESET_CARD, REBOOT_HOST = "fail", "restart", "reset", "reboot"
POLICIES = (FAIL, RESTART, RESET_CARD, REBOOT_HOST)
"""What an operator allows: to tell and stay down; to start the unit again; to have root reset the
card, or reboot the host. What is allowed is bounded."""
SPACING = 3600.0
"""Seconds between two attempts with a lost card."""
WANTED = "recovery-wanted"
"""The file by which a supervisor asks root, in its folder that is kept over reboots."""
_FILE = "gpu-lost.json"


def may_try(policy: str, last: float | None, now: float) -> bool:
    """Whether what is allowed is tried.

    Args:
        policy: One of `POLICIES`.
        last: When it was tried the last time, in seconds since 1970.
        now: The same for this moment.
    """
    return policy != FAIL and (last is None or not 0 <= now - last < SPACING)


class Attempts:
    """What was tried with a lost card, kept over reboots.

    Args:
        folder: Where; `None` keeps nothing and allows none.
    """

    def __init__(self, folder: str | None) -> None:
        self._path = None if folder is None else os.path.join(folder, _FILE)
        self.count = 0
        self.last: float | None = None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            with open(self._path or "", encoding="utf-8") as stream:
                kept = json.load(stream)
            self.count, self.last = int(kept["count"]), float(kept["last"])

    def take(self, policy: str) -> bool:
        """Whether there is one now; if so, it is counted, and root is asked where it is root's."""
        now = time.time()
        if self._path is None or not may_try(policy, self.last, now):
            return False
        self.count, self.last = self.count + 1, now
        with open(f"{self._path}.new", "w", encoding="utf-8") as stream:
            json.dump({"count": self.count, "last": now}, stream)
        os.replace(f"{self._path}.new", self._path)
        if policy in (RESET_CARD, REBOOT_HOST):
            with open(os.path.join(os.path.dirname(self._path), WANTED), "w"):
                pass
        return True
