# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings lost cards back, as root, where the operator allows it: `vllm-gpu-recovery.service`.

A supervisor whose card is lost stays down and asks by a file in its folder. That alone does
nothing: the driver and the kernel are asked here whether a card is lost, or asks for a reset; and
the bounds are here, out of the reach of whoever serves. The role vllm_gpu installs it with
`cards.py`.

`nvidia-smi --gpu-reset` resets a card that nobody uses, persistence mode included:
https://docs.nvidia.com/deploy/nvidia-smi/.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from . import cards

FOLDER = Path("/var/lib/vllm/lost")
SPACING = {cards.RESET_CARD: 3600.0, cards.REBOOT_HOST: 86400.0}
"""Seconds between two of them: a card that is lost again has to be seen to by somebody."""
OTHERS = 15.0
"""Seconds for the other instances of the card to find the same."""
SETTLED = 10.0
"""Seconds more that one which asks has until it is down, so that it can be started again."""
RECENT = 600.0
"""Seconds that a line of the kernel's log counts."""
_KEPT = "last.json"
_COMMAND_TIMEOUT = 300.0


class Finding(NamedTuple):
    """What is wrong with the cards.

    Attributes:
        cards: What the driver tells of them.
        hangs: Whether it did not answer.
        kernel: The kernel's recent lines.
    """

    cards: Sequence[cards.Card]
    hangs: bool = False
    kernel: Sequence[str] = ()


class Decision(NamedTuple):
    """What is done.

    Attributes:
        why: A sentence for the journal.
        reset: The cards to reset, by UUID.
        reboot: Whether the host is rebooted.
        start: Whether those who ask are started.
    """

    why: str
    reset: tuple[str, ...] = ()
    reboot: bool = False
    start: bool = False


class Host(Protocol):
    """What is asked of the machine."""

    def run(self, *command: str) -> str | None:
        """Run a command; returns what it said where it failed, else `None`."""

    def state(self, unit: str) -> str:
        """A unit's `ActiveState`."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


def unit_of(name: str) -> str:
    """An instance's unit."""
    return f"vllm@{name}.service"


def asked(folder: Path, names: Iterable[str]) -> list[str]:
    """The instances that ask, and do no more once this has returned.

    Args:
        folder: Where each has a folder, which is its user's.
        names: The instances that there are.
    """
    found = []
    for name in names:
        path = folder / name / cards.WANTED
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError:  # a directory, which no supervisor makes
            shutil.rmtree(path, ignore_errors=True)
            continue
        found.append(name)
    return found


def decide(policy: str, found: Finding, last: float | None, now: float) -> Decision:
    """What is done about cards.

    Args:
        policy: `cards.RESET_CARD` or `cards.REBOOT_HOST`.
        found: What is wrong with them.
        last: When that was done last, in seconds since 1970; `None` for never.
        now: The same for this moment.
    """
    trouble = cards.trouble(found.cards) or cards.trouble_in_kernel(found.kernel)
    if trouble is None and not found.hangs:
        if not found.cards:
            return Decision("the driver cannot be asked, so nothing is done")
        return Decision("no card is lost any more: what has stayed down is started", start=True)
    told = "the driver does not answer" if trouble is None else trouble.evidence
    spacing = SPACING[policy]
    # Either way: a clock that is set back at each boot must not allow a reboot at each boot.
    if last is not None and abs(now - last) < spacing:
        return Decision(
            f"{told}; the last {policy} was {abs(now - last) / 60:.0f} min ago, and there is one "
            f"in {spacing / 3600:.0f} h: it needs somebody to look at the card"
        )
    if policy == cards.REBOOT_HOST:
        return Decision(f"{told}: the host is rebooted", reboot=True)
    uuids = tuple(card.uuid for card in found.cards if cards.trouble([card]) is not None)
    if not uuids or "" in uuids:
        return Decision(f"{told}, and which card to reset cannot be told: reboot the host")
    return Decision(f"{told}: {', '.join(uuids)} is reset", reset=uuids, start=True)


def reset(host: Host, uuid: str, names: Iterable[str]) -> str | None:
    """Reset a card, with nobody on it meanwhile.

    Args:
        host: The machine.
        uuid: The card.
        names: The instances that have it.

    Returns:
        What was said where it failed; `None` else. What was stopped is left down.
    """
    for name in names:
        host.run("systemctl", "stop", unit_of(name))
    # It holds the card. Where there is no such mode it holds nothing either.
    held = host.run("nvidia-smi", f"--id={uuid}", "--persistence-mode=0") is None
    problem = host.run("nvidia-smi", "--gpu-reset", f"--id={uuid}")
    if held:
        host.run("nvidia-smi", f"--id={uuid}", "--persistence-mode=1")
    return problem


