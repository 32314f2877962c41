# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings lost cards back, as root, where the operator allows it: `vllm-gpu-recovery.service`.

A supervisor whose card is lost stays down and asks by a file in its folder. That alone does
nothing: the driver is asked here whether a card is lost, or asks for a reset; and the bounds are
here, out of the reach of whoever serves. The role vllm_gpu installs it with `cards.py`.

`nvidia-smi --gpu-reset` resets a card that nobody uses: https://docs.nvidia.com/deploy/nvidia-smi/.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Callable, NamedTuple

from . import cards

FOLDER = Path("/var/lib/vllm/lost")
SPACING = {cards.RESET_CARD: 3600.0, cards.REBOOT_HOST: 86400.0}
"""Seconds between two of them: a card that is lost again has to be seen to by somebody."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_KEPT = "last.json"
_COMMAND_TIMEOUT = 300.0

Run = Callable[[Sequence[str]], "str | None"]
"""Runs a command; returns what it said where it failed, else `None`."""


class Decision(NamedTuple):
    """What is done.

    Attributes:
        why: A sentence for the journal.
        commands: What is run, in this order, until one fails.
        counts: Whether it counts as one of those that are bounded.
    """

    why: str
    commands: tuple[tuple[str, ...], ...]
    counts: bool = False


def asked(folder: Path) -> list[str]:
    """The instances that ask, and do no more once this has returned.

    Args:
        folder: Where each has a folder.
    """
    found = []
    for path in sorted(folder.glob(f"*/{cards.WANTED}")):
        path.unlink()
        if _NAME.fullmatch(path.parent.name):
            found.append(path.parent.name)
    return found


def decide(
    policy: str,
    names: Iterable[str],
    found: Sequence[cards.Card],
    last: float | None,
    now: float,
) -> Decision:
    """What is done about cards.

    Args:
        policy: `cards.RESET_CARD` or `cards.REBOOT_HOST`.
        names: The instances that ask.
        found: What the driver tells of all cards; nothing where it does not answer.
        last: When that was done last, in seconds since 1970; `None` for never.
        now: The same for this moment.
    """
    starts = tuple(("systemctl", "start", "--no-block", f"vllm@{name}.service") for name in names)
    trouble = cards.trouble(found)
    if trouble is None and found:
        return Decision("no card is lost any more: what has stayed down is started", starts)
    told = "the driver does not answer" if trouble is None else trouble.evidence
    spacing = SPACING[policy]
    if last is not None and 0 <= now - last < spacing:
        return Decision(
            f"{told}; the last {policy} was {(now - last) / 60:.0f} min ago, and there is one in "
            f"{spacing / 3600:.0f} h: it needs somebody to look at the card",
            (),
        )
    if policy == cards.REBOOT_HOST:
        return Decision(f"{told}: the host is rebooted", (("systemctl", "reboot"),), counts=True)
    uuids = [card.uuid for card in found if cards.trouble([card]) is not None]
    if not uuids or "" in uuids:
        return Decision(f"{told}, and which card to reset cannot be told: reboot the host", ())
    resets = tuple(("nvidia-smi", "--gpu-reset", f"--id={uuid}") for uuid in uuids)
    return Decision(f"{told}: {', '.join(uuids)} is reset", (*resets, *starts), counts=True)


def recover(policy: str, folder: Path, state: Path, found: Sequence[cards.Card], run: Run) -> int:
    """Do what is asked for, if it is to be done.

    Args:
        policy: As of `decide`.
        folder: Where instances ask.
        state: Where the last time is kept.
        found: As of `decide`.
        run: Runs a command.

    Returns:
        The exit status.
    """
    names = asked(folder)
    if not names:
        return 0
    now = time.time()
    decision = decide(policy, names, found, _last(state), now)
    sys.stdout.write(f"asked by {', '.join(names)}: {decision.why}\n")
    if decision.counts:
        new = state / f"{_KEPT}.new"
        new.write_text(json.dumps({"at": now}), encoding="utf-8")
        os.replace(new, state / _KEPT)
    sys.stdout.flush()
    for command in decision.commands:
        problem = run(command)
        if problem is not None:
            sys.stderr.write(f"{' '.join(command)}: {problem}\n")
            return 1
    return 0


def _last(state: Path) -> float | None:
    try:
        return float(json.loads((state / _KEPT).read_text(encoding="utf-8"))["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _run(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_COMMAND_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return str(problem)
    return None if done.returncode == 0 else done.stdout.strip() or f"status {done.returncode}"


def main(arguments: Sequence[str]) -> int:
    """Run it: the policy is the argument, the folder for what is kept is `STATE_DIRECTORY`."""
    (policy,) = arguments
    state = Path(os.environ["STATE_DIRECTORY"])
    return recover(policy, FOLDER, state, cards.Watch().read(timeout=30.0), _run)
