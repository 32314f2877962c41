# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What removing vLLM from a host takes away, and what of its directories stays.

Only what this collection made goes. Whatever else lies in its directories, wherever in them, is
somebody's data and stays: models, bundles, virtual environments, what is mounted there, and what a
symbolic link leads to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

HUB = "/var/lib/vllm/hub"

# What we make, each with all that is below it.
_OURS = re.compile(
    r"/opt/vllm/(?:tools(?:\.new|-[0-9a-f]{12})?|supervisor[^/]*|monitoring|power|recovery|\.lock)"
    r"|/opt/vllm/releases/[^/]+-[0-9a-f]{12}"
    r"|/opt/vllm/cache/(?:uv|proofs)"
    r"|/opt/vllm/own/[0-9a-f]{12}\.(?:json|pycache|pycache\.tmp)"
    r"|/etc/vllm/[^/]+\.(?:yaml|env|endpoint\.json|demand\.json)"
    r"|/var/lib/vllm/(?:proved|verified|failed|lost|registered|benchmarks|attention\.json"
    r"|measured\.json)"
    r"|/var/cache/vllm/[^/]+"
    r"|/run/(?:vllm|compute_plane\.vllm)"
    # What tempfile leaves of a file that was being written.
    r"|/(?:etc|opt|var/lib)/vllm/\.[a-z0-9_]{8}"
)
# These hold what is ours, and go when nothing else is left in them.
_FOLDERS = (
    *("/etc/vllm", "/opt/vllm", "/var/lib/vllm", "/var/cache/vllm"),
    *("/opt/vllm/releases", "/opt/vllm/cache", "/opt/vllm/own"),
)
_ROOTS = (*_FOLDERS[:4], "/run/vllm", "/run/compute_plane.vllm")
# Whole packages, hundreds of thousands of files: nobody keeps models among them.
_PACKAGES = re.compile(r"/opt/vllm/(?:releases/|cache/|tools)")
_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")


class Removal(NamedTuple):
    """What goes and what stays."""

    paths: list[str]
    """What goes, each with all that is below it; sorted."""
    kept: dict[str, str]
    """Why each path stays that is not ours; sorted."""


def configured_paths(text: str) -> list[str]:
    """The absolute paths that are values in an instance's configuration, a flat YAML mapping."""
    return re.findall(r"^[\w-]+:\s*[\"']?(/[^\"'\s]+)", text, re.MULTILINE)


def nature(folder: str) -> str | None:
    """What a directory holds that people keep; `None` for anything else."""
    try:
        names = set(os.listdir(folder))
    except OSError:
        return None
    if any(name.startswith("models--") for name in names):
        return "models"
    if "config.json" in names and any(name.endswith(_WEIGHTS) for name in names):
        return "a model"
    return "a bundle" if {"manifest.json", "wheels"} <= names else None


class Decision:
    """Goes through our directories and decides about each entry.

    Args:
        hub: Where models of a Hub are, beside `/var/lib/vllm/hub`.
        models: Whether these models are to go.
        keep: Further paths that stay, each with the reason.
        mounts: Where file systems are mounted.
        root: Put before every path of ours.
    """

    def __init__(
        self,
        hub: str,
        models: bool,
        keep: Mapping[str, str],
        mounts: Iterable[str],
        root: str = "",
    ) -> None:
        self.root = root
        self.models = models
        self.hubs = {root + HUB, hub.rstrip("/")}
        self.keep = {} if models else dict.fromkeys(self.hubs, "models")
        for path, why in keep.items():
            # What is in a hub stays or goes with it.
            if not any(_is_below(path, hub) for hub in self.hubs):
                self.keep[path.rstrip("/")] = why
        self.real = {os.path.realpath(path): why for path, why in self.keep.items()}
        self.mounts = {os.path.realpath(path) for path in mounts}
        self.paths: list[str] = []
        self.kept = {path: why for path, why in self.keep.items() if os.path.exists(path)}

    def decide(self) -> Removal:
        """Look at everything.

        Raises:
            OSError: A directory cannot be read.
        """
        for path in (self.root + name for name in _ROOTS):
            if os.path.lexists(path) and self._goes(path, within=False):
                self.paths.append(path)
        return Removal(sorted(self.paths), dict(sorted(self.kept.items())))

    def _is_ours(self, path: str) -> bool:
        if _OURS.fullmatch(path[len(self.root) :]):
            return True
        parent, name = os.path.split(path)
        in_hub = parent in self.hubs and (name.startswith("models--") or name == ".locks")
        return self.models and (path in self.hubs or in_hub)

    def _goes(self, path: str, within: bool) -> bool:
        """Whether an entry goes with all that is below it; of others the parts are noted.

        Args:
            path: The entry.
            within: Whether it lies in something that is ours.
        """
        name = path[len(self.root) :]
        is_link, is_mount = os.path.islink(path), os.path.realpath(path) in self.mounts
        is_folder = name in _FOLDERS and os.path.isdir(path)
        ours = within or (not is_folder and self._is_ours(path))
        why = None if is_folder else self._why_it_stays(path, ours, within and is_mount)
        if why is not None:
            self.kept[path] = why
            return False
        if not is_folder and (is_link or not os.path.isdir(path)):
            return True
        if ours and not is_mount and not self._holds_kept(path):
            return True
        below = [os.path.join(path, entry) for entry in sorted(os.listdir(path))]
        going = [entry for entry in below if self._goes(entry, ours)]
        if len(going) == len(below) and not is_link and not is_mount:
            return True
        self.paths += going
        if len(going) == len(below):
            target = f"a link to {os.path.realpath(path)}"
            self.kept[path] = target if is_link else "a file system is mounted there"
        return False

    def _why_it_stays(self, path: str, ours: bool, foreign_mount: bool) -> str | None:
        if path in self.keep:
            return self.keep[path]
        if foreign_mount:
            return "a file system is mounted there"
        if os.path.islink(path):
            return None if ours else "not made by this collection"
        real = os.path.realpath(path)
        if real in self.real:
            return self.real[real]
        found = nature(path) if not _PACKAGES.match(path[len(self.root) :]) else None
        if found is not None and not (self.models and ours and found == "models"):
            return found
        return None if ours else "not made by this collection"

    def _holds_kept(self, folder: str) -> bool:
        """Whether something that stays lies below a directory of ours."""
        real = os.path.realpath(folder)
        if any(_is_below(path, real) for path in (*self.real, *self.mounts, *self.keep)):
            return True
        if _PACKAGES.match(folder[len(self.root) :]):
            return False
        wanted = (None, "models") if self.models else (None,)
        return any(nature(parent) not in wanted for parent, _folders, _files in os.walk(folder))


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")
