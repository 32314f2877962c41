# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import gpu_sampler

NVML = type("NVMLError", (Exception,), {})


class Memory:
    total = 24 << 30
    used = 20 << 30


class Rates:
    gpu = 97


class Nvml:
    """pynvml of an RTX 3090, as far as it is asked; functions in `without` are not supported."""

    NVMLError = NVML

    def __init__(self, without=()):
        self.without = without
        answers = {
            "nvmlDeviceGetName": b"NVIDIA GeForce RTX 3090",
            "nvmlSystemGetDriverVersion": "590.48.01",
            "nvmlDeviceGetMemoryInfo": Memory,
            "nvmlDeviceGetMemoryBusWidth": 384,
            "nvmlDeviceGetEnforcedPowerLimit": 350000,
            "nvmlDeviceGetPowerUsage": 338412,
            "nvmlDeviceGetTemperature": 71,
            "nvmlDeviceGetUtilizationRates": Rates,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 4,
        }
        for name, value in answers.items():
            setattr(self, name, self.answer(name, value))

    def answer(self, name, value):
        def ask(*arguments):
            if name in self.without:
                raise NVML("Not Supported")
            return value

        return ask

    def nvmlDeviceGetMaxClockInfo(self, handle, kind):
        return {1: 2100, 2: 9751}[kind]

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return {1: 1905, 2: 9501}[kind]

    def nvmlDeviceGetMigMode(self, handle):
        raise NVML("Not Supported")

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return uuid

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        return f"GPU-{index}"

    def nvmlDeviceGetUUID(self, handle):
        return handle.encode()


def test_what_does_not_change():
    assert gpu_sampler.describe(Nvml(), "GPU-1", "GPU-1") == {
        "uuid": "GPU-1",
        "name": "NVIDIA GeForce RTX 3090",
        "driver": "590.48.01",
        "memory_total_bytes": 24 << 30,
        "memory_clock_mhz": 9751,
        "memory_bus_bits": 384,
        "sm_clock_mhz": 2100,
        "power_limit_watts": 350.0,
        "mig_mode": None,
    }


def test_one_reading():
    assert gpu_sampler.sample(Nvml(), "GPU-1") == {
        "memory_used_bytes": 20 << 30,
        "sm_clock_mhz": 1905,
        "memory_clock_mhz": 9501,
        "power_watts": 338.412,
        "temperature_celsius": 71,
        "utilization_percent": 97,
        "throttle_reasons": 4,
    }


@pytest.mark.parametrize(
    ("function", "key"),
    [
        ("nvmlDeviceGetPowerUsage", "power_watts"),
        ("nvmlDeviceGetMemoryInfo", "memory_used_bytes"),
        ("nvmlDeviceGetTemperature", "temperature_celsius"),
        ("nvmlDeviceGetUtilizationRates", "utilization_percent"),
    ],
)
def test_what_a_gpu_does_not_support_is_none_and_the_rest_is_there(function, key):
    found = gpu_sampler.sample(Nvml(without=(function,)), "GPU-1")
    assert [name for name, value in found.items() if value is None] == [key]


def test_it_reads_until_nobody_listens():
    rows = []

    def write(row):
        rows.append(row)
        if len(rows) == 3:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        gpu_sampler.watch(Nvml(), ["GPU-1"], 0.0, write)
    assert rows[0]["gpus"][0]["uuid"] == "GPU-1"
    assert rows[1]["gpus"]["GPU-1"]["power_watts"] == 338.412
    assert rows[1]["at"] <= rows[2]["at"]


def test_all_gpus_are_read_once():
    rows = []
    gpu_sampler.once(Nvml(), rows.append)
    fixed, reading = rows
    assert [card["uuid"] for card in fixed["gpus"]] == ["GPU-0", "GPU-1"]
    assert list(reading["gpus"]) == ["GPU-0", "GPU-1"]
    assert reading["gpus"]["GPU-1"]["temperature_celsius"] == 71
