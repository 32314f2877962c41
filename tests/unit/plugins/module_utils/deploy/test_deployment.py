# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy import deployment as d

WANTED: dict[str, Any] = {
    "name": "a",
    "venv": "/opt/vllm/releases/r1",
    "config": {"model": "/m", "port": 8000, "max-model-len": 4096},
    "environment": {"X": 1},
    "url": "http://127.0.0.1:8000",
    "served_model_name": "a",
}


COMMON = d.Common("0.14.1", "[Service]\nType=notify\n", "/opt/vllm/supervisor/0123456789ab")


def make(**changes: Any) -> d.Deployment:
    return d.deployment({**WANTED, **changes}, COMMON, [])


def on(nodes: list[str] | None = None, **changes: Any) -> d.Deployment:
    return d.deployment(WANTED, dataclasses.replace(COMMON, **changes), nodes or [])


def test_a_deployment_is_what_the_plan_says() -> None:
    one = make()
    assert one.unit_name == "vllm@a.service"
    assert (one.release, one.venv, one.max_model_len) == ("0.14.1", WANTED["venv"], 4096)
    assert 'model: "/m"\n' in one.config_text
    assert f'Environment="COMPUTE_PLANE_FINGERPRINT={one.fingerprint}"\n' in one.drop_in_text
    assert 'Environment="X=1"\n' in one.drop_in_text


def test_no_context_length_wanted_is_none_checked() -> None:
    assert make(config={"model": "/m"}).max_model_len is None


@pytest.mark.parametrize(
    "changes",
    [
        {"venv": "/opt/vllm/releases/r2"},
        {"config": {**WANTED["config"], "port": 8001}},
        {"environment": {"X": 2}},
        {"environment": {}},
    ],
)
def test_another_configuration_has_another_fingerprint(changes: dict[str, Any]) -> None:
    assert make(**changes).fingerprint != make().fingerprint


@pytest.mark.parametrize(
    "unit",
    [
        "[Service]\nType=notify\nUMask=0077\n",
        "[Service]\nType=exec\n",
        "[Service]\n",
    ],
)
def test_a_unit_that_the_server_sees_otherwise_has_another_fingerprint(unit: str) -> None:
    assert on(unit=unit).fingerprint != make().fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"unit": "# said otherwise\n[Service]\n\n  # and here\nType=notify\n"},
        {"unit": "[Unit]\nAfter=x\n[Service]\nType=notify\n[Install]\nWantedBy=y\n"},
        {"unit": "[Service]\nType=notify\nRestartSec=9\nTimeoutStopSec=9\n"},
        {"unit": "[Service]\nType=notify\nMemoryMax=50%\nTasksMax=9\n"},
        {"start_timeout": 99},
        {"start_stall": 99},
        {"drain": 99},
        {"starts": 9},
    ],
)
def test_what_needs_no_restart_has_the_same_fingerprint(changes: dict[str, Any]) -> None:
    other = on(**changes)
    assert other.fingerprint == make().fingerprint
    assert other != make()


def test_limits_of_its_own_are_in_the_drop_in_and_need_no_restart() -> None:
    one = make(limits={"memory_max": "20G", "tasks_max": "512"})
    assert "[Service]" in one.drop_in_text.split("MemoryMax=20G\nTasksMax=512\n")[0]
    assert one.fingerprint == make().fingerprint
    assert make(limits={"memory_max": None, "tasks_max": None}) == make()
    assert make(limits={"tasks_max": "9"}).drop_in_text.count("MemoryMax") == 0


def test_another_supervisor_and_other_devices_need_a_restart() -> None:
    assert on(supervisor="/opt/vllm/supervisor/ba9876543210").fingerprint != make().fingerprint
    assert on(closed_devices=False).fingerprint != make().fingerprint
    assert on(["/dev/nvidia0"]).fingerprint != on(["/dev/nvidia1"]).fingerprint


def test_a_truthful_health_needs_no_restart_of_what_was_started_before_it_came() -> None:
    assert "health" not in " ".join(on(truthful_health=True).command)
    assert on(truthful_health=True).fingerprint == make().fingerprint
    off = on(truthful_health=False)
    assert "--no-truthful-health" in off.command
    assert off.fingerprint != make().fingerprint  # an older supervisor does not know the option


