# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model's directory on the host: is it one, and what does its config.json say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.names import (
    COMMIT,
    snapshot_path,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    quoted,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import (
    Instance,
    Wanted,
)


@dataclass(frozen=True)
class Model:
    """A model whose config.json is on the host.

    Attributes:
        path: Its directory.
        config: config.json.
        weights_bytes: Sum of the weight files' sizes, in bytes; None when unknown.
        chat_template: The chat template's text; "" where it has none; None when unknown.
        sentence_transformers: The modules in its modules.json; None where it has no such file.
    """

    path: str
    config: Mapping[str, Any]
    weights_bytes: int | None
    chat_template: str | None = None
    sentence_transformers: tuple[str, ...] | None = None

    @property
    def shape_config(self) -> Mapping[str, Any]:
        """The part of config.json that describes the language model."""
        for key in ("text_config", "llm_config"):
            part = fact.mapping(self.config, key)
            if fact.integer(part, "num_hidden_layers") is not None:
                return part
        return self.config


def model_path(instance: Instance, wanted: Wanted) -> str | None:
    """Return where an instance's model lies on the host, or None when only its download tells.

    A Hub model at a commit has a fixed place in the Hub's cache layout.
    """
    if "model" in instance.bad:
        return None
    if instance.local:
        return instance.model.rstrip("/") or "/"
    if instance.revision is not None and COMMIT.match(instance.revision):
        return snapshot_path(wanted.hub, instance.model, instance.revision)
    return None


def check_model(
    instance: Instance, wanted: Wanted, facts: Mapping[str, Any], findings: Findings
) -> Model | None:
    """Check a model's directory and return what is known of the model.

    A local directory must be whole. A Hub model that is not there yet, or only
    in part, is the model role's work and only noted.
    """
    if "model" in instance.bad:
        return None
    path = model_path(instance, wanted)
    where = instance.at("model")
    if not instance.local and (path is None):
        findings.note(
            "revision-not-pinned",
            instance.at("revision"),
            f"the model role resolves {instance.revision or 'main'} to a commit and records it",
        )
    row = fact.mapping(facts, "models", path) if path is not None else {}
    if not instance.local:
        config = fact.mapping(row, "config")
        if not config:
            findings.note(
                "model-not-on-host",
                where,
                f"{instance.model} is not on the host yet, so its memory cannot be planned",
            )
            return None
        weights = fact.mapping(row, "weights")
        whole = not (fact.words(weights, "missing") or fact.words(weights, "incomplete"))
        return _model(path or "", row, _weights_bytes(row) if whole else None)
    if not row:
        findings.note("facts-missing", where, f"{path} was not looked at")
        return None
    complaint = _directory_complaint(str(path), row)
    if complaint is not None:
        findings.problem(complaint[0], where, complaint[1], complaint[2])
        return None
    _check_files(instance, str(path), row, findings)
    return _model(str(path), row, _weights_bytes(row))


def _model(path: str, row: Mapping[str, Any], weights_bytes: int | None) -> Model:
    template, modules = row.get("chat_template"), row.get("sentence_transformers")
    return Model(
        path,
        fact.mapping(row, "config"),
        weights_bytes,
        template if isinstance(template, str) else None,
        tuple(fact.words(row, "sentence_transformers")) if isinstance(modules, list) else None,
    )


def _directory_complaint(path: str, row: Mapping[str, Any]) -> tuple[str, str, str] | None:
    if row.get("exists") is False:
        return (
            "model-not-found",
            f"{path} does not exist",
            "put the model there, or write the Hub repository as org/name",
        )
    if row.get("is_directory") is False:
        return (
            "model-not-directory",
            f"{path} is a file, and a model is a directory",
            "name the directory that holds config.json",
        )
    error = fact.text(row, "config_error")
    if row.get("readable") is False:
        return (
            "model-unreadable",
            f"{path} cannot be read{f': {error}' if error else ''}",
            "give the directory and its files to the group that serves, or mode 0755 and 0644",
        )
    config = row.get("config")
    if error is not None:
        return (
            "model-bad-config",
            f"{path}/config.json cannot be used: {error}",
            "copy the model again; config.json is written by transformers",
        )
    if config is None:
        return (
            "model-no-config",
            f"{path} has no config.json",
            "name a directory in Hugging Face format, as snapshot_download makes it",
        )
    if not isinstance(config, Mapping) or not (
        isinstance(config.get("model_type"), str) or isinstance(config.get("architectures"), list)
    ):
        return (
            "model-bad-config",
            f"{path}/config.json names neither model_type nor architectures",
            "copy the model again; an adapter or a tokenizer alone is not a model",
        )
    return None


def _check_files(instance: Instance, path: str, row: Mapping[str, Any], findings: Findings) -> None:
    where = instance.at("model")
    weights = fact.mapping(row, "weights")
    files = fact.rows(weights, "files")
    missing = fact.words(weights, "missing")
    # The probe compares a safetensors file's length with its header.
    cut = set(fact.words(weights, "incomplete"))
    cut |= {str(one.get("name")) for one in files if one.get("bytes") == 0}
    # vllm/config/load.py: load_format dummy starts with random weights.
    if instance.extra_args.get("load-format") != "dummy":
        if missing or cut:
            names = [*missing, *(f"{name} (cut off)" for name in sorted(cut))]
            findings.problem(
                "model-missing-shards",
                where,
                f"of the weights in {path}, {len(names)} are absent or cut off: "
                f"{quoted(names[:3])}{', …' if len(names) > 3 else ''}",
                "copy these files again, or the whole model",
            )
        elif not files:
            findings.problem(
                "model-no-weights",
                where,
                f"{path} holds no weights (*.safetensors or *.bin)",
                "copy the whole model, with its weights",
            )
        elif weights.get("format") == "gguf":
            findings.problem(
                "model-no-weights",
                where,
                f"{path} holds only GGUF files, which vLLM does not load from a directory",
                "use the model's safetensors",
            )
    skips = {"tokenizer", "skip-tokenizer-init"} & set(instance.extra_args)
    if row.get("tokenizer") is False and not skips:
        findings.problem(
            "model-no-tokenizer",
            where,
            f"{path} holds no tokenizer",
            "copy tokenizer.json and tokenizer_config.json too, or set extra_args.tokenizer",
        )


def _weights_bytes(row: Mapping[str, Any]) -> int | None:
    count = fact.integer(row, "weights", "bytes")
    return count or None
