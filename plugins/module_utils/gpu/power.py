# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets power limits of GPUs, through NVML's library itself.

The role vllm_gpu installs this file on the host, where a unit runs it at each boot: a card forgets
its limit when its driver is loaded anew. So it imports the standard library alone. Its arguments
are the cards and their limits in watts: `GPU-…=280`. What it says names each card that it changed.

Functions and values: NVIDIA Management Library API reference,
https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

LIBRARY = "libnvidia-ml.so.1"
_SUCCESS, _NOT_SUPPORTED, _NO_PERMISSION = 0, 3, 4  # nvmlReturn_t
_TEXT_LENGTH = 96  # NVML_DEVICE_UUID_V2_BUFFER_SIZE
_PROGRAM = "power.py"


class PowerError(Exception):
    """A limit cannot be read or set; the text says why."""


class Card(NamedTuple):
    """A GPU whose power can be limited.

    Attributes:
        uuid: Its UUID.
        name: Its product name.
        limit: The limit that is set, in milliwatts.
        default: The one that it has after a boot, in milliwatts.
        persistence: Whether its driver stays loaded without users; `None` where there is no such
            mode.
    """

    uuid: str
    name: str
    limit: int
    default: int
    persistence: bool | None


class Change(NamedTuple):
    """What is to be set of a GPU.

    Attributes:
        card: As it is.
        limit: The limit that it gets, in milliwatts.
        persistence: Whether persistence mode is switched on.
    """

    card: Card
    limit: int
    persistence: bool


def watts(milliwatts: int) -> str:
    """A limit as people write it: `280 W`."""
    return f"{milliwatts / 1000:g} W"


def milliwatts(limit: float) -> int:
    """A limit as NVML takes it."""
    return round(limit * 1000)


def named_in(unit: str) -> list[str]:
    """The cards that an installed unit limits.

    Args:
        unit: Its text; empty where there is none.
    """
    for line in unit.splitlines():
        if line.startswith("ExecStart=") and _PROGRAM in line:
            words = line.split(_PROGRAM, 1)[1].split()
            return [word.partition("=")[0] for word in words if "=" in word]
    return []


def changes(
    cards: Iterable[Card], wanted: Mapping[str, float], former: Iterable[str]
) -> list[Change]:
    """What is to be set.

    Args:
        cards: The host's, whose power can be limited.
        wanted: The limits in watts, by UUID.
        former: UUIDs of cards that were limited before; one that is not wanted any more gets its
            own default back. Its persistence mode stays: others may rest on it.

    Raises:
        PowerError: A wanted card is not there, or its power cannot be limited.
    """
    there = {card.uuid: card for card in cards}
    lacking = [uuid for uuid in wanted if uuid not in there]
    if lacking:
        raise PowerError(
            f"{', '.join(lacking)}: no GPU here has this UUID and lets its power be limited"
        )
    found = []
    for uuid, limit in wanted.items():
        card = there[uuid]
        change = Change(card, milliwatts(limit), card.persistence is False)
        if change.limit != card.limit or change.persistence:
            found.append(change)
    for uuid in former:
        gone = there.get(uuid) if uuid not in wanted else None
        if gone is not None and gone.limit != gone.default:
            found.append(Change(gone, gone.default, False))
    return found


