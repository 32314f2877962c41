# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing a model into the cache, or taking one away: what is known, asked, fetched and told."""

from __future__ import annotations

import os
from typing import Any, Protocol

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.layout import (
    COMMIT,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.names import (
    endpoint_problem,
    repo_id_problem,
    revision_problem,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import (
    RepoFile,
    RepoFolder,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.select import (
    Selection,
    SelectionError,
    needs_index,
    select,
)


class Caller(Protocol):
    """What a run needs of the module that it is for."""

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, as :func:`problems` found nothing wrong with them."""

    @property
    def check_mode(self) -> bool:
        """Whether nothing is to be written."""

    @property
    def tmpdir(self) -> str:
        """A folder for what the run needs while it goes on."""

    def warn(self, warning: str) -> None:
        """Tell the user something that does not end the run."""


class Model:
    """One run for one model, which finds out what is here.

    Args:
        module: The module.

    Attributes:
        result: What the task returns.
    """

    def __init__(self, module: Caller) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.repo_id: str = self.params["repo_id"]
        self.revision: str = self.params["revision"] or "main"
        self.pinned = COMMIT.match(self.revision) is not None
        self.progress = Progress(self.params["progress"])
        self.cache = RepoFolder(self.params["cache_dir"], self.repo_id)
        self.state = self.cache.state()
        self.result: dict[str, Any] = {"changed": False}

    def close(self) -> None:
        """End what is still going on."""
        self.progress.close()

    def is_settled(self) -> bool:
        """Whether the revision is here, or is not to be brought.

        Nothing is taken or written to find that out.

        Raises:
            Failed: Nothing of it could be served.
        """
        commit = self._recorded()
        chosen = self._chosen(commit) if commit and not self.params["update"] else None
        whole = False
        if commit and chosen and self._is_done(commit, chosen):
            whole = True
            self._report(commit, chosen, missing=set(), bytes_fetched=0)
        if not self.params["fetch"]:
            self.result["whole"] = whole
        return whole or not self.params["fetch"]

    def _recorded(self) -> str | None:
        """The commit that the revision stands for, as far as it is known here."""
        if self.pinned:
            return self.revision
        return self.state.revisions.get(self.revision) or self.params.get("commit")

    def _chosen(self, commit: str) -> Selection | None:
        """What to have of a commit; None when its files are not known."""
        files = self.state.commits.get(commit)
        if files is None:
            return None
        index = self.state.index(commit)
        if index is None and needs_index(files, self.params["allow_patterns"]):
            return None
        try:
            return select(
                files,
                self.params["allow_patterns"],
                self.params["ignore_patterns"],
                self.params["trust_remote_code"],
                index,
            )
        except SelectionError as error:
            raise Failed(f"{self.repo_id} at {self.revision}: {error}") from error

    def _whole(self, commit: str, chosen: Selection) -> list[RepoFile]:
        """The files that are in the snapshot as they were when they were verified."""
        return [f for f in chosen.files if self.cache.is_whole(commit, f, self.state.blobs)]

    def _ref_is_right(self, commit: str) -> bool:
        return self.pinned or self.cache.ref(self.revision) == commit

    def _is_done(self, commit: str, chosen: Selection) -> bool:
        return (
            self.params["verify"] == "size"
            and len(self._whole(commit, chosen)) == len(chosen.files)
            and not self.cache.wrong_modes(commit, chosen.files)
            and self._ref_is_right(commit)
        )

    def _report(
        self, commit: str, chosen: Selection, missing: set[str], bytes_fetched: int
    ) -> None:
        self.result.update(
            path=self.cache.snapshot(commit),
            commit=commit,
            weights=chosen.weights,
            bytes=sum(file.size for file in chosen.files),
            bytes_fetched=bytes_fetched,
            files_fetched=[file.path for file in chosen.files if file.etag in missing],
            files_reused=[file.path for file in chosen.files if file.etag not in missing],
            other_commits=[other for other in self.cache.commits() if other != commit],
            restarts=0,
        )


def problems(params: dict[str, Any]) -> list[str]:
    """Everything that is wrong with the parameters."""
    found = []
    problem = repo_id_problem(params["repo_id"])
    if problem:
        found.append(f"repo_id {params['repo_id']!r} {problem}")
    problem = revision_problem(params["revision"]) if params["revision"] is not None else None
    if problem:
        found.append(f"revision {params['revision']!r} {problem}")
    if params["state"] == "absent" and params["update"]:
        found.append("update means nothing with state=absent")
    problem = endpoint_problem(params["endpoint"])
    if problem:
        found.append(f"endpoint {params['endpoint']!r} {problem}")
    commit = params.get("commit")
    if commit is not None and not COMMIT.match(commit):
        found.append(f"commit {commit!r} is not a full commit hash")
    found += [
        f"{name} {params[name]!r} is not an absolute path"
        for name in ("cache_dir", "tools_path")
        if not os.path.isabs(params[name])
    ]
    found += [
        f"{name} must be at least {least}, not {params[name]}"
        for name, least in (("max_workers", 1), ("stall_timeout", 1), ("retries", 0))
        if params[name] < least
    ]
    found += [
        f"{name} holds an empty pattern"
        for name in ("allow_patterns", "ignore_patterns")
        if not all(params[name] or [])
    ]
    return found
