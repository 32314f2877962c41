#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a model from a Hugging Face Hub, whole and verified."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_model
short_description: Bring a model from a Hugging Face Hub, whole and verified
version_added: 0.1.0
description:
  - Fetches the files of a model that vLLM loads into a cache of Hugging Face's own layout, so that
    other tools of that ecosystem work on it, and verifies each of them against the Hub's hash.
  - Nothing is visible under its final name before it is verified; the snapshot appears when all of
    its files are there.
  - A transfer that was cut, killed or rebooted away goes on where it stood. One from which no byte
    comes for O(stall_timeout) is ended and resumed.
  - A branch or tag is resolved to a commit once, and this commit is used from then on, until
    O(revision) changes or O(update=true).
  - When the commit is there and was verified before, the module neither reads the files nor uses
    the network nor starts the tools.
  - The files are readable by every user and writable by their owner only.
  - The action plugin of the same name shows the progress.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description:
      - Says what would be fetched and how many bytes that is. Asks the Hub where the list of
        files is not known yet; writes nothing.
  diff_mode:
    support: full
    description: Lists the model's files before and after.
requirements:
  - huggingface_hub from 1.0 on in the environment O(tools_path); not for O(state=absent), nor when
    nothing has to be fetched
options:
  repo_id:
    description: The model's repository, as C(ORGANIZATION/NAME).
    type: str
    required: true
  revision:
    description:
      - A branch, a tag or a full commit hash. A commit hash is always the same model and needs no
        network when it is there.
      - Defaults to V(main) with O(state=present). With O(state=absent), no revision means all of
        them.
    type: str
  update:
    description:
      - Ask the Hub again which commit a branch or tag is at. When it has moved, the new commit is
        fetched; the old one stays until it is removed with O(state=absent).
      - When the Hub cannot be reached and the recorded commit is whole, this is a warning.
    type: bool
    default: false
  state:
    description:
      - V(present) brings the revision.
      - V(absent) removes the revision and every file that no other revision in the cache needs, as
        C(hf cache rm) does; and with the last revision all of the repository.
    type: str
    choices: [present, absent]
    default: present
  allow_patterns:
    description:
      - Shell patterns of the files to fetch, as in C(huggingface_hub.snapshot_download).
      - By default these are the files that vLLM loads - configuration, tokenizer, chat templates
        and one format of the weights, C(safetensors) where there is one - without files of other
        formats and engines.
    type: list
    elements: str
  ignore_patterns:
    description: Shell patterns of files not to fetch, in any case.
    type: list
    elements: str
  trust_remote_code:
    description:
      - Fetch the repository's Python files too, as vLLM's C(--trust-remote-code) needs. Without it
        they are not on the host.
    type: bool
    default: false
  cache_dir:
    description: The cache, in Hugging Face's own layout (C(HF_HUB_CACHE)).
    type: path
    default: /var/lib/vllm/hub
  endpoint:
    description: Address of the Hub or of a mirror.
    type: str
    default: https://huggingface.co
  token:
    description:
      - Token for private and gated models. It reaches only the O(endpoint), by the standard input
        of the process that talks to it; it is never stored. Tokens that lie on the host are not
        used.
    type: str
  verify:
    description:
      - How a model that was verified before is looked at again.
      - V(size) compares sizes and modification times, and hashes again what has been written to
        since.
      - V(sha256) hashes all of it again. A wrong file is fetched again in either case.
    type: str
    choices: [size, sha256]
    default: size
  fetch:
    description:
      - With V(false) nothing is fetched, written or asked for. A model that is not here, or not
        whole, is only reported (RV(whole)).
    type: bool
    default: true
  copy_from:
    description:
      - Another host whose cache has the revision, to copy it from there with rsync over SSH instead
        of fetching it from the Hub. What that host recorded of the revision, its commit and the
        hashes of its files, is taken over, and each file is compared with it. A copy that was cut
        goes on where it stood.
      - rsync and ssh must be installed on both.
    type: dict
    suboptions:
      source:
        description:
          - The other host's O(cache_dir) as rsync names it, C(USER@HOST:/PATH); or
            C(USER@HOST::MODULE), where the key is bound to an rsync daemon.
        type: str
        required: true
      identity_file:
        description: A private key on this host. When given, no other is offered.
        type: path
      known_hosts:
        description: A file on this host with the other's host keys. When given, only these count.
        type: path
      port:
        description: The other's SSH port.
        type: int
  max_workers:
    description: How many files are fetched side by side.
    type: int
    default: 8
  stall_timeout:
    description: Seconds without a byte after which a transfer is ended and resumed.
    type: int
    default: 60
  retries:
    description:
      - How often in a row something is tried again without a byte having come in between. While
        bytes come, a transfer may be cut any number of times.
    type: int
    default: 5
  tools_path:
    description: The environment that holds huggingface_hub.
    type: path
    default: /opt/vllm/tools
  progress:
    description: The file in which progress is kept; set by the action plugin.
    type: path
