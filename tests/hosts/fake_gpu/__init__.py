# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A substitute for an NVIDIA GPU and its driver, for machines that have none.

`build` compiles libnvidia-ml.so.1, libcuda.so.1 and nvidia-smi, which answer about the machine that
one ini file describes; `machines/` has those files. What the kernel would show (PCI devices,
/proc/driver/nvidia, /dev) is described by `kernel_view`.
"""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent
MACHINES = SOURCES / "machines"
LIBRARIES = {"libnvidia-ml.so.1": "nvml.c", "libcuda.so.1": "cuda.c"}
# Texts too long for NVML are cut on purpose.
_FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-format-truncation"]
_MODULE = {
    "0": "NVIDIA UNIX x86_64 Kernel Module  {}  Wed Dec 10 12:34:56 UTC 2025",
    "1": "NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder@U22)",
}


class FakeGpuError(Exception):
    """The substitutes cannot be built, or a machine's file is wrong."""


def build(directory: Path) -> None:
    """Compiles the substitutes.

    Args:
        directory: Where the two libraries and `nvidia-smi` go; made when it is not there.

    Raises:
        FakeGpuError: There is no C compiler, or it failed.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise FakeGpuError("the fake GPU needs a C compiler: install gcc and libc6-dev")
    directory.mkdir(parents=True, exist_ok=True)
    machine = str(SOURCES / "machine.c")
    shared = [compiler, *_FLAGS, "-shared", "-fPIC"]
    commands = [
        [
            *shared,
            f"-Wl,-soname,{name}",
            "-o",
            str(directory / name),
            str(SOURCES / source),
            machine,
        ]
        for name, source in LIBRARIES.items()
    ]
    commands.append(
        [
            *[
                compiler,
                *_FLAGS,
                "-o",
                str(directory / "nvidia-smi"),
                str(SOURCES / "nvidia_smi.c"),
            ],
            *[str(directory / "libnvidia-ml.so.1"), "-Wl,-rpath,$ORIGIN"],
        ]
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise FakeGpuError(f"{' '.join(command)} failed:\n{done.stderr}")


def read_machine(path: Path) -> configparser.ConfigParser:
    """Reads a machine's file the way the C sources do.

    Args:
        path: The ini file. Sections `[gpu]` may repeat; here they become `gpu 0`, `gpu 1` ...

    Returns:
        The sections `machine` and `gpu N`; of a key that repeats in a section, the last.

    Raises:
        FakeGpuError: There is no such file, or it is no ini file.
    """
    lines, number = [], 0
    try:
        for line in path.read_text().splitlines():
            if line.startswith("[gpu"):
                lines.append(f"[gpu {number}]")
                number += 1
            else:
                lines.append(line)
        machine = configparser.ConfigParser(strict=False, interpolation=None)
        machine.read_string("\n".join(lines), str(path))
    except (OSError, configparser.Error) as error:
        raise FakeGpuError(f"{path}: {error}") from error
    return machine


def kernel_view(path: Path) -> dict[str, str]:
    """What the kernel of such a machine would show.

    Args:
        path: The machine's ini file.

    Returns:
        Text of files by absolute path: the driver's version under /proc, each GPU's files under
        /sys/bus/pci/devices, the device files under /dev (empty).
    """
    machine = read_machine(path)
    head = machine["machine"] if machine.has_section("machine") else {}
    gpus = [machine[name] for name in machine.sections() if name.startswith("gpu ")]
    files = {}
    for number, gpu in enumerate(gpus):
        bus = gpu.get("bus", f"00000000:{number + 1:02X}:00.0")[4:].lower()
        directory = f"/sys/bus/pci/devices/{bus}"
        files[f"{directory}/vendor"] = "0x10de\n"
        files[f"{directory}/device"] = gpu.get("device", "0x2204") + "\n"
        files[f"{directory}/class"] = gpu.get("class", "0x030000") + "\n"
    if head.get("installed", "1") == "0":
        return files
    module = _MODULE[head.get("open", "0")].format(head.get("driver", "590.48.01"))
    files["/proc/driver/nvidia/version"] = f"NVRM version: {module}\n"
    names = [f"nvidia{number}" for number in range(len(gpus))]
    names += ["nvidiactl", "nvidia-modeset", "nvidia-uvm", "nvidia-uvm-tools"]
    files.update({f"/dev/{name}": "" for name in names})
    return files
