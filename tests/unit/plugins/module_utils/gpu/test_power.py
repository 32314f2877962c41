# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power limits: what is to be set, and setting it in the fake GPU's library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fake_gpu
import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark.power_limits import (
    LimitError,
    PowerLimits,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import power
from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu.power import (
    Card,
    PowerError,
    changes,
    named_in,
)
from ansible_collections.compute_plane.vllm.plugins.modules import gpu_power
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_args import patch_module_args

ONE, TWO = (f"GPU-00000000-0000-4000-8000-00000000000{number}" for number in (1, 2))
ROOT = Path(__file__).parents[5]


def card(uuid: str = ONE, limit: int = 350, persistence: bool | None = True) -> Card:
    return Card(uuid, "RTX 3090", limit * 1000, 350_000, persistence)


@pytest.mark.parametrize(
    ("cards", "wanted", "former", "expected"),
    [
        pytest.param([card()], {}, [], [], id="nothing wanted, nothing done"),
        pytest.param([card(limit=300)], {}, [], [], id="one set by hand is left alone"),
        pytest.param([card()], {ONE: 280}, [], [(ONE, 280, False)], id="a limit"),
        pytest.param([card(limit=280)], {ONE: 280.0}, [ONE], [], id="it is set"),
        pytest.param(
            [card(limit=280, persistence=False)],
            {ONE: 280},
            [ONE],
            [(ONE, 280, True)],
            id="persistence mode is off",
        ),
        pytest.param([card(limit=280, persistence=None)], {ONE: 280}, [], [], id="no such mode"),
        pytest.param([card(limit=280)], {}, [ONE], [(ONE, 350, False)], id="not wanted any more"),
        pytest.param([card()], {}, [ONE], [], id="given back already"),
        pytest.param([], {}, [ONE], [], id="a card that was taken out"),
        pytest.param(
            [card(limit=280), card(TWO)],
            {TWO: 250},
            [ONE],
            [(TWO, 250, False), (ONE, 350, False)],
            id="another card instead",
        ),
    ],
)
def test_what_is_set(
    cards: list[Card],
    wanted: dict[str, float],
    former: list[str],
    expected: list[tuple[str, int, bool]],
) -> None:
    found = changes(cards, wanted, former)
    assert [(one.card.uuid, one.limit // 1000, one.persistence) for one in found] == expected


def test_a_wanted_card_is_not_there() -> None:
    with pytest.raises(PowerError, match=TWO):
        changes([card()], {ONE: 280, TWO: 280}, [])


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("", []),
        ("[Service]\nExecStart=/usr/bin/python3 -I /opt/vllm/power/power.py\n", []),
        (
            f"[Service]\nExecStart=/usr/bin/python3 -I /o/power.py {ONE}=280.0 {TWO}=250\n",
            [ONE, TWO],
        ),
        ("[Service]\nExecStart=/usr/bin/other A=1\n", []),
    ],
)
def test_the_cards_of_an_installed_unit(unit: str, expected: list[str]) -> None:
    assert named_in(unit) == expected


# -- with the fake GPU's library ------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fake-gpu")
    fake_gpu.build(folder)
    return folder


class Machine:
    """A machine with two cards, and what runs there."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.ini = folder / "machine.ini"
        self.unit = folder / "vllm-power.service"
        self.library = library
        self.ini.write_text("[machine]\n[gpu]\n[gpu]\nname = NVIDIA RTX A4000\n")

    def boot(self) -> None:
        """The driver is loaded anew, and has forgotten what was set."""
        Path(f"{self.ini}.set").unlink(missing_ok=True)

    def write_unit(self, limits: dict[str, float]) -> None:
        """What the role's template has of it."""
        words = " ".join(f"{uuid}={limit}" for uuid, limit in limits.items())
        self.unit.write_text(f"[Service]\nExecStart=/usr/bin/python3 -I /opt/power.py {words}\n")

    def start_unit(self) -> subprocess.CompletedProcess[str]:
        """The program, as the unit runs it at boot."""
        words = self.unit.read_text().splitlines()[1].split("power.py ")[1].split()
        return subprocess.run(
            [sys.executable, "-I", power.__file__, *words],
            env={
                "PATH": os.environ["PATH"],
                "LD_LIBRARY_PATH": str(self.library),
                "FAKE_GPU_CONF": str(self.ini),
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def limits(self) -> list[tuple[int, bool | None]]:
        """What the driver says, by the collection's other reader: nvidia-smi."""
        done = subprocess.run(
            [self.library / "nvidia-smi", "-q", "-x"],
            env={"FAKE_GPU_CONF": str(self.ini)},
            capture_output=True,
            text=True,
            check=True,
        )
        from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu import nvidia_smi

        gpus = nvidia_smi.parse(done.stdout, done.stderr, 0)["gpus"]
        return [(gpu["power_limit_watts"], gpu["persistence_mode"]) for gpu in gpus]


@pytest.fixture
def machine(tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path, library)
    monkeypatch.setattr(power, "LIBRARY", str(library / "libnvidia-ml.so.1"))
    monkeypatch.setenv("FAKE_GPU_CONF", str(made.ini))
    return made


def run(
    machine: Machine, capsys: pytest.CaptureFixture[str], limits: dict[str, Any], **more: Any
) -> dict[str, Any]:
    arguments = {"limits": limits, "unit": str(machine.unit), **more}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        gpu_power.main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_a_limit_is_set_said_before_and_set_once(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    said = run(machine, capsys, {ONE: 280}, _ansible_check_mode=True, _ansible_diff=True)
    assert machine.limits() == [(350, False), (350, False)]
    done = run(machine, capsys, {ONE: 280}, _ansible_diff=True)
    assert machine.limits() == [(280, True), (350, False)]
    assert said["cards"] == done["cards"]
    assert (said["changed"], done["changed"]) == (True, True)
    assert done["diff"] == {
        "before": f"NVIDIA GeForce RTX 3090 ({ONE}): limit 350 W, persistence mode off\n",
        "after": f"NVIDIA GeForce RTX 3090 ({ONE}): limit 280 W, persistence mode on\n",
    }
    assert run(machine, capsys, {ONE: 280})["changed"] is False


def test_the_unit_sets_it_again_at_boot(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    run(machine, capsys, {ONE: 280, TWO: 140})
    machine.write_unit({ONE: 280.0, TWO: 140.0})
    machine.boot()
    assert machine.limits() == [(350, False), (350, False)]
    started = machine.start_unit()
    assert (started.returncode, started.stderr) == (0, "")
    assert [limit for limit, _mode in machine.limits()] == [280, 140]
    assert ONE in started.stdout


def test_what_is_not_wanted_any_more_gets_its_own_limit_back(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    run(machine, capsys, {ONE: 280, TWO: 250})
    machine.write_unit({ONE: 280.0, TWO: 250.0})
    assert run(machine, capsys, {TWO: 250})["cards"] == [
        f"NVIDIA GeForce RTX 3090 ({ONE}): limit 350 W, persistence mode on"
    ]
    assert [limit for limit, _mode in machine.limits()] == [350, 250]
    # As vllm_uninstall asks for it.
    assert run(machine, capsys, {})["changed"] is True
    assert [limit for limit, _mode in machine.limits()] == [350, 350]
    assert run(machine, capsys, {})["changed"] is False


def test_a_limit_out_of_range_is_told_and_changes_nothing(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    said = run(machine, capsys, {ONE: 500})
    assert said["failed"] is True
    assert "a limit of 500 W: Invalid Argument" in said["msg"]
    assert [limit for limit, _mode in machine.limits()] == [350, 350]


def test_a_lost_card_is_told_and_does_not_keep_the_others(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.ini.write_text("[machine]\n[gpu]\nlost = 1\n[gpu]\n")
    said = run(machine, capsys, {ONE: 280, TWO: 280})
    assert said["failed"] is True
    assert ONE in said["msg"]
    assert TWO not in said["msg"]
    assert run(machine, capsys, {TWO: 280})["changed"] is True
    machine.write_unit({ONE: 280.0, TWO: 280.0})
    assert run(machine, capsys, {})["changed"] is True
    started = machine.start_unit()
    assert (started.returncode, ONE in started.stderr, TWO in started.stdout) == (1, True, True)


def test_a_driver_that_hangs(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.ini.write_text("[machine]\nnvml = hang\n[gpu]\n")
    said = run(machine, capsys, {ONE: 280}, timeout=1.0)
    assert said["failed"] is True
    assert "within 1 s" in said["msg"]
    # Nothing keeps an uninstall from going on.
    machine.write_unit({ONE: 280.0})
    said = run(machine, capsys, {}, timeout=1.0)
    assert said["changed"] is False
    assert "failed" not in said


def test_no_driver(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.write_unit({ONE: 280.0})
    machine.ini.write_text("[machine]\nnvml = 9\n[gpu]\n")
    assert "Driver Not Loaded" in run(machine, capsys, {ONE: 280})["msg"]
    assert run(machine, capsys, {})["changed"] is False
    started = machine.start_unit()
    assert started.returncode == 1
    assert "Driver Not Loaded" in started.stderr


def test_limits_while_settings_are_compared(machine: Machine) -> None:
    limits = PowerLimits([ONE])
    limits.give_back()
    assert machine.limits() == [(350, False), (350, False)]
    limits.set({ONE: 280, TWO: 120})
    assert [limit for limit, _mode in machine.limits()] == [280, 350]
    limits.set({})
    assert [limit for limit, _mode in machine.limits()] == [350, 350]
    limits.set({ONE: 250})
    limits.give_back()
    assert [limit for limit, _mode in machine.limits()] == [350, 350]


def test_a_limit_that_somebody_else_sets_meanwhile_stays(machine: Machine) -> None:
    limits = PowerLimits([ONE])
    limits.set({ONE: 280})
    power.apply({ONE: 300}, [], check=False)
    limits.give_back()
    assert [limit for limit, _mode in machine.limits()] == [300, 350]


def test_a_limit_that_the_driver_does_not_take(machine: Machine) -> None:
    limits = PowerLimits([ONE])
    with pytest.raises(LimitError, match="a limit of 20 W: "):
        limits.set({ONE: 20})
    limits.give_back()
    assert [limit for limit, _mode in machine.limits()] == [350, 350]


def test_a_card_that_tells_no_limit(machine: Machine) -> None:
    with pytest.raises(LimitError, match="GPU-none does not tell its power limit"):
        PowerLimits([ONE, "GPU-none"])


def test_a_driver_that_is_gone_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = PowerLimits([ONE])
    limits.set({ONE: 280})
    monkeypatch.setattr(power, "LIBRARY", "libnone.so")
    with pytest.raises(LimitError, match="is not installed"):
        limits.give_back()
    with pytest.raises(LimitError, match="is not installed"):
        PowerLimits([ONE])


def test_without_cards_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "limits_now", lambda: 1 / 0)
    limits = PowerLimits([])
    limits.set({ONE: 280})
    limits.give_back()


def test_the_roles_unit_names_what_the_program_reads() -> None:
    from jinja2 import Environment

    role = ROOT / "roles" / "vllm_gpu"
    variables = yaml.safe_load((role / "vars" / "main.yml").read_text())
    template = (role / "templates" / "vllm-power.service.j2").read_text()
    plan = {"plan": {"gpu_power": {TWO: 250.0, ONE: 280.0}}}
    environment = Environment(trim_blocks=True, keep_trailing_newline=True)
    unit = environment.from_string(template).render(**variables, vllm_preflight_result=plan)
    assert named_in(unit) == [ONE, TWO]
    assert f"power.py {ONE}=280.0 {TWO}=250.0\n" in unit
