# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of an instance's model, and whether it can be served at all.

A model is a directory of the host, or a repository of a Hub. Of a repository the probe tells what
was recorded of it, and `hf_model_info` what the Hub says where that is not enough; both in the form
in which a directory is told (`models_dir.read_one`), so that every rule works on either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.errors import (
    refusal,
    said_by,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.layout import (
    COMMIT,
    snapshot_path,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.names import (
    repo_id_problem,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    quoted,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import (
    Adapter,
    Instance,
    Wanted,
)

# What the plan has of a repository's refusal, by the code that `errors` has for it: the plan's
# code, and the variable that is wrong.
_REFUSALS: dict[str, tuple[str, str]] = {
    "gated": ("model-gated", "model"),
    "repository": ("model-not-found", "model"),
    "disabled": ("model-not-found", "model"),
    "revision": ("revision-not-found", "revision"),
    "token": ("hub-refuses", "vllm_model_token"),
    "forbidden": ("hub-refuses", "vllm_model_token"),
    "endpoint": ("hub-refuses", "vllm_model_endpoint"),
}

# Of config.json, and of what stands in its place in Mistral's own format.
MISTRAL_CONFIG = "params.json"
_MISTRAL_FLAGS = ("config-format", "load-format", "tokenizer-mode")


# Code, message and remedy of what is wrong with a model, and what the remedy sets.
_Complaint = tuple[str, str, str] | tuple[str, str, str, Mapping[str, Any]]


@dataclass(frozen=True)
class Model:
    """A model of which it is known what it is.

    Attributes:
        path: Its directory, now or when it has been fetched.
        config: config.json; empty for a model in Mistral's own format.
        weights_bytes: Sum of the weight files' sizes, in bytes; None when unknown.
        parameters: Numbers of the weights by their format as safetensors names them (`BF16`,
            `I32`, `F8_E4M3`); empty when unknown.
        names: The files and folders at the directory's top; empty when unknown.
        documents: Other JSON files by name (`models_dir.DOCUMENTS`), such as
            `generation_config.json`, `tokenizer_config.json`, `modules.json`,
            `1_Pooling/config.json` and `preprocessor_config.json`, where they are.
        chat_template: Its text; "" where the model has none; None where that is not known.
    """

    path: str
    config: Mapping[str, Any]
    weights_bytes: int | None
    parameters: Mapping[str, int] = field(default_factory=dict)
    names: Sequence[str] = ()
    documents: Mapping[str, Any] = field(default_factory=dict)
    chat_template: str | None = None

    @property
    def shape_config(self) -> Mapping[str, Any]:
        """The part of config.json that describes the language model."""
        for key in ("text_config", "llm_config"):
            part = fact.mapping(self.config, key)
            if fact.integer(part, "num_hidden_layers") is not None:
                return part
            # What is left out there is transformers' default of its model_type (Llava).
            if "model_type" in part and "num_hidden_layers" not in self.config:
                return part
        return self.config

    @property
    def sentence_transformers(self) -> tuple[str, ...] | None:
        """The modules that Sentence Transformers has for it, such as Pooling; None without any."""
        modules = self.documents.get("modules.json")
        if not isinstance(modules, list):
            return None
        types = [str(module.get("type")) for module in modules if isinstance(module, Mapping)]
        return tuple(name.rpartition(".")[2] for name in types)


def name_of(model: str) -> str:
    """Return a name for what is served of a repository or directory: `Org/A-B` gives `a-b`."""
    words = model.rstrip("/").rsplit("/", 1)[-1].lower()
    return re.sub(r"[^a-z0-9._-]", "-", words).strip("._-")[:63] or "model"


def hub_request(instance: Instance | Adapter) -> dict[str, Any] | None:
    """Return what to ask of an instance's repository; None for a directory, and for mistakes.

    Returns:
        `repo_id`, `revision` and `trust_remote_code`, as the modules take them.
    """
    if instance.local or not instance.model or {"model", "revision"} & instance.bad:
        return None
    return {
        "repo_id": instance.model,
        "revision": instance.revision or "main",
        "trust_remote_code": instance.extra_args.get("trust-remote-code") is True,
    }


def hub_entry(instance: Instance | Adapter, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is known of an instance's repository (`facts.hub`); empty where nothing is."""
    request = hub_request(instance) or {}
    for entry in fact.rows(facts, "hub"):
        if all(entry.get(key) == request.get(key) for key in ("repo_id", "revision")):
            return entry
    return {}


def model_path(
    instance: Instance | Adapter, wanted: Wanted, facts: Mapping[str, Any]
) -> str | None:
    """Return where an instance's model lies on the host, or None when only its download tells.

    A Hub model at a commit has a fixed place in the Hub's cache layout.
    """
    if "model" in instance.bad:
        return None
    if instance.local:
        return instance.model.rstrip("/") or "/"
    commit = fact.text(hub_entry(instance, facts), "commit") or instance.revision
    if commit is not None and COMMIT.match(commit):
        return snapshot_path(wanted.hub, instance.model, commit)
    return None


def is_known(instance: Instance | Adapter, wanted: Wanted, facts: Mapping[str, Any]) -> bool:
    """Tell whether the facts say what a repository's model is, and how large; true for a directory.

    What another tool left half, or a download that was cut, does not say it; what was fetched and
    verified does, be it as damaged as its upload.
    """
    if hub_request(instance) is None:
        return True
    row = fact.mapping(facts, "models", model_path(instance, wanted, facts) or "")
    weights = fact.mapping(row, "weights")
    verified = fact.integer(hub_entry(instance, facts), "download_bytes") == 0
    if verified and fact.mapping(row, "config"):
        return True
    return bool(fact.rows(weights, "files")) and not (
        fact.words(weights, "missing") or fact.words(weights, "incomplete")
    )


def questions(wanted: Wanted, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what has to be asked of the Hub: models that the host does not know, each once.

    Returns:
        Entries of `models` as `hf_model_info` takes them.
    """
    asked: list[dict[str, Any]] = []
    for instance in wanted.sources:
        request = hub_request(instance)
        if request is not None and not is_known(instance, wanted, facts):
            request["commit"] = fact.text(hub_entry(instance, facts), "commit")
            if request not in asked:
                asked.append(request)
    return asked


def answered(facts: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts with what a Hub said.

    Args:
        facts: What the probe found.
        found: What `hf_model_info` returned: `hub` and `models`.
    """
    news = fact.rows(found, "hub")
    told = {(entry.get("repo_id"), entry.get("revision")) for entry in news}
    kept = [
        entry
        for entry in fact.rows(facts, "hub")
        if (entry.get("repo_id"), entry.get("revision")) not in told
    ]
    models = {**fact.mapping(facts, "models"), **fact.mapping(found, "models")}
    return {**facts, "models": models, "hub": [*kept, *news]}


def downloads_of(wanted: Wanted, facts: Mapping[str, Any]) -> dict[str, int]:
    """Return the bytes that are still to be fetched, by repository, where they are known."""
    found = {}
    for instance in wanted.sources:
        entry = hub_entry(instance, facts)
        missing = fact.integer(entry, "download_bytes")
        if missing:
            found[f"{instance.model} at {fact.text(entry, 'commit') or '?'}"] = missing
    return found


def describe(
    instance: Instance | Adapter, wanted: Wanted, facts: Mapping[str, Any], known: bool
) -> dict[str, Any]:
    """Return an instance's `model` in the plan, or what is said of one of its adapters.

    Args:
        instance: The instance, or the adapter.
        wanted: The whole wanted state.
        facts: The facts.
        known: Whether it is known what the model is.
    """
    entry = hub_entry(instance, facts)
    missing = fact.integer(entry, "download_bytes")
    if missing is None and not instance.local and known:
        missing = 0
    by = "hub" if fact.text(entry, "asked") else "files"
    elsewhere = wanted.model_from not in ("", wanted.host_name)
    return {
        "source": "local" if instance.local else "hub",
        "repo_id": None if instance.local else instance.model or None,
        "revision": None if instance.local else instance.revision,
        "commit": None if instance.local else fact.text(entry, "commit"),
        "path": model_path(instance, wanted, facts),
        "known": by if known else None,
        "download_bytes": None if instance.local else missing,
        # In a group without a host that the user names, `groups.join` decides.
        "copy_from": wanted.model_from if elsewhere and not instance.local else None,
    }


def check_model(
    instance: Instance, wanted: Wanted, facts: Mapping[str, Any], findings: Findings
) -> Model | None:
    """Check what is known of a model and return it.

    A local directory must be whole. What the Hub says of a repository must be a model that can be
    served; where neither the host nor the Hub says anything, that is only noted, and the plan is
    made again when the model is there.
    """
    if "model" in instance.bad:
        return None
    path = model_path(instance, wanted, facts)
    where = instance.at("model")
    row = fact.mapping(facts, "models", path) if path is not None else {}
    if instance.local:
        if not row:
            findings.note("facts-missing", where, f"{path} was not looked at")
            return None
        return _checked(instance, str(path), str(path), row, (), findings)
    if hub_request(instance) is None:
        return None
    entry = hub_entry(instance, facts)
    if COMMIT.match(instance.revision or "") is None:
        commit = fact.text(entry, "commit")
        findings.note(
            "revision-not-pinned",
            instance.at("revision"),
            f"{instance.revision or 'main'} is commit {commit}, and stays that"
            if commit
            else f"the model role resolves {instance.revision or 'main'} to a commit and records "
            "it",
        )
    if refused(instance, wanted, entry, findings):
        return None
    if not is_known(instance, wanted, facts) and not entry.get("asked"):
        findings.note(
            "model-not-on-host",
            where,
            f"{instance.model} is not on the host yet, so its memory cannot be planned",
        )
        return None
    if fact.mapping(entry, "error"):
        findings.note(
            "model-not-on-host",
            where,
            f"{instance.model} is not on the host yet, and {entry.get('asked')} could not be asked "
            f"what it is ({said_by(fact.mapping(entry, 'error'))}); the plan is made again when it "
            "is there, before anything is started",
        )
        return None
    bases = fact.words(entry, "base_models")
    return _checked(instance, instance.model, path or "", row, bases, findings)


def refused(
    instance: Instance | Adapter, wanted: Wanted, entry: Mapping[str, Any], findings: Findings
) -> bool:
    """Report a Hub that refuses a repository; tell whether it does."""
    error = fact.mapping(entry, "error")
    code = fact.text(error, "code") or ""
    texts = code in _REFUSALS and refusal(
        error,
        instance.model,
        instance.revision or "main",
        fact.text(entry, "asked") or "",
        wanted.has_token,
    )
    if not texts:
        return False
    problem, key = _REFUSALS[code]
    findings.problem(
        problem,
        key if key.startswith("vllm_") else instance.at(key),
        texts[0],
        texts[1][0].lower() + texts[1][1:],
    )
    return True


def _checked(
    instance: Instance,
    place: str,
    path: str,
    row: Mapping[str, Any],
    base_models: Sequence[str],
    findings: Findings,
) -> Model | None:
    """Return the model of a row of `facts.models`, or report why it cannot be served.

    Args:
        instance: The instance.
        place: Its directory, or its repository, as messages name it.
        path: Its directory, now or later.
        row: The row.
        base_models: The models that it was made from, where that is known.
        findings: Receives the problems.
    """
    complaint = _complaint(instance, place, row)
    if complaint is not None:
        code, message, remedy, *settings = complaint
        findings.problem(code, instance.at("model"), message, remedy, alternatives=settings)
        return None
    _check_files(instance, place, row, base_models, findings)
    weights = fact.mapping(row, "weights")
    if fact.text(weights, "format") == "gguf":
        return None  # what no server loads has no size either
    documents = fact.mapping(row, "documents")
    return Model(
        path=path,
        config=fact.mapping(row, "config"),
        weights_bytes=fact.integer(weights, "bytes") or None,
        parameters={
            name: count
            for name, count in fact.mapping(weights, "parameters").items()
            if isinstance(count, int)
        },
        names=fact.words(row, "names"),
        documents=documents,
        # Only a tokenizer's configuration says that there is none.
        chat_template=fact.text(row, "chat_template")
        or ("" if "tokenizer_config.json" in documents else None),
    )


def _complaint(instance: Instance, place: str, row: Mapping[str, Any]) -> _Complaint | None:
    """Return code, message and remedy for what is no model that vLLM can be given, else None."""
    if row.get("exists") is False:
        return (
            "model-not-found",
            f"{place} does not exist",
            "put the model there, or write the Hub repository as org/name",
        )
    if row.get("is_directory") is False:
        return (
            "model-not-directory",
            f"{place} is a file, and a model is a directory",
            "name the directory that holds config.json",
        )
    error = fact.text(row, "config_error")
    if row.get("readable") is False:
        return (
            "model-unreadable",
            f"{place} cannot be read{f': {error}' if error else ''}",
            "give the directory and its files to the group that serves, or mode 0755 and 0644",
        )
    config = row.get("config")
    again = "copy the model again" if instance.local else "choose another revision or repository"
    if error is not None:
        return (
            "model-bad-config",
            f"{place}/config.json cannot be used: {error}",
            f"{again}; config.json is written by transformers",
        )
    if config is None:
        return _without_config(instance, place, row)
    if not isinstance(config, Mapping) or not (
        isinstance(config.get("model_type"), str) or isinstance(config.get("architectures"), list)
    ):
        return (
            "model-bad-config",
            f"{place}/config.json names neither model_type nor architectures",
            f"{again}; an adapter or a tokenizer alone is not a model",
        )
    return None


def _without_config(instance: Instance, place: str, row: Mapping[str, Any]) -> _Complaint | None:
    documents = fact.mapping(row, "documents")
    adapter = fact.mapping(documents, "adapter_config.json")
    if adapter or "adapter_config.json" in fact.words(row, "names"):
        return _adapter(instance, place, adapter)
    if fact.text(row, "weights", "format") == "gguf":
        return None  # told with its weights
    if MISTRAL_CONFIG in documents:
        # vllm 0.14.1 and 0.26.0, vllm/transformers_utils/config.py: MistralConfigParser.
        if instance.extra_args.get("config-format") == "mistral":
            return None
        weights = fact.rows(row, "weights", "files")
        if not any(str(one.get("name")).endswith(".safetensors") for one in weights):
            return (
                "model-no-config",
                f"{place} has no config.json, and no safetensors beside its {MISTRAL_CONFIG}",
                "name the model in Hugging Face's format (transformers, safetensors)",
            )
        return (
            "model-no-config",
            f"{place} has no config.json, and its {MISTRAL_CONFIG} is of Mistral's own format",
            "set extra_args: {"
            + ", ".join(f"{flag.replace('-', '_')}: mistral" for flag in _MISTRAL_FLAGS)
            + "}, or name the model in Hugging Face's format",
            {f"{instance.where}.extra_args.{flag}": "mistral" for flag in _MISTRAL_FLAGS},
        )
    return (
        "model-no-config",
        f"{place} has no config.json",
        "name a directory in Hugging Face format, as snapshot_download makes it"
        if instance.local
        else "name a repository in Hugging Face's format (transformers, safetensors)",
    )


def _adapter(instance: Instance, place: str, adapter: Mapping[str, Any]) -> _Complaint:
    base = fact.text(adapter, "base_model_name_or_path")
    code = "model-adapter"
    message = f"{place} is an adapter (LoRA)" + (f" of {base}" if base else "") + ", not a model"
    source: str | dict[str, Any] = instance.model
    shown = instance.model
    if instance.revision is not None and not instance.local:
        source = {"model": instance.model, "revision": instance.revision}
        shown = f"{{model: {instance.model}, revision: {instance.revision}}}"
    name = name_of(instance.model)
    # A folder of the machine that trained it tells nothing here.
    if base is None or repo_id_problem(base) is not None:
        return code, message, "set model to the one that it was made for, and name it in lora"
    others = {
        one.name: {"model": one.model, "revision": one.revision} if one.revision else one.model
        for one in instance.lora.values()
    }
    settings: dict[str, Any] = {
        instance.at("model"): base,
        instance.at("lora"): {**others, name: source},
    }
    remedy = f"set model: {base}, and lora: {{{name}: {shown}}}"
    if instance.revision is not None:
        settings[instance.at("revision")] = None
        remedy += ", without revision"
    return code, message, remedy, settings


def _check_files(
    instance: Instance,
    place: str,
    row: Mapping[str, Any],
    base_models: Sequence[str],
    findings: Findings,
) -> None:
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
                f"of the weights in {place}, {len(names)} are absent or cut off: "
                f"{quoted(names[:3])}{', …' if len(names) > 3 else ''}",
                "copy these files again, or the whole model"
                if instance.local
                else "choose another revision or repository; its upload is incomplete",
            )
        elif not files:
            others = [
                name for name in fact.words(row, "names") if name.endswith(_WEIGHTS_OF_OTHERS)
            ]
            findings.problem(
                "model-no-weights",
                where,
                f"{place} holds no weights that vLLM loads (*.safetensors or *.bin)"
                + (f": it has {quoted(others[:3])}" if others else ""),
                "copy the whole model, with its weights"
                if instance.local
                else _another(base_models),
                None if instance.local else _set_base(instance, base_models),
            )
        elif weights.get("format") == "gguf":
            findings.problem(
                "model-no-weights",
                where,
                f"{place} holds only GGUF files, which vLLM does not load from a "
                + ("directory" if instance.local else "repository"),
                "use the model's safetensors" if instance.local else _another(base_models),
                None if instance.local else _set_base(instance, base_models),
            )
        elif weights.get("format") == "pytorch":
            findings.note(
                "weights-pickled",
                where,
                f"the weights of {place} are pickles ({quoted([files[0].get('name')])}); vLLM "
                "reads nothing but tensors from them, and takes longer to load them",
            )
    skips = {"tokenizer", "skip-tokenizer-init"} & set(instance.extra_args)
    # With nothing but other engines' files nothing more is missed.
    loads = bool(files) and weights.get("format") != "gguf"
    if row.get("tokenizer") is False and not skips and (loads or instance.local):
        findings.problem(
            "model-no-tokenizer",
            where,
            f"{place} holds no tokenizer",
            "copy tokenizer.json and tokenizer_config.json too, or set extra_args.tokenizer",
        )


_WEIGHTS_OF_OTHERS = (".gguf", ".onnx", ".h5", ".msgpack", ".pth", ".npz", ".ckpt", ".ggml")


def _set_base(instance: Instance, base_models: Sequence[str]) -> dict[str, Any] | None:
    if not base_models:
        return None
    settings: dict[str, Any] = {instance.at("model"): base_models[0]}
    return settings | ({instance.at("revision"): None} if instance.revision is not None else {})


def _another(base_models: Sequence[str]) -> str:
    """Say which repository to use instead."""
    if base_models:
        return f"use the model that it was made from: model: {base_models[0]}"
    return "use the model's repository that has safetensors"
