# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throwaway host that serves the small model, for the commands in this folder."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from timing import CACHE, ansible, testhosts

INSTANCE = "smollm2"
MODEL = CACHE / "models" / "SmolLM2-135M-Instruct"
MODEL_ON_HOST = f"/srv/models/{MODEL.name}"


@contextlib.contextmanager
def served(host: str, **settings: Any) -> Iterator[Path]:
    """Make a host, serve on it, and remove it afterwards.

    Args:
        host: Its name.
        settings: Keys of the instance beside its name and model.

    Yields:
        The folder of its inventory.
    """
    testhosts("down", host)
    try:
        testhosts(
            "up",
            host,
            f"--seed={CACHE}/uv=/opt/vllm/cache/uv",
            f"--bind-ro={MODEL}:{MODEL_ON_HOST}",
        )
        instance = {"name": INSTANCE, "model": MODEL_ON_HOST, "cpu_kvcache_space": 1, **settings}
        variables = {"vllm_accelerator": "cpu", "vllm_instances": [instance]}
        with tempfile.TemporaryDirectory() as folder:
            inventory = Path(folder)
            groups = {"vllm": {"hosts": {host: {}}, "vars": variables}}
            (inventory / "groups.yml").write_text(json.dumps(groups))
            (inventory / "hosts.yml").write_text(testhosts("inventory", host))
            ansible("ansible-playbook", "site.yml", "-i", folder, "-l", host)
            yield inventory
    finally:
        testhosts("down", host)
