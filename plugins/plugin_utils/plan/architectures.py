# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a release can serve a model's architecture, and as what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import Model
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    closest,
    quoted,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.release import ReleaseData
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import (
    Instance,
    Wanted,
)


@dataclass(frozen=True)
class Architecture:
    """What a release serves a model as.

    Attributes:
        name: The class of vLLM's or transformers' that does it.
        source: `vllm`, or `transformers` where vLLM has no class of its own.
        abilities: What the class can do, in the words of `releases/<release>/models.yml`; empty
            where that is not known.
        runner: vLLM's `--runner`: `generate` or `pooling`; None where only the class tells.
        convert: vLLM's `--convert`, such as `none`, `embed` or `classify`.
    """

    name: str
    source: str
    abilities: tuple[str, ...]
    runner: str | None
    convert: str


def resolve(architecture: str, registry: Mapping[str, Any]) -> Architecture | None:
    """What a release serves an architecture as, or None where it does not know it.

    Follows vllm 0.14.1's and 0.26.0's `_ModelRegistry.resolve_model_cls` and `_normalize_arch`
    (vllm/model_executor/models/registry.py) without a `--runner` of the user's.

    Args:
        architecture: One of `architectures` in config.json.
        registry: The release's models.yml.
    """
    known = fact.mapping(registry, "architectures")
    if architecture in known:
        return Architecture(architecture, "vllm", _abilities(known, architecture), None, "none")
    rows = [
        row for row in registry.get("suffixes") or () if isinstance(row, list) and len(row) == 3
    ]
    suffix, runner, convert = next(
        (row for row in rows if architecture.endswith(row[0])), ("",) * 3
    )
    of_transformers = fact.words(registry, "transformers")
    if convert == "none" and architecture in of_transformers:
        return Architecture(architecture, "transformers", (), runner, convert)
    for other, *_kinds in rows if suffix else ():
        base = architecture.replace(suffix, other)
        if base in known:
            return Architecture(base, "vllm", _abilities(known, base), runner, convert)
    if architecture in of_transformers:
        return Architecture(architecture, "transformers", (), runner or None, convert or "none")
    return None


def _abilities(known: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(fact.words(known, name))


def check_architecture(
    instance: Instance,
    model: Model | None,
    wanted: Wanted,
    data: ReleaseData,
    runs: Callable[[str], bool],
    findings: Findings,
) -> Architecture | None:
    """Refuse a model whose architecture the release does not know.

    Args:
        instance: The instance.
        model: Its model, where it is on the host.
        wanted: The whole wanted state; an environment of the user's own may know more models.
        data: The release's data, and the registries of the others.
        runs: Whether a release has what the instance's accelerator and GPUs need.
        findings: Receives the problem, with the releases that know the architecture.

    Returns:
        The first of the model's architectures that the release knows; None where none is, where
        config.json names none, and for code that the model brings itself.
    """
    names = fact.words(model.config, "architectures") if model is not None else []
    registry = data.registries.get(wanted.release)
    if not names or not registry or "model-impl" in instance.extra_args:
        return None
    found = next((one for name in names if (one := resolve(name, registry)) is not None), None)
    if found is not None:
        return found
    own_code = any(
        name.startswith("AutoModel") for name in fact.mapping(model and model.config, "auto_map")
    )
    if own_code and instance.extra_args.get("trust-remote-code") is True:
        return None
    where = instance.at("model")
    said = f"vLLM {wanted.release} does not know the architecture {quoted(names)}"
    if wanted.runtime_venv is not None:
        findings.note("architecture-not-listed", where, f"{said}; {wanted.runtime_venv} may")
        return None
    remedy, settings = _remedy(instance.where, names, own_code, registry, data, runs)
    findings.problem("architecture-unknown", where, said, remedy, settings)
    return None


def _remedy(
    where: str,
    names: list[str],
    own_code: bool,
    registry: Mapping[str, Any],
    data: ReleaseData,
    runs: Callable[[str], bool],
) -> tuple[str, dict[str, Any] | None]:
    """What helps: another release, the model's own code, or what was meant; what it sets."""
    knowing = [
        release
        for release in data.available
        if any(resolve(name, data.registries.get(release) or {}) for name in names)
    ]
    running = [release for release in knowing if runs(release)]
    if knowing and not running:
        return f"vLLM {knowing[-1]} knows it, and needs another GPU; choose another model", None
    if running:
        knowing = running
        # The smallest step: a newer release may ask for a newer driver or Python.
        here = fact.version_tuple(fact.text(data.release, "release") or "")
        newer = [release for release in knowing if fact.version_tuple(release) > here]
        taken = (newer or knowing[-1:])[0]
        return f"set vllm_release: {taken}, which knows it", {"vllm_release": taken}
    if own_code:
        trust = "trust_remote_code: true in extra_args"
        return (
            f"the model brings its own code: read it, and if you trust it, set {trust}",
            {f"{where}.extra_args.trust-remote-code": True},
        )
    near = closest(names[0], list(fact.mapping(registry, "architectures")))
    meant = f"is {near} meant? " if near else ""
    return f"{meant}no release that the collection has knows it; choose another model", None
