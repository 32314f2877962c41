# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""promtool and amtool of this machine, or out of Debian's packages.

The packages are unpacked and not installed, which would start Prometheus on this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

PACKAGES = {"promtool": ("promtool", "prometheus"), "amtool": ("prometheus-alertmanager",)}
"""The Debian packages that may have a program; promtool has one of its own as of Debian 13."""
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compute_plane.vllm"


def program(name: str) -> str:
    """The path of a program.

    Raises:
        RuntimeError: It is not there and cannot be fetched.
    """
    found = shutil.which(name)
    if found is not None:
        return found
    folder = CACHE / "unpacked"
    path = folder / "usr" / "bin" / name
    folder.mkdir(parents=True, exist_ok=True)
    # apt would else give the download to a user who may not write here.
    download = ["apt-get", "download", "-o", "APT::Sandbox::User=root"]
    said = []
    for package in () if path.exists() else PACKAGES[name]:
        done = subprocess.run(
            [*download, package], cwd=folder, capture_output=True, text=True, check=False
        )
        said.append(done.stderr)
        for archive in folder.glob(f"{package}_*.deb"):
            subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
            archive.unlink()
        if path.exists():
            break
    if not path.exists():
        raise RuntimeError(
            f"{name} is needed: install Debian's package {PACKAGES[name][0]}, or let apt-get"
            f" download it (apt-get update first): {' '.join(said)}"
        )
    return str(path)
