# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The instances of a host, looked at from outside and judged by the classifier. Reads only."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.urls import url_of
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.units import parse_show
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import health
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.cards import (
    CAUSES as GPU_CAUSES,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.classify import (
    ASLEEP,
    CRASHED,
    HUNG_AT_START,
    SERVING,
    STARTING,
    STOPPED,
    Limits,
    Verdict,
    causes,
    classify,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.group_state import (
    GROUP_STATE,
    group_state,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.log import Tail
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.probe import (
    Address,
    address_of,
    read_config,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.sample import (
    SHOW,
    ControlGroup,
    Sample,
    Sampler,
    number,
    read_file,
    started,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.watch import Questions

Run = Callable[[list[str]], "tuple[int, str, str]"]
"""Runs a program: its exit status, output and errors."""

PATTERN = "vllm@*.service"
_UNIT = re.compile(r"^vllm@(?P<name>.+)\.service$")
_ENABLED = "multi-user.target.wants"
WAITS = "waiting"
"""What the supervisor's own status begins with before it starts the server."""
LOG_LINES = 400
"""Lines of the log that the classifier reads."""
_LONG = 20
"""How many times as many are read where these do not tell why a server has ended."""


@dataclasses.dataclass(frozen=True)
class Places:
    """Where things are on the host."""

    etc_dir: str = "/etc/vllm"
    unit_dir: str = "/etc/systemd/system"
    state_dir: str = "/var/lib/vllm"
    run_dir: str = "/run/vllm"


def names_in(listed: Iterable[str], pattern: str) -> set[str]:
    """Names of instances among file names, by a pattern with a group `name`."""
    return {match.group("name") for match in (re.match(pattern, one) for one in listed) if match}


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def show_units(run: Run, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """What systemd says of these instances and of all others that it knows, by name.

    Nothing where systemd does not answer.
    """
    units = [f"vllm@{name}.service" for name in sorted(names)]
    properties = ",".join((*SHOW, "RuntimeDirectory"))
    status, output, _errors = run(
        ["systemctl", "--no-pager", "show", "--property", properties, "--", *units, PATTERN]
    )
    if status != 0:
        return {}
    shown = {}
    for name, unit in parse_show(output).items():
        match = _UNIT.match(name)
        if match:
            shown[match.group("name")] = unit
    return shown


def deployed(places: Places) -> set[str]:
    """Names of the instances that this host has files of."""
    found = names_in(_listdir(places.etc_dir), r"(?P<name>[^.].*)\.yaml$")
    found |= names_in(_listdir(os.path.join(places.unit_dir, _ENABLED)), _UNIT.pattern)
    return found | names_in(
        _listdir(os.path.join(places.state_dir, "proved")), r"(?P<name>.+)\.json$"
    )


def journal(run: Run, unit: str, show: Mapping[str, str], lines: int) -> list[str]:
    """The last lines that a unit's present run, or its last one, has written."""
    command = ["journalctl", "--no-pager", "--quiet", "--output", "cat", "--lines", str(lines)]
    invocation = show.get("InvocationID")
    selection = [f"_SYSTEMD_INVOCATION_ID={invocation}"] if invocation else ["--unit", unit]
    _status, output, _errors = run([*command, *selection])
    return output.splitlines()


def api_key(cgroup: str) -> str | None:
    """The key that the server wants, from its own environment; root can read that."""
    for pid in ControlGroup(cgroup).pids() or []:
        for variable in (read_file(f"/proc/{pid}/environ") or "").split("\0"):
            if variable.startswith("VLLM_API_KEY="):
                return variable.partition("=")[2]
    return None


def last_words(show: Mapping[str, str]) -> Verdict | None:
    """What the supervisor said when it ended the last run; `None` when it did not end it."""
    directory, began = show.get("RuntimeDirectory"), started(show)
    text = read_file(f"/run/{directory}/verdict.json") if directory else None
    try:
        said = json.loads(text or "")
        at = time.monotonic() - (time.time() - float(said["at"]))
        if began is not None and at < began - 1:  # of a run before the last one
            return None
        return Verdict(
            state=str(said["state"]),
            summary=str(said["summary"]),
            evidence=tuple(str(line) for line in said["evidence"]),
            remedy=said.get("remedy"),
            cause=said.get("cause"),
        )
    except (ValueError, KeyError, TypeError):
        return None


def own_url(address: Address) -> str:
    """Where a server answers, seen from its host."""
    return url_of(address.host, address.port, "https" if address.tls else "http")


def release_of(proved: str | None) -> str | None:
    """The release of what was proved last, from the record's file; as every schema has it."""
    try:
        return str(json.loads(proved or "")["current"]["release"])
    except (LookupError, TypeError, ValueError):
        return None


def engine_of(proved: str | None, verified: str | None) -> dict[str, Any] | None:
    """What the engine measured at the start that was verified, and what the plan had predicted.

    Args:
        proved: The record's file.
        verified: The file of the last verification that passed.

    Returns:
        `measured` and `predicted`, each in bytes and tokens; `None` where nothing was measured, or
        of another deployment than the present one.
    """
    try:
        current, found = json.loads(proved or "")["current"], json.loads(verified or "")
        if found["fingerprint"] != current["fingerprint"] or not found["engine"]:
            return None
        length = {"max_model_len": found["max_model_len"]} if found["max_model_len"] else {}
        return {
            "measured": {**found["engine"], **length},
            "predicted": dict((current.get("expected") or {}).get("predicted") or {}),
        }
    except (LookupError, TypeError, ValueError):
        return None


class Instance:
    """One instance, looked at again and again.

    Args:
        name: Its name.
        run: Runs programs on this host.
        places: Where things are.
        patience: Seconds that an answer to our own question may take.
    """

    def __init__(self, name: str, run: Run, places: Places, patience: float) -> None:
        self.name = name
        self.unit = f"vllm@{name}.service"
        self.samples: list[Sample] = []
        self.show: dict[str, str] = {}
        self._run = run
        self._places = places
        self._patience = patience
        text = read_file(os.path.join(places.etc_dir, f"{name}.yaml"))
        self.config = None if text is None else read_config(text)
        # It computes for another host, which answers.
        self.is_follower = (self.config or {}).get("headless") is True
        self._sampler: Sampler | None = None
        self._group: str | None = None
        self._questions: Questions | None = None
        self._began: float | None = None
        self._former: dict[str, str] = {}

    @property
    def is_known(self) -> bool:
        """Whether there is a configuration, or a unit that systemd has seen."""
        return self.config is not None or self.show.get("ActiveState", "inactive") != "inactive"

    @property
    def is_answered(self) -> bool:
        """Whether the last question has been answered, one way or another."""
        newest = self.samples[-1].completion if self.samples else None
        return newest is not None and newest.outcome != "waiting"

    @property
    def has_asked(self) -> bool:
        """Whether a question was put to it."""
        return self._questions is not None and self._questions.newest is not None

    def _look_at(self, show: dict[str, str]) -> Sampler:
        """The sampler for the unit's present control group, and the one who asks."""
        group = show.get("ControlGroup", "")
        if self._sampler is None or group != self._group:
            self._group = group
            address = self._address()
            self._sampler = Sampler(address, cgroup=group or "/", instance=self.name)
        began = started(show)
        if began != self._began:  # another run: what was seen of the one before is no past of it
            self._began = began
            self._former = dict(self.show)
            self._questions = None
            self.samples.clear()
        return self._sampler

    def _address(self) -> Address | None:
        """Where it answers; `None` where it does not."""
        silent = self.config is None or self.is_follower
        return None if silent else address_of(self.config or {}, None)

    def group(self) -> dict[str, Any] | None:
        """What its supervisor says of the hosts that it spans; `None` for one host alone."""
        if "nnodes" not in (self.config or {}):
            return None
        return group_state(
            read_file(os.path.join(self._places.run_dir, self.name, GROUP_STATE)),
            number(str((self.config or {}).get("node-rank"))),
        )

    def _ask(self) -> None:
        """Ask for a token, with the key of the present run, which was made before it listened."""
        if self._questions is None:
            address = address_of(self.config or {}, api_key(self.show.get("ControlGroup", "")))
            self._questions = Questions(address, self._patience)
        self._questions.ask()

    def look(self, show: dict[str, str], ask: bool) -> Sample:
        """Take a sample.

        Args:
            show: What systemd says of the unit now.
            ask: Whether to ask for a token where somebody listens, unless an answer is waited for.
        """
        sampler = self._look_at(show)
        self.show = show
        newest = self._questions.newest if self._questions is not None else None
        sample = sampler.take(show=show, completion=newest, health=True)
        self.samples.append(sample)
        is_live = sample.active_state in ("active", "activating", "reloading")
        if self.config is not None and sample.listening and is_live and ask:
            self._ask()
        return sample

    def log(self, lines: int = LOG_LINES) -> list[str]:
        """The end of the log of the present run, or of the last one."""
        return journal(self._run, self.unit, self.show, lines)

    def verdict(self, limits: Limits) -> Verdict:
        """What it is doing, by all that was seen."""
        if not self.is_known and not any(sample.strays for sample in self.samples[-1:]):
            return Verdict(STOPPED, "it is not deployed", remedy="Run site.yml.")
        without = self._told_on_demand()
        if without is not None:
            return without
        verdict = classify(self.samples, self.log(), limits)
        says = self.show.get("StatusText", "")
        group = self.group() if self.is_follower else None
        if group is not None and verdict.state in SERVING:
            told = f"rank {group['rank']} of {self.name}, which {group['leader']} serves"
            return dataclasses.replace(verdict, summary=told)
        # Whether a group hangs is its leader's to see.
        waits = says.startswith(WAITS) or group is not None
        if verdict.state == HUNG_AT_START and waits:
            # Between two attempts, or until a device is there: no server that could work.
            return Verdict(STARTING, says, verdict.evidence)
        vague = (None, "unknown", "killed")
        said = last_words(self.show) if verdict.state == CRASHED else None
        if said is not None and said.cause in GPU_CAUSES:
            return said  # the driver has told it of this instance's own cards
        if verdict.state == CRASHED and verdict.cause in (*vague, *causes().VAGUE):
            # The supervisor has seen it from within; else the reason stands before a flood.
            return last_words(self.show) or classify(self.samples, self._long_log(), limits)
        return verdict

    def _told_on_demand(self) -> Verdict | None:
        """What the supervisor of an instance on demand says of a server that does not serve.

        Its unit is active without one, too; `None` where it serves, or is no such instance.
        """
        if "uds" not in (self.config or {}) or self.show.get("ActiveState") != "active":
            return None
        try:
            path = os.path.join(self._places.run_dir, self.name, "state.json")
            told = json.loads(read_file(path) or "")
            state, summary = str(told["state"]), str(told["summary"])
        except (ValueError, LookupError, TypeError):
            return None
        if state == health.SERVING:
            return None
        return Verdict(ASLEEP if state == ASLEEP else STARTING, summary)

    def _long_log(self) -> list[str]:
        """What the supervisor would keep of a long log."""
        tail = Tail(LOG_LINES)
        tail.feed("\n".join([*self.log(_LONG * LOG_LINES), ""]).encode())
        return tail.lines

    def verdict_before(self) -> Verdict:
        """Why the run before the present one ended, for one that systemd has started again."""
        show = {**self._former, "ActiveState": "failed", "MainPID": "0"}
        ended = Sample(
            time.monotonic(), active_state="failed", result=show.get("Result"), restarts=None
        )
        verdict = classify([ended], journal(self._run, self.unit, show, LOG_LINES), Limits())
        return last_words(show) or verdict

    def describe(self, verdict: Verdict, lines: int) -> dict[str, Any]:
        """The instance as modules return it.

        Args:
            verdict: What it is doing.
            lines: How many lines of its log to add where it does not serve.
        """
        now = self.samples[-1] if self.samples else Sample(0.0)
        proved = read_file(os.path.join(self._places.state_dir, "proved", f"{self.name}.json"))
        verified = os.path.join(self._places.state_dir, "verified", f"{self.name}.json")
        config = self.config or {}
        address = self._address()
        return {
            "name": self.name,
            "unit": self.unit,
            "state": verdict.state,
            "summary": verdict.summary,
            "serves": verdict.state in SERVING,
            "evidence": list(verdict.evidence),
            "remedy": verdict.remedy,
            "cause": verdict.cause,
            "percent": verdict.percent,
            "url": None if address is None else own_url(address),
            "model": address_of(config, None).model if self.config is not None else None,
            "group": self.group(),
            "release": release_of(proved),
            "engine": engine_of(proved, read_file(verified)),
            "active_state": now.active_state,
            "sub_state": now.sub_state,
            "enabled": os.path.islink(os.path.join(self._places.unit_dir, _ENABLED, self.unit)),
            "says": self.show.get("StatusText") or None,
            "invocation": self.show.get("InvocationID") or None,
            "pid": number(self.show.get("MainPID")) or None,
            "restarts": now.restarts,
            "age_seconds": None if now.age is None else round(now.age, 1),
            "memory_bytes": now.memory_bytes,
            "gpu_bytes": now.gpu_bytes,
            "gpu_utilization": now.gpu_utilization,
            "running": now.running,
            "waiting": now.waiting,
            "generation_tokens": now.generation_tokens,
            "log": self.log(lines) if lines and verdict.state not in SERVING else [],
        }


def failure(instance: Instance, verdict: Verdict, why: str, lines: int) -> str:
    """What a play says of an instance that did not become ready.

    Args:
        instance: The instance.
        verdict: What it is doing.
        why: Why it is not waited for any longer, such as `after 600 s`.
        lines: How many lines of the log to show.
    """
    parts = [f"{instance.unit}: {verdict.state}, {why}: {verdict.summary}."]
    parts += [f"  - {line}" for line in verdict.evidence]
    if verdict.remedy:
        parts.append(f"Remedy: {verdict.remedy}")
    log = instance.log(lines) if lines else []
    if log:
        parts.append("The end of its log:")
        parts += [f"  {line}" for line in log]
    return "\n".join(parts)