def recover(
    policy: str,
    instances: Mapping[str, Sequence[str]],
    folder: Path,
    state: Path,
    find: Finder,
    host: Host,
) -> int:
    """Do what is asked for, if it is to be done.

    Args:
        policy: As of `decide`.
        instances: The instances that there are, and the UUIDs of their cards.
        folder: Where they ask.
        state: Where the last time is kept.
        find: Looks at the cards.
        host: The machine.

    Returns:
        The exit status.
    """
    names = asked(folder, instances)
    if not names:
        return 0
    host.sleep(OTHERS)
    names += [name for name in asked(folder, instances) if name not in names]
    down = [name for name in names if _is_down(host, name)]
    now, last = time.time(), _last(state)
    decision = decide(policy, find(max(last or 0.0, now - RECENT)), last, now)
    sys.stdout.write(f"asked by {', '.join(names)}: {decision.why}\n")
    sys.stdout.flush()
    if decision.reset or decision.reboot:
        new = state / f"{_KEPT}.new"
        new.write_text(json.dumps({"at": now}), encoding="utf-8")
        os.replace(new, state / _KEPT)
    problems = []
    if decision.reboot:
        problems.append(host.run("systemctl", "reboot"))
    stopped: list[str] = []
    for uuid in decision.reset:
        users = [name for name, uuids in instances.items() if uuid in uuids]
        stopped += [name for name in users if host.state(unit_of(name)) == "active"]
        problems.append(reset(host, uuid, users))
    if decision.reset:
        # A card that was reset has forgotten its limit.
        host.run("systemctl", "try-restart", "vllm-power.service")
    started = dict.fromkeys([*stopped, *(down if decision.start else [])])
    problems += [host.run("systemctl", "start", "--no-block", unit_of(name)) for name in started]
    told = [problem for problem in problems if problem is not None]
    for problem in told:
        sys.stderr.write(f"{problem}\n")
    return 1 if told else 0


def _is_down(host: Host, name: str) -> bool:
    """Whether a unit has failed; one that an operator has stopped is his."""
    until = SETTLED
    while (state := host.state(unit_of(name))) not in ("failed", "inactive") and until > 0:
        host.sleep(1.0)
        until -= 1.0
    return state == "failed"


def _last(state: Path) -> float | None:
    try:
        return float(json.loads((state / _KEPT).read_text(encoding="utf-8"))["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Finder(Protocol):
    """Looks at the cards."""

    def __call__(self, since: float) -> Finding:
        """What is wrong with them, by the kernel's lines since a time in seconds since 1970."""


def _said(command: Sequence[str]) -> tuple[int, str]:
    """Run a command; its status, and all that it wrote.

    Raises:
        OSError: It cannot be run.
        subprocess.TimeoutExpired: It did not end.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            said, _nothing = process.communicate(timeout=_COMMAND_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, said


def look(since: float) -> Finding:
    """What driver and kernel say."""
    watch = cards.Watch()
    found = watch.read(timeout=30.0)
    watch.close()
    kernel = ("journalctl", "--dmesg", "--boot", "--output=cat", f"--since=@{since:.0f}")
    return Finding(found, watch.hangs, _said(kernel)[1].splitlines())


class Machine:
    """The machine that this runs on."""

    def run(self, *command: str) -> str | None:
        """Run a command; returns what it said where it failed, else `None`."""
        try:
            status, said = _said(command)
        except (OSError, subprocess.TimeoutExpired) as problem:
            return f"{' '.join(command)}: {problem}"
        return None if status == 0 else f"{' '.join(command)}: {said.strip() or f'status {status}'}"

    def state(self, unit: str) -> str:
        """A unit's `ActiveState`."""
        return _said(("systemctl", "show", "--property=ActiveState", "--value", unit))[1].strip()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def main(arguments: Sequence[str]) -> int:
    """Run it.

    Args:
        arguments: The policy, then each instance with the UUIDs of its cards: `NAME=GPU-…,GPU-…`.
            The folder for what is kept is `STATE_DIRECTORY`.
    """
    policy, *rest = arguments
    instances = {}
    for word in rest:
        name, _equals, uuids = word.partition("=")
        instances[name] = uuids.split(",")
    state = Path(os.environ["STATE_DIRECTORY"])
    return recover(policy, instances, FOLDER, state, look, Machine())
