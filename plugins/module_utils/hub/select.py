# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of a model's repository are fetched: a pure decision over the repository's file list.

Without patterns of the user's own it is what vLLM loads by default from a local directory, read in
vLLM 0.14.1's `model_executor/model_loader/default_loader.py` (`_prepare_weights`),
`model_executor/model_loader/weight_utils.py`, `transformers_utils/repo_utils.py` and
`model_executor/models/adapters.py`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import RepoFile

SAFETENSORS_INDEX = "model.safetensors.index.json"

AUXILIARY = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
"""Configuration, tokenizer and chat templates."""

REMOTE_CODE = ("*.py",)
"""Fetched only for `--trust-remote-code`."""

# vLLM's own default for --ignore-patterns is original/**/*; the others hold exports for other
# engines and checkpoints of the training.
NOT_FOR_VLLM = (
    "original/*",
    "onnx/*",
    "openvino/*",
    "coreml/*",
    "metal/*",
    "checkpoint-*/*",
    ".*",
)

# Other weights' indexes: nothing reads them without the weights.
_INDEX = "*.index.json"

# weight_utils.filter_files_not_needed_for_inference
_TRAINING = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt")

_WEIGHTS_OF_OTHERS = ("*.gguf", "*.ggml", "*.onnx", "*.h5", "*.msgpack", "*.pth", "*.npz", "*.ckpt")


class SelectionError(ValueError):
    """Nothing that could be served is left; the text says why and what to do."""


class Selection(NamedTuple):
    """What to fetch."""

    files: list[RepoFile]
    """Sorted by path."""
    weights: str | None
    """Format of the weights: `safetensors`, `mistral`, `pytorch`; None with own patterns."""


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a path matches one of the patterns, as `snapshot_download` of huggingface_hub does.

    Args:
        path: Path inside the repository.
        patterns: Shell patterns; `*` also matches `/`; a trailing `/` means all below.
    """
    return any(fnmatch.fnmatch(path, p + "*" if p.endswith("/") else p) for p in patterns)


def needs_index(files: Iterable[RepoFile], allow: Sequence[str] | None) -> bool:
    """Whether L(select) needs the text of `model.safetensors.index.json` to decide."""
    if allow:
        return False
    top = {file.path for file in files if "/" not in file.path}
    return SAFETENSORS_INDEX in top and not fnmatch.filter(top, "consolidated*.safetensors")


def select(
    files: Sequence[RepoFile],
    allow: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
    trust_remote_code: bool = False,
    index: Any | None = None,
) -> Selection:
    """Decide which files of a repository to fetch.

    Args:
        files: All files of the repository at the commit.
        allow: The user's own patterns instead of the default.
        ignore: Patterns of files left out in any case.
        trust_remote_code: Fetch Python files too. Has no effect on `allow`.
        index: Parsed `model.safetensors.index.json`, where `needs_index` says so.

    Raises:
        SelectionError: Nothing matches, or there are no weights that vLLM loads by default.
    """
    kept = [file for file in files if not (ignore and matches(file.path, ignore))]
    if allow:
        chosen = [file for file in kept if matches(file.path, allow)]
        if not chosen:
            but = f" without ignore_patterns {', '.join(ignore)}" if ignore else ""
            raise SelectionError(
                f"none of the repository's {len(files)} files matches allow_patterns"
                f" {', '.join(allow)}{but}. It holds: {_some(file.path for file in files)}"
            )
        return Selection(sorted(chosen), None)

    paths, weights = _weights([file.path for file in kept], index)
    if not paths:
        others = [file.path for file in kept if matches(file.path, _WEIGHTS_OF_OTHERS)]
        has = f": it has {_some(others)}" if others else ""
        raise SelectionError(
            "the repository has no weights that vLLM loads by default (*.safetensors, *.bin or"
            f" *.pt at its top){has}. Choose another repository, or name the files with"
            " allow_patterns"
        )
    missing = sorted(set(paths) - {file.path for file in kept})
    if missing:
        why = (
            "ignore_patterns leaves out or the repository lacks"
            if ignore
            else "the repository lacks; its upload is incomplete"
        )
        raise SelectionError(f"{SAFETENSORS_INDEX} names files that {why}: {_some(missing)}")
    auxiliary = AUXILIARY + REMOTE_CODE if trust_remote_code else AUXILIARY
    wanted = set(paths)
    for file in kept:
        if matches(file.path, NOT_FOR_VLLM):
            continue
        if matches(file.path, auxiliary) and not (
            matches(file.path, (_INDEX,)) and not _is_index_of(file.path, weights)
        ):
            wanted.add(file.path)
    return Selection(sorted(file for file in kept if file.path in wanted), weights)


def _weights(paths: list[str], index: Any | None) -> tuple[list[str], str | None]:
    """The weights that vLLM's default loader takes from a local directory, and their format."""
    top = [path for path in paths if "/" not in path]
    consolidated = fnmatch.filter(top, "consolidated*.safetensors")
    if consolidated:
        return consolidated, "mistral"
    safetensors = fnmatch.filter(top, "*.safetensors")
    if safetensors:
        if SAFETENSORS_INDEX in top and index is not None:
            safetensors = sorted(set(_weight_map(index).values()))
        return safetensors + _dense(paths, "model.safetensors"), "safetensors"
    for pattern in ("*.bin", "*.pt"):
        pytorch = [p for p in fnmatch.filter(top, pattern) if not p.endswith(_TRAINING)]
        if pytorch:
            return pytorch + _dense(paths, "pytorch_model.bin"), "pytorch"
    return [], None


def _weight_map(index: Any) -> dict[str, str]:
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if (
        not weight_map
        or not isinstance(weight_map, dict)
        or not all(isinstance(name, str) for name in weight_map.values())
    ):
        raise SelectionError(f"{SAFETENSORS_INDEX} has no weight_map; the repository is damaged")
    return weight_map


def _dense(paths: Iterable[str], name: str) -> list[str]:
    """Weights of a sentence-transformers model's dense layers, which lie in their own folders."""
    return [path for path in paths if fnmatch.fnmatch(path, "[0-9]*_Dense/" + name)]


def _is_index_of(path: str, weights: str | None) -> bool:
    own = {
        "safetensors": SAFETENSORS_INDEX,
        "mistral": "consolidated.safetensors.index.json",
        "pytorch": "pytorch_model.bin.index.json",
    }
    return weights is not None and path == own[weights]


def _some(paths: Iterable[str], most: int = 8) -> str:
    listed = list(paths)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
