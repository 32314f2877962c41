# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The start of a server, until it has computed a token or why it will not."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Callable, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import File
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    EndpointError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import Deployment
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.environment import API_KEY
from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import (
    FINGERPRINT,
    needs_start,
    variable,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.alive import compute_once
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.failures import StartFailed
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.installed import Installed
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.manager import Manager
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.group_state import (
    group_state,
)

POLL = 0.5
LAST_WORDS = 2.0
"""Seconds that a server's last lines may take to reach the journal."""
ONE_TOKEN_TIMEOUT = 30.0
LEADERS_TIME = 1800.0
"""Seconds that the leader of a group may take to verify what the group answers."""
SUPERVISORS_TIME = 60.0
"""Seconds that the supervisor has to end a start that is too long, and to stop what was there."""


def log_text(line: str) -> str:
    """A line of vLLM's log without its process, level, time and source.

    `(APIServer pid=924) INFO 11-22 22:05:28 [model.py:530] Resolved` becomes `Resolved`.
    """
    return _LOG_PREFIX.sub("", line)


_LOG_PREFIX = re.compile(r"^(\([^)]*pid=\d+\) )?([A-Z]+ \d\d-\d\d [\d:]+ \[[^]]*\] )?")


def has_crashed(before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    """Whether a service that was just started has ended by itself.

    Args:
        before: `systemctl show` when it was started.
        after: `systemctl show` now.
    """
    if after.get("ActiveState") == "failed":
        return True
    # Between the stop and the start of a restart it is inactive too, with the job still there.
    if after.get("ActiveState") == "inactive" and after.get("Job", "0") in ("", "0"):
        return True
    if after.get("SubState") == "auto-restart":
        return True
    return int(after.get("NRestarts") or 0) > int(before.get("NRestarts") or 0)


class Clock(NamedTuple):
    """The time, and waiting for it; in seconds."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class Starter:
    """Starts servers.

    Args:
        installed: The files of the services.
        manager: systemd.
        progress: Where it is shown how far a start is.
        patience: Seconds that a start may take, with the stop of the server before.
        clock: The time.
    """

    def __init__(
        self,
        installed: Installed,
        manager: Manager,
        progress: Progress,
        patience: float,
        clock: Clock,
    ) -> None:
        self.installed = installed
        self.manager = manager
        self.progress = progress
        self.patience = patience
        self.clock = clock

    def reason(self, wanted: Deployment, state: dict[str, str]) -> str | None:
        """Why an instance must be started; `None` when it need not be.

        Args:
            wanted: What it shall be.
            state: Its unit's, of `Manager.show`.
        """
        environ = self.manager.environ(state)
        reason = needs_start(
            state.get("ActiveState", ""), variable(environ, FINGERPRINT), wanted.fingerprint
        )
        if reason is None and variable(environ, API_KEY) != self.installed.key(wanted.name):
            return "its API key has changed"
        return reason

    def restart(self, wanted: Deployment) -> float:
        """Start a server, or start it anew, and wait until it is ready.

        Raises:
            StartFailed: As :meth:`wait_until_ready`.
        """
        self.manager.systemctl("reset-failed", wanted.unit_name, check=False)
        # What somebody asks for does not wait for what failed before.
        File(self.installed.paths.failed_starts(wanted.name), None).write()
        self.manager.systemctl("restart", "--no-block", wanted.unit_name)
        return self.wait_until_ready(wanted)

    def wait_until_ready(self, wanted: Deployment) -> float:
        """Wait until the server of this configuration has computed a token.

        Returns:
            The seconds it took.

        Raises:
            StartFailed: The server ended, or the time is over.
        """
        began, since = self.clock.monotonic(), self.clock.now() - 1
        unit = wanted.unit_name
        endpoint = self.installed.endpoint(wanted, ONE_TOKEN_TIMEOUT)
        before = self.manager.show([unit])[unit]
        error = "systemd does not say that it is active"
        while True:
            state = self.manager.show([unit])[unit]
            # Active means that the supervisor has had a token, if there is one: what was proved
            # with an older version of this collection has none. The former server can still be
            # there, about to stop.
            running = self.manager.running(state)
            if state.get("ActiveState") == "active" and running == wanted.fingerprint:
                try:
                    if wanted.answers:
                        compute_once(endpoint, wanted.kind, wanted.served_model_name)
                    return round(self.clock.monotonic() - began, 1)
                except EndpointError as problem:
                    error = str(problem)
            elapsed = self.clock.monotonic() - began
            if has_crashed(before, state):
                self.clock.sleep(LAST_WORDS)
                raise self.verdict(wanted, since) or StartFailed(
                    f"{unit} ended by itself after {elapsed:.0f} s (systemd's result: "
                    f"{state.get('Result')}). The end of its log:\n{self.log_tail(unit, since)}"
                )
            # The supervisor has the start's deadline, and ends the start with a reason. Before
            # that the former server has its time to stop.
            if elapsed > self.patience + SUPERVISORS_TIME:
                raise StartFailed(
                    f"{unit} computed no token within {elapsed:.0f} s ({error}). "
                    f"The end of its log:\n{self.log_tail(unit, since)}"
                )
            detail = state.get("StatusText") or log_text(
                self.manager.journal(since, 1, "--identifier", f"vllm@{wanted.name}")
            )
            self.progress.update(f"starting {wanted.name}", elapsed=elapsed, detail=detail[:100])
            self.clock.sleep(POLL)

    def await_leader(self, wanted: Deployment) -> None:
        """Wait until the leader of a group has verified what the group answers.

        Raises:
            StartFailed: The group was started anew before, or the time is over.
        """
        leader = (wanted.group or {})["members"][0]["name"]
        unit, began = wanted.unit_name, self.clock.monotonic()
        generation = None
        while True:
            state = self.manager.show([unit])[unit]
            told = group_state(read(self.installed.paths.group_state(wanted.name)))
            generation = generation or told["generation"]
            if state.get("ActiveState") != "active" or told["generation"] != generation:
                why = told["summary"] or state.get("StatusText") or "see the journal of that host"
                raise StartFailed(
                    f"{unit}: the group was ended before its leader {leader} had verified it: {why}"
                )
            if told["proved"]:
                return
            elapsed = self.clock.monotonic() - began
            if elapsed > LEADERS_TIME:
                raise StartFailed(f"{unit}: {leader} has not verified it within {elapsed:.0f} s")
            self.progress.update(f"waiting for {leader} to verify {wanted.name}", elapsed=elapsed)
            self.clock.sleep(POLL)

    def verdict(self, wanted: Deployment, since: float) -> StartFailed | None:
        """What the supervisor has found about a server that failed; `None` where it said nothing.

        Args:
            wanted: The deployment that was started.
            since: When; what was said before, or of another configuration, does not count.
        """
        try:
            verdict = json.loads(read(self.installed.paths.verdict(wanted.name)) or "{}")
            if verdict["at"] < since or verdict["fingerprint"] != wanted.fingerprint:
                return None
            lines = [f"{wanted.unit_name}: {verdict['state']}: {verdict['summary']}"]
            lines += [f"  {line}" for line in verdict["evidence"]]
            if verdict["remedy"]:
                lines.append(f"  remedy: {verdict['remedy']}")
            cause = verdict["cause"]
        except (ValueError, KeyError, TypeError):
            return None
        tail = self.log_tail(wanted.unit_name, since)
        return StartFailed("\n".join([*lines, f"The end of its log:\n{tail}"]), cause)

    def log_tail(self, unit: str, since: float) -> str:
        """The last lines of a unit's journal, the server's and systemd's."""
        return self.manager.journal(since, 40, "--unit", unit)
