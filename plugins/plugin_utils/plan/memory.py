# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory: what weights, activations and KV cache take, and what context then fits."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.dtypes import (
    quantization,
    stored_dtype,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.flags import whole_number
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.gpus import (
    Gpu,
    Outside,
    budget,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.kvcache import (
    CHUNKED,
    CROSS,
    FULL,
    SLIDING,
    STATE,
    Cache,
    Layers,
    Pool,
    kinds_of_layers,
    state_size,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.models import Model
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import Findings
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.wanted import Instance

AUTO = "auto"
"""`max-model-len` by which vLLM takes the longest context that fits."""
# No model's context is longer; bounds the search for the longest that fits.
_LONGEST = 1 << 27


@dataclass(frozen=True)
class Shape:
    """The dimensions of a model that its memory follows from.

    Attributes:
        kinds: What each layer keeps of the context, from `kinds_of_layers`.
        window: Tokens of the layers' window or chunk; 0 where none has one.
        heads: Attention heads.
        kv_heads: Key-value heads; 1 for multi-head latent attention.
        head_dim: Size of a head (of the latent vector for MLA).
        mla: Multi-head latent attention: one vector instead of key and value.
        hidden: Hidden size.
        intermediate: Width of the feed-forward part that one token passes.
        vocabulary: Entries of the vocabulary.
        encoder: Tokens that cross attention keeps of the encoder; 0 without an encoder.
    """

    kinds: tuple[tuple[str, ...], ...]
    window: int
    heads: int
    kv_heads: int
    head_dim: int
    mla: bool
    hidden: int
    intermediate: int
    vocabulary: int
    encoder: int = 0

    @property
    def depth(self) -> int:
        """The number of layers."""
        return len(self.kinds)

    def token_bytes(self, element: int, tensor_parallel: int) -> int:
        """Return the KV cache's bytes of one token in one layer on one GPU.

        Args:
            element: Bytes of one element of the cache.
            tensor_parallel: GPUs that share the heads; a head is never cut,
                and the latent vector of MLA is on every GPU.
        """
        if self.mla:
            return self.head_dim * element
        return 2 * max(1, self.kv_heads // tensor_parallel) * self.head_dim * element

    def divides(self, size: int) -> bool:
        """Whether so many GPUs can share the heads.

        vllm 0.14.1 and 0.26.0, vllm/config/model.py, verify_with_parallel_config, and each
        model's attention: key-value heads are divided, or repeated where there are fewer of them
        than GPUs.
        """
        if self.heads and self.heads % size:
            return False
        if self.mla or not self.kv_heads:
            return True
        return not (self.kv_heads % size if self.kv_heads >= size else size % self.kv_heads)


def read_shape(model: Model, rules: Mapping[str, Any], release: str = "") -> Shape | None:
    """Read a model's dimensions from its config.json, or None where they do not say enough.

    The keys are those of vllm 0.14.1's ModelArchConfigConvertorBase
    (vllm/transformers_utils/model_arch_config_convertor.py).

    Args:
        model: The model.
        rules: `plan/data/memory.yml`.
        release: The vLLM version, which decides whether it knows a family's latent attention.
    """
    config = complete(model.shape_config, rules)
    family = fact.text(config, "model_type") or ""
    layers = fact.integer(config, "num_hidden_layers")
    heads = fact.integer(config, "num_attention_heads") or 0
    hidden = fact.integer(config, "hidden_size")
    vocabulary = fact.integer(config, "vocab_size")
    if not layers or not hidden or not vocabulary or min(layers, hidden, vocabulary) < 1:
        return None
    if family in fact.words(rules, "encoders"):
        kinds: list[list[str]] | None = [[]] * layers
    elif config.get("is_encoder_decoder") is True:
        if family not in fact.words(rules, "encoder_decoders"):
            return None
        kinds = [[FULL, CROSS]] * layers
    else:
        kinds = kinds_of_layers(config, family, layers, rules)
    if kinds is None:
        return None
    attends = any(set(row) - {STATE} for row in kinds)
    if attends and heads < 1:
        return None
    lora = fact.integer(config, "kv_lora_rank")
    mla = bool(lora) and family in fact.words(since(rules, "mla", release) or {}, "families")
    if mla:
        head_dim = (lora or 0) + (fact.integer(config, "qk_rope_head_dim") or 0)
        kv_heads = 1
    else:
        head_dim = _head_dim(config, hidden, heads)
        kv_heads = _kv_heads(config, heads)
    if attends and (head_dim < 1 or kv_heads < 1):
        return None
    window = fact.integer(config, "sliding_window") or 0
    if any(CHUNKED in row for row in kinds):
        window = fact.integer(config, "attention_chunk_size") or 0
    return Shape(
        kinds=tuple(tuple(row) for row in kinds),
        window=window,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mla=mla,
        hidden=hidden,
        intermediate=_intermediate(config, hidden),
        vocabulary=vocabulary,
        encoder=fact.integer(config, "max_source_positions") or 0,
    )


def complete(config: Mapping[str, Any], rules: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config.json with what transformers' class of the model fills in."""
    family = fact.text(config, "model_type") or ""
    found = {**fact.mapping(rules, "class_defaults", family), **config}
    for name, other in fact.mapping(rules, "class_names", family).items():
        if other in config:
            found[name] = config[other]
    return found


def _head_dim(config: Mapping[str, Any], hidden: int, heads: int) -> int:
    rope = fact.integer(config, "qk_rope_head_dim")
    nope = fact.integer(config, "qk_nope_head_dim")
    if rope and nope:
        # A family with latent attention that the release computes with whole heads.
        return rope + nope
    own = fact.integer(config, "head_dim") or fact.integer(config, "attention_head_dim")
    return own or (hidden // heads if heads else 0)


def _kv_heads(config: Mapping[str, Any], heads: int) -> int:
    if config.get("multi_query") is True and config.get("new_decoder_architecture") is not True:
        return 1
    for key in ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num"):
        found = fact.integer(config, key)
        if found:
            return found
    return heads


def since(rules: Mapping[str, Any], key: str, release: str) -> Any:
    """Return what a table of the rules says from a release on: its last row not after it."""
    table = fact.mapping(rules, key)
    found = None
    for first in sorted(table, key=fact.version_tuple):
        if not release or fact.version_tuple(first) <= fact.version_tuple(release):
            found = table[first]
    return found


def read_cache(
    instance: Instance,
    model: Model,
    shape: Shape,
    setting: Setting,
    rules: Mapping[str, Any],
    sizes: Mapping[str, Any],
) -> Cache | None:
    """Return what an instance's KV cache is made of, or None where that cannot be told.

    Args:
        instance: The instance.
        model: Its model.
        shape: The model's dimensions.
        setting: Accelerator, release and GPUs.
        rules: `plan/data/memory.yml`.
        sizes: Format to bytes, from `plan/data/dtypes.yml`.
    """
    config = complete(model.shape_config, rules)
    family = fact.text(config, "model_type") or ""
    extra = instance.extra_args
    element = fact.integer(sizes, setting.dtype) or 2
    tensor = instance.tensor_parallel_size if setting.accelerator == "cuda" else 1
    kv_element = _kv_element(instance, element)
    drafts = _drafting_layers(instance, config)
    if kv_element is None or drafts is None:
        return None
    token = shape.token_bytes(kv_element, tensor)
    states = 0
    if any(STATE in row for row in shape.kinds):
        conv = fact.integer(sizes, str(extra.get("mamba-cache-dtype"))) or element
        named = extra.get("mamba-ssm-cache-dtype") or config.get(
            str(fact.mapping(rules, "state_dtype_keys").get(family))
        )
        default = fact.mapping(since(rules, "state_dtypes", setting.release) or {})
        temporal = fact.integer(sizes, str(named or default.get(family))) or conv
        found = state_size(config, tensor, conv, temporal)
        if found is None:
            return None
        states = found
    batched, _sequences = _batch(instance, setting, rules)
    size = {STATE: states, CROSS: token}
    # CrossAttentionSpec: the budget of the encoder's tokens, which is a whole batch's.
    windows = {CROSS: max(shape.encoder, batched), SLIDING: shape.window, CHUNKED: shape.window}
    whole = _one_group(instance, shape, setting)
    counted: dict[tuple[str, int], Layers] = {}
    for row in (*shape.kinds, *((FULL,),) * drafts):
        for word in row:
            kind = FULL if whole and word in (SLIDING, CHUNKED) else word
            window = windows.get(kind, 0)
            one = counted.get((kind, window)) or Layers(kind, 0, size.get(kind, token), window)
            counted[(kind, window)] = replace(one, count=one.count + 1)
    pipeline = max(1, fact.integer(extra, "pipeline-parallel-size") or 1)
    layers = tuple(replace(one, count=-(-one.count // pipeline)) for one in counted.values())
    steps = 1 if extra.get("async-scheduling") is False or "no-async-scheduling" in extra else 2
    steps = min(steps, fact.integer(since(rules, "pool", setting.release) or {}, "steps") or 1)
    hybrid = {one.kind for one in layers} > {STATE}
    return Cache(layers, _pool(instance, config, family, setting, batched * steps, hybrid, rules))


def _pool(
    instance: Instance,
    config: Mapping[str, Any],
    family: str,
    setting: Setting,
    in_flight: int,
    hybrid: bool,
    rules: Mapping[str, Any],
) -> Pool:
    table = fact.mapping(since(rules, "pool", setting.release) or {})
    block = whole_number(instance.extra_args.get("block-size"))
    mode = "none"
    cached = instance.extra_args.get("enable-prefix-caching")
    if "no-enable-prefix-caching" in instance.extra_args:
        cached = False
    if cached is None and hybrid and not setting.pools:
        cached = table.get("cached_by_default")
    if cached is True:
        kept = family in fact.words(table, "states_all")
        mode = "all" if kept else fact.text(table, "states") or "none"
    return Pool(
        block=block or fact.integer(rules, "block_size", setting.accelerator) or 16,
        in_flight=in_flight,
        even=fact.number(table, "even") or 1.0,
        state_mode=mode,
        checkpoints=1 if family in fact.words(table, "checkpoints") else 0,
        chunk=fact.integer(config, "mamba_chunk_size")
        or fact.integer(config, "chunk_size")
        or 2048,
        align=fact.integer(table, "align") or 16,
    )


def _one_group(instance: Instance, shape: Shape, setting: Setting) -> bool:
    """Whether every layer is given the whole context, also one that needs a window of it.

    vllm/config/vllm.py: without GPUs, with chunks of local attention, and where a flag says so.
    """
    return (
        setting.accelerator != "cuda"
        or instance.extra_args.get("disable-hybrid-kv-cache-manager") is True
        or any(CHUNKED in row for row in shape.kinds)
    ) and any(FULL in row for row in shape.kinds)


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
        host: All GPUs of the host.
        pools: Whether it embeds, ranks or classifies, and generates nothing.
        shared: Whether other instances are on its GPUs.
    """

    accelerator: str
    release: str
    graphs_in_budget: bool
    dtype: str
    gpus: list[Gpu]
    host: list[Gpu] = field(default_factory=list)
    pools: bool = False
    shared: bool = False


def engine_decides(instance: Instance, setting: Setting, rules: Mapping[str, Any]) -> bool:
    """Whether vLLM itself takes the longest context that fits, at each start.

    It measures what the plan can only estimate. A number is better, and is written where the
    model's own length does not fit:

    - in a release that does not tell its clients what it has decided (`auto_length`);
    - on a CPU and with `kv-cache-memory-bytes`, where nothing is measured: the KV cache has the
      size that was set, so the plan's length is exact;
    - for several instances on one GPU: a server that is started while another takes memory counts
      that as its own. With a number it ends, and is started again; with `auto` it would serve a
      short context from then on, and nobody would be told;
    - for models that embed, rank or classify, some of which take `auto` for a length of the user's
      (NomicBertModelConfig in vllm/model_executor/models/config.py);
    - over several hosts, whose plans are compared before any of them starts.
    """
    return (
        instance.max_model_len is None
        and setting.accelerator == "cuda"
        and since(rules, "auto_length", setting.release) is True
        and not setting.pools
        and not setting.shared
        and not instance.hosts
        and "kv-cache-memory-bytes" not in instance.extra_args
    )


def plan_memory(
    instance: Instance,
    model: Model | None,
    setting: Setting,
    rules: Mapping[str, Any],
    sizes: Mapping[str, Any],
    findings: Findings,
    measured: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Plan an instance's memory and refuse what cannot fit.

    Args:
        instance: The instance.
        model: Its model, where it is on the host.
        setting: Accelerator, release and GPUs.
        rules: `plan/data/memory.yml`.
        sizes: Format to bytes, from `plan/data/dtypes.yml`.
        findings: Receives the problems.
        measured: What an engine measured of the same before (`measured.measured`).

    Returns:
        Bytes by use, tokens and lengths, for one GPU; `predicted` has what is estimated and
        `measured` what was measured before, which counts where it is there. None where the
        model's size is not known.
    """
    if model is None or (setting.accelerator == "cuda" and not setting.gpus):
        return None
    shape = read_shape(model, rules, setting.release)
    cache = read_cache(instance, model, shape, setting, rules, sizes) if shape is not None else None
    if shape is None or cache is None or model.weights_bytes is None:
        findings.note(
            "memory-unknown",
            instance.at("model"),
            "its files do not say enough to plan its KV cache; vLLM measures at start what is "
            "left for it, and "
            + (
                "takes the longest context that fits"
                if engine_decides(instance, setting, rules)
                else "ends where a request of max_model_len does not fit"
            ),
        )
        return None
    tensor = instance.tensor_parallel_size if setting.accelerator == "cuda" else 1
    if _check_heads(instance, shape, tensor, setting, findings):
        return None
    estimate = _beside_cache(instance, model, shape, setting, rules, sizes)
    beside = _as_measured(estimate, measured)
    result: dict[str, Any] = {
        "weights_bytes": beside.weights,
        "overhead_bytes": beside.activations,
        "cuda_graph_bytes": 0,
        "cuda_graph_in_budget": beside.counts_graphs,
        "kv_cache_bytes_per_token": cache.token_bytes,
        "state_bytes": cache.state_bytes,
    }
    if setting.accelerator == "cpu":
        result.update(gpu_memory_bytes=None, budget_bytes=None, available_bytes=None)
        kv_bytes, spared = instance.cpu_kvcache_space * fact.GIB, 0
        estimated = kv_bytes
        result["overhead_bytes"] = 0
    else:
        smallest = min(setting.gpus, key=lambda gpu: (gpu.total, gpu.index))
        claimed = budget(smallest, instance)
        kv_bytes, estimated = claimed - beside.total, claimed - estimate.total
        result.update(
            gpu_memory_bytes=smallest.total,
            available_bytes=min(gpu.available for gpu in setting.gpus),
            budget_bytes=claimed,
            cuda_graph_bytes=beside.graphs,
        )
        spared = beside.activations - beside.compiled
        given = whole_number(instance.extra_args.get("kv-cache-memory-bytes"))
        if given is not None and given > 0:
            kv_bytes, estimated, spared = given, given, 0
        if kv_bytes <= 0:
            _does_not_fit(instance, result, setting, findings, shape)
        elif beside.graphs and not beside.counts_graphs:
            outside = Outside.read(rules)
            most = max(outside.of(instance, gpu) for gpu in setting.gpus)
            _check_graphs(instance, result, most, findings)
    kv_bytes = max(0, kv_bytes)
    result["kv_cache_bytes"] = kv_bytes
    result["kv_cache_tokens"] = cache.tokens(kv_bytes)
    result["kv_cache_tokens_compiled"] = cache.tokens(kv_bytes + spared) if kv_bytes else 0
    fits = cache.longest(kv_bytes, _LONGEST)
    result["max_model_len_fits"] = fits
    decides = engine_decides(instance, setting, rules)
    usual = cache.longest(max(0, estimated), _LONGEST)
    need_of = cache.request_bytes
    _check_length(instance, model, result, fits, usual, need_of, setting, findings, decides)
    length = result["max_model_len"]
    result["predicted"] = {
        "budget_bytes": result["budget_bytes"],
        "weights_bytes": estimate.weights,
        "kv_cache_bytes": max(0, estimated),
        "kv_cache_tokens": cache.tokens(max(0, estimated)),
        "max_model_len": min(model_length(model) or usual, usual) if decides else length,
    }
    result["measured"] = (
        {"at": measured.get("at"), **fact.mapping(measured, "is")} if measured is not None else None
    )
    need = cache.request_bytes(length) if length else 0
    result["concurrency"] = round(kv_bytes / need, 2) if need else 0.0
    return result


@dataclass(frozen=True)
class Beside:
    """What an instance needs beside its KV cache on one GPU, in bytes.

    Attributes:
        weights: Its weights.
        activations: What it computes with at its first start.
        compiled: The same at a start that finds its code compiled.
        graphs: Captured CUDA graphs.
        counts_graphs: Whether they count against the utilization.
    """

    weights: int
    activations: int
    compiled: int
    graphs: int
    counts_graphs: bool

    @property
    def total(self) -> int:
        """All that counts against the utilization."""
        return self.weights + self.activations + (self.graphs if self.counts_graphs else 0)


def _as_measured(estimate: Beside, measured: Mapping[str, Any] | None) -> Beside:
    """Return what an engine measured instead of what is estimated, as far as it was measured.

    vLLM's log rounds to 0.01 GiB, so up to half of that more may have been free.
    """
    beside = fact.integer(measured, "beside_bytes")
    if beside is None or measured is None:
        return estimate
    half = fact.GIB // 200
    now = beside
    budget = fact.integer(measured, "predicted", "budget_bytes")
    cache = fact.integer(measured, "is", "kv_cache_bytes")
    if budget is not None and cache is not None:
        now = budget - cache
    weights = fact.integer(measured, "is", "weights_bytes") or estimate.weights
    graphs = fact.integer(measured, "is", "cuda_graph_bytes") or estimate.graphs
    inside = estimate.graphs if estimate.counts_graphs else 0
    return Beside(
        weights=weights,
        activations=max(0, beside - half - weights - inside),
        compiled=max(0, now - half - weights - inside),
        graphs=estimate.graphs if estimate.counts_graphs else max(0, graphs),
        counts_graphs=estimate.counts_graphs,
    )


def _beside_cache(
    instance: Instance,
    model: Model,
    shape: Shape,
    setting: Setting,
    rules: Mapping[str, Any],
    sizes: Mapping[str, Any],
) -> Beside:
    """Return what an instance needs beside its KV cache on one GPU."""
    tensor = instance.tensor_parallel_size if setting.accelerator == "cuda" else 1
    pipeline = max(1, fact.integer(instance.extra_args, "pipeline-parallel-size") or 1)
    element = fact.integer(sizes, setting.dtype) or 2
    batched, sequences = _batch(instance, setting, rules)
    if not any(shape.kinds) and "max-num-batched-tokens" not in instance.extra_args:
        # An encoder reads a text in one piece: vllm 0.14.1, vllm/engine/arg_utils.py,
        # _set_default_max_num_seqs_and_batched_tokens_args.
        batched = max(batched, instance.max_model_len or model_length(model) or 0)
    newer = _newer_runner(instance, model, shape, setting, rules)
    weights = _weights(instance, model, setting, element, sizes) // (tensor * pipeline)
    weights += _adapters(instance, shape, tensor) // pipeline
    other = fact.integer(since(rules, "non_torch", setting.release)) or 0
    if tensor > 1:
        other += fact.integer(since(rules, "tensor_parallel", setting.release)) or 0
    other += _encoder(instance, model, shape, batched, element, rules)
    width = 3 * -(-shape.intermediate // tensor) + 4 * shape.hidden
    forward = batched * width * element
    # Instead of the sampler's, the profile run of a model that pools ends in the pooler's (vllm
    # 0.14.1, vllm/v1/worker/gpu_model_runner.py, profile_run).
    sampled = 0 if setting.pools else sequences
    logit = _logit_bytes(instance, newer, setting, rules)
    compiled = max(forward, sampled * shape.vocabulary * logit)
    peak = compiled
    if _compiles(instance) and since(rules, "compiling", setting.release) is True:
        table = -(-shape.vocabulary // tensor) * shape.hidden
        peak = max(peak, (table + 2 * batched * shape.hidden) * element)
    counts = fact.mapping(since(rules, "model_runner", setting.release) or {}).get("counts_graphs")
    return Beside(
        weights=weights,
        activations=peak + other,
        compiled=compiled + other,
        graphs=0
        if instance.enforce_eager
        else fact.integer(since(rules, "cuda_graphs", setting.release)) or 0,
        counts_graphs=setting.graphs_in_budget and not (newer and counts is False),
    )


def _newer_runner(
    instance: Instance, model: Model, shape: Shape, setting: Setting, rules: Mapping[str, Any]
) -> bool:
    """Whether the release serves this with the newer of its two model runners."""
    table = fact.mapping(since(rules, "model_runner", setting.release) or {})
    newer = fact.text(table, "newer")
    said = instance.environment.get("VLLM_USE_V2_MODEL_RUNNER")
    if newer == "never" or setting.accelerator != "cuda":
        return False
    if said is not None:
        return said == "1"
    if _speculates(instance) in fact.words(table, "not_with"):
        return False
    if newer == "always":
        return True
    config = model.shape_config
    experts = any(
        fact.integer(config, key)
        for key in ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
    )
    known = set(fact.words(model.config, "architectures")) & set(fact.words(table, "experts"))
    states = any(STATE in row for row in shape.kinds)
    return not setting.pools and not states and (not experts or bool(known))


def _speculates(instance: Instance) -> str:
    """Return the way of speculative decoding, empty without one."""
    given = instance.extra_args.get("speculative-config")
    if given is None:
        return ""
    wanted = _json(given) if isinstance(given, str) else given
    return fact.text(wanted, "method") or "draft_model"


def _logit_bytes(
    instance: Instance, newer: bool, setting: Setting, rules: Mapping[str, Any]
) -> int:
    """Return the bytes that one logit takes while it is sampled from."""
    table = fact.mapping(since(rules, "sampler_bytes_per_logit", setting.release) or {})
    runner = "newer" if newer else "speculating" if _speculates(instance) else "older"
    return fact.integer(table, runner) or 0


def _compiles(instance: Instance) -> bool:
    """Whether vLLM compiles the model (vllm/config/vllm.py: CompilationMode.NONE is 0)."""
    given = instance.extra_args.get("compilation-config")
    wanted = _json(given) if isinstance(given, str) else given
    mode = fact.mapping(wanted).get("mode")
    level = whole_number(instance.extra_args.get("optimization-level"))
    return not instance.enforce_eager and mode not in (0, "0", "NONE") and level != 0


@dataclass(frozen=True)
class Need:
    """What an instance needs of each of its GPUs, in bytes.

    Attributes:
        weights: Its weights.
        activations: What it computes with.
        graphs: CUDA graphs, where they count against the utilization.
        outside: CUDA graphs, where they do not.
        cache: The KV cache that it must have: of one request of a length worth serving, or what
            `kv-cache-memory-bytes` sets.
        request: The KV cache of that request.
        grows: Whether it makes use of more KV cache.
    """

    weights: int
    activations: int
    graphs: int
    outside: int
    cache: int
    request: int
    grows: bool

    @property
    def margin(self) -> int:
        """What is left for the error of what is estimated: a tenth of it."""
        return (self.activations + self.graphs) // 10

    @property
    def total(self) -> int:
        """All that counts against the utilization."""
        return self.weights + self.activations + self.graphs + self.margin + self.cache


def least_memory(
    instance: Instance,
    model: Model | None,
    setting: Setting,
    rules: Mapping[str, Any],
    sizes: Mapping[str, Any],
) -> Need | None:
    """Return what an instance needs of each of its GPUs, or None where that is not known.

    Args:
        instance: The instance.
        model: Its model, where something is known of it.
        setting: Release and GPUs; accelerator `cuda`.
        rules: `plan/data/memory.yml`.
        sizes: Format to bytes, from `plan/data/dtypes.yml`.
    """
    if model is None or model.weights_bytes is None or not setting.gpus:
        return None
    shape = read_shape(model, rules, setting.release)
    cache = read_cache(instance, model, shape, setting, rules, sizes) if shape is not None else None
    if shape is None or cache is None:
        return None
    beside = _beside_cache(instance, model, shape, setting, rules, sizes)
    inside = beside.graphs if beside.counts_graphs else 0
    own = model_length(model)
    # As much more as a length that the plan chooses is below what fits (`_rounded`).
    floor = -(-(fact.integer(rules, "least_tokens") or 0) * 100 // 95)
    tokens = instance.max_model_len or min(own or floor, floor)
    request = cache.request_bytes(tokens)
    given = whole_number(instance.extra_args.get("kv-cache-memory-bytes"))
    fixed = given is not None and given > 0
    # An encoder has none, and the plan still wants a byte of it.
    least = given if given is not None and fixed else max(1, request)
    return Need(
        weights=beside.weights,
        activations=beside.activations,
        graphs=inside,
        outside=beside.graphs - inside,
        cache=least,
        request=request,
        grows=not setting.pools and not fixed,
    )


def _check_heads(
    instance: Instance, shape: Shape, tensor: int, setting: Setting, findings: Findings
) -> bool:
    """Refuse a tensor parallel size that heads or key-value heads cannot be divided by."""
    if tensor == 1 or shape.divides(tensor):
        return False
    best = max(size for size in range(1, len(setting.gpus) + 1) if shape.divides(size))
    what = (
        f"{shape.heads} attention heads"
        if shape.heads % tensor
        else f"{shape.kv_heads} key-value heads"
    )
    remedy = f"set tensor_parallel_size: {best}"
    if instance.gpus is not None:
        remedy += f" and name {best} of the gpus"
    findings.problem(
        "heads-not-divisible",
        instance.at("tensor_parallel_size"),
        f"{what} cannot be divided by {tensor}",
        remedy,
        {instance.at("tensor_parallel_size"): best}
        | ({instance.at("gpus"): instance.gpus[:best]} if instance.gpus is not None else {}),
    )
    return True


def _adapters(instance: Instance, shape: Shape, tensor: int) -> int:
    """Return the bytes of the slots for LoRA adapters on one GPU.

    vllm 0.14.1, vllm/lora/layers: for each slot a matrix down to the rank and one up again, for
    each linear layer; the one up is shared by the GPUs.
    """
    if instance.extra_args.get("enable-lora") is not True:
        return 0
    slots = whole_number(instance.extra_args.get("max-loras")) or 1
    rank = whole_number(instance.extra_args.get("max-lora-rank")) or 16
    heads = shape.heads * shape.head_dim
    kv = 2 * shape.kv_heads * shape.head_dim
    down = 3 * shape.hidden + heads + 2 * shape.hidden + shape.intermediate
    up = heads + kv + shape.hidden + 2 * shape.intermediate + shape.hidden
    layer = down + up // tensor
    return 2 * slots * rank * (shape.depth * layer + shape.hidden + shape.vocabulary // tensor)


def _kv_element(instance: Instance, element: int) -> int | None:
    """Return the bytes of one element of the KV cache, or None for a format not known here."""
    wanted = instance.extra_args.get("kv-cache-dtype")
    if wanted in (None, "auto"):
        return element
    return {"fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "bfloat16": 2, "float16": 2}.get(str(wanted))


def _drafting_layers(instance: Instance, config: Mapping[str, Any]) -> int | None:
    """Return the layers that speculative decoding adds to the KV cache.

    vllm 0.14.1, vllm/config/speculative.py: what guesses from the text alone adds none, the
    model's own prediction of further tokens (MTP) its own layers. None for a draft model of its
    own, whose config.json the plan does not have.
    """
    given = instance.extra_args.get("speculative-config")
    if given is None:
        return 0
    wanted = _json(given) if isinstance(given, str) else given
    method = fact.text(wanted, "method") or ""
    if method in ("ngram", "ngram_gpu", "suffix"):
        return 0
    if method == "mtp" or method.endswith("_mtp"):
        for key in ("num_nextn_predict_layers", "mtp_num_hidden_layers"):
            found = fact.integer(config, key)
            if found:
                return found
        return 1
    return None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


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
    method = quantization(instance, model)
    if method is None and stored != element:
        total = total * element // stored
    elif method is not None and method != quantization(None, model):
        total = _in_flight(method, model, total, stored, element)
    offload = fact.number(instance.extra_args, "cpu-offload-gb")
    if offload is not None and offload > 0 and setting.accelerator == "cuda":
        total = max(0, total - int(offload * fact.GIB) * len(setting.gpus))
    return total


def _in_flight(method: str, model: Model, total: int, stored: int, element: int) -> int:
    """Return the bytes of weights that are quantized while they are loaded.

    The embeddings and the head stay as they are. bitsandbytes keeps 4 bits of each weight, and a
    float32 for 64 of them (bitsandbytes' nf4); fp8 keeps 8 bits.
    """
    config = model.shape_config
    share = {"bitsandbytes": 0.5 + 4 / 64, "fp8": 1.0}.get(method)
    if share is None:
        return total
    rows = (fact.integer(config, "vocab_size") or 0) * (fact.integer(config, "hidden_size") or 0)
    whole = rows * (1 if config.get("tie_word_embeddings") is True else 2)
    count = total // stored
    return int(min(count, whole) * element + max(0, count - whole) * share)


def _encoder(
    instance: Instance,
    model: Model,
    shape: Shape,
    batched: int,
    element: int,
    rules: Mapping[str, Any],
) -> int:
    """Return what the profile run of an encoder of pictures takes beside the language model's.

    vllm 0.14.1, vllm/v1/worker/gpu_model_runner.py, profile_run: the encoder runs over as many of
    the largest pictures as the budget of tokens takes, at least one, and its output is kept. It
    is an estimate: how large the largest picture is depends on the model's processor.
    """
    vision = fact.mapping(model.config, "vision_config")
    limits = fact.mapping(instance.extra_args.get("limit-mm-per-prompt"))
    if (
        not vision
        or instance.extra_args.get("language-model-only") is True
        or (limits and not any(limits.values()))
    ):
        return 0
    family = fact.text(model.config, "model_type") or ""
    largest = fact.integer(rules, "picture_tokens", family) or 0
    tokens = max(batched, largest)
    hidden = fact.integer(vision, "hidden_size") or fact.integer(vision, "embed_dim") or 0
    inner = fact.integer(vision, "intermediate_size") or 4 * hidden
    merged = fact.integer(vision, "spatial_merge_size") or fact.integer(
        rules, "patches_of_a_token", family
    )
    patches = tokens * (merged or 1) ** 2
    return patches * (4 * hidden + inner) * element + tokens * shape.hidden * element


def _does_not_fit(
    instance: Instance,
    result: Mapping[str, Any],
    setting: Setting,
    findings: Findings,
    shape: Shape | None = None,
) -> None:
    smallest = min(setting.gpus, key=lambda gpu: (gpu.total, gpu.index))
    graphs = result["cuda_graph_bytes"] if result["cuda_graph_in_budget"] else 0
    needed = result["weights_bytes"] + result["overhead_bytes"] + graphs
    remedy, settings = room_for(instance, needed, result["weights_bytes"], smallest, setting, shape)
    findings.problem(
        "weights-do-not-fit",
        instance.at("model"),
        f"weights ({fact.gib(result['weights_bytes'])}) and activations "
        f"({fact.gib(result['overhead_bytes'])}) fill the budget of "
        f"{fact.gib(result['budget_bytes'])} ({instance.gpu_memory_utilization:g} of "
        f"{smallest.label}); nothing is left for the KV cache",
        remedy,
        settings,
    )


def room_for(
    instance: Instance,
    needed: int,
    weights: int,
    smallest: Gpu,
    setting: Setting,
    shape: Shape | None,
) -> tuple[str, dict[str, Any] | None]:
    """Return what makes room for weights and activations on this host, in words and as settings.

    Args:
        instance: The instance.
        needed: Bytes of everything but the KV cache, on each GPU.
        weights: Those of them that are shared out among the GPUs.
        smallest: The smallest of the instance's GPUs.
        setting: Its GPUs, and the host's.
        shape: The model's dimensions, where they are known.
    """
    utilization = instance.gpu_memory_utilization
    least = needed / smallest.total
    shared = smallest.committed - utilization
    # Below this vLLM would not start: free memory is compared with the budget.
    most = min(0.97 - shared, smallest.available / smallest.total - shared)
    # Two decimals, and at least one percent for the KV cache.
    wanted = -(-int((least + 0.01) * 1000) // 10) / 100
    if utilization < wanted <= most:
        return (
            f"set gpu_memory_utilization to more than {least:.2f}",
            {instance.at("gpu_memory_utilization"): wanted},
        )
    count = len(setting.gpus)
    names = {gpu.uuid for gpu in setting.gpus}
    larger = sorted(
        (
            gpu
            for gpu in setting.host
            if needed < gpu.total * utilization
            and gpu.committed - (utilization if gpu.uuid in names else 0) + utilization <= 1
        ),
        key=lambda gpu: (-gpu.total, gpu.index),
    )[:count]
    if len(larger) == count:
        indices = sorted(gpu.index for gpu in larger)
        return f"set gpus: {indices}, which are larger", {instance.at("gpus"): indices}
    others = [gpu for gpu in setting.host if gpu.uuid not in names and gpu.committed <= 0]
    room = min((gpu.total for gpu in [*setting.gpus, *others]), default=0) * utilization
    if count == instance.tensor_parallel_size and instance.gpus is None and shape is not None:
        for size in range(count + 1, count + len(others) + 1):
            if shape.divides(size) and needed - weights + weights * count // size < room:
                where = instance.at("tensor_parallel_size")
                return f"set tensor_parallel_size: {size}", {where: size}
    words = "use a smaller or quantized model"
    if others and needed - weights + weights * count / (count + len(others)) < room:
        words += f", or more of the host's {count + len(others)} GPUs with tensor_parallel_size"
    return words, None


def _check_graphs(
    instance: Instance, result: Mapping[str, Any], beside: int, findings: Findings
) -> None:
    graphs = result["cuda_graph_bytes"]
    outside = result["available_bytes"] - result["budget_bytes"]
    if 0 <= outside < graphs + beside:
        what = "CUDA graphs and the CUDA context"
        if instance.tensor_parallel_size > 1:
            what = "CUDA graphs, the CUDA context and NCCL"
        findings.note(
            "graphs-tight",
            instance.at("gpu_memory_utilization"),
            f"{what} take about {fact.gib(graphs + beside)} outside the budget in this release and "
            f"{fact.gib(outside)} are free there; lower the "
            "utilization or set enforce_eager: true",
        )


def _check_length(
    instance: Instance,
    model: Model,
    result: dict[str, Any],
    fits: int,
    usual: int,
    need: Callable[[int], int],
    setting: Setting,
    findings: Findings,
    decides: bool,
) -> None:
    """Settle max_model_len: the wanted one must fit, a default is cut to what does.

    Args:
        instance: The instance.
        model: Its model.
        result: The plan's figures; receives `max_model_len`.
        fits: The longest context that fits.
        usual: The longest that fits by the estimate. A measurement makes the length that is
            written no longer: what runs with it goes on.
        need: Bytes of one request of a length.
        setting: Accelerator, release and GPUs.
        findings: Receives the problems.
        decides: Whether vLLM itself takes the length.
    """
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
            {where: min(own, fits) if fits else own},
        )
    if wanted is not None and 0 < fits < wanted:
        shorter = _rounded(min(fits, own) if own is not None else fits)
        space = _room_for_length(instance, result, setting, need(wanted))
        findings.problem(
            "max-model-len-too-long",
            where,
            f"one request of {wanted} tokens needs {fact.gib(need(wanted))}, more than the KV "
            f"cache of {fact.gib(result['kv_cache_bytes'])}",
            f"set max_model_len: {shorter} or less" + (f", or {space[0]}" if space else ""),
            {where: shorter},
            [space[1]] if space else (),
        )
    if decides and own is not None and 0 < fits < own:
        result["max_model_len"] = fits
        findings.note(
            "max-model-len-auto",
            where,
            f"the model's own {own} tokens do not fit; vLLM takes the longest context that does, "
            f"at each start: about {fits} tokens",
        )
        return
    if wanted is None and own is not None and fits > 0 and 0 < min(fits, usual) < own:
        length = _rounded(usual) if usual < own else own
        result["max_model_len"] = length if length <= fits else _rounded(fits)
        findings.note(
            "max-model-len-chosen",
            where,
            f"the model's own {own} tokens do not fit the KV cache of "
            f"{fact.gib(result['kv_cache_bytes'])}; {result['max_model_len']} is set",
        )
        return
    # Where neither says anything: _get_and_verify_max_len in vllm/config/model.py.
    result["max_model_len"] = wanted or own or min(2048, fits)


def _room_for_length(
    instance: Instance, result: Mapping[str, Any], setting: Setting, needed: int
) -> tuple[str, dict[str, Any]] | None:
    """Return what gives a request of so many bytes its room, or None where nothing here does.

    Returns:
        The words, and what they set.
    """
    if setting.accelerator == "cpu":
        size = -(-needed // fact.GIB)
        return f"set cpu_kvcache_space: {size}", {instance.at("cpu_kvcache_space"): size}
    smallest = min(setting.gpus, key=lambda gpu: (gpu.total, gpu.index))
    lacking = needed - result["kv_cache_bytes"]
    wanted = -(-int((result["budget_bytes"] + lacking) / smallest.total * 1000 + 1) // 10) / 100
    others = smallest.committed - instance.gpu_memory_utilization
    if wanted <= min(0.97, smallest.available / smallest.total) - others:
        where = instance.at("gpu_memory_utilization")
        return f"set gpu_memory_utilization: {wanted:.2f}", {where: wanted}
    return None


def _rounded(tokens: int) -> int:
    """Round a length that fits down to a round number, leaving 5 % for the estimate's error."""
    careful = max(1, tokens * 95 // 100)
    for step in (4096, 1024, 256, 16):
        if careful >= 2 * step:
            return careful // step * step
    return careful
