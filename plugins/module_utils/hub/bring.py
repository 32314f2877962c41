# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing a model or removing it, taken late: most runs find it as they want it."""

from __future__ import annotations

import json
import os

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import Asking
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.space import (
    RESERVE,
    human_bytes,
    space,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.cache import (
    RepoCache,
    digest,
    expected_digest,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.copy import Peer
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.errors import explain
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.fetch import (
    Hub,
    HubError,
    hash_files,
    worker_environment,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.layout import (
    COMMIT,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.model import (
    Caller,
    Model,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import (
    Blob,
    RepoFile,
    is_safe,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.select import (
    SAFETENSORS_INDEX,
    Selection,
    needs_index,
)

UNREACHABLE = frozenset({"network", "stalled", "server", "rate"})
"""Failures after which a whole copy is served on, although another commit was to be asked for."""


class Bringing(Model):
    """One run for one model, which brings or removes it.

    Args:
        module: The module.
    """

    cache: RepoCache

    def __init__(self, module: Caller) -> None:
        super().__init__(module)
        self.cache = RepoCache(self.params["cache_dir"], self.repo_id)
        self._hub: Hub | Peer | None = None

    def close(self) -> None:
        """End what is still going on."""
        if self._hub is not None:
            self._hub.close()
        super().close()

    def present(self) -> None:
        """Bring the revision.

        Raises:
            Failed: It cannot be brought.
            CacheError: The cache cannot be used.
        """
        if self.is_settled():
            return
        if self.module.check_mode:
            self._bring()
            return
        with self.cache.lock(Asking.of(self.params, self.progress.update)):
            self.state = self.cache.state()  # what another run did while this one waited
            self._bring()

    def _bring(self) -> None:
        resolved = self._resolve()
        if resolved is None:
            self._report_unknown()
            return
        commit, chosen = resolved
        check = self.module.check_mode
        before = self._whole(commit, chosen)
        present = self._examine(chosen)
        missing = {file.etag: file for file in chosen.files if file.etag not in present}
        todo = sum(file.size - self._arrived(file) for file in missing.values())
        if missing:
            self._check_space(todo, len(missing), len(chosen.files))
        if missing and not check:
            todo = self._fetch(commit, missing, chosen)
        self._report(commit, chosen, set(missing), todo)
        self.result["restarts"] = 0 if self._hub is None else self._hub.restarts
        changed = bool(missing)
        if check:
            changed |= len(before) < len(chosen.files) or not self._ref_is_right(commit)
            changed |= bool(self.cache.wrong_modes(commit, chosen.files))
        else:
            changed |= self.cache.link(commit, chosen.files)
            changed |= self.cache.open_up(commit, chosen.files)
            changed |= self.cache.write_ref(self.revision, commit)
            self.cache.save(self.state)
        self.result["changed"] = changed
        self._show_diff(_listing(commit, before), _listing(commit, chosen.files))

    def _resolve(self) -> tuple[str, Selection] | None:
        """Find out the commit and what to have of it, from the record or from the Hub.

        Returns:
            None in check mode on a host that has no client yet.
        """
        commit = self._recorded()
        chosen = self._chosen(commit) if commit else None
        moving = self.params["update"] and not self.pinned
        if commit is not None and chosen is not None and not moving:
            return commit, chosen
        needs_client = not self.params["copy_from"]
        if self.module.check_mode and needs_client and not os.path.exists(self._python()):
            return None
        try:
            commit = self._ask(self.revision if moving or commit is None else commit)
        except HubError as error:
            unreachable = error.event["code"] in UNREACHABLE
            if commit and chosen and unreachable and self._is_done(commit, chosen):
                self.module.warn(
                    f"{self.params['endpoint']} cannot be reached ({error.event['message']}), so"
                    f" {self.revision} stays at the recorded commit {commit}, which is whole"
                )
                return commit, chosen
            raise self._failed(error) from error
        if not self.pinned:
            self.state.revisions[self.revision] = commit
        if not self.module.check_mode:
            self.cache.prepare()
            self.cache.save(self.state)
        chosen = self._chosen(commit)
        if chosen is None:
            raise Failed(f"{self.repo_id} at {self.revision}: {SAFETENSORS_INDEX} is not to be had")
        return commit, chosen

    def _ask(self, revision: str) -> str:
        """Let the Hub, or the other host, list a revision's files; returns its commit."""
        hub = self._connect()
        self.progress.update(f"asking for the files of {self.repo_id}")
        commit, files = hub.list(revision)
        bad = [f"{file.path!r} ({file.etag})" for file in files if not is_safe(file)]
        if bad or not COMMIT.match(commit):
            raise Failed(
                f"{self.params['endpoint']} lists what cannot be a repository: commit {commit!r},"
                f" files {', '.join(bad[:5]) or 'none'}. Check"
                " vllm_model_endpoint"
            )
        self.state.commits[commit] = files
        if needs_index(files, self.params["allow_patterns"]):
            try:
                index = json.loads(self._text_of_index(commit, files))
                self.state.indexes[commit] = sorted(set(index["weight_map"].values()))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise Failed(
                    f"{SAFETENSORS_INDEX} of {self.repo_id} at {revision} is damaged ({error!r})."
                    " Choose another revision, or name the files with allow_patterns"
                ) from error
        return commit

    def _text_of_index(self, commit: str, files: list[RepoFile]) -> str:
        """From the cache, where another commit has the same one, or from the Hub."""
        file = next(file for file in files if file.path == SAFETENSORS_INDEX)
        path = self.cache.blob(file)
        if os.path.exists(path) and digest(path, file) == expected_digest(file):
            with open(path, encoding="utf-8") as stream:
                return stream.read()
        return self._connect().read(commit, SAFETENSORS_INDEX)

    def _examine(self, chosen: Selection) -> set[str]:
        """The blobs that are there and right; wrong ones are thrown away."""
        present: set[str] = set()
        doubtful: list[RepoFile] = []
        wrong: list[RepoFile] = []
        for file in chosen.files:
            try:
                status = os.stat(self.cache.blob(file))
            except FileNotFoundError:
                continue
            known = self.state.blobs.get(file.etag)
            if status.st_size != file.size:
                wrong.append(file)
            elif self.params["verify"] == "size" and known == Blob(file.size, status.st_mtime_ns):
                present.add(file.etag)
            elif self.params["verify"] == "size" and known is None and self.module.check_mode:
                present.add(file.etag)  # another tool's; the run that may record it hashes it
            else:
                doubtful.append(file)
        threads = min(4, os.cpu_count() or 1)
        right, bad = hash_files(self.cache, doubtful, self.progress.update, threads)
        present.update(right)
        for file in wrong + bad:
            self.module.warn(
                f"{file.path} of {self.repo_id} in {self.params['cache_dir']} has not the content"
                " that the Hub lists; it is fetched again"
            )
            if not self.module.check_mode:
                self.cache.discard(file)
                self.state.blobs.pop(file.etag, None)
        if not self.module.check_mode:
            self.state.blobs.update(right)
        return present

    def _arrived(self, file: RepoFile) -> int:
        """Bytes of a file that an earlier run brought."""
        try:
            size = os.stat(self.cache.part(file)).st_size
        except FileNotFoundError:
            return 0
        return size if size <= file.size else 0

    def _check_space(self, todo: int, missing: int, files: int) -> None:
        room = space(self.cache.folder)
        if todo + RESERVE > room.free:
            raise Failed(
                f"not enough room on {room.mount} for {self.repo_id}: {human_bytes(todo)} are still"
                f" to be fetched ({missing} of {files} files) and {human_bytes(RESERVE)} must stay"
                f" free, but {human_bytes(room.free)} are free:"
                f" {human_bytes(todo + RESERVE - room.free)} too little. Make room there, remove"
                " revisions that nothing uses (state: absent), or set vllm_model_hub"
                f" ({self.params['cache_dir']}) to another mount"
            )

    def _fetch(self, commit: str, missing: dict[str, RepoFile], chosen: Selection) -> int:
        """Bring the missing files; returns the bytes that came."""
        self.cache.prepare()
        hub = self._connect()

        def verified(file: RepoFile, blob: Blob) -> None:
            self.state.blobs[file.etag] = blob
            self.cache.save(self.state)

        total = sum({file.etag: file.size for file in chosen.files}.values())
        try:
            hub.fetch(commit, missing.values(), total, verified)
        except HubError as error:
            left = [file for file in missing.values() if file.etag not in self.state.blobs]
            here = total - sum(file.size - self._arrived(file) for file in left)
            raise self._failed(
                error, f"{human_bytes(here)} of {human_bytes(total)} are here and stay."
            ) from error
        return hub.received

    def _python(self) -> str:
        return os.path.join(self.params["tools_path"], "bin", "python")

    def _connect(self) -> Hub | Peer:
        if self._hub is None and self.params["copy_from"]:
            self._hub = Peer(
                self.cache,
                self.params["copy_from"],
                self.params["stall_timeout"],
                self.params["retries"],
                self.module.tmpdir,
                self.progress.update,
            )
        if self._hub is None:
            environment = worker_environment(
                os.environ, self.module.tmpdir, self.params["endpoint"], self.params["cache_dir"]
            )
            self._hub = Hub(
                self.cache,
                self._python(),
                environment,
                self.params["endpoint"],
                self.params["token"],
                self.params["max_workers"],
                float(self.params["stall_timeout"]),
                self.params["retries"],
                self.progress.update,
            )
        return self._hub

    def _failed(self, error: HubError, have: str | None = None) -> Failed:
        """What the Hub, or the way to it, did."""
        return Failed(
            explain(
                error.event,
                repo_id=self.repo_id,
                revision=self.revision,
                endpoint=(self.params["copy_from"] or {}).get("source", self.params["endpoint"]),
                tools=self.params["tools_path"],
                has_token=bool(self.params["token"]),
                cache_dir=self.params["cache_dir"],
                path=error.path,
                have=have,
            )
        )

    def _report_unknown(self) -> None:
        self.module.warn(
            f"{self._python()} is not there yet, so the Hub was not asked what"
            f" {self.repo_id} at {self.revision} is"
        )
        self.result.update(
            changed=True,
            bytes=None,
            bytes_fetched=None,
            files_fetched=[],
            files_reused=[],
            other_commits=self.cache.commits(),
            restarts=0,
        )

    def absent(self) -> None:
        """Remove the revision, or all of the repository.

        Raises:
            CacheError: The cache cannot be used.
        """
        self.result["bytes"] = 0
        if not os.path.isdir(self.cache.folder):
            return
        if self.module.check_mode:
            self._take_away()
        else:
            with self.cache.lock(Asking.of(self.params, self.progress.update)):
                self.state = self.cache.state()
                self._take_away()

    def _take_away(self) -> None:
        commit = None
        if self.params["revision"] is not None:
            commit = self._recorded() or self.cache.ref(self.revision)
            if commit is None:
                return
            self.result["commit"] = commit
        removal = self.cache.removal(commit)
        self.result.update(changed=bool(removal.paths), bytes=removal.bytes)
        self._show_diff("".join(path + "\n" for path in removal.paths), "")
        if not self.module.check_mode:
            self.cache.remove(removal, commit)

    def _show_diff(self, before: str, after: str) -> None:
        self.result["diff"] = {
            "before_header": self.cache.folder,
            "after_header": self.cache.folder,
            "before": before,
            "after": after,
        }


def _listing(commit: str, files: list[RepoFile]) -> str:
    return "".join(f"{commit[:12]}/{file.path} {file.size} bytes\n" for file in files)
