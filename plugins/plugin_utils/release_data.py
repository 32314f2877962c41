# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads release data on the controller for the planner, which reads no files itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.proof import lock_sha256
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.newest import NEWEST
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.release import ReleaseData

COLLECTION = Path(__file__).resolve().parents[2]
RULES = COLLECTION / "plugins" / "plugin_utils" / "plan" / "data"

# The same language as SafeLoader, ten times as fast, where libyaml is there.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MODELS = "models.yml"

T = TypeVar("T")

_VERSION = re.compile(r"[0-9][0-9A-Za-z.+_-]*")


def default_releases_dir() -> Path:
    """Return the collection's own `releases/`."""
    return COLLECTION / "releases"


def default_release() -> str:
    """Return the release that is served where the inventory names none: `releases/default`."""
    return (default_releases_dir() / "default").read_text(encoding="utf-8").strip()


def load_release_data(releases_dir: Path, release: Any) -> ReleaseData:
    """Read one release's data, its locks' hashes, its flags, and the planner's rules.

    Args:
        releases_dir: The directory with one directory a release.
        release: The wanted release, or `newest-that-fits`; anything else is
            answered with "no such release", so that the planner says so.

    Returns:
        What was read. Unreadable files are named in `errors`, never raised.
    """
    errors: list[str] = []
    rules = {path.stem: _mapping(path, errors) for path in sorted(RULES.glob("*.yml"))}
    available = _available(releases_dir)
    if release == NEWEST:
        every = Releases(releases_dir, available)
        return ReleaseData(available=available, releases=every, rules=rules, errors=tuple(errors))
    if not isinstance(release, str) or release not in available:
        return ReleaseData(available=available, rules=rules, errors=tuple(errors))
    folder = releases_dir / release
    content = _mapping(folder / "release.yml", errors)
    flags = {}
    flags_file = content.get("serve_flags")
    if isinstance(flags_file, str):
        flags = _flags(_mapping(folder / flags_file, errors))
    registry = _mapping(folder / MODELS, errors) if content.get("models") else {}
    locks = {}
    for accelerator in fact.mapping(content, "accelerators").values():
        for name in fact.mapping(accelerator, "locks").values():
            try:
                locks[str(name)] = lock_sha256((folder / str(name)).read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError):
                continue
    return ReleaseData(
        available=available,
        release=content or None,
        flags=flags,
        registries=Registries(releases_dir, available, {release: registry}),
        accelerators=Accelerators(
            releases_dir, available, {release: fact.mapping(content, "accelerators")}
        ),
        locks=locks,
        rules=rules,
        errors=tuple(errors),
    )


class OfReleases(Mapping[str, T]):
    """Something of each release, read when asked for, as few plans need the others'.

    Args:
        releases_dir: The directory with one directory a release.
        available: The releases.
        read: What has been read, by release.
    """

    def __init__(
        self, releases_dir: Path, available: tuple[str, ...], read: dict[str, T] | None = None
    ) -> None:
        self._dir = releases_dir
        self._available = available
        self._read = dict(read or {})

    def __getitem__(self, release: str) -> T:
        if release not in self._available:
            raise KeyError(release)
        if release not in self._read:
            self._read[release] = self.read(self._dir / release)
        return self._read[release]

    def read(self, folder: Path) -> T:
        """Read it from a release's directory."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[str]:
        return iter(self._available)

    def __len__(self) -> int:
        return len(self._available)


class Releases(OfReleases[ReleaseData]):
    """Each release's data."""

    def read(self, folder: Path) -> ReleaseData:
        """Read a release's directory."""
        return load_release_data(folder.parent, folder.name)


class Registries(OfReleases[Mapping[str, Any]]):
    """Each release's `models.yml`."""

    def read(self, folder: Path) -> Mapping[str, Any]:
        """Read the file of a release's directory."""
        return _mapping(folder / MODELS, [])


class Accelerators(OfReleases[Mapping[str, Any]]):
    """Each release's data of its accelerators."""

    def read(self, folder: Path) -> Mapping[str, Any]:
        """Read the section of a release's `release.yml`."""
        return fact.mapping(_mapping(folder / "release.yml", []), "accelerators")


def _available(releases_dir: Path) -> tuple[str, ...]:
    names = [
        path.parent.name
        for path in releases_dir.glob("*/release.yml")
        if _VERSION.fullmatch(path.parent.name)
    ]
    return tuple(sorted(names, key=lambda name: (fact.version_tuple(name), name)))


def _mapping(path: Path, errors: list[str]) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        errors.append(f"{path} cannot be read: {error}")
        return {}
    if not isinstance(content, dict):
        errors.append(f"{path} does not hold a dictionary")
        return {}
    return content


def _flags(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    flags = content.get("flags", content)
    return {
        str(name): description
        for name, description in (flags.items() if isinstance(flags, dict) else ())
        if isinstance(description, dict)
    }
