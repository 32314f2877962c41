# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The KV cache: what each layer of a model keeps, and what a request of a length needs of it.

Follows vLLM's own arithmetic, vllm 0.14.1, 0.26.0 and 0.32.0: the specification of each layer
(vllm/v1/kv_cache_interface.py), and their grouping (vllm/v1/core/kv_cache_utils.py,
get_kv_cache_groups). `scripts/kv-oracle` asks vLLM itself, and tests compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import lcm
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan import facts as fact

FULL = "full"
SLIDING = "sliding"
CHUNKED = "chunked"
STATE = "state"
CROSS = "cross"


@dataclass(frozen=True)
class Layers:
    """Layers of a model that keep the same.

    Attributes:
        kind: `full` (the whole context), `sliding` (a window of it), `chunked` (a chunk of it),
            `state` (a state of fixed size: Mamba, linear attention) or `cross` (what the encoder
            made).
        count: How many there are.
        size: Bytes of one token on one GPU; of the whole state where the kind is `state`.
        window: Tokens of a window or chunk, or of the encoder; 0 elsewhere.
    """

    kind: str
    count: int
    size: int
    window: int = 0


@dataclass(frozen=True)
class Pool:
    """How a release divides the memory of the KV cache on one GPU.

    Attributes:
        block: Tokens of a block.
        in_flight: Tokens that may be scheduled and not yet settled: a window grows by so many.
        even: Where the most frequent kind of layer has less than so many times the layers of the
            rarest, all groups are as large as the former.
        state_mode: `none` keeps one state a request, `align` two, `all` one for each block.
        checkpoints: States that `align` keeps beside these two.
        chunk: Tokens of which a block's are a multiple where `state_mode` is `all`.
        align: Tokens of which a block's are a multiple where the model has states.
    """

    block: int
    in_flight: int
    even: float
    state_mode: str = "none"
    checkpoints: int = 0
    chunk: int = 256
    align: int = 16


