# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lost cards: what the driver and the kernel tell, what follows, and the fake GPU's own words."""

from __future__ import annotations

import ctypes
import re
from typing import TYPE_CHECKING

import fake_gpu
import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import cards
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.cards import (
    CAUSES,
    FAIL,
    LOST,
    MEMORY,
    OVERHEATED,
    REBOOT_HOST,
    RESET,
    RESET_CARD,
    RESTART,
    WANTED,
    Attempts,
    Card,
    Trouble,
    Watch,
    explains,
    may_try,
    named,
    trouble,
    trouble_in_kernel,
)

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO = (f"GPU-00000000-0000-4000-8000-00000000000{number}" for number in (1, 2))
CARD = Card(ONE, celsius=60, slowdown=93)


@pytest.mark.parametrize(
    ("card", "cause", "evidence"),
    [
        (CARD, None, ""),
        (Card(ONE, lost=True), LOST, f"{ONE} is lost"),
        (Card("", lost=True), LOST, "a GPU is lost"),
        (Card(ONE, xids=(13, 31, 43, 94), celsius=60), None, ""),
        (Card(ONE, xids=(79,), celsius=60, slowdown=93), LOST, "Xid 79; it had 60 °C"),
        (
            Card(ONE, lost=True, celsius=95, slowdown=93),
            OVERHEATED,
            "it had 95 °C, and slows down at 93",
        ),
        (Card(ONE, xids=(48,)), MEMORY, "Xid 48, double-bit memory error"),
        (Card(ONE, xids=(95,)), MEMORY, "Xid 95, uncontained"),
        (Card(ONE, xids=(119, 154)), RESET, "Xid 119"),
        (Card(ONE, xids=(154,)), None, ""),
        (Card(ONE, action=1), RESET, "asks for a reset of the GPU"),
        (Card(ONE, action=2), RESET, "asks for a reboot"),
        (Card(ONE, action=4), None, ""),
        (Card(ONE, xids=(48, 79), action=2), LOST, "Xid 79"),
        # A card that is hot, and answers, goes on.
        (Card(ONE, celsius=97, slowdown=93), None, ""),
    ],
)
def test_what_the_driver_tells(card: Card, cause: str | None, evidence: str) -> None:
    found = trouble([CARD, card])
    assert (found.cause if found else None) == cause
    assert evidence in (found.evidence if found else "")


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("NVRM: Xid (PCI:0000:01:00): 79, pid=1100, GPU has fallen off the bus.", LOST),
        ("NVRM: GPU at PCI:0000:01:00: GPU-1 has fallen off the bus.", LOST),
        ("NVRM: GPU 0000:01:00.0: GPU has fallen off the bus.", LOST),
        ("NVRM: Xid (PCI:0000:01:00): 48, An uncorrectable double bit error (DBE)", MEMORY),
        ("NVRM: Xid (PCI:0000:65:00): 94, pid=12345, Contained: ECC error", None),
        ("NVRM: Xid (PCI:0000:65:00): 95, pid=12345, Uncontained: ECC error", MEMORY),
        ("NVRM: Xid (PCI:0000:01:00): 31, pid=1, name=python, MMU Fault", None),
        ("NVRM: Xid (PCI:0000:01:00): 119, Timeout waiting for RPC from GSP!", RESET),
        ("Out of memory: Killed process 11 (python)", None),
        *(
            (f"NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from {change}", cause)
            for change, cause in (
                ("0x0 (None) to 0x1 (GPU Reset Required)", RESET),
                ("0x0 (None) to 0x1 (PF FLR)", RESET),
                ("0x0 (None) to 0x2 (Node Reboot Required)", RESET),
                ("0x0 (None) to 0x2 (OS Reboot)", RESET),
                ("0x0 (None) to 0x4 (Drain and Reset)", None),
                ("0x2 (Node Reboot Required) to 0x0 (None)", None),
            )
        ),
    ],
)
def test_what_the_kernel_tells(line: str, cause: str | None) -> None:
    found = trouble_in_kernel(["NVRM: loading NVIDIA UNIX", line])
    assert (found.cause if found else None) == cause
    assert found is None or found.evidence == f"kernel: {line}"


