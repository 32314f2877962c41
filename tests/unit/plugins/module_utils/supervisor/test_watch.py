# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.probe import (
    Address,
    ProbeFailed,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.sample import Sample
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.watch import (
    Progress,
    Questions,
)

ADDRESS = Address("127.0.0.1", 1, "m")


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(10, 200, 5, None), (20, 200, 6, None)], 20),
        ([(10, 200, 5, None), (20, 200, 5, None)], 0),
        # Our own token has moved the counters, and does not count twice.
        ([(10, 0, 5, 11), (20, 0, 6, 11)], 11),
        ([(10, 0, 5, 11), (20, 0, 6, 21)], 21),
        # The server does not answer /metrics.
        ([(10, 3, 5, None), (20, None, 5, None)], 0),
    ],
)
def test_when_progress_was_last_seen(
    looks: list[tuple[float, int | None, float, float | None]], expected: float
) -> None:
    progress = Progress(0.0)
    for at, running, tokens, answered in looks:
        work = (("tokens", tokens),)
        progress.see(Sample(at=at, running=running, waiting=0, work=work), answered)
    assert progress.at == expected


def wait_for_answer() -> None:
    for thread in threading.enumerate():
        if thread.name == "question":
            thread.join(5)


def test_one_question_at_a_time() -> None:
    asked, let_go = [], threading.Event()

    def ask(_address: Address, _timeout: float) -> None:
        asked.append(1)
        let_go.wait(5)

    questions = Questions(ADDRESS, 9, ask)
    assert questions.newest is None
    questions.ask()
    questions.ask()
    first = questions.newest
    let_go.set()
    wait_for_answer()
    second = questions.newest
    assert first is not None
    assert second is not None
    assert (first.outcome, second.outcome, len(asked)) == ("waiting", "answered", 1)
    assert questions.answered_at is not None


@pytest.mark.parametrize(
    ("problem", "outcome"),
    [
        ("/v1/completions did not answer within 9 s", "timeout"),
        ("/v1/completions answered 401: no", "denied"),
        ("/v1/completions answered 500: no", "failed"),
    ],
)
def test_what_became_of_a_question(problem: str, outcome: str) -> None:
    def ask(_address: Address, _timeout: float) -> None:
        raise ProbeFailed(problem)

    questions = Questions(ADDRESS, 9, ask)
    questions.ask()
    wait_for_answer()
    newest = questions.newest
    assert newest is not None
    assert (newest.outcome, newest.detail) == (outcome, problem)
    assert questions.answered_at is None


def test_a_question_is_waited_for_as_long_as_its_answer_may_take() -> None:
    answers = threading.Event()
    questions = Questions(ADDRESS, timeout=0.3, ask=lambda *_: answers.wait(10) and None)
    assert questions.wait()  # nothing was asked
    questions.ask()
    assert not questions.wait()
    answers.set()
    assert questions.wait()