class Nvml:
    """The library, initialised.

    Raises:
        PowerError: It is not there, or does not reach the driver.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise PowerError(f"{LIBRARY} is not installed") from error
        self._library.nvmlErrorString.restype = ctypes.c_char_p
        self._check("nvmlInit", self._library.nvmlInit_v2())

    def _check(self, what: str, code: int) -> None:
        if code != _SUCCESS:
            told = self._library.nvmlErrorString(code) or b"unknown"
            hint = "; only root may" if code == _NO_PERMISSION else ""
            raise PowerError(f"{what}: {told.decode('utf-8', 'replace')}{hint}")

    def _number(self, function: str, handle: Any) -> int | None:
        """A query's answer; `None` where this GPU does not support it."""
        answer = ctypes.c_uint()
        code = getattr(self._library, function)(handle, ctypes.byref(answer))
        if code == _NOT_SUPPORTED:
            return None
        self._check(function, code)
        return answer.value

    def _text(self, function: str, handle: Any) -> str:
        buffer = ctypes.create_string_buffer(_TEXT_LENGTH)
        code = getattr(self._library, function)(handle, buffer, ctypes.c_uint(_TEXT_LENGTH))
        self._check(function, code)
        return buffer.value.decode("utf-8", "replace")

    def _card(self, handle: Any) -> Card | None:
        limit = self._number("nvmlDeviceGetPowerManagementLimit", handle)
        default = self._number("nvmlDeviceGetPowerManagementDefaultLimit", handle)
        if limit is None or default is None:
            return None
        mode = self._number("nvmlDeviceGetPersistenceMode", handle)
        return Card(
            uuid=self._text("nvmlDeviceGetUUID", handle),
            name=self._text("nvmlDeviceGetName", handle),
            limit=limit,
            default=default,
            persistence=None if mode is None else bool(mode),
        )

    def cards(self) -> list[Card]:
        """The GPUs whose power can be limited; one that does not answer is left out.

        Raises:
            PowerError: The driver does not count them.
        """
        count = ctypes.c_uint()
        code = self._library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        self._check("nvmlDeviceGetCount", code)
        found = []
        for index in range(count.value):
            handle = ctypes.c_void_p()
            try:
                code = self._library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
                self._check("nvmlDeviceGetHandleByIndex", code)
                card = self._card(handle)
            except PowerError:
                continue
            if card is not None:
                found.append(card)
        return found

    def make(self, change: Change) -> None:
        """Set what is to be set, and see that the driver has taken it.

        Raises:
            PowerError: It has not.
        """
        card = change.card
        handle = ctypes.c_void_p()
        code = self._library.nvmlDeviceGetHandleByUUID(card.uuid.encode(), ctypes.byref(handle))
        self._check(f"{card.name} ({card.uuid})", code)
        if change.persistence:
            code = self._library.nvmlDeviceSetPersistenceMode(handle, ctypes.c_uint(1))
            if code != _NOT_SUPPORTED:
                self._check(f"{card.name} ({card.uuid}): persistence mode", code)
        if change.limit != card.limit:
            code = self._library.nvmlDeviceSetPowerManagementLimit(
                handle, ctypes.c_uint(change.limit)
            )
            self._check(f"{card.name} ({card.uuid}): a limit of {watts(change.limit)}", code)
            taken = self._number("nvmlDeviceGetPowerManagementLimit", handle)
            if taken != change.limit:
                raise PowerError(
                    f"{card.name} ({card.uuid}): {watts(change.limit)} was set, and its limit is "
                    f"{watts(taken or 0)}"
                )


def apply(wanted: Mapping[str, float], former: Iterable[str], check: bool) -> list[list[str]]:
    """Set limits.

    Args:
        wanted: The limits in watts, by UUID.
        former: UUIDs of cards that were limited before. Where none is wanted, a driver that is
            gone is no matter: so are the limits.
        check: Only say what would be set.

    Returns:
        For each card that was changed: how it was and how it is, as a line each.

    Raises:
        PowerError: It cannot be done; what was set before that stays set.
    """
    try:
        nvml = Nvml()
    except PowerError:
        if wanted:
            raise
        return []
    told = []
    for change in changes(nvml.cards(), wanted, former):
        if not check:
            nvml.make(change)
        card, on = change.card, "on" if change.persistence or change.card.persistence else "off"
        was = "on" if card.persistence else "off"
        begin = f"{card.name} ({card.uuid}): limit"
        told.append(
            [
                f"{begin} {watts(card.limit)}, persistence mode {was}",
                f"{begin} {watts(change.limit)}, persistence mode {on}",
            ]
        )
    return told


def attempt(wanted: Mapping[str, float], former: Iterable[str], check: bool) -> dict[str, Any]:
    """Set limits, and say how it went: `cards` as `apply` gives them, or the `problem`."""
    try:
        return {"cards": apply(wanted, former, check)}
    except PowerError as problem:
        return {"problem": str(problem)}


def limits_now() -> dict[str, Any]:
    """The limit of each card in watts, by UUID, as `limits`; or the `problem`."""
    try:
        return {"limits": {card.uuid: card.limit / 1000 for card in Nvml().cards()}}
    except PowerError as problem:
        return {"problem": str(problem)}


def main(arguments: list[str]) -> int:
    """Set the limits that the arguments name; a card that is lost does not keep the others."""
    failed = 0
    for argument in arguments:
        uuid, _equals, limit = argument.partition("=")
        try:
            for _was, now in apply({uuid: float(limit)}, (), check=False):
                sys.stdout.write(f"{now}\n")
        except PowerError as error:
            sys.stderr.write(f"{_PROGRAM}: {error}\n")
            failed = 1
    return failed


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
