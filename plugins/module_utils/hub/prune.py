# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which revisions in a cache nothing refers to any more."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.cache import RepoCache

_SNAPSHOT = re.compile(r"/(models--[A-Za-z0-9._-]+)/snapshots/([0-9a-f]{40})(?![0-9a-f])")


class Snapshot(NamedTuple):
    """One revision of one repository in a cache."""

    repository: str
    """The repository's folder: `models--ORG--NAME`."""
    commit: str


def referred_to(texts: Iterable[str]) -> set[Snapshot]:
    """The revisions whose paths stand in some texts, whatever their format.

    Args:
        texts: Configurations, records and paths.
    """
    return {Snapshot(*match) for text in texts for match in _SNAPSHOT.findall(text)}


def texts_below(folders: Iterable[str]) -> list[str]:
    """The content of every file directly in some folders; a folder that is not there has none.

    Raises:
        OSError: A file cannot be read: what it refers to is not known.
    """
    texts = []
    for folder in folders:
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        for path in (os.path.join(folder, name) for name in names):
            if os.path.isfile(path):
                with open(path, encoding="utf-8", errors="replace") as stream:
                    texts.append(stream.read())
    return texts


def own_repositories(cache_dir: str) -> list[RepoCache]:
    """The repositories in a cache that `hf_model` brought; those of other tools are not ours."""
    found = []
    names = sorted(os.listdir(cache_dir)) if os.path.isdir(cache_dir) else []
    for name in names:
        record = os.path.join(cache_dir, name, ".compute_plane", "state.json")
        try:
            with open(record, encoding="utf-8") as stream:
                cache = RepoCache(cache_dir, str(json.load(stream)["repo_id"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if cache.name == name:
            found.append(cache)
    return found


def surplus(cache: RepoCache, used: set[Snapshot]) -> list[str]:
    """The commits of a repository in the cache that nothing refers to."""
    return [commit for commit in cache.commits() if Snapshot(cache.name, commit) not in used]