def test_the_worst_of_several_lines_counts() -> None:
    lines = [
        "NVRM: Xid (PCI:0000:01:00): 119, Timeout waiting for RPC from GSP!",
        "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.",
    ]
    assert (trouble_in_kernel(lines) or Trouble("", "")).cause == LOST


@pytest.mark.parametrize(
    ("what", "cause", "ours", "expected"),
    [
        (LOST, "engine_died", True, True),
        (LOST, "unknown_flag", True, True),
        # Another server's card, for all that the kernel says.
        (LOST, "unknown_flag", False, False),
        (LOST, None, False, True),
        (MEMORY, "unknown_flag", True, False),
        (MEMORY, "gpu_failed", True, True),
        (RESET, "gpu_out_of_memory", True, False),
        (RESET, None, True, True),
    ],
)
def test_whether_a_server_ended_with_its_card(
    what: str, cause: str | None, ours: bool, expected: bool
) -> None:
    assert explains(Trouble(what, ""), cause, ours) is expected


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, []),
        ("", []),
        ("0,1", []),
        (f"{ONE}, {TWO}", [ONE, TWO]),
        ("MIG-1", []),
    ],
)
def test_the_cards_of_a_server(visible: str | None, expected: list[str]) -> None:
    assert named(visible) == expected


def test_every_cause_has_a_remedy() -> None:
    for summary, remedy in CAUSES.values():
        assert not summary.endswith(".")
        assert re.search(r"[Rr]eboot|reset", remedy)
        assert "systemctl start" in remedy


# -- starting again -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "last", "expected"),
    [
        (FAIL, None, False),
        (RESTART, None, True),
        (RESTART, 10_000 - 60, False),
        (RESTART, 10_000 - 3599, False),
        (RESTART, 10_000 - 3600, True),
        (RESET_CARD, None, True),
        (REBOOT_HOST, 10_000 - 60, False),
        # A clock that was set back must not keep a server down.
        (RESTART, 20_000, True),
    ],
)
def test_attempts_are_bounded(policy: str, last: float | None, expected: bool) -> None:
    assert may_try(policy, last, 10_000) is expected


@pytest.mark.parametrize("policy", [RESTART, RESET_CARD, REBOOT_HOST])
def test_root_is_asked_for_what_is_roots_once(tmp_path: Path, policy: str) -> None:
    asked = tmp_path / WANTED
    assert Attempts(str(tmp_path)).take(policy) is True
    assert asked.exists() == (policy != RESTART)
    asked.unlink(missing_ok=True)
    assert Attempts(str(tmp_path)).take(policy) is False
    assert not asked.exists()


def test_attempts_are_kept(tmp_path: Path) -> None:
    assert Attempts(None).take(RESTART) is False
    assert Attempts(str(tmp_path)).take(FAIL) is False
    assert Attempts(str(tmp_path)).take(RESTART) is True
    again = Attempts(str(tmp_path))
    assert (again.count, again.take(RESTART)) == (1, False)
    (tmp_path / "gpu-lost.json").write_text("{")
    assert Attempts(str(tmp_path)).count == 0


# -- the fake GPU's library -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fake-gpu")
    fake_gpu.build(folder)
    return folder


