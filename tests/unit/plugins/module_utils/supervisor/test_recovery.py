# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done about lost cards, and that it is bounded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.cards import (
    REBOOT_HOST,
    RESET_CARD,
    Attempts,
    Card,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.recovery import (
    asked,
    decide,
    recover,
)

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_000_000.0
WELL, SICK, ILL = Card("GPU-1"), Card("GPU-2", action=1), Card("GPU-3", lost=True)
START = ("systemctl", "start", "--no-block", "vllm@a.service")
REBOOT = ("systemctl", "reboot")


def reset(uuid: str) -> tuple[str, ...]:
    return ("nvidia-smi", "--gpu-reset", f"--id={uuid}")


@pytest.mark.parametrize(
    ("policy", "found", "ago", "commands", "counts", "words"),
    [
        pytest.param(
            RESET_CARD, [WELL, SICK], None, (reset("GPU-2"), START), True, "GPU-2", id="reset"
        ),
        pytest.param(
            RESET_CARD,
            [SICK, ILL],
            3600,
            (reset("GPU-2"), reset("GPU-3"), START),
            True,
            "GPU-3",
            id="both, an hour later",
        ),
        pytest.param(
            RESET_CARD, [SICK], 3599, (), False, "the last reset was 60 min", id="too early"
        ),
        pytest.param(
            RESET_CARD, [Card("", lost=True)], None, (), False, "reboot the host", id="nameless"
        ),
        pytest.param(
            RESET_CARD, [], None, (), False, "reboot the host", id="no driver to reset by"
        ),
        pytest.param(RESET_CARD, [WELL], 10, (START,), False, "no card is lost", id="well again"),
        pytest.param(REBOOT_HOST, [WELL, ILL], None, (REBOOT,), True, "GPU-3 is lost", id="reboot"),
        pytest.param(REBOOT_HOST, [ILL], 86_399, (), False, "one in 24 h", id="one a day"),
        pytest.param(REBOOT_HOST, [ILL], 86_400, (REBOOT,), True, "rebooted", id="a day later"),
        pytest.param(REBOOT_HOST, [], None, (REBOOT,), True, "does not answer", id="driver hangs"),
        pytest.param(REBOOT_HOST, [WELL], None, (START,), False, "no card is lost", id="none lost"),
        # A clock that was set back must not keep a host from it.
        pytest.param(REBOOT_HOST, [ILL], -10, (REBOOT,), True, "rebooted", id="clock set back"),
    ],
)
def test_what_is_done(
    policy: str,
    found: list[Card],
    ago: float | None,
    commands: tuple[tuple[str, ...], ...],
    counts: bool,
    words: str,
) -> None:
    last = None if ago is None else NOW - ago
    decision = decide(policy, ["a"], found, last, NOW)
    assert (decision.commands, decision.counts) == (commands, counts)
    assert words in decision.why


class Host:
    """A host whose commands are noted; those of `fails` fail."""

    def __init__(self, folder: Path, *fails: str) -> None:
        self.lost, self.state = folder / "lost", folder / "state"
        self.state.mkdir()
        self.fails = fails
        self.ran: list[str] = []

    def ask(self, name: str) -> None:
        """What a supervisor does whose card is lost."""
        folder = self.lost / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gpu-lost.json").unlink(missing_ok=True)
        assert Attempts(str(folder)).take(REBOOT_HOST)

    def run(self, command: Sequence[str]) -> str | None:
        self.ran.append(" ".join(command))
        return "it is in use" if command[0] in self.fails else None

    def recover(self, policy: str, *found: Card) -> int:
        return recover(policy, self.lost, self.state, found, self.run)


def test_who_asks_is_heard_once(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert asked(host.lost) == []
    for name in ("b", "a", "Bad name"):
        host.ask(name)
    assert asked(host.lost) == ["a", "b"]
    assert asked(host.lost) == []


def test_one_reboot_and_none_soon_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = Host(tmp_path)
    assert host.recover(REBOOT_HOST, ILL) == 0
    assert host.ran == []  # nobody has asked
    host.ask("a")
    host.ask("b")
    assert host.recover(REBOOT_HOST, ILL) == 0
    assert host.ran == ["systemctl reboot"]
    assert "asked by a, b: the driver: GPU-3 is lost" in capsys.readouterr().out
    host.ask("a")
    assert host.recover(REBOOT_HOST, ILL) == 0
    assert host.ran == ["systemctl reboot"]
    assert "needs somebody to look" in capsys.readouterr().out


def test_a_reset_that_fails_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = Host(tmp_path, "nvidia-smi")
    host.ask("a")
    assert host.recover(RESET_CARD, SICK) == 1
    assert host.ran == ["nvidia-smi --gpu-reset --id=GPU-2"]
    assert "--id=GPU-2: it is in use" in capsys.readouterr().err
    # It counts all the same.
    assert json.loads((host.state / "last.json").read_text())["at"] > 0


def test_what_is_kept_and_cut_off_counts_for_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path)
    (host.state / "last.json").write_text("{")
    host.ask("a")
    assert host.recover(RESET_CARD, SICK) == 0
    assert host.ran[-1] == "systemctl start --no-block vllm@a.service"
