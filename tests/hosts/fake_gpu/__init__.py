# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A substitute for an NVIDIA GPU and its driver, for machines that have none.

`build` compiles libnvidia-ml.so.1, libcuda.so.1 and nvidia-smi, which answer about the machine that
one ini file describes; `machines/` has those files. `kernel_view` tells what the kernel would show
(PCI devices, /proc/driver/nvidia, /dev). `install` gives all of it to a host. See README.md.
"""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
import tempfile
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


LIBRARY_DIR = "usr/local/lib"  # Debian's linker looks there
PROGRAM = "usr/bin/nvidia-smi"
CONFIGURATION = "etc/fake-gpu.ini"
SETTINGS = "dev/shm/fake-gpu.set"
"""What was set of the GPUs; a driver that is loaded anew has forgotten it."""
KERNEL_SCRIPT = "usr/local/sbin/fake-gpu-kernel"
UNIT = "etc/systemd/system/fake-gpu.service"
WANTS = "etc/systemd/system/sysinit.target.wants/fake-gpu.service"
_UNIT_TEXT = """\
[Unit]
Description=What the kernel would show of an NVIDIA GPU (a substitute, for tests)
DefaultDependencies=no
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStartPre=/sbin/ldconfig
ExecStart=/usr/local/sbin/fake-gpu-kernel start
ExecStop=/usr/local/sbin/fake-gpu-kernel stop

[Install]
WantedBy=sysinit.target
"""


def kernel_script(path: Path) -> str:
    """A shell script that shows on a host what its kernel would, and takes it away again.

    Args:
        path: The machine's ini file.

    Returns:
        The script; it is called with `start` or `stop`. Mounts hide the real directories, because
        no file can be made in /proc or /sys.
    """
    files = kernel_view(path)
    has_driver = any(name.startswith("/dev/") for name in files)
    start, stop = [f"rm -f /{SETTINGS}"] if has_driver else [], []
    for directory, parent in (("/proc/driver", ""), ("/sys/bus/pci/devices", "/sys/bus")):
        below = {name: text for name, text in files.items() if name.startswith(f"{directory}/")}
        if not below:
            continue
        start.append(f"where={directory}")
        if parent:  # a kernel without a PCI bus
            start.append(f'[ -d "$where" ] || where={parent}')
        start.append('mount -t tmpfs -o mode=755 fake-gpu "$where"')
        for name, text in below.items():
            start.append(f"mkdir -p {shlex.quote(name.rsplit('/', 1)[0])}")
            start.append(f"printf %s {shlex.quote(text)} > {shlex.quote(name)}")
        mounted = [directory, parent] if parent else [directory]
        stop += [f"if mountpoint -q {where}; then umount {where}; fi" for where in mounted]
    # 195 is the NVIDIA driver's number for its devices; 234 one of the range for local use.
    minors = {"nvidiactl": (195, 255), "nvidia-modeset": (195, 254)}
    minors.update({"nvidia-uvm": (234, 0), "nvidia-uvm-tools": (234, 1)})
    for name in (name.rsplit("/", 1)[1] for name in files if name.startswith("/dev/")):
        major, minor = minors.get(name) or (195, int(name[len("nvidia") :]))
        start.append(f"[ -e /dev/{name} ] || mknod -m 666 /dev/{name} c {major} {minor}")
        stop.append(f"rm -f /dev/{name}")
    lines = ["#!/bin/sh", "set -eu", 'case "$1" in', "start)", *start, ";;", "stop)", *stop, ";;"]
    return "\n".join([*lines, "esac", ""])


def install(root: Path, machine: Path) -> None:
    """Gives a host the machine's GPUs: libraries, nvidia-smi, and a unit for the kernel's part.

    Args:
        root: The host's root file system. fake-gpu.service starts with the host; on one that
            runs: `systemctl daemon-reload && systemctl start fake-gpu`.
        machine: The ini file.

    Raises:
        FakeGpuError: The substitutes cannot be built, or the ini file is wrong.
    """
    script = kernel_script(machine)
    uninstall(root)
    for name, text in ((KERNEL_SCRIPT, script), (UNIT, _UNIT_TEXT)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / KERNEL_SCRIPT).chmod(0o755)
    (root / WANTS).parent.mkdir(parents=True, exist_ok=True)
    (root / WANTS).symlink_to(f"/{UNIT}")
    shutil.copyfile(machine, root / CONFIGURATION)
    if read_machine(machine).get("machine", "installed", fallback="1") == "0":
        return
    with tempfile.TemporaryDirectory() as directory:
        build(Path(directory))
        for target in (*(f"{LIBRARY_DIR}/{name}" for name in LIBRARIES), PROGRAM):
            (root / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(directory) / Path(target).name, root / target)


def uninstall(root: Path) -> None:
    """Removes what `install` put into a root file system; stop fake-gpu.service before."""
    libraries = [f"{LIBRARY_DIR}/{name}" for name in LIBRARIES]
    for name in (*libraries, PROGRAM, CONFIGURATION, KERNEL_SCRIPT, WANTS, UNIT):
        (root / name).unlink(missing_ok=True)
