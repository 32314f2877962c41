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


API = b"(APIServer pid=7) "
FATAL = b"(EngineCore pid=9) ERROR 11-22 22:05:28 [core.py:945] EngineCore failed to start.\n"


def flood(number: int) -> bytes:
    """What one request says of an engine that has died."""
    said = API + b"ERROR 11-22 22:05:%02d [serving_chat.py:1310] " % (number % 60)
    lines = [b"Error in chat completion", b"Traceback (most recent call last):"]
    lines += [b'  File "/v/part%c.py", line 4, in get' % (65 + part) for part in range(20)]
    return b"".join(said + line + b"\n" for line in lines)


def test_the_first_word_of_an_end_outlives_any_flood() -> None:
    tail = Tail(50)
    tail.feed(b"".join(b"before %d\n" % n for n in range(90)))
    tail.feed(FATAL + b"the reason\n")
    tail.feed(b"".join(b"after %d\n" % n for n in range(2000)))
    lines = tail.lines
    assert "before 89" in lines
    assert FATAL.decode().rstrip() in lines
    assert lines[lines.index(FATAL.decode().rstrip()) + 1] == "the reason"
    assert "lines were left out" in "\n".join(lines)
    assert lines[-1] == "after 1999"
    assert lines.count("after 0") == 1
    assert len(lines) <= 50 + 401


def test_what_every_request_repeats_is_folded() -> None:
    tail = Tail(200)
    for number in range(500):
        tail.feed(flood(number))
    assert len(tail.lines) <= 3 * 22
    tail.feed(b"(APIServer pid=7) ERROR 11-22 22:05:28 [serving_chat.py:1310] Something new\n")
    assert tail.lines[-1].endswith("Something new")


def test_a_server_that_only_says_that_it_waits_says_nothing_new() -> None:
    tail = Tail(50)
    tail.feed(b"(EngineCore pid=9) INFO 1 [core.py:9] begin\n")
    before = tail.said
    for _ in range(9):
        tail.feed(b"INFO [shm_broadcast.py:466] No available shared memory broadcast block found\n")
        tail.feed(
            b"DEBUG [utils.py:1168] Waiting for 1 local, 0 remote core engine proc(s) to start.\n"
        )
    assert tail.said == before
    for number in range(9):
        tail.feed(b"still waiting, %d s\n" % number)
    assert tail.said == before + 1
    tail.feed(b"\rLoading: 1%\rLoading: 2%\rLoad")
    tail.feed(b"ing: 3%\r")
    assert tail.said > before + 2


def test_of_a_line_without_end_the_beginning_is_kept() -> None:
    tail = Tail(5)
    tail.feed(b"Dumping input " + b"x" * 1_000_000 + b"\n")
    assert len(tail.lines[0]) <= 4000
