# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tool as tests call it, each with a set of hosts of its own beside those that are up."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

TOOL = Path(__file__).resolve().parents[1] / "testhosts.py"


def own_environment(directory: Path) -> dict[str, str]:
    """The variables with which the tool keeps its hosts in a directory."""
    environment = {**os.environ, "TESTHOSTS_STATE": str(directory / "state")}
    environment.pop("TESTHOSTS_SUBNET", None)
    return environment


def run_tool(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run the tool, whatever becomes of it."""
    return subprocess.run(
        [sys.executable, str(TOOL), *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def said_by_tool(environment: dict[str, str], *words: str) -> str:
    """Run the tool and return what it printed.

    Raises:
        AssertionError: It failed.
    """
    done = run_tool(environment, *words)
    if done.returncode != 0:
        raise AssertionError(f"{words}: {done.stdout}\n{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def mounted(*words: str) -> Iterator[Path]:
    """A file system that `mount`, given these words, mounts for as long as the block lasts.

    It is not among pytest's directories: one that a killed run leaves behind cannot be removed
    from there, and pytest fails at the end of each later run that tries to.

    Args:
        words: Options and the device.

    Yields:
        Where it is mounted.

    Raises:
        subprocess.CalledProcessError: It cannot be mounted, or not unmounted.
    """
    with tempfile.TemporaryDirectory(prefix="mounted-", dir="/var/tmp") as point:
        subprocess.run(["mount", *words, point], check=True)
        try:
            yield Path(point)
        finally:
            subprocess.run(["umount", "--lazy", point], check=True)