notes:
  - Transfers use plain HTTP. The xet protocol is switched off (C(HF_HUB_DISABLE_XET=1)), because it
    stalls and cannot be resumed.
  - Proxies and certificates are read from the task's environment (C(HTTPS_PROXY),
    C(SSL_CERT_FILE)). Variables of Hugging Face are not; the options say it all.
"""

EXAMPLES = r"""
- name: Bring a model at a commit
  compute_plane.vllm.hf_model:
    repo_id: Qwen/Qwen2.5-7B-Instruct
    revision: a09a35458c702b33eeacc393d103063234e8bc28

- name: Bring a gated model at what main is now, and keep that
  compute_plane.vllm.hf_model:
    repo_id: meta-llama/Llama-3.1-8B-Instruct
    token: "{{ vault_hf_token }}"

- name: Follow a branch
  compute_plane.vllm.hf_model:
    repo_id: Qwen/Qwen2.5-7B-Instruct
    revision: main
    update: true

- name: Bring one quantisation of a GGUF repository
  compute_plane.vllm.hf_model:
    repo_id: Qwen/Qwen2.5-7B-Instruct-GGUF
    allow_patterns: ["*q4_k_m*.gguf"]

- name: Remove a commit that nothing serves any more
  compute_plane.vllm.hf_model:
    repo_id: Qwen/Qwen2.5-7B-Instruct
    revision: bb46c15ee4bb56c5b63245ef50fd7637234d6f75
    state: absent
"""

RETURN = r"""
path:
  description: The snapshot, which is what vLLM is given as the model.
  type: str
  returned: when O(state=present) and the commit is known
  sample: /var/lib/vllm/hub/models--ORG--NAME/snapshots/a09a35458c702b33eeacc393d103063234e8bc28
commit:
  description: The commit that the revision stands for.
  type: str
  returned: when it is known
  sample: a09a35458c702b33eeacc393d103063234e8bc28
weights:
  description: Format of the weights; null with O(allow_patterns).
  type: str
  returned: when O(state=present) and the commit is known
  sample: safetensors
bytes:
  description:
    - Bytes of the model's files. In check mode null when the Hub could not be asked because the
      tools are not there yet.
    - With O(state=absent) the bytes that are freed.
  type: int
  returned: success
  sample: 15242807008
bytes_fetched:
  description: Bytes that came from the Hub, or in check mode that would.
  type: int
  returned: when O(state=present)
  sample: 15242807008
files_fetched:
  description: Files that came from the Hub, or in check mode that would, by their path.
  type: list
  elements: str
  returned: when O(state=present)
  sample: [config.json, model-00001-of-00004.safetensors]
files_reused:
  description: Files that were there already.
  type: list
  elements: str
  returned: when O(state=present)
  sample: [tokenizer.json]
whole:
  description: Whether all of the model is here, as it was when it was verified.
  type: bool
  returned: when O(fetch=false)
  sample: true
other_commits:
  description: Other commits of the repository in the cache.
  type: list
  elements: str
  returned: when O(state=present)
  sample: [bb46c15ee4bb56c5b63245ef50fd7637234d6f75]
restarts:
  description: How often the transfer stalled or broke so that its process was started again.
  type: int
  returned: when O(state=present)
  sample: 0
seconds:
  description: How long the module took.
  type: float
  returned: success
  sample: 184.2
