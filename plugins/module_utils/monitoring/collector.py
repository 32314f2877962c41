# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes, for Prometheus, what a server cannot be asked for.

That is: instances as systemd and their supervisor see them, their verification, GPUs, and the Xid
events of the driver. The role `vllm_monitoring` installs this file with `gpu_sampler.py` beside it;
a systemd timer runs it with the host's own Python, so it imports the standard library alone. It is
the only writer of one file in the folder of node_exporter's textfile collector, in Prometheus's
text format (https://prometheus.io/docs/instrumenting/exposition_formats/). Names of metrics follow
https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

STATES = (
    *("starting", "serving", "draining", "stopped"),
    *("hung at start", "hung while serving", "crashed", "orphaned", "given up"),
    *("asleep", "put out"),
)
"""Of an instance: the supervisor's words (supervisor/classify.py, supervisor/health.py)."""
ENDS = ("hung at start", "hung while serving", "crashed", "orphaned")
"""States in which the supervisor ends a server, classify.py's `BAD`."""
_SHOW = "Id,ActiveState,MainPID,NRestarts"
_FINGERPRINT = "COMPUTE_PLANE_FINGERPRINT"
GPU_TIMEOUT = 20.0
"""Seconds that NVML may take; a GPU that has fallen off the bus hangs every call."""
DRIVER = "/proc/driver/nvidia/version"

# nvmlClocksThrottleReasons, bit by bit: nvml.h of the driver, "Clocks Event Reasons".
THROTTLE = {
    "power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sw_thermal": 0x20,
    "hw_thermal": 0x40,
    "hw_power_brake": 0x80,
}
# "NVRM: Xid (PCI:0000:01:00): 79, pid=1234, name=python, GPU has fallen off the bus."
# https://docs.nvidia.com/deploy/xid-errors/
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?(?P<bus>[0-9a-fA-F:.]+)\): (?P<xid>\d+)")


class Family(NamedTuple):
    """One metric with its samples: labels and a value each."""

    name: str
    kind: str
    text: str
    samples: list[tuple[dict[str, str], float]]


