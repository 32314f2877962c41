# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that `vllm_plan` decides from, read in one go: `facts`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.late import late
from ansible_collections.compute_plane.vllm.plugins.module_utils.gpu.gpus import Gpus
from ansible_collections.compute_plane.vllm.plugins.module_utils.host import (
    models_dir,
    mounts,
    packages,
    ports,
    system,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.deployed import Deployed
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.pythons import Pythons
from ansible_collections.compute_plane.vllm.plugins.module_utils.host.toolchain import (
    SERVICE_PATH,
    Toolchain,
)


class Questions(NamedTuple):
    """What to look at beside the host itself: options of `vllm_probe`, documented there."""

    paths: Sequence[str] = ()
    packages: Sequence[str] = ()
    models: Sequence[str] = ()
    python: Sequence[str] = ()
    opt_dir: str = "/opt/vllm"
    etc_dir: str = "/etc/vllm"
    state_dir: str = "/var/lib/vllm"
    service_path: str = SERVICE_PATH


def collect(host: Host, questions: Questions) -> dict[str, Any]:
    """Reads all facts.

    What takes long is started first and collected last: all takes as long as the slowest part.

    Returns:
        Each part as its reader documents it.

    Raises:
        CodeNeeded: What reads nvidia-smi is needed.
    """
    gpus = Gpus(host, lambda: late("gpu.nvidia_smi"), f"{questions.opt_dir.rstrip('/')}/tools")
    deployed = Deployed(host, questions.opt_dir, questions.etc_dir, questions.state_dir)
    pythons = Pythons(host, questions.python)
    toolchain = Toolchain(host, questions.service_path)
    return {
        "host": system.read(host),
        "mounts": mounts.read(host, questions.paths),
        "ports": ports.read(host),
        "packages": packages.read(host, questions.packages),
        "models": models_dir.read(host, questions.models),
        "pythons": pythons.result(),
        "nvcc": toolchain.result(),
        "deployed": deployed.result(),
        "gpu": gpus.result(),
    }