"""

import json
import os
import time
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.space import (
    RESERVE,
    human_bytes,
    space,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.cache import (
    Blob,
    CacheError,
    RepoCache,
    digest,
    expected_digest,
    is_safe,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.copy import Peer
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.errors import explain
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.fetch import (
    Hub,
    HubError,
    hash_files,
    worker_environment,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.names import (
    COMMIT,
    repo_id_problem,
    revision_problem,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.select import (
    SAFETENSORS_INDEX,
    RepoFile,
    Selection,
    SelectionError,
    needs_index,
    select,
)

UNREACHABLE = frozenset({"network", "stalled", "server", "rate"})
"""Failures after which a whole copy is served on, although another commit was to be asked for."""


class Failed(Exception):
    """The run ends with this text."""


class HfModel:
    """One run of the module.

    Args:
        module: Ansible's side.

    Attributes:
        result: What the task returns.
    """

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.repo_id: str = self.params["repo_id"]
        self.revision: str = self.params["revision"] or "main"
        self.pinned = COMMIT.match(self.revision) is not None
        self.progress = Progress(self.params["progress"])
        self.cache = RepoCache(self.params["cache_dir"], self.repo_id)
        self.state = self.cache.state()
        self.result: dict[str, Any] = {"changed": False}
        self._hub: Hub | Peer | None = None

    def close(self) -> None:
        """End what is still going on."""
        if self._hub is not None:
            self._hub.close()
        self.progress.close()

    # Present

    def present(self) -> None:
        """Bring the revision.

        Raises:
            Failed: It cannot be brought.
            CacheError: The cache cannot be used.
        """
        if self.module.check_mode and self.params["fetch"]:
            self._bring()
            return
        commit = self._recorded()
        chosen = self._chosen(commit) if commit and not self.params["update"] else None
        whole = bool(commit and chosen and self._is_done(commit, chosen))
        if not self.params["fetch"]:
            self.result["whole"] = whole
        if commit and chosen and whole:
            # Nothing to do, and nothing is taken or written to find that out.
            self._report(commit, chosen, missing=set(), bytes_fetched=0)
        if whole or not self.params["fetch"]:
            return
        with self.cache.lock(self._say_that_it_waits):
            self.state = self.cache.state()  # what another run did while this one waited
            self._bring()

    def _say_that_it_waits(self) -> None:
        self.progress.update(f"waiting for another run that brings {self.repo_id}")

    def _recorded(self) -> str | None:
        """The commit that the revision stands for, as far as it is known here."""
        return self.revision if self.pinned else self.state.revisions.get(self.revision)

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
                f" files {', '.join(bad[:5]) or 'none'}. Check endpoint"
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
                " revisions that nothing uses (state: absent), or set cache_dir"
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
            restarts=0 if self._hub is None else self._hub.restarts,
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

    # Absent

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
            with self.cache.lock():
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
        if self.module._diff:
            self.result["diff"] = {
                "before_header": self.cache.folder,
                "after_header": self.cache.folder,
                "before": before,
                "after": after,
            }


def _listing(commit: str, files: list[RepoFile]) -> str:
    return "".join(f"{commit[:12]}/{file.path} {file.size} bytes\n" for file in files)


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
    try:
        address = urlsplit(params["endpoint"])
        is_address = address.scheme in ("http", "https") and bool(address.hostname)
    except ValueError:
        is_address = False
    if not is_address:
        found.append(
            f"endpoint {params['endpoint']!r} is not the address of a Hub, for example"
            " https://huggingface.co"
        )
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


def main() -> None:
    """Run the module."""
    began = time.monotonic()
    module = AnsibleModule(
        argument_spec={
            "repo_id": {"type": "str", "required": True},
            "revision": {"type": "str"},
            "update": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "allow_patterns": {"type": "list", "elements": "str"},
            "ignore_patterns": {"type": "list", "elements": "str"},
            "trust_remote_code": {"type": "bool", "default": False},
            "cache_dir": {"type": "path", "default": "/var/lib/vllm/hub"},
            "endpoint": {"type": "str", "default": "https://huggingface.co"},
            "token": {"type": "str", "no_log": True},
            "verify": {"type": "str", "choices": ["size", "sha256"], "default": "size"},
            "fetch": {"type": "bool", "default": True},
            "copy_from": {
                "type": "dict",
                "options": {
                    "source": {"type": "str", "required": True},
                    "identity_file": {"type": "path"},
                    "known_hosts": {"type": "path"},
                    "port": {"type": "int"},
                },
            },
            "max_workers": {"type": "int", "default": 8},
            "stall_timeout": {"type": "int", "default": 60},
            "retries": {"type": "int", "default": 5},
            "tools_path": {"type": "path", "default": "/opt/vllm/tools"},
            "progress": {"type": "path"},
        },
        supports_check_mode=True,
    )
    found = problems(module.params)
    if found:
        module.fail_json(msg="; ".join(found))
    os.umask(0o022)
    run = HfModel(module)
    failure = None
    try:
        if module.params["state"] == "present":
            run.present()
        else:
            run.absent()
    except (Failed, CacheError) as error:
        failure = str(error)
    except OSError as error:
        where = error.filename or module.params["cache_dir"]
        failure = f"{where}: {error.strerror}. The cache cannot be used as it is"
    finally:
        run.close()
    result = {**run.result, "seconds": round(time.monotonic() - began, 3)}
    if failure is not None:
        module.fail_json(msg=failure, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
