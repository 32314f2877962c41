# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of what was proved as schema 1 had them: texts of files, from which all is read. Pure.

Its `config` was vLLM's `--config` file, its `drop_in` the unit's drop-in, as `systemd.py` still
writes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.systemd import FINGERPRINT

# Hugging Face's cache layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
_SNAPSHOT = re.compile(r"/models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})/?$")
_LIMITS = {"MemoryMax": "memory_max", "TasksMax": "tasks_max"}
_OF_THE_VENV = (FINGERPRINT, "PATH", "PYTHONPYCACHEPREFIX", "VIRTUAL_ENV")
"""Variables that every drop-in has, made of the rest."""


def _flags(text: str) -> dict[str, Any]:
    lines = (line.partition(": ") for line in text.split("\n") if not line.startswith("#"))
    return {name: json.loads(value) for name, colon, value in lines if colon}


def _words(text: str, dollars: bool = False) -> list[str]:
    """The words of a line, as `systemd.quote` or, with dollars, `argument` writes them."""
    words = [
        re.sub(r"\\(.)", r"\1", quoted) or plain
        for quoted, plain in re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', text)
    ]
    words = [word.replace("%%", "%") for word in words]
    return [word.replace("$$", "$") for word in words] if dollars else words


def upgraded(
    old: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """A deployment of schema 1 as one of the present.

    Returns:
        What the deployment has but for what is derived, its flags and its variables.
    """
    config = _flags(old["config"])
    environment: dict[str, str] = {}
    found: dict[str, list[str]] = {"command": [], "settings": [], "mounts": []}
    limits: dict[str, str] = {}
    for line in old["drop_in"].split("\n"):
        name, equals, value = line.partition("=")
        if not equals or name.startswith("#"):
            continue
        if name == "ExecStart":
            found["command"] = _words(value, dollars=True)
        elif name == "RequiresMountsFor":
            found["mounts"] += _words(value)
        elif name == "Environment":
            variables = (word.partition("=") for word in _words(value))
            environment.update({variable: text for variable, _equals, text in variables})
        elif name in _LIMITS:
            limits[_LIMITS[name]] = value
        else:
            found["settings"].append(line)
    user = re.search(r"^User=(.*)$", old["unit"], re.MULTILINE)
    snapshot = _SNAPSHOT.search(str(config.get("model", "")))
    same = ("name", "release", "venv", "unit", "url", "served_model_name", "fingerprint")
    rest = {
        **{name: old[name] for name in same},
        **found,
        "kind": "chat",
        # The plan gave it to servers on GPUs, and to no others.
        "accelerator": "cuda" if "gpu-memory-utilization" in config else "cpu",
        "repository": f"{snapshot[1]}/{snapshot[2]}" if snapshot else None,
        "revision": snapshot[3] if snapshot else None,
        "limits": limits,
        "user": user[1] if user else "root",
    }
    return rest, config, {k: v for k, v in environment.items() if k not in _OF_THE_VENV}
