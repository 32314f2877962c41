# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The power limits of an instance's GPUs, while settings of it are compared."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import power
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host

TIMEOUT = 60.0
"""Seconds that the driver may take; a lost card can hang it."""


class LimitError(Exception):
    """The driver did not answer, or does not take a limit; the message says which."""


class PowerLimits:
    """What the cards may take, and what they might before.

    Args:
        uuids: The instance's GPUs. With none nothing is ever set.

    Raises:
        LimitError: The driver does not answer.
    """

    def __init__(self, uuids: Iterable[str]) -> None:
        self._uuids = list(uuids)
        self._before = self._now()
        self._set: dict[str, float] = {}
        self._failed = False

    def _ask(self, function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Ask in a process of its own."""
        done = Host().start_isolated("NVML", function, TIMEOUT).result()
        problem = done.error or done.value.get("problem")
        if problem:
            raise LimitError(problem)
        answer: dict[str, Any] = done.value
        return answer

    def _now(self) -> dict[str, float]:
        if not self._uuids:
            return {}
        limits = self._ask(power.limits_now)["limits"]
        lacking = [uuid for uuid in self._uuids if uuid not in limits]
        if lacking:
            raise LimitError(f"{', '.join(lacking)} does not tell its power limit")
        return {uuid: limits[uuid] for uuid in self._uuids}

    def _make(self, limits: dict[str, float]) -> None:
        self._set, self._failed = limits, True
        self._ask(functools.partial(power.attempt, limits, [], False))
        self._failed = False

    def set(self, limits: Mapping[str, float]) -> None:
        """Limit the instance's cards.

        Args:
            limits: Watts by UUID, also of other cards; one that is not named gets what it had.

        Raises:
            LimitError: The driver does not take it.
        """
        if self._uuids:
            self._make({uuid: limits.get(uuid, before) for uuid, before in self._before.items()})

    def give_back(self) -> None:
        """Give the cards what they had; what somebody else has set meanwhile stays.

        Raises:
            LimitError: The driver does not take it.
        """
        if not self._set:
            return
        # What a driver makes of a limit that it does not take is nobody's wish.
        now = self._now()
        ours = [uuid for uuid, limit in self._set.items() if self._failed or now[uuid] == limit]
        self._make({uuid: self._before[uuid] for uuid in ours})