def render(families: Iterable[Family]) -> str:
    """The families in Prometheus's text format; one without a sample is left out."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        lines += [
            f"# HELP {family.name} {family.text}",
            f"# TYPE {family.name} {family.kind}",
        ]
        for labels, value in family.samples:
            inner = ",".join(f'{name}="{_escape(text)}"' for name, text in labels.items())
            lines.append(
                f"{family.name}{{{inner}}} {value!r}" if inner else f"{family.name} {value!r}"
            )
    return "".join(f"{line}\n" for line in lines)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return None


def _json(path: str) -> Mapping[str, Any]:
    """A file's mapping; an empty one where there is none."""
    try:
        found = json.loads(_read(path) or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


# -- instances --------------------------------------------------------------------------------


def state_of(show: Mapping[str, str], told: Mapping[str, Any]) -> str:
    """What an instance is doing.

    Args:
        show: What systemd says of its unit.
        told: What its supervisor said last, `state.json`; empty where it is told to say nothing.
    """
    active, said = show.get("ActiveState", "inactive"), str(told.get("state", ""))
    if active in ("active", "reloading"):
        return said or "serving"
    if active == "activating":
        # What was said before belongs to the run before.
        return "starting"
    if active == "deactivating":
        return "draining"
    return "given up" if active == "failed" else "stopped"


def is_backed(record: Mapping[str, Any], fingerprint: str | None) -> bool:
    """Whether the last verification passed, and was one of what runs now.

    Args:
        record: The endpoint record.
        fingerprint: The running server's configuration; `None` where none runs or tells.
    """
    return record.get("state") == "verified" and record.get("fingerprint") == fingerprint


def seconds(when: object) -> float | None:
    """An ISO 8601 time as seconds since 1970; `None` for anything else."""
    try:
        # Before 3.11 Python does not read the Z.
        return datetime.datetime.fromisoformat(str(when).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


class Instance(NamedTuple):
    """What is known of one instance."""

    name: str
    show: Mapping[str, str]
    told: Mapping[str, Any]
    ends: Mapping[str, Any]
    record: Mapping[str, Any]
    fingerprint: str | None


def instance_families(instances: Sequence[Instance]) -> list[Family]:
    """The metrics of instances."""
    states, ends, restarts, backed, times = [], [], [], [], []
    for one in instances:
        name = {"instance_name": one.name}
        now = state_of(one.show, one.told)
        states += [
            ({**name, "state": state}, float(state == now))
            for state in (*STATES, *({now} - {*STATES}))
        ]
        ends += [({**name, "state": state}, _number(one.ends.get(state))) for state in ENDS]
        restarts.append((name, _number(one.show.get("NRestarts"))))
        if one.record:
            backed.append((name, float(is_backed(one.record, one.fingerprint))))
            at = seconds((one.record.get("verification") or {}).get("at"))
            times += [] if at is None else [(name, at)]
    return [
        Family("vllm_instance_state", "gauge", "Whether it is in this state.", states),
        Family(
            "vllm_instance_ends_total",
            "counter",
            "Servers that the supervisor has ended since boot.",
            ends,
        ),
        Family(
            "vllm_instance_restarts_total",
            "counter",
            "Restarts by systemd since somebody started it.",
            restarts,
        ),
        Family(
            "vllm_instance_verified",
            "gauge",
            "Whether the last verification passed on what runs.",
            backed,
        ),
        Family(
            "vllm_instance_verified_timestamp_seconds",
            "gauge",
            "When all checks last ran.",
            times,
        ),
    ]


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return 0.0


def names(etc_dir: str) -> list[str]:
    """Names of the instances that have a configuration or a record."""
    try:
        entries = os.listdir(etc_dir)
    except OSError:
        return []
    found = (re.fullmatch(r"([^.].*?)(?:\.yaml|\.endpoint\.json)", entry) for entry in entries)
    return sorted({match.group(1) for match in found if match})


def shown(found: Sequence[str]) -> dict[str, dict[str, str]]:
    """What systemd says of the units of instances, by the instance's name.

    Raises:
        OSError: systemd does not answer.
        subprocess.SubprocessError: The same.
    """
    if not found:
        return {}
    units = [f"vllm@{name}.service" for name in found]
    output = subprocess.run(
        ["systemctl", "--no-pager", "show", f"--property={_SHOW}", "--", *units],
        stdout=subprocess.PIPE,
        text=True,
        timeout=10,
        check=True,
    ).stdout
    rows = [
        dict(line.split("=", 1) for line in part.splitlines() if "=" in line)
        for part in output.split("\n\n")
    ]
    return {row["Id"][len("vllm@") : -len(".service")]: row for row in rows if "Id" in row}


def fingerprint_of(pid: str, proc: str = "/proc") -> str | None:
    """The configuration that a running server was started with, from its environment."""
    text = _read(f"{proc}/{pid}/environ") if pid.isdigit() and pid != "0" else None
    for variable in (text or "").split("\0"):
        if variable.startswith(f"{_FINGERPRINT}="):
            return variable.partition("=")[2]
    return None


def instances(etc_dir: str, run_dir: str, proc: str = "/proc") -> list[Instance]:
    """The instances of this host.

    Args:
        etc_dir: Where their configurations and records are.
        run_dir: Where their supervisors write.
        proc: The kernel's processes.
    """
    found = names(etc_dir)
    units = shown(found)
    made = []
    for name in found:
        show = units.get(name, {})
        ends = _json(f"{run_dir}/{name}/verdict.json").get("ends")
        made.append(
            Instance(
                name,
                show,
                _json(f"{run_dir}/{name}/state.json"),
                ends if isinstance(ends, dict) else {},
                _json(f"{etc_dir}/{name}.endpoint.json"),
                fingerprint_of(show.get("MainPID", "0"), proc),
            )
        )
    return made


# -- GPUs -------------------------------------------------------------------------------------

# What gpu_sampler.py calls it, the metric, its explanation, and by what it is multiplied.
_GAUGES = (
    ("temperature_celsius", "temperature_celsius", "Of the chip.", 1.0),
    ("power_watts", "power_watts", "Power drawn.", 1.0),
    ("power_limit_watts", "power_limit_watts", "Power limit in force.", 1.0),
    ("memory_used_bytes", "memory_used_bytes", "Memory in use.", 1.0),
    ("memory_total_bytes", "memory_total_bytes", "Memory of the card.", 1.0),
    ("utilization_percent", "utilization_ratio", "Share of time with a kernel running.", 0.01),
    ("sm_clock_mhz", "sm_clock_hertz", "Clock of the multiprocessors.", 1e6),
    ("memory_clock_mhz", "memory_clock_hertz", "Clock of the memory.", 1e6),
)


def gpu_families(told: Sequence[Mapping[str, Any]] | None) -> list[Family]:
    """The metrics of GPUs.

    Args:
        told: What gpu_sampler.py wrote, what does not change and one reading; `None` where it did
            not answer.
    """
    success = Family(
        "vllm_gpu_collector_success",
        "gauge",
        "Whether the driver answered in time.",
        [({}, float(told is not None))],
    )
    if told is None:
        return [success]
    fixed, reading = told
    cards = [
        ({"gpu_uuid": str(card["uuid"]), "gpu_name": str(card["name"])}, card, now)
        for card, now in ((card, reading["gpus"].get(card["uuid"], {})) for card in fixed["gpus"])
    ]
    families = []
    for key, name, text, factor in _GAUGES:
        values = [(labels, now.get(key, card.get(key))) for labels, card, now in cards]
        samples = [(labels, value * factor) for labels, value in values if value is not None]
        families.append(Family(f"vllm_gpu_{name}", "gauge", text, samples))
    reasons = [
        ({**labels, "reason": reason}, float(bool(now["throttle_reasons"] & bit)))
        for labels, _card, now in cards
        if now.get("throttle_reasons") is not None
        for reason, bit in THROTTLE.items()
    ]
    text = "Whether clocks are lowered for this reason."
    return [success, *families, Family("vllm_gpu_throttled", "gauge", text, reasons)]


def read_gpus(python: str, sampler: str, timeout: float = GPU_TIMEOUT) -> list[Any] | None:
    """Ask NVML in a child process that may hang.

    Args:
        python: A Python that has pynvml.
        sampler: The path of gpu_sampler.py.
        timeout: Seconds until it is given up.

    Returns:
        What it wrote; `None` where it did not answer.
    """
    try:
        done = subprocess.run(
            [python, "-I", sampler, "once"],
            stdout=subprocess.PIPE,
            text=True,
            timeout=timeout,
            check=True,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return lines if len(lines) == 2 else None


def xids(records: Iterable[str], boot: float) -> Family:
    """When each kind of Xid event of each GPU was seen last.

    Args:
        records: As `/dev/kmsg` gives them: `level,number,microseconds,flags;text`.
        boot: When the kernel's clock began, seconds since 1970.
    """
    last: dict[tuple[str, str], float] = {}
    for record in records:
        fields, _semicolon, text = record.partition(";")
        match, parts = _XID.search(text), fields.split(",")
        if match and len(parts) > 2 and parts[2].isdigit():
            at = float(round(boot + int(parts[2]) / 1e6))
            key = match.group("bus").lower(), match.group("xid")
            last[key] = max(at, last.get(key, at))
    samples = [({"pci_bus_id": bus, "xid": xid}, at) for (bus, xid), at in sorted(last.items())]
    text = "When the kernel's log, as far as it reaches back, last had this Xid."
    return Family("vllm_gpu_xid_timestamp_seconds", "gauge", text, samples)


def kernel_log(path: str = "/dev/kmsg") -> Iterator[str]:
    """The records of the kernel's log; none where it may not be read."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            while True:
                with contextlib.suppress(BrokenPipeError):  # it was overwritten meanwhile
                    record = os.read(descriptor, 8192)
                    if not record:
                        return
                    yield record.decode("utf-8", "replace")
        finally:
            os.close(descriptor)


# -- the file ---------------------------------------------------------------------------------


def write(path: str, text: str) -> None:
    """Replace a file, so that whoever reads it sees all or nothing."""
    # node_exporter reads only *.prom.
    with open(f"{path}.new", "w", encoding="utf-8") as stream:
        stream.write(text)
    os.chmod(f"{path}.new", 0o644)
    os.replace(f"{path}.new", path)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Write metrics of vLLM instances and GPUs.")
    parser.add_argument("--output", required=True, help="the file")
    parser.add_argument("--python", default="/opt/vllm/tools/bin/python", help="one with pynvml")
    parser.add_argument("--etc-dir", default="/etc/vllm")
    parser.add_argument("--run-dir", default="/run/vllm")
    parser.add_argument("--driver", default=DRIVER, help="there where a driver is loaded")
    options = parser.parse_args(argv)
    families = instance_families(instances(options.etc_dir, options.run_dir))
    if os.path.exists(options.driver) and os.path.exists(options.python):
        sampler = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gpu_sampler.py")
        families += gpu_families(read_gpus(options.python, sampler))
        # The kernel's clock stands still while the host sleeps, as this one does.
        families.append(xids(kernel_log(), time.time() - time.monotonic()))
    write(options.output, render(families))
    return 0


if __name__ == "__main__":
    sys.exit(main())
