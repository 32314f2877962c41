# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory: what weights, activations and KV cache take, and what context then fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.dtypes import (
    quantization,
    stored_dtype,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.flags import whole_number
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.gpus import Gpu, budget
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import Model
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import Findings
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import Instance

# No model's context is longer; bounds the search for the longest that fits.
_LONGEST = 1 << 27


@dataclass(frozen=True)
class Shape:
    """The dimensions of a decoder that its memory follows from.

    Attributes:
        layers: Number of layers that keep the whole context.
        sliding_layers: Number of layers that keep `window` tokens.
        window: Tokens; 0 where no layer slides.
        heads: Attention heads.
        kv_heads: Key-value heads; 1 for multi-head latent attention.
        head_dim: Size of a head (of the latent vector for MLA).
        mla: Multi-head latent attention: one vector instead of key and value.
        hidden: Hidden size.
        intermediate: Width of the feed-forward part that one token passes.
        vocabulary: Entries of the vocabulary.
    """

    layers: int
    sliding_layers: int
    window: int
    heads: int
    kv_heads: int
    head_dim: int
    mla: bool
    hidden: int
    intermediate: int
    vocabulary: int

    def layer_token_bytes(self, element: int, tensor_parallel: int) -> int:
        """Return the KV cache's bytes of one token in one layer on one GPU.

        Args:
            element: Bytes of one element of the cache.
            tensor_parallel: GPUs that share the heads; a head is never cut,
                and the latent vector of MLA is on every GPU.
        """
        if self.mla:
            return self.head_dim * element
        heads = max(1, -(-self.kv_heads // tensor_parallel))
        return 2 * heads * self.head_dim * element

    def request_bytes(self, tokens: int, per_layer: int, batched: int, block: int) -> int:
        """Return the KV cache that one request of `tokens` needs on one GPU.

        vllm 0.14.1, vllm/v1/kv_cache_interface.py: FullAttentionSpec and
        SlidingWindowSpec.max_memory_usage_bytes.
        """
        full = -(-tokens // block) * block
        total = self.layers * full * per_layer
        if self.sliding_layers:
            kept = min(self.window - 1 + batched, tokens)
            total += self.sliding_layers * (-(-kept // block) + 1) * block * per_layer
        return total


def read_shape(model: Model, rules: Mapping[str, Any]) -> Shape | None:
    """Read a model's dimensions from its config.json, or None where they do not say enough.

    The keys are those of vllm 0.14.1's ModelArchConfigConvertorBase
    (vllm/transformers_utils/model_arch_config_convertor.py).
    """
    config = model.shape_config
    if any(config.get(key) for key in fact.words(rules, "not_planned_keys")):
        return None
    layers = fact.integer(config, "num_hidden_layers")
    heads = fact.integer(config, "num_attention_heads")
    hidden = fact.integer(config, "hidden_size")
    vocabulary = fact.integer(config, "vocab_size")
    if not layers or not heads or not hidden or not vocabulary:
        return None
    if min(layers, heads, hidden, vocabulary) < 1:
        return None
    family = fact.text(config, "model_type") or ""
    lora = fact.integer(config, "kv_lora_rank")
    mla = family in fact.words(rules, "mla") and bool(lora)
    if mla:
        head_dim = (lora or 0) + (fact.integer(config, "qk_rope_head_dim") or 0)
        kv_heads = 1
    else:
        head_dim = fact.integer(config, "head_dim") or hidden // heads
        kv_heads = heads
        for key in ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num"):
            found = fact.integer(config, key)
            if found:
                kv_heads = found
                break
    if head_dim < 1 or kv_heads < 1:
        return None
    sliding = _sliding(config, family, layers, rules)
    if sliding is None:
        return None
    sliding_layers, window = sliding
    return Shape(
        layers=layers - sliding_layers,
        sliding_layers=sliding_layers,
        window=window,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mla=mla,
        hidden=hidden,
        intermediate=_intermediate(config, hidden),
        vocabulary=vocabulary,
    )


def _sliding(
    config: Mapping[str, Any], family: str, layers: int, rules: Mapping[str, Any]
) -> tuple[int, int] | None:
    """Return how many layers slide and their window; None for layers this plan cannot sum."""
    window = fact.integer(config, "sliding_window") or 0
    off = config.get("use_sliding_window") is False
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        if any(kind not in ("full_attention", "sliding_attention") for kind in kinds):
            return None
        count = kinds.count("sliding_attention")
        if off or window < 1 or count > layers:
            return 0, 0
        return count, window
    if window < 1 or off:
        return 0, 0
    if family in fact.words(rules, "all_layers_sliding"):
        return layers, window
    return 0, 0


def _intermediate(config: Mapping[str, Any], hidden: int) -> int:
    dense = fact.integer(config, "intermediate_size") or 4 * hidden
    experts = fact.integer(config, "num_experts_per_tok") or 0
    expert = fact.integer(config, "moe_intermediate_size") or dense
    return max(dense, experts * expert) if experts else dense


def model_length(model: Model) -> int | None:
    """Return the longest context that the model itself allows, in tokens, or None.

    Follows vllm 0.14.1's `_get_and_verify_max_len` (vllm/config/model.py),
    without tokenizer_config.json, which may lower it.
    """
    config = model.shape_config
    found = [
        value
        for key in (
            "max_position_embeddings",
            "n_positions",
            "max_seq_len",
            "seq_length",
            "model_max_length",
            "max_target_positions",
            "max_sequence_length",
            "max_seq_length",
            "seq_len",
        )
        for value in [fact.integer(config, key)]
        if value is not None and value > 0
    ]
    if not found:
        return None
    length: float = fact.integer(config, "model_max_length") or min(found)
    family = fact.text(config, "model_type") or ""
    scaling = fact.mapping(config, "rope_scaling") or fact.mapping(config, "rope_parameters")
    kind = fact.text(scaling, "rope_type") or fact.text(scaling, "type") or "default"
    factor = fact.number(scaling, "factor")
    scaled = kind not in ("default", "su", "longrope", "llama3", "mrope")
    if scaled and factor and factor > 0 and "gemma3" not in family:
        if kind == "yarn":
            length = fact.integer(scaling, "original_max_position_embeddings") or length
        length *= factor
    return max(1, int(min(length, _LONGEST)))


@dataclass(frozen=True)
class Setting:
    """What the memory plan of one instance depends on besides the model.

    Attributes:
        accelerator: `cuda` or `cpu`.
        release: The vLLM version.
        graphs_in_budget: Whether CUDA graphs count against the utilization
            (from 0.21 on).
        dtype: The serving format.
        gpus: The instance's GPUs.
    """

    accelerator: str
    release: str
    graphs_in_budget: bool
    dtype: str
    gpus: list[Gpu]


def plan_memory(
    instance: Instance,
    model: Model | None,
    setting: Setting,
    rules: Mapping[str, Any],
    sizes: Mapping[str, Any],
    findings: Findings,
) -> dict[str, Any] | None:
    """Plan an instance's memory and refuse what cannot fit.

    Args:
        instance: The instance.
        model: Its model, where it is on the host.
        setting: Accelerator, release and GPUs.
        rules: `plan/data/memory.yml`.
        sizes: Format to bytes, from `plan/data/dtypes.yml`.
        findings: Receives the problems.

    Returns:
        Bytes by use, tokens and lengths, for one GPU; None where the model's
        size is not known.
    """
    if model is None or (setting.accelerator == "cuda" and not setting.gpus):
        return None
    shape = read_shape(model, rules)
    if shape is None or model.weights_bytes is None:
        findings.note(
            "memory-unknown",
            instance.at("model"),
            "its files do not say enough to plan its memory; vLLM decides at start",
        )
        return None
    tensor = instance.tensor_parallel_size if setting.accelerator == "cuda" else 1
    pipeline = max(1, fact.integer(instance.extra_args, "pipeline-parallel-size") or 1)
    if tensor > 1 and shape.heads % tensor:
        fitting = [size for size in range(1, len(setting.gpus) + 1) if not shape.heads % size]
        findings.problem(
            "heads-not-divisible",
            instance.at("tensor_parallel_size"),
            f"{shape.heads} attention heads cannot be divided by {tensor}",
            f"set tensor_parallel_size: {max(fitting, default=1)}",
        )
        return None
    element = fact.integer(sizes, setting.dtype) or 2
    kv_element = _kv_element(instance, element)
    per_layer = shape.layer_token_bytes(kv_element, tensor)
    depth = -(-(shape.layers + shape.sliding_layers) // pipeline)
    per_token = per_layer * depth
    batched, sequences = _batch(instance, setting, rules)
    block = fact.integer(rules, "block_size", setting.accelerator) or 16
    weights = _weights(instance, model, setting, element, sizes) // (tensor * pipeline)
    activations = _activations(shape, batched, sequences, element, tensor, setting, rules)
    result: dict[str, Any] = {
        "weights_bytes": weights,
        "overhead_bytes": activations,
        "cuda_graph_bytes": 0,
        "cuda_graph_in_budget": setting.graphs_in_budget,
        "kv_cache_bytes_per_token": per_token,
    }
    if setting.accelerator == "cpu":
        result.update(gpu_memory_bytes=None, budget_bytes=None, available_bytes=None)
        kv_bytes = instance.cpu_kvcache_space * fact.GIB
        result["overhead_bytes"] = 0
    else:
        smallest = min(setting.gpus, key=lambda gpu: (gpu.total, gpu.index))
        graphs = 0 if instance.enforce_eager else fact.integer(rules, "cuda_graphs") or 0
        claimed = budget(smallest, instance)
        kv_bytes = claimed - weights - activations - (graphs if setting.graphs_in_budget else 0)
        result.update(
            gpu_memory_bytes=smallest.total,
            available_bytes=min(gpu.available for gpu in setting.gpus),
            budget_bytes=claimed,
            cuda_graph_bytes=graphs,
        )
        given = whole_number(instance.extra_args.get("kv-cache-memory-bytes"))
        if given is not None and given > 0:
            kv_bytes = given
        if kv_bytes <= 0:
            _does_not_fit(instance, result, smallest, findings)
        elif graphs and not setting.graphs_in_budget:
            _check_graphs(instance, result, fact.integer(rules, "context") or 0, findings)
    kv_bytes = max(0, kv_bytes)
    result["kv_cache_bytes"] = kv_bytes
    result["kv_cache_tokens"] = kv_bytes // (per_token * block) * block
    staged = replace(
        shape,
        layers=-(-shape.layers // pipeline),
        sliding_layers=-(-shape.sliding_layers // pipeline),
    )
    fits = _longest(staged, kv_bytes, per_layer, batched, block)
    result["max_model_len_fits"] = fits
    _check_length(instance, model, result, fits, setting, findings)
    length = result["max_model_len"]
    need = staged.request_bytes(length, per_layer, batched, block) if length else 0
    result["concurrency"] = round(kv_bytes / need, 2) if need else 0.0
    return result


def _kv_element(instance: Instance, element: int) -> int:
    wanted = instance.extra_args.get("kv-cache-dtype")
    if isinstance(wanted, str) and wanted.startswith("fp8"):
        return 1
    return 2 if wanted == "bfloat16" else element


def _batch(instance: Instance, setting: Setting, rules: Mapping[str, Any]) -> tuple[int, int]:
    """Return max_num_batched_tokens and max_num_seqs as vLLM will take them."""
    defaults: Mapping[str, Any] = fact.mapping(rules, "cpu_batch_defaults")
    if setting.accelerator == "cuda":
        smallest = min(gpu.total for gpu in setting.gpus)
        names = " ".join(gpu.name.lower() for gpu in setting.gpus)
        for row in fact.rows(rules, "batch_defaults"):
            unlike = fact.text(row, "not_named")
            if smallest >= (fact.integer(row, "gpu_memory_at_least") or 0) and not (
                unlike is not None and unlike in names
            ):
                defaults = row
                break
    batched = whole_number(instance.extra_args.get("max-num-batched-tokens"))
    sequences = instance.max_num_seqs or fact.integer(defaults, "max_num_seqs") or 256
    if batched is None or batched < 1:
        batched = fact.integer(defaults, "max_num_batched_tokens") or 2048
    return batched, min(sequences, batched)


def _weights(
    instance: Instance,
    model: Model,
    setting: Setting,
    element: int,
    sizes: Mapping[str, Any],
) -> int:
    """Return the bytes of all weights as they are loaded."""
    total = model.weights_bytes or 0
    stored = fact.integer(sizes, stored_dtype(model) or "") or element
    if quantization(instance, model) is None and stored != element:
        total = total * element // stored
    offload = fact.number(instance.extra_args, "cpu-offload-gb")
    if offload is not None and offload > 0 and setting.accelerator == "cuda":
        total = max(0, total - int(offload * fact.GIB) * len(setting.gpus))
    return total


def _activations(
    shape: Shape,
    batched: int,
    sequences: int,
    element: int,
    tensor: int,
    setting: Setting,
    rules: Mapping[str, Any],
) -> int:
    """Return the profile run's peak beside the weights, and what torch does not see."""
    width = 3 * -(-shape.intermediate // tensor) + 4 * shape.hidden
    forward = batched * width * element
    per_logit = 0
    table = fact.mapping(rules, "sampler_bytes_per_logit")
    for since in sorted(table, key=fact.version_tuple):
        if fact.version_tuple(since) <= fact.version_tuple(setting.release):
            per_logit = fact.integer(table, since) or 0
    sampler = sequences * shape.vocabulary * per_logit
    other = fact.integer(rules, "non_torch") or 0
    if tensor > 1:
        other += fact.integer(rules, "tensor_parallel") or 0
    return max(forward, sampler) + other


def _does_not_fit(
    instance: Instance,
    result: Mapping[str, Any],
    gpu: Gpu,
    findings: Findings,
) -> None:
    claimed = result["budget_bytes"]
    graphs = result["cuda_graph_bytes"] if result["cuda_graph_in_budget"] else 0
    least = (result["weights_bytes"] + result["overhead_bytes"] + graphs) / gpu.total
    if least < 0.95:
        remedy = f"set gpu_memory_utilization to more than {least:.2f}"
    else:
        remedy = "use a smaller or quantized model, or more GPUs with tensor_parallel_size"
    findings.problem(
        "weights-do-not-fit",
        instance.at("model"),
        f"weights ({fact.gib(result['weights_bytes'])}) and activations "
        f"({fact.gib(result['overhead_bytes'])}) fill the budget of {fact.gib(claimed)} "
        f"({instance.gpu_memory_utilization:g} of {gpu.label}); nothing is left for the KV cache",
        remedy,
    )


def _check_graphs(
    instance: Instance, result: Mapping[str, Any], context: int, findings: Findings
) -> None:
    graphs = result["cuda_graph_bytes"]
    outside = result["available_bytes"] - result["budget_bytes"]
    if 0 <= outside < graphs + context:
        findings.note(
            "graphs-tight",
            instance.at("gpu_memory_utilization"),
            f"CUDA graphs and the CUDA context take about {fact.gib(graphs + context)} outside the "
            f"budget in this release and {fact.gib(outside)} are free there; lower the "
            "utilization or set enforce_eager: true",
        )


def _longest(shape: Shape, kv_bytes: int, per_layer: int, batched: int, block: int) -> int:
    """Return the longest context whose request fits the KV cache (0: none)."""
    low, high = 0, _LONGEST
    while low < high:
        middle = (low + high + 1) // 2
        if shape.request_bytes(middle, per_layer, batched, block) <= kv_bytes:
            low = middle
        else:
            high = middle - 1
    return low


def _check_length(
    instance: Instance,
    model: Model,
    result: dict[str, Any],
    fits: int,
    setting: Setting,
    findings: Findings,
) -> None:
    """Settle max_model_len: the wanted one must fit, a default is cut to what does."""
    where = instance.at("max_model_len")
    own = model_length(model)
    wanted = instance.max_model_len
    stretched = instance.environment.get(
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
    ) == "1" or "hf-overrides" in {flag.partition(".")[0] for flag in instance.extra_args}
    if wanted is not None and own is not None and wanted > own and not stretched:
        findings.problem(
            "max-model-len-beyond-model",
            where,
            f"{wanted} tokens are more than the model's own {own}",
            f"set max_model_len: {min(own, fits) if fits else own} or less",
        )
    if wanted is not None and 0 < fits < wanted:
        space = (
            "raise cpu_kvcache_space"
            if setting.accelerator == "cpu"
            else "raise gpu_memory_utilization"
        )
        findings.problem(
            "max-model-len-too-long",
            where,
            f"one request of {wanted} tokens needs more than the KV cache of "
            f"{fact.gib(result['kv_cache_bytes'])}",
            f"set max_model_len: {_rounded(fits)} or less, or {space}",
        )
    if wanted is None and own is not None and 0 < fits < own:
        result["max_model_len"] = _rounded(fits)
        findings.note(
            "max-model-len-chosen",
            where,
            f"the model's own {own} tokens do not fit the KV cache of "
            f"{fact.gib(result['kv_cache_bytes'])}; {result['max_model_len']} is set",
        )
        return
    result["max_model_len"] = wanted if wanted is not None else own


def _rounded(tokens: int) -> int:
    """Round a length that fits down to a round number, leaving 5 % for the estimate's error."""
    careful = max(1, tokens * 95 // 100)
    for step in (4096, 1024, 256, 16):
        if careful >= 2 * step:
            return careful // step * step
    return careful
