# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads clocks, power, temperature and memory of GPUs again and again.

This file's text runs in the tools' Python, which has pynvml, in a process of its own, since a GPU
that has fallen off the bus can hang any call. Its arguments are the seconds between two readings
and the GPUs' UUIDs; or `once`, for one reading of all GPUs. It writes one JSON object a line: first
what does not change, `{"gpus": [...]}`; then `{"at": TIME, "gpus": {UUID: {...}}}`. What a GPU does
not support is null. The role vllm_monitoring installs this file too.

Function names: NVIDIA Management Library API reference, https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Callable

# nvmlClockType_t and nvmlTemperatureSensors_t
_CLOCK_SM = 1
_CLOCK_MEMORY = 2
_TEMPERATURE_GPU = 0


def _ask(nvml: Any, name: str, *arguments: Any) -> Any:
    """Call a function; None where this GPU, driver or pynvml does not have it."""
    try:
        return getattr(nvml, name)(*arguments)
    except (nvml.NVMLError, AttributeError, TypeError, ValueError):
        return None


def _text(value: Any) -> str | None:
    """Pynvml's older versions return bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def describe(nvml: Any, uuid: str, handle: Any) -> dict[str, Any]:
    """What does not change while a benchmark runs."""
    mig = _ask(nvml, "nvmlDeviceGetMigMode", handle)
    power = _ask(nvml, "nvmlDeviceGetEnforcedPowerLimit", handle)
    memory = _ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
    return {
        "uuid": uuid,
        "name": _text(_ask(nvml, "nvmlDeviceGetName", handle)),
        "driver": _text(_ask(nvml, "nvmlSystemGetDriverVersion")),
        "memory_total_bytes": None if memory is None else int(memory.total),
        "memory_clock_mhz": _ask(nvml, "nvmlDeviceGetMaxClockInfo", handle, _CLOCK_MEMORY),
        "memory_bus_bits": _ask(nvml, "nvmlDeviceGetMemoryBusWidth", handle),
        "sm_clock_mhz": _ask(nvml, "nvmlDeviceGetMaxClockInfo", handle, _CLOCK_SM),
        "power_limit_watts": None if power is None else power / 1000,
        "mig_mode": None if mig is None else bool(mig[0]),
    }


def sample(nvml: Any, handle: Any) -> dict[str, Any]:
    """One reading."""
    memory = _ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
    busy = _ask(nvml, "nvmlDeviceGetUtilizationRates", handle)
    power = _ask(nvml, "nvmlDeviceGetPowerUsage", handle)  # milliwatts
    return {
        "memory_used_bytes": None if memory is None else int(memory.used),
        "sm_clock_mhz": _ask(nvml, "nvmlDeviceGetClockInfo", handle, _CLOCK_SM),
        "memory_clock_mhz": _ask(nvml, "nvmlDeviceGetClockInfo", handle, _CLOCK_MEMORY),
        "power_watts": None if power is None else power / 1000,
        "temperature_celsius": _ask(nvml, "nvmlDeviceGetTemperature", handle, _TEMPERATURE_GPU),
        "utilization_percent": None if busy is None else int(busy.gpu),
        "throttle_reasons": _ask(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", handle),
    }


def _write(row: Any) -> None:
    print(json.dumps(row), flush=True)


def _readings(
    nvml: Any, handles: dict[str, Any], write: Callable[[Any], None]
) -> Callable[[], None]:
    """Write what does not change; returns what writes one reading."""
    write({"gpus": [describe(nvml, uuid, handle) for uuid, handle in handles.items()]})

    def read() -> None:
        now = time.time()
        write({"at": now, "gpus": {uuid: sample(nvml, one) for uuid, one in handles.items()}})

    return read


def watch(nvml: Any, uuids: list[str], interval: float, write: Callable[[Any], None]) -> None:
    """Read until the reader is gone."""
    nvml.nvmlInit()
    handles = {uuid: nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids}
    read = _readings(nvml, handles, write)
    while True:
        read()
        time.sleep(interval)


def once(nvml: Any, write: Callable[[Any], None]) -> None:
    """Read all GPUs once."""
    nvml.nvmlInit()
    found = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    _readings(nvml, {str(_text(nvml.nvmlDeviceGetUUID(one))): one for one in found}, write)()


def main() -> None:
    """Read the GPUs that the arguments name."""
    import pynvml

    if sys.argv[1:] == ["once"]:
        once(pynvml, _write)
    else:
        watch(pynvml, sys.argv[2:], float(sys.argv[1]), _write)


if __name__ == "__main__":
    main()
