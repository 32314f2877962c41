# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done about lost cards, and that it is bounded."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.cards import (
    REBOOT_HOST,
    RESET_CARD,
    WANTED,
    Attempts,
    Card,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.recovery import (
    Finding,
    asked,
    decide,
    recover,
)

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_000_000.0
WELL, SICK, ILL = Card("GPU-1"), Card("GPU-2", action=1), Card("GPU-3", lost=True)
INSTANCES = {"a": ["GPU-2"], "b": ["GPU-2"], "c": ["GPU-1"]}
KERNEL = "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus."


@pytest.mark.parametrize(
    ("policy", "found", "ago", "reset", "reboot", "start", "words"),
    [
        pytest.param(
            RESET_CARD, [WELL, SICK], None, ["GPU-2"], False, True, "GPU-2 is reset", id="reset"
        ),
        pytest.param(
            RESET_CARD, [SICK, ILL], 3600, ["GPU-2", "GPU-3"], False, True, "GPU-3", id="both"
        ),
        pytest.param(RESET_CARD, [SICK], 3599, [], False, False, "60 min ago", id="too early"),
        pytest.param(
            RESET_CARD, [Card("", lost=True)], None, [], False, False, "reboot", id="nameless"
        ),
        pytest.param(RESET_CARD, None, None, [], False, False, "reboot the host", id="it hangs"),
        pytest.param(RESET_CARD, [WELL], 10, [], False, True, "no card is lost", id="well again"),
        pytest.param(REBOOT_HOST, [WELL, ILL], None, [], True, False, "GPU-3 is lost", id="reboot"),
        pytest.param(REBOOT_HOST, [ILL], 86_399, [], False, False, "one in 24 h", id="one a day"),
        pytest.param(REBOOT_HOST, [ILL], 86_400, [], True, False, "rebooted", id="a day later"),
        pytest.param(REBOOT_HOST, None, None, [], True, False, "not answer", id="driver hangs"),
        pytest.param(REBOOT_HOST, [WELL], None, [], False, True, "no card is lost", id="none lost"),
        # Without a driver that can be asked nobody gets a reboot by asking.
        pytest.param(REBOOT_HOST, [], None, [], False, False, "cannot be asked", id="no driver"),
        # A clock that is behind at each boot is no way to a reboot at each boot.
        pytest.param(REBOOT_HOST, [ILL], -600, [], False, False, "10 min ago", id="clock behind"),
        pytest.param(REBOOT_HOST, [ILL], -90_000, [], True, False, "rebooted", id="long behind"),
    ],
)
def test_what_is_done(
    policy: str,
    found: list[Card] | None,
    ago: float | None,
    reset: list[str],
    reboot: bool,
    start: bool,
    words: str,
) -> None:
    last = None if ago is None else NOW - ago
    decision = decide(policy, Finding(found or [], hangs=found is None), last, NOW)
    assert (list(decision.reset), decision.reboot, decision.start) == (reset, reboot, start)
    assert words in decision.why


def test_what_only_the_kernel_tells() -> None:
    decision = decide(REBOOT_HOST, Finding([WELL], kernel=[KERNEL]), None, NOW)
    assert (decision.reboot, KERNEL in decision.why) == (True, True)
    assert decide(REBOOT_HOST, Finding([WELL], kernel=["usb 1-1: new"]), None, NOW).start


class Host:
    """A host whose commands are noted."""

    def __init__(self, folder: Path, fails: str = "") -> None:
        self.lost, self.kept = folder / "lost", folder / "state"
        self.kept.mkdir()
        self.fails = fails
        self.ran: list[str] = []
        self.states = dict.fromkeys(INSTANCES, "active")
        self.late: list[str] = []
        self.slept = 0.0

    def ask(self, name: str) -> None:
        """What a supervisor does whose card is lost."""
        folder = self.lost / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gpu-lost.json").unlink(missing_ok=True)
        assert Attempts(str(folder)).take(REBOOT_HOST)
        self.states[name] = "failed"

    def run(self, *command: str) -> str | None:
        self.ran.append(" ".join(command))
        return "it is in use" if self.fails and self.fails in command else None

    def state(self, unit: str) -> str:
        return self.states[unit.removeprefix("vllm@").removesuffix(".service")]

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        for name in self.late:
            self.ask(name)
        self.late = []

    def recover(self, policy: str, *found: Card) -> int:
        def find(since: float) -> Finding:
            assert since <= time.time()
            return Finding(found)

        return recover(policy, INSTANCES, self.lost, self.kept, find, self)


def test_who_asks_is_heard_once_and_nobody_else(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert asked(host.lost, INSTANCES) == []
    for name in ("a", "b", "stranger"):
        host.states[name] = ""
        host.ask(name)
    assert asked(host.lost, INSTANCES) == ["a", "b"]
    assert asked(host.lost, INSTANCES) == []
    # Whatever whoever serves puts there, it does not stay, or this would be started for ever.
    (host.lost / "a" / WANTED).mkdir()
    (host.lost / "a" / WANTED / "x").write_text("")
    assert asked(host.lost, INSTANCES) == []
    assert not (host.lost / "a" / WANTED).exists()


def test_one_reboot_and_none_soon_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = Host(tmp_path)
    assert host.recover(REBOOT_HOST, ILL) == 0
    assert (host.ran, host.slept) == ([], 0.0)  # nobody has asked
    host.ask("a")
    host.late = ["b"]
    assert host.recover(REBOOT_HOST, ILL) == 0
    assert host.ran == ["systemctl reboot"]
    assert "asked by a, b: the driver: GPU-3 is lost" in capsys.readouterr().out
    host.ask("a")
    assert host.recover(REBOOT_HOST, ILL) == 0
    assert host.ran == ["systemctl reboot"]
    assert "needs somebody to look" in capsys.readouterr().out


def test_nobody_holds_a_card_that_is_reset(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.ask("a")
    assert host.recover(RESET_CARD, WELL, SICK) == 0
    assert host.ran == [
        "systemctl stop vllm@a.service",
        "systemctl stop vllm@b.service",
        "nvidia-smi --id=GPU-2 --persistence-mode=0",
        "nvidia-smi --gpu-reset --id=GPU-2",
        "nvidia-smi --id=GPU-2 --persistence-mode=1",
        "systemctl try-restart vllm-power.service",
        "systemctl start --no-block vllm@b.service",
        "systemctl start --no-block vllm@a.service",
    ]


def test_a_reset_that_fails_is_told_and_keeps_nobody_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = Host(tmp_path, fails="--gpu-reset")
    host.ask("a")
    assert host.recover(RESET_CARD, SICK) == 1
    assert "it is in use" in capsys.readouterr().err
    assert "systemctl start --no-block vllm@b.service" in host.ran
    # It counts all the same.
    assert json.loads((host.kept / "last.json").read_text())["at"] > 0


def test_a_unit_that_an_operator_has_stopped_is_his(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.ask("a")
    host.states["a"] = "inactive"
    assert host.recover(REBOOT_HOST, WELL) == 0
    assert host.ran == []


def test_what_is_kept_and_cut_off_counts_for_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path)
    (host.kept / "last.json").write_text("{")
    host.ask("a")
    assert host.recover(REBOOT_HOST, ILL) == 0
    assert host.ran == ["systemctl reboot"]