@pytest.fixture
def machine(tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a machine with two cards; to write it again is what happens to them."""
    # The library keeps its machine for its process, so each test loads one of its own.
    own = tmp_path / "libnvidia-ml.so.1"
    own.write_bytes((library / own.name).read_bytes())
    ini = tmp_path / "machine.ini"
    ini.write_text("[machine]\n[gpu]\n[gpu]\n")
    monkeypatch.setattr(cards, "LIBRARY", str(own))
    monkeypatch.setenv("FAKE_GPU_CONF", str(ini))
    return ini


def test_a_card_that_is_lost_while_somebody_watches(machine: Path) -> None:
    watch = Watch([TWO])
    assert watch.read() == [Card(TWO, celsius=40, slowdown=93)]
    machine.write_text("[machine]\n[gpu]\n[gpu]\nxid = 79\nlost = 1\n")
    [card] = watch.read()
    assert (card.lost, card.xids, card.celsius) == (True, (79,), 40)
    assert (trouble([card]) or Trouble("", "")).cause == LOST


def test_a_card_that_gets_too_hot_first(machine: Path) -> None:
    watch = Watch([ONE])
    machine.write_text("[machine]\n[gpu]\ntemperature = 96\n[gpu]\n")
    assert trouble(watch.read()) is None
    assert trouble(watch.read()) is None
    machine.write_text("[machine]\n[gpu]\nlost = 1\n[gpu]\n")
    found = trouble(watch.read())
    assert found is not None
    assert (found.cause, "96 °C" in found.evidence) == (OVERHEATED, True)


def test_another_servers_card(machine: Path) -> None:
    watch = Watch([ONE])
    watch.read()
    machine.write_text("[machine]\n[gpu]\n[gpu]\nxid = 79\nlost = 1\n")
    assert trouble(watch.read()) is None


@pytest.mark.parametrize(
    ("uuids", "expected"),
    [([ONE], LOST), ([TWO], None), ([], LOST)],
)
def test_a_card_that_was_lost_before(machine: Path, uuids: list[str], expected: str | None) -> None:
    machine.write_text("[machine]\n[gpu]\nlost = 1\n[gpu]\n")
    found = trouble(Watch(uuids).read())
    assert (found.cause if found else None) == expected


def test_a_card_whose_driver_asks_for_a_reset(machine: Path) -> None:
    machine.write_text("[machine]\n[gpu]\nrecovery_action = 1\n[gpu]\n")
    assert trouble(Watch([ONE]).read()) == Trouble(
        RESET, f"the driver: {ONE} asks for a reset of the GPU"
    )


def test_an_xid_is_told_once_and_remembered(machine: Path) -> None:
    watch = Watch([ONE])
    watch.read()
    machine.write_text("[machine]\n[gpu]\nxid = 95\n[gpu]\n")
    assert [card.xids for card in watch.read()] == [(95,)]
    assert [card.xids for card in watch.read()] == [(95,)]


def test_a_host_without_a_driver(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    machine.write_text("[machine]\nnvml = 9\n[gpu]\n")
    assert Watch([ONE]).read() == []
    monkeypatch.setattr(cards, "LIBRARY", "libnothing-of-the-kind.so.1")
    assert Watch([ONE]).read() == []


def test_what_is_read_has_the_form_that_pynvml_reads() -> None:
    """Its author is NVIDIA; here nothing but ctypes is at hand."""
    pynvml = pytest.importorskip("pynvml")
    event, field = pynvml.c_nvmlEventData_t, pynvml.c_nvmlFieldValue_t
    assert ctypes.sizeof(cards._Event) == ctypes.sizeof(event)
    assert cards._Event.data.offset == event.eventData.offset
    assert cards._Event.type.offset == event.eventType.offset
    assert ctypes.sizeof(cards._Field) == ctypes.sizeof(field)
    assert cards._Field.result.offset == field.nvmlReturn.offset
    assert cards._Field.value.offset == field.value.offset
    assert pynvml.NVML_ERROR_GPU_IS_LOST == cards._GPU_IS_LOST
    assert pynvml.NVML_ERROR_FUNCTION_NOT_FOUND == cards._NO_FUNCTION
    assert pynvml.nvmlEventTypeXidCriticalError == cards._XID_EVENTS
    assert pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION == cards._RECOVERY_ACTION
    assert pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN == cards._SLOWDOWN
    names = {
        value: name.rpartition("RECOVERY_ACTION_")[2]
        for name, value in vars(pynvml).items()
        if name.startswith("NVML_GPU_RECOVERY_ACTION_")
    }
    assert {names[action] for action in cards._ACTIONS} == {
        "GPU_RESET",
        "NODE_REBOOT",
        "BUS_RESET",
        "SYSTEM_REBOOT",
    }
