# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.monitoring import collector
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import (
    classify,
    demand,
    health,
)

RECORD = {
    "state": "verified",
    "fingerprint": "0123456789abcdef",
    "verification": {"at": "2026-11-29T12:00:00Z"},
}


@pytest.mark.parametrize(
    ("active", "told", "state"),
    [
        ("active", "serving", "serving"),
        ("active", "hung while serving", "hung while serving"),
        ("active", "draining", "draining"),
        # A supervisor that is told to leave /health alone says nothing.
        ("active", None, "serving"),
        # What the run before said.
        ("activating", "hung while serving", "starting"),
        ("deactivating", "serving", "draining"),
        ("failed", "given up", "given up"),
        ("inactive", "serving", "stopped"),
    ],
)
def test_what_an_instance_is_doing(active: str, told: str | None, state: str) -> None:
    said = {} if told is None else {"state": told}
    assert collector.state_of({"ActiveState": active}, said) == state


def test_the_words_are_those_of_the_supervisor() -> None:
    assert set(collector.ENDS) == set(classify.BAD)
    told = {health.SERVING, health.DRAINING, health.GIVEN_UP, classify.STARTING, classify.STOPPED}
    told |= {classify.ASLEEP, demand.PUT_OUT}
    assert set(collector.STATES) == told | set(classify.BAD)


@pytest.mark.parametrize(
    ("change", "fingerprint", "backed"),
    [
        ({}, "0123456789abcdef", True),
        ({}, "fedcba9876543210", False),
        ({}, None, False),
        ({"state": "failed"}, "0123456789abcdef", False),
        ({"state": "starting"}, "0123456789abcdef", False),
    ],
)
def test_what_runs_is_backed_by_the_last_verification(
    change: dict[str, str], fingerprint: str | None, backed: bool
) -> None:
    assert collector.is_backed({**RECORD, **change}, fingerprint) is backed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-11-29T12:00:00Z", 1795953600.0),
        ("2026-11-29T13:00:00+01:00", 1795953600.0),
        ("yesterday", None),
        (None, None),
    ],
)
def test_times(text: str | None, value: float | None) -> None:
    assert collector.seconds(text) == value


