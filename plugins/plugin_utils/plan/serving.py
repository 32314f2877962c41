# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an instance's unit is given: vLLM's --config keys and its environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import Findings
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import (
    Instance,
    dashed,
    taken_by,
)

# Nothing leaves the host while serving. HF_HUB_OFFLINE and the Xet switch:
# https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
# VLLM_NO_USAGE_STATS and DO_NOT_TRACK: https://docs.vllm.ai/en/v0.14.1/usage/usage_stats.html
ALWAYS: dict[str, str] = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_XET": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}

SAMPLER = "VLLM_USE_FLASHINFER_SAMPLER"

# Variable -> what sets it instead.
_RESERVED: dict[str, str] = {
    "CUDA_VISIBLE_DEVICES": "choose GPUs with the instance's key gpus",
    "VLLM_CPU_KVCACHE_SPACE": "set cpu_kvcache_space on the instance",
    "VLLM_API_KEY": "set vllm_service_api_keys; the instance's .env keeps the key",
    "HF_TOKEN": "set vllm_model_token; the server itself never asks the Hub",
    "HUGGING_FACE_HUB_TOKEN": "set vllm_model_token",
}

_SECRETS = frozenset({"VLLM_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
# Variable -> the instance's key that takes its value.
_KEYS: dict[str, str] = {
    "CUDA_VISIBLE_DEVICES": "gpus",
    "VLLM_CPU_KVCACHE_SPACE": "cpu_kvcache_space",
}

# The releases' own variable for the backend, whether they still read it or not.
BACKEND_VARIABLE = "VLLM_ATTENTION_BACKEND"


def _instead(instance: Instance, name: str, key: str | None, value: str) -> dict[str, Any]:
    """Return the settings that leave a variable out, and give its value to an instance's key."""
    settings: dict[str, Any] = {f"{instance.where}.environment.{name}": None}
    if key is None or key in instance.given | instance.bad:
        return settings
    words = [word.strip() for word in value.split(",")]
    given: Any = [int(word) if word.isdigit() else word for word in words]
    taken = taken_by(key, given if key == "gpus" else value)
    return settings if taken is None else {**settings, instance.at(key): taken}


def build_config(
    instance: Instance,
    accelerator: str,
    path: str | None,
    extra: Mapping[str, Any],
    backend: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the instance's vLLM configuration file as a flat dictionary.

    Args:
        instance: The wanted instance.
        accelerator: `cuda` or `cpu`.
        path: The model's directory; None leaves `model` to the model role.
        extra: What `flags.check_extra_args` rendered.
        backend: `selected`, `mechanism` and `flag` of the attention backend,
            or None on `cpu`.

    Returns:
        Long flags with dashes; never `false`, never None.
    """
    config: dict[str, Any] = {}
    if path is not None:
        config["model"] = path
    config["served-model-name"] = instance.served_name
    if instance.listens:
        config["host"] = instance.host
        config["port"] = instance.port
        if instance.on_demand:
            # Then host and port are the broker's, and only say where it is found.
            config["uds"] = f"/run/vllm/{instance.name}/server.sock"
            if instance.sleep_level:
                # The developer mode that it takes is the supervisor's to set, with its guard.
                config["enable-sleep-mode"] = True
    if instance.dtype != "auto":
        config["dtype"] = instance.dtype
    if instance.max_model_len is not None:
        config["max-model-len"] = instance.max_model_len
    if instance.max_num_seqs is not None:
        config["max-num-seqs"] = instance.max_num_seqs
    if instance.enforce_eager:
        config["enforce-eager"] = True
    if accelerator == "cuda":
        config["gpu-memory-utilization"] = instance.gpu_memory_utilization
        if instance.tensor_parallel_size > 1:
            config["tensor-parallel-size"] = instance.tensor_parallel_size
        if backend is not None and backend.get("selected") and backend["mechanism"] == "flag":
            config[dashed(str(backend["flag"]))] = backend["selected"]
    if instance.enable_auto_tool_choice and instance.tool_call_parser is not None:
        config["enable-auto-tool-choice"] = True
        config["tool-call-parser"] = instance.tool_call_parser
    config.update(extra)
    return config


def build_environment(
    instance: Instance,
    accelerator: str,
    gpus: list[str],
    nvcc: Mapping[str, Any],
    backend: Mapping[str, Any] | None,
    findings: Findings,
) -> dict[str, str]:
    """Return the variables of the instance's unit, without secrets.

    Args:
        instance: The wanted instance.
        accelerator: `cuda` or `cpu`.
        gpus: UUIDs of the GPUs that it uses, in rank order.
        nvcc: The facts about the CUDA compiler, with which FlashInfer compiles.
        backend: As in `build_config`.
        findings: Receives variables that the user may not set.
    """
    environment = dict(ALWAYS)
    variable = str(backend["environment"]) if backend is not None else BACKEND_VARIABLE
    if accelerator == "cpu":
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(instance.cpu_kvcache_space)
    else:
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        if nvcc.get("found") is not True:
            environment[SAMPLER] = "0"
        elif nvcc.get("on_service_path") is not True and fact.text(nvcc, "path"):
            # vLLM 0.14.1 asks shutil.which("nvcc") (vllm/utils/flashinfer.py); the unit puts
            # $CUDA_HOME/bin on its PATH.
            environment["CUDA_HOME"] = str(PurePosixPath(fact.text(nvcc, "path") or "").parents[1])
        if backend is not None and backend.get("selected") and backend["mechanism"] != "flag":
            environment[variable] = str(backend["selected"])
    for name, value in instance.environment.items():
        where = f"{instance.where}.environment.{name}"
        if name in (variable, BACKEND_VARIABLE):
            findings.problem(
                "two-backend-mechanisms",
                where,
                f"{name} chooses the attention backend a second time",
                "set attention_backend on the instance instead",
                _instead(instance, name, "attention_backend", value),
            )
        elif name in _RESERVED or name in ALWAYS:
            findings.problem(
                "environment-reserved",
                where,
                f"{name} is not the inventory's to set here",
                _RESERVED.get(name, "leave it out: nothing may leave the host while serving"),
                None if name in _SECRETS else _instead(instance, name, _KEYS.get(name), value),
            )
        elif name == SAMPLER and environment.get(SAMPLER) == "0" and value != "0":
            findings.problem(
                "environment-reserved",
                where,
                f"{SAMPLER}={value} needs nvcc, and the host has none",
                "leave it out, or install the CUDA toolkit",
                {where: None},
            )
        elif name == "VLLM_PORT" and value.strip() == str(instance.port):
            # vllm 0.14.1, vllm/envs.py: where vLLM's own connections begin to look for a port.
            findings.problem(
                "environment-reserved",
                where,
                f"VLLM_PORT is for the connections of vLLM's processes, and {value} is the "
                "instance's own port",
                "leave it out; the instance's key port says where it listens",
                {where: None},
            )
        else:
            environment[name] = value
    return environment
