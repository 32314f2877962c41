# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.log import Tail

# As vLLM 0.26.0 wrote it on an H100; the pieces are what one read returned.
BAR = [
    b"(EngineCore pid=768) INFO warm\n(EngineCore pid=768) \rCapturing CUDA graphs:   0%| | 0/51",
    b" [00:00<?, ?it/s]\rCapturing CUDA graphs:  43%|#### | 22/51\rCapturing CUDA gr",
    b"aphs: 100%|#####| 51/51\n(EngineCore pid=768) INFO Graph capturing finished\n",
]


def test_a_progress_bar_is_seen_before_its_line_ends_and_takes_one_line() -> None:
    tail = Tail(10)
    seen = []
    for piece in BAR:
        tail.feed(piece)
        seen.append(tail.lines[-1])
    assert seen[0] == "(EngineCore pid=768)"
    assert "43%" in seen[1]
    assert list(tail.lines) == [
        "(EngineCore pid=768) INFO warm",
        "Capturing CUDA graphs: 100%|#####| 51/51",
        "(EngineCore pid=768) INFO Graph capturing finished",
    ]


@pytest.mark.parametrize("size", [1, 2, 7, 40, 4096])
def test_however_it_arrives_the_whole_lines_are_handed_on(size: int) -> None:
    text = b"".join(BAR) + b"no end"
    tail = Tail(10)
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    handed_on = b"".join(tail.feed(piece) for piece in pieces)
    assert handed_on == b"".join(BAR)
    assert tail.rest() == b"no end"
    assert len(tail.lines) == 3


@given(st.lists(st.binary(max_size=12)))
def test_nothing_is_lost_or_raised(pieces: list[bytes]) -> None:
    tail = Tail(5)
    handed_on = b"".join(tail.feed(piece) for piece in pieces)
    assert handed_on + tail.rest() == b"".join(pieces)
    assert len(tail.lines) <= 5
