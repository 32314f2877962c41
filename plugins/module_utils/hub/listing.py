# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Hub says of a model, before it is fetched.

It has the form of what is read of the model's directory later
(`host.models_dir.read_one`), and says the same, so that a plan made from one is the plan made from
the other. Nothing is written: what was fetched is its own record, from which `known` reads.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, TypeVar

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.models_dir import (
    DOCUMENT_LIMIT,
    DOCUMENTS,
    TEMPLATES,
    Safetensors,
    added,
    chosen_weights,
    described,
    has_tokenizer,
    header_length,
    parse_header,
    shards_of,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.ask import Asker, HubRefusal
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.known import (
    Request,
    entry_of,
    sizes,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.layout import (
    COMMIT,
    folder_name,
    snapshot_path,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.record import sizes_of
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import (
    RepoFile,
    is_safe,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.select import (
    SAFETENSORS_INDEX,
    SelectionError,
    select,
)

INDEX_LIMIT = 32 << 20
"""Bytes of the largest index: that of a model of 671 thousand million parameters has 9 MB."""

HEADER_GUESS = 100_000
"""Bytes that hold most safetensors files' header: huggingface_hub's own guess
(`parse_safetensors_file_metadata` in huggingface_hub/hf_api.py)."""

MOST_HEADERS = 16
"""Files whose headers are asked for where the Hub has not counted the parameters itself."""

_SHARD = re.compile(r".+-(\d{5})-of-(\d{5})\.safetensors")

# What huggingface_hub counts (`get_safetensors_metadata` in huggingface_hub/hf_api.py), and the
# Hub: this file, or those of its index.
_COUNTED = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def side_by_side(
    function: Callable[[_Key], _Value], keys: Iterable[_Key], seconds: float | None = None
) -> dict[_Key, _Value]:
    """Call a function for each of some keys, all at once.

    A name that does not resolve cannot be given up on, so the threads end with the process, as
    those of concurrent.futures do not.

    Args:
        function: May raise.
        keys: Few.
        seconds: How long to wait for all of them; as long as they take when None.

    Returns:
        The values by key; of those that have come in time.

    Raises:
        Exception: The first that the function raised.
    """
    values: dict[_Key, _Value] = {}
    errors: list[Exception] = []

    def call(key: _Key) -> None:
        try:
            values[key] = function(key)
        except Exception as error:  # noqa: BLE001 - raised below, in the caller's thread
            errors.append(error)

    order = list(keys)
    threads = [threading.Thread(target=call, args=(key,), daemon=True) for key in order]
    for thread in threads:
        thread.start()
    until = None if seconds is None else time.monotonic() + seconds
    for thread in threads:
        thread.join(None if until is None else max(0.0, until - time.monotonic()))
    if errors:
        raise errors[0]
    return {key: values[key] for key in order if key in values}


def ask_all(
    asker: Asker,
    cache_dir: str,
    requests: Mapping[Request, str | None],
    timeout: float,
) -> dict[Request, tuple[dict[str, Any], dict[str, Any] | None]]:
    """What the Hub says of some models, within a time.

    Args:
        asker: The Hub.
        cache_dir: The host's cache.
        requests: The models, and the commit that was recorded of each.
        timeout: Seconds for all of it.

    Returns:
        What `ask` returns, by model; an `error` for one whose answer has not come.
    """

    def one(request: Request) -> tuple[dict[str, Any], dict[str, Any] | None]:
        return ask(asker, cache_dir, request, requests[request])

    found = side_by_side(one, requests, timeout)
    late = HubRefusal("network", f"no answer within {timeout:g} s").event
    for request, commit in requests.items():
        entry = {**entry_of(request), "asked": asker.endpoint, "commit": commit, "error": late}
        found.setdefault(request, (entry, None))
    return found


def ask(
    asker: Asker, cache_dir: str, request: Request, commit: str | None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What the Hub says of a model.

    Args:
        asker: The Hub.
        cache_dir: The host's cache, for what need not be fetched.
        request: The model.
        commit: The commit that was recorded for the revision, or None.

    Returns:
        `entry_of`, with `error` where the Hub does not say it; and the model as
        `models_dir.read_one` will find it in `path`, or None.
    """
    entry = {**entry_of(request), "asked": asker.endpoint, "commit": commit}
    if commit is not None:
        entry["path"] = snapshot_path(cache_dir, request.repo_id, commit)
    try:
        info = asker.info(request.repo_id, commit or request.revision)
        found = str(info.get("sha"))
        files = listed(info)
        if COMMIT.match(found) is None or not files:
            raise HubRefusal("mismatch", "it lists what cannot be a repository")
        entry.update(
            commit=found,
            path=snapshot_path(cache_dir, request.repo_id, found),
            base_models=base_models(info),
        )
        return entry, _read(asker, cache_dir, request, info, found, files, entry)
    except HubRefusal as refusal:
        entry["error"] = refusal.event
        return entry, None


def listed(info: Mapping[str, Any]) -> list[RepoFile]:
    """The files that the Hub lists; [] where it does not say their sizes and hashes."""
    files = []
    try:
        for one in info.get("siblings") or []:
            lfs = one.get("lfs")
            if lfs:
                file = RepoFile(one["rfilename"], int(lfs["size"]), lfs["sha256"], lfs["sha256"])
            else:
                file = RepoFile(one["rfilename"], int(one["size"]), one["blobId"], None)
            if not is_safe(file):
                return []
            files.append(file)
    except (KeyError, TypeError, ValueError, AttributeError):
        return []
    return files


def base_models(info: Mapping[str, Any]) -> list[str]:
    """The models that a model was made from, as its card says (`base_model`)."""
    card = info.get("cardData")
    named = card.get("base_model") if isinstance(card, Mapping) else None
    names = named if isinstance(named, list) else [named]
    return [name for name in names if isinstance(name, str)]


def index_is_needed(files: Sequence[RepoFile]) -> bool:
    """Whether only the index tells which safetensors files are the model's.

    It does not where they are one whole set of shards and nothing else, as almost always; then
    nobody needs to fetch it to plan.
    """
    names = [file.path for file in files if "/" not in file.path]
    shards = [name for name in names if name.endswith(".safetensors")]
    if SAFETENSORS_INDEX not in names:
        return False
    matched = [_SHARD.fullmatch(name) for name in shards]
    numbers = {int(match[1]) for match in matched if match}
    totals = {int(match[2]) for match in matched if match}
    whole = len(totals) == 1 and numbers == set(range(1, totals.pop() + 1))
    return not (whole and len(numbers) == len(shards))


def _read(
    asker: Asker,
    cache_dir: str,
    request: Request,
    info: Mapping[str, Any],
    commit: str,
    files: list[RepoFile],
    entry: dict[str, Any],
) -> dict[str, Any]:
    """Ask for the small files, and put together what the model's directory will hold."""
    lengths = {file.path: file.size for file in files}
    wanted = [
        name
        for name in ("config.json", *DOCUMENTS, *TEMPLATES)
        if lengths.get(name, DOCUMENT_LIMIT + 1) <= DOCUMENT_LIMIT
    ]
    limits = dict.fromkeys(wanted, DOCUMENT_LIMIT)
    if index_is_needed(files):
        limits[SAFETENSORS_INDEX] = INDEX_LIMIT

    def text(name: str) -> str:
        return asker.text(request.repo_id, commit, name, limits[name])

    texts = side_by_side(text, limits)
    index_text = texts.pop(SAFETENSORS_INDEX, None)
    chosen = chosen_files(files, request.trust_remote_code, index_text)
    # With nothing to load, the whole repository tells what it is instead.
    names = sorted({file.path.split("/")[0] for file in chosen or files})
    top = [name for name in names if name in lengths]
    format_, weights = chosen_weights(top, lambda _index: shards_of(index_text or ""))
    present = [name for name in weights if name in lengths]
    if chosen:
        folder = os.path.join(cache_dir, folder_name(request.repo_id))
        entry.update(sizes(chosen, sizes_of(folder, [file.etag for file in chosen])))
    return {
        "exists": True,
        "is_directory": True,
        "readable": True,
        "names": names,
        "weights": {
            "format": format_,
            "files": [{"name": name, "bytes": lengths[name]} for name in present],
            "bytes": sum(lengths[name] for name in present),
            "parameters": _parameters(
                asker,
                request.repo_id,
                commit,
                info,
                format_,
                weights,
                ambiguous=index_text is not None,
                # Not an adapter, whose weights nobody counts.
                is_model=bool({"config.json", "params.json"} & set(top)),
            ),
            "missing": [name for name in weights if name not in lengths],
            "incomplete": [],
        },
        "tokenizer": has_tokenizer(top),
        "adapter": None,  # its matrices are read where they lie
        **described(
            {name: text for name, text in texts.items() if name in _paths(chosen or files)}
        ),
    }


def _paths(files: Sequence[RepoFile]) -> set[str]:
    return {file.path for file in files}


def chosen_files(
    files: list[RepoFile], trust_remote_code: bool, index: str | None
) -> list[RepoFile]:
    """The files that `hf_model` would fetch; [] where there is nothing to serve.

    Args:
        files: All files.
        trust_remote_code: As for `select`.
        index: The text of the weights' index, where `index_is_needed`.
    """
    try:
        parsed = None if index is None else json.loads(index)
        return select(files, trust_remote_code=trust_remote_code, index=parsed).files
    except (SelectionError, ValueError):
        return []


def _parameters(
    asker: Asker,
    repo_id: str,
    commit: str,
    info: Mapping[str, Any],
    format_: str | None,
    weights: Sequence[str],
    ambiguous: bool,
    is_model: bool,
) -> dict[str, int] | None:
    """Numbers of the weights by format: the Hub's own count, or from the files' headers."""
    if format_ != "safetensors" or not is_model:
        return None
    safetensors = info.get("safetensors")
    counted = safetensors.get("parameters") if isinstance(safetensors, Mapping) else None
    own = all(_COUNTED.fullmatch(name) for name in weights)
    if own and not ambiguous and isinstance(counted, Mapping) and counted:
        return added([{str(name): int(count) for name, count in counted.items()}])
    if len(weights) > MOST_HEADERS:
        return None
    headers = side_by_side(lambda name: _header(asker, repo_id, commit, name), weights).values()
    known = [header.parameters for header in headers if header is not None]
    return added(known) if len(known) == len(weights) else None


def _header(asker: Asker, repo_id: str, commit: str, name: str) -> Safetensors | None:
    try:
        start = asker.part(repo_id, commit, name, 0, HEADER_GUESS)
        length = header_length(start)
        if length is None:
            return None
        if len(start) < 8 + length:
            start += asker.part(repo_id, commit, name, len(start), 8 + length)
    except HubRefusal:
        return None  # only the count is lost: the sizes are known
    return parse_header(start[8 : 8 + length])