def test_what_follows_of_a_lost_card_needs_no_restart_where_it_is_the_default() -> None:
    card = ["/dev/nvidia0"]
    assert on(card, gpu_lost="fail") == on(card)
    allowed = on(card, gpu_lost="restart")
    assert "--gpu-lost=restart" in allowed.command
    assert "StateDirectory=vllm/lost/" in allowed.drop_in_text
    assert allowed.fingerprint != on(card).fingerprint
    assert on(gpu_lost="restart") == make()  # it has no card


def test_what_sleeps_is_told_to_the_supervisor_and_to_the_broker() -> None:
    demand = {"share": "s", "idle_after": 9, "wake_timeout": 9, "size": {"G": 8}, "room": {"G": 9}}
    config = {**WANTED["config"], "uds": "/run/vllm/a/server.sock"}
    stops = make(on_demand=demand, config=config)
    assert not [word for word in stops.command if word.startswith("--sleep")]
    sleep = {"sleep_level": 1, "asleep": {"G": 1}, "sleep_memory": 123}
    sleeps = make(on_demand={**demand, **sleep}, config=config)
    assert "--sleep-level=1" in sleeps.command
    assert "--sleep-memory=123" in sleeps.command
    assert json.loads(sleeps.demand_text or "")["asleep"] == {"G": 1}
    assert sleeps.fingerprint != stops.fingerprint
    # A model that is now known to take more of the host's memory is no reason for a start.
    sleep["sleep_memory"] = 124
    more = make(on_demand={**demand, **sleep}, config=config)
    assert more.fingerprint == sleeps.fingerprint
    # The server is opened for that by the supervisor alone, which guards it.
    assert "VLLM_SERVER_DEV_MODE" not in sleeps.drop_in_text


def test_a_server_on_the_cpu_opens_no_device_and_waits_for_none() -> None:
    assert "DevicePolicy=closed\n" in make().drop_in_text
    assert "DeviceAllow" not in make().drop_in_text
    assert "--device" not in make().drop_in_text


def test_a_server_opens_its_own_gpus_and_waits_for_them() -> None:
    text = on(["/dev/nvidia1"]).drop_in_text
    assert "DeviceAllow=/dev/char/195:1 rw\n" in text
    assert "DeviceAllow=/dev/char/195:0 rw\n" not in text
    assert '"--device=/dev/nvidia1" "--device=/dev/nvidiactl" "--device=/dev/nvidia-uvm"' in text


def test_the_device_policy_is_relaxed_by_one_switch() -> None:
    text = on(["/dev/nvidia1"], closed_devices=False).drop_in_text
    assert "DevicePolicy=auto\n" in text
    assert "DeviceAllow" not in text


def test_the_model_and_the_release_must_be_mounted() -> None:
    text = make().drop_in_text
    assert text.index('[Unit]\nRequiresMountsFor="/m"\n') < text.index("[Service]")
    assert f'RequiresMountsFor="{WANTED["venv"]}"\n' in text


ONE, TWO = make(), make(venv="/opt/vllm/releases/r2")


@pytest.mark.parametrize(
    ("before", "proved", "after"),
    [
        (d.Record(ONE), ONE, d.Record(ONE)),
        (d.Record(ONE), TWO, d.Record(TWO, ONE)),
        (d.Record(TWO, ONE), TWO, d.Record(TWO, ONE)),
        (d.Record(TWO, ONE), ONE, d.Record(ONE, TWO)),  # a rollback, from which one can go back
    ],
)
def test_what_was_proved_before_is_kept(
    before: d.Record, proved: d.Deployment, after: d.Record
) -> None:
    assert before.proved(proved) == after


@pytest.mark.parametrize("record", [d.Record(ONE), d.Record(TWO, ONE)])
def test_a_record_is_read_as_it_was_written(record: d.Record) -> None:
    assert d.read_record(d.proved_text(record)) == record


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        d.proved_text(d.Record(ONE))[:-20],
        "[]",
        "{}",
        '{"schema": 1, "current": {}, "previous": null}',
        '{"schema": 2, "current": {}, "previous": null}',
        json.dumps({"schema": 99, "current": dataclasses.asdict(ONE), "previous": None}),
    ],
)
def test_what_is_no_record_is_none(text: str | None) -> None:
    assert d.read_record(text) is None