def samples(text: str) -> dict[str, str]:
    """Values by what stands before them."""
    rows = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, _space, value in rows}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with one instance that serves and one that was given up; systemctl is a stand-in."""
    etc, run, proc = (tmp_path / name for name in ("etc", "run", "proc"))
    for folder in (etc, run / "a", run / "b", proc / "42", tmp_path / "bin"):
        folder.mkdir(parents=True)
    for name in ("a", "b"):
        (etc / f"{name}.yaml").write_text("model: m\n")
    (etc / "b.env").write_text("VLLM_API_KEY=secret\n")
    (etc / "a.endpoint.json").write_text(json.dumps(RECORD))
    (run / "a" / "state.json").write_text('{"state": "serving"}')
    (run / "a" / "verdict.json").write_text('{"ends": {"hung while serving": 3}}')
    (run / "b" / "state.json").write_text("{")
    (proc / "42" / "environ").write_bytes(
        b"A=1\0COMPUTE_PLANE_FINGERPRINT=0123456789abcdef\0VLLM_API_KEY=secret\0"
    )
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.write_text(
        "#!/bin/sh\n"
        "printf 'Id=vllm@a.service\\nActiveState=active\\nMainPID=42\\nNRestarts=3\\n\\n'\n"
        "printf 'Id=vllm@b.service\\nActiveState=failed\\nMainPID=0\\nNRestarts=4\\n'\n"
    )
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return tmp_path


def test_instances(host: Path) -> None:
    found = collector.instances(str(host / "etc"), str(host / "run"), str(host / "proc"))
    text = collector.render(collector.instance_families(found))
    rows = samples(text)
    assert rows['vllm_instance_state{instance_name="a",state="serving"}'] == "1.0"
    assert rows['vllm_instance_state{instance_name="a",state="crashed"}'] == "0.0"
    assert rows['vllm_instance_state{instance_name="b",state="given up"}'] == "1.0"
    assert sum(float(value) for name, value in rows.items() if "_state{" in name) == 2
    hung = 'state="hung while serving"}'
    assert rows[f'vllm_instance_ends_total{{instance_name="a",{hung}'] == "3.0"
    assert rows[f'vllm_instance_ends_total{{instance_name="b",{hung}'] == "0.0"
    assert rows['vllm_instance_restarts_total{instance_name="b"}'] == "4.0"
    assert rows['vllm_instance_verified{instance_name="a"}'] == "1.0"
    verified = 'vllm_instance_verified_timestamp_seconds{instance_name="a"}'
    assert float(rows[verified]) == 1795953600
    # Never verified, so nothing is said of it.
    assert not [name for name in rows if "verified" in name and '"b"' in name]
    assert "secret" not in text


def test_no_instance_is_no_series(tmp_path: Path) -> None:
    found = collector.instances(str(tmp_path / "none"), str(tmp_path), str(tmp_path))
    assert collector.render(collector.instance_families(found)) == ""


GPUS = [
    {
        "gpus": [
            {
                "uuid": "GPU-1",
                "name": "NVIDIA GeForce RTX 3090",
                "memory_total_bytes": 25769803776,
                "power_limit_watts": 350.0,
            }
        ]
    },
    {
        "at": 1.0,
        "gpus": {
            "GPU-1": {
                "memory_used_bytes": 1024,
                "sm_clock_mhz": 1905,
                "memory_clock_mhz": None,
                "power_watts": 338.4,
                "temperature_celsius": 71,
                "utilization_percent": 97,
                "throttle_reasons": 0x4 | 0x1,
            }
        },
    },
]


def test_gpus() -> None:
    rows = samples(collector.render(collector.gpu_families(GPUS)))
    card = '{gpu_uuid="GPU-1",gpu_name="NVIDIA GeForce RTX 3090"}'
    assert rows == {
        "vllm_gpu_collector_success": "1.0",
        f"vllm_gpu_temperature_celsius{card}": "71.0",
        f"vllm_gpu_power_watts{card}": "338.4",
        f"vllm_gpu_power_limit_watts{card}": "350.0",
        f"vllm_gpu_memory_used_bytes{card}": "1024.0",
        f"vllm_gpu_memory_total_bytes{card}": "25769803776.0",
        f"vllm_gpu_utilization_ratio{card}": "0.97",
        f"vllm_gpu_sm_clock_hertz{card}": "1905000000.0",
        **{
            f'vllm_gpu_throttled{card[:-1]},reason="{reason}"}}': value
            for reason, value in {
                "power_cap": "1.0",
                "hw_slowdown": "0.0",
                "sw_thermal": "0.0",
                "hw_thermal": "0.0",
                "hw_power_brake": "0.0",
            }.items()
        },
    }


def test_gpus_as_a_real_driver_tells_them() -> None:
    path = Path(__file__).parents[4] / "fixtures" / "monitoring" / "gpu-h200.jsonl"
    told = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = samples(collector.render(collector.gpu_families(told)))
    found = {name.partition("{")[0]: value for name, value in rows.items() if "H200" in name}
    assert found["vllm_gpu_temperature_celsius"] == "32.0"
    assert found["vllm_gpu_power_watts"] == "85.018"
    assert found["vllm_gpu_sm_clock_hertz"] == "345000000.0"
    assert {value for name, value in rows.items() if "throttled" in name} == {"0.0"}


def test_a_driver_that_does_not_answer_is_told() -> None:
    assert samples(collector.render(collector.gpu_families(None))) == {
        "vllm_gpu_collector_success": "0.0"
    }


@pytest.mark.parametrize(
    "program",
    ["import time; time.sleep(60)", "raise SystemExit(1)", "print('{')", "print('{}')"],
    ids=["hangs", "fails", "is no JSON", "has one line"],
)
def test_a_sampler_that_does_not_answer_is_none(program: str, tmp_path: Path) -> None:
    (tmp_path / "sampler.py").write_text(program)
    assert collector.read_gpus(sys.executable, str(tmp_path / "sampler.py"), 2.0) is None


def test_xids_the_last_of_each_kind_and_card() -> None:
    records = [
        "3,1,5000000,-;NVRM: Xid (PCI:0000:01:00): 79, pid=1, GPU has fallen off the bus.",
        "6,2,6000000,-;usb 1-1: new device",
        "3,3,9000000,-;NVRM: Xid (PCI:0000:01:00): 79, pid=1, GPU has fallen off the bus.",
        "3,4,7000000,-;NVRM: Xid (PCI:0000:02:00): 31, pid=2, name=python",
        "no record",
    ]
    assert collector.xids(records, 1000.0).samples == [
        ({"pci_bus_id": "0000:01:00", "xid": "79"}, 1009.0),
        ({"pci_bus_id": "0000:02:00", "xid": "31"}, 1007.0),
    ]


def test_labels_are_escaped() -> None:
    family = collector.Family("a", "gauge", "b", [({"c": 'x"\\\n'}, 1.0)])
    assert collector.render([family]).splitlines()[-1] == 'a{c="x\\"\\\\\\n"} 1.0'


def test_the_file_is_replaced_whole(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = host / "vllm.prom"
    path.write_text("old")
    replaced: list[tuple[Any, ...]] = []

    def replace(source: str, target: str) -> None:
        replaced.append((Path(source).read_text(encoding="utf-8"), path.read_text()))
        os.rename(source, target)

    monkeypatch.setattr(collector.os, "replace", replace)
    words = [f"--output={path}", f"--etc-dir={host}/etc", f"--run-dir={host}/run"]
    assert collector.main([*words, f"--driver={host}/none"]) == 0
    assert replaced == [(path.read_text(), "old")]
    assert path.stat().st_mode & 0o777 == 0o644
    assert "vllm_gpu" not in path.read_text()
