# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may name a model on a Hub. Pure; for the plan and for the fetch."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

# validate_repo_id in huggingface_hub/utils/_validators.py (1.33.0): 1 to 96 characters a part, with
# a letter, a digit or "_" at both ends. The namespace is required here: names without one are
# aliases of old models, and mostly a forgotten organisation.
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPO_ID = re.compile(f"{_PART}/{_PART}")

_NAME_MAX = 255
"""Bytes of a file's name (limits.h): a branch's or tag's name is one in the cache's `refs`."""


def repo_id_problem(repo_id: str) -> str | None:
    """What is wrong with a repository's id, or None."""
    if not _REPO_ID.fullmatch(repo_id):
        return (
            "is not of the form ORGANIZATION/NAME, each of 1 to 96 letters, digits, '-', '_' and"
            " '.', with none of '-' and '.' first or last, for example Qwen/Qwen2.5-7B-Instruct"
        )
    if "--" in repo_id or ".." in repo_id:
        return "holds '--' or '..'"
    if repo_id.endswith(".git"):
        return "ends with '.git'"
    return None


def revision_problem(revision: str) -> str | None:
    """What is wrong with the name of a branch, tag or commit, or None.

    The rules are those of git-check-ref-format(1), and that its text can be shown and be a file's
    name.
    """
    parts = revision.split("/")
    if (
        revision == "@"
        or revision.startswith("-")
        or revision.endswith(".")
        or not revision.isprintable()
        or any(bad in revision for bad in ("..", "@{", *" ~^:?*[\\"))
        or any(not part or part.startswith(".") or part.endswith(".lock") for part in parts)
    ):
        return "is not the name of a branch, a tag or a commit"
    if len(revision.encode("utf-8")) > _NAME_MAX:
        return f"is longer than {_NAME_MAX} bytes"
    return None


def endpoint_problem(endpoint: str) -> str | None:
    """What is wrong with a Hub's address, or None."""
    try:
        address = urlsplit(endpoint)
        good = address.scheme in ("http", "https") and bool(address.hostname)
    except ValueError:
        good = False
    return None if good else "is not the address of a Hub, for example https://huggingface.co"
