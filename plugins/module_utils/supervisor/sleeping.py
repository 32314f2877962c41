# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vLLM's sleep mode: how a server is put to sleep and woken, and the proof that it is the same.

vllm 0.26.0, vllm/entrypoints/serve/dev/sleep/api_router.py and vllm/v1/worker/gpu_worker.py: level
1 copies the weights to the host's memory, level 2 drops them, and both drop the KV cache; vLLM
itself resets the prefix cache (vllm/v1/engine/core.py, sleep). After level 2 the weights must be
read again; without that, or where a model's layers take them amiss, answers are gibberish without
any error (vllm issue 29341).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Union

from .guard import HEADER
from .kinds import proof_of
from .probe import Address, ProbeFailed, request

Value = Union[int, float, str]
SLEEP_TIMEOUT = 300.0
"""Seconds that a server may take to fall asleep: the first time the host's memory is pinned, which
took 1.4 s for each GB of weights (docs/benchmark.md)."""
WAKE_TIMEOUTS = {1: 60.0, 2: 300.0}
"""Seconds that waking may take by the level; at 2 the weights come from the disk again."""
PROOF_TIMEOUT = 60.0
TOLERANCE = 0.01
"""Of the largest value, by which those of a pooling model may differ."""
_WAKES: dict[int, tuple[tuple[str, bytes], ...]] = {
    1: (("/wake_up", b""),),
    2: (
        ("/wake_up?tags=weights", b""),
        ("/collective_rpc", b'{"method": "reload_weights"}'),
        ("/wake_up?tags=kv_cache", b""),
    ),
}
"""Paths and bodies, in order; as they were measured on a GPU (tests/gpu/steps.py)."""


def put_to_sleep(address: Address, secret: str, level: int) -> None:
    """Have a server sleep.

    Raises:
        ProbeFailed: It does not.
    """
    request(address, f"/sleep?level={level}", b"", SLEEP_TIMEOUT, headers={HEADER: secret})


def wake_up(address: Address, secret: str, level: int) -> None:
    """Wake a server that sleeps at a level.

    Raises:
        ProbeFailed: It does not wake.
    """
    for path, body in _WAKES[level]:
        request(address, path, body, WAKE_TIMEOUTS[level], headers={HEADER: secret})


def answer_of(address: Address) -> list[Value]:
    """What a server without other requests computes for a question that is always the same.

    Raises:
        ProbeFailed: It computes nothing.
    """
    proof = proof_of(address.kind, address.model)
    content = request(address, proof.path, proof.body, PROOF_TIMEOUT, proof.content_type)
    try:
        return list(proof.values(content))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ProbeFailed(f"{proof.path} answered {content[:200]!r}") from error


def is_same(before: Sequence[Value], after: Sequence[Value]) -> bool:
    """Whether two answers are the same: tokens and texts exactly, numbers within `TOLERANCE`."""
    if len(before) != len(after):
        return False
    numbers = [abs(one) for one in before if isinstance(one, float)]
    slack = TOLERANCE * max(numbers, default=0.0)
    for one, other in zip(before, after):
        if isinstance(one, float) and isinstance(other, float):
            if not (math.isfinite(other) and abs(one - other) <= slack):
                return False
        elif one != other:
            return False
    return True
