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
    "VLLM_HOST_IP": "set host on the instance",
    "VLLM_PORT": "set port on the instance",
}

# The releases' own variable for the backend, whether they still read it or not.
BACKEND_VARIABLE = "VLLM_ATTENTION_BACKEND"


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
    config["host"] = instance.host
    config["port"] = instance.port
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
            )
        elif name in _RESERVED or name in ALWAYS:
            findings.problem(
                "environment-reserved",
                where,
                f"{name} is not the inventory's to set here",
                _RESERVED.get(name, "leave it out: nothing may leave the host while serving"),
            )
        elif name == SAMPLER and environment.get(SAMPLER) == "0" and value != "0":
            findings.problem(
                "environment-reserved",
                where,
                f"{SAMPLER}={value} needs nvcc, and the host has none",
                "leave it out, or install the CUDA toolkit",
            )
        else:
            environment[name] = value
    return environment
