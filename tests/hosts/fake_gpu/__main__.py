# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line of the fake GPU; see README.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fake_gpu import FakeGpuError, build, install, uninstall


def main() -> int:
    """Runs one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="fake_gpu", description="A substitute for an NVIDIA GPU")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("build", help="compile the libraries and nvidia-smi")
    command.add_argument("directory", type=Path)
    command = commands.add_parser("install", help="give a host the GPUs of an ini file")
    command.add_argument("root", type=Path)
    command.add_argument("machine", type=Path)
    command = commands.add_parser("uninstall", help="take them away again")
    command.add_argument("root", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.command == "build":
            build(arguments.directory)
        elif arguments.command == "install":
            install(arguments.root, arguments.machine)
        else:
            uninstall(arguments.root)
    except FakeGpuError as error:
        print(f"fake_gpu: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
