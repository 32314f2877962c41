# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the engine of a server computes."""

from __future__ import annotations

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    Endpoint,
    EndpointError,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.kinds import (
    GENERATING,
    question_of,
)


def compute_once(endpoint: Endpoint, kind: str, model: str) -> None:
    """Have a server compute the least that its kind can.

    Args:
        endpoint: The server.
        kind: What it is asked for; see `common/kinds.py`.
        model: The served model's name.

    Raises:
        EndpointError: Nothing came back, or something else.
    """
    if kind in GENERATING:
        endpoint.complete_one_token(model)
        return
    question = question_of(kind, model)
    answer = endpoint.request(question.path, question.body, question.content_type)
    problem = question.problem(answer)
    if problem is not None:
        raise EndpointError(problem)