@dataclass(frozen=True)
class Cache:
    """A model's KV cache on one GPU.

    Attributes:
        layers: Its layers that keep anything, in the order in which their kinds appear.
        pool: How the release divides its memory.
    """

    layers: tuple[Layers, ...]
    pool: Pool

    @property
    def token_bytes(self) -> int:
        """Bytes of one token, over all layers that keep it, be it for a window's length."""
        return sum(one.count * one.size for one in self.layers if one.kind not in (STATE, CROSS))

    @property
    def state_bytes(self) -> int:
        """Bytes of one request's states, without what fills them up to a block."""
        return sum(one.count * one.size for one in self.layers if one.kind == STATE)

    def request_bytes(self, tokens: int) -> int:
        """Return what one request of `tokens` needs on one GPU, in bytes."""
        if not self.layers or tokens < 1:
            return 0
        page, blocks = self._page(), [self._blocks(one, tokens) for one in self.layers]
        if len({(one.kind, one.window) for one in self.layers}) == 1:
            return sum(
                one.count * count * self._own_page(one)
                for one, count in zip(self.layers, blocks, strict=True)
            )
        group = self._group()
        groups = (-(-one.count // group) for one in self.layers)
        return group * page * sum(a * b for a, b in zip(groups, blocks, strict=True))

    def longest(self, memory: int, limit: int) -> int:
        """Return the longest context of which one request fits.

        Args:
            memory: Bytes on one GPU.
            limit: Tokens that are not passed.
        """
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            if self.request_bytes(middle) <= memory:
                low = middle
            else:
                high = middle - 1
        return low

    def tokens(self, memory: int) -> int:
        """Return the tokens that a memory holds, as vLLM 0.14.1's log counts them."""
        if not self.token_bytes:
            return 0
        if len({(one.kind, one.window) for one in self.layers}) == 1:
            return memory // (self.token_bytes * self.pool.block) * self.pool.block
        group = self._group()
        groups = sum(-(-one.count // group) for one in self.layers)
        return memory // (group * self._page()) // groups * self.block()

    def _group(self) -> int:
        """The number of layers in a group."""
        counts = [one.count for one in self.layers]
        return max(counts) if max(counts) < min(counts) * self.pool.even else min(counts)

    def _states(self) -> int:
        return max((one.size for one in self.layers if one.kind == STATE), default=0)

    def _attention(self) -> int:
        return max((one.size for one in self.layers if one.kind != STATE), default=0)

    def block(self) -> int:
        """Tokens of a block: one of attention is never smaller than a state."""
        state, token = self._states(), self._attention()
        if not state or not token:
            return self.pool.block
        if self.pool.state_mode == "all":
            chunk = lcm(self.pool.chunk, self.pool.align)
            tokens = -(-state // token)
            return max(self.pool.block, -(-tokens // chunk) * chunk)
        return max(self.pool.block, self.pool.align * -(-state // (self.pool.align * token)))

    def _page(self) -> int:
        token = self._attention()
        return self.block() * token if token else self._states()

    def _own_page(self, one: Layers) -> int:
        return one.size if one.kind == STATE else one.size * self.block()

    def _blocks(self, one: Layers, tokens: int) -> int:
        """Return the blocks that one layer needs for a request."""
        block = self.block()
        if one.kind == STATE:
            modes = {"align": 2 + self.pool.checkpoints, "all": -(-tokens // block)}
            return modes.get(self.pool.state_mode, 1)
        page = self._page()
        # A layer whose tokens are smaller gets more of them into a block of the same bytes.
        if one.size and not page % (one.size * block):
            mixed = len({(row.kind, row.window) for row in self.layers}) > 1
            block = block * (page // (one.size * block)) if mixed else block
        if one.kind == CROSS:
            return -(-one.window // block)
        if one.kind == SLIDING:
            return -(-min(one.window - 1 + self.pool.in_flight, tokens) // block) + 1
        if one.kind == CHUNKED:
            return -(-min(one.window + self.pool.in_flight, tokens) // block)
        return -(-tokens // block)


def kinds_of_layers(
    config: Mapping[str, Any], family: str, count: int, rules: Mapping[str, Any]
) -> list[list[str]] | None:
    """Return what each layer of a decoder keeps: some of `full`, `sliding`, `chunked`, `state`.

    Args:
        config: The language model's part of config.json.
        family: Its `model_type`.
        count: Its number of layers.
        rules: `plan/data/memory.yml`.

    Returns:
        One list for each layer, empty where it keeps nothing; None where config.json does not
        tell.
    """
    words = fact.mapping(rules, "layer_words")
    named = config.get("layer_types") or config.get("layers_block_type")
    if isinstance(named, list):
        found = [fact.words(words, str(word)) for word in named[:count]]
        known = all(str(word) in words for word in named)
        return found if known and len(found) == count else None
    letters = fact.text(config, "hybrid_override_pattern")
    if letters is not None:
        by_letter = fact.mapping(rules, "layer_letters")
        known = all(letter in by_letter for letter in letters)
        return [fact.words(by_letter, letter) for letter in letters] if known else None
    indices = config.get("attn_layer_indices")
    if isinstance(indices, list):
        return [[FULL] if index in indices else [STATE] for index in range(count)]
    period = fact.integer(config, "attn_layer_period")
    if period:
        offset = fact.integer(config, "attn_layer_offset") or 0
        return [[FULL] if index % period == offset else [STATE] for index in range(count)]
    every = fact.integer(config, "full_attention_interval")
    if every:
        return [[STATE] if (index + 1) % every else [FULL] for index in range(count)]
    if family in fact.words(rules, "only_states"):
        return [[STATE]] * count
    if family in fact.words(rules, "states_beside_attention"):
        return [[FULL, STATE]] * count
    if any(config.get(key) for key in fact.words(rules, "state_keys")):
        return None
    return _sliding(config, family, count, rules)


def _sliding(
    config: Mapping[str, Any], family: str, count: int, rules: Mapping[str, Any]
) -> list[list[str]]:
    """Return which layers have a window, where config.json does not name each layer's kind."""
    window = fact.integer(config, "sliding_window") or 0
    if window < 1 or config.get("use_sliding_window") is False:
        return [[FULL]] * count
    pattern = config.get("sliding_window_pattern")
    if pattern is None:
        pattern = fact.mapping(rules, "sliding_patterns").get(family)
    if isinstance(pattern, str) and pattern:
        words = [pattern[index % len(pattern)] for index in range(count)]
        return [[SLIDING] if word == "L" else [FULL] for word in words]
    if isinstance(pattern, int) and not isinstance(pattern, bool) and pattern > 0:
        return [[SLIDING] if (index + 1) % pattern else [FULL] for index in range(count)]
    # vllm/engine/arg_utils.py, create_engine_config: a window that is not interleaved is every
    # layer's.
    return [[SLIDING]] * count


def state_size(config: Mapping[str, Any], tensor: int, element: int, temporal: int) -> int | None:
    """Return the bytes of one layer's state on one GPU, or None for a model without.

    vllm/model_executor/layers/mamba/mamba_utils.py, MambaStateShapeCalculator, and each model's
    get_mamba_state_shape_from_config.

    Args:
        config: The language model's part of config.json.
        tensor: GPUs that share the layer.
        element: Bytes of one element of the convolution's state.
        temporal: Bytes of one element of the recurrent state.
    """

    def of(*names: str) -> int:
        return next((found for name in names if (found := fact.integer(config, name))), 0)

    hidden = of("hidden_size")
    if of("linear_num_value_heads"):
        keys = of("linear_key_head_dim") * of("linear_num_key_heads")
        heads, size = of("linear_num_value_heads"), of("linear_value_head_dim")
        conv = (2 * keys + heads * size) // tensor * (of("linear_conv_kernel_dim") - 1)
        return conv * element + heads // tensor * size * of("linear_key_head_dim") * temporal
    if of("conv_L_cache"):
        return of("conv_dim", "hidden_size") // tensor * (of("conv_L_cache") - 1) * element
    heads = of("mamba_n_heads", "mamba_num_heads") or (
        of("num_heads") if of("state_size") and of("n_groups") else 0
    )
    state = of("mamba_d_state", "ssm_state_size", "state_size")
    kernel = of("mamba_d_conv", "conv_kernel") - 1
    if heads and state:
        size = of("mamba_d_head", "mamba_head_dim", "head_dim")
        inner = of("mamba_d_ssm") or heads * size
        groups = of("mamba_n_groups", "n_groups") or 1
        groups += tensor - groups if groups % tensor else 0
        conv = (inner + 2 * groups * state) // tensor * kernel
        return conv * element + heads // tensor * size * state * temporal
    if state and kernel > 0:
        inner = (of("mamba_expand") or 2) * hidden
        if of("state_size"):
            inner = of("intermediate_size") or inner
        return inner // tensor * (kernel * element + state * temporal)
    return None
