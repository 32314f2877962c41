# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a server that is up, and of workers that wait: words, and from when on."""

from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import causes
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.classify import (
    BUSY,
    CRASHED,
    HUNG_AT_START,
    HUNG_WHILE_SERVING,
    READY,
    STARTING,
    Limits,
    Verdict,
    classify,
)

from .test_classify import sample

MIB = 1 << 20
GIB = 1 << 30
ONE_CARD = (
    "Restart the unit. If it comes back: another attention_backend, and Xid in journalctl -k."
)
MANY_CARDS = (
    'Restart the unit. If it comes back: environment: {NCCL_P2P_DISABLE: "1"} and extra_args: '
    "{disable_custom_all_reduce: true} on the instance, then another attention_backend; Xid in "
    "journalctl -k tells of a card."
)
NOTHING = "it takes requests and computes nothing"
OUT_OF_MEMORY = (
    "(EngineCore_DP0 pid=9) ERROR 11-22 22:05:28 [core.py:938] torch.OutOfMemoryError: CUDA out of "
    "memory. Tried to allocate 2.00 GiB."
)


def told(*samples, log=(), **limits):
    return classify([sample(one) for one in samples], log, Limits(**limits))


def waits(at, outcome="waiting", seconds=1.0, **fields):
    """A look at a server that does nothing, and of which a token is wanted."""
    asked = {"outcome": outcome, "seconds": seconds}
    return {"at": at, "cpu_seconds": 5, "completion": asked, **fields}


# -- is it up? ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("look", "state"),
    [
        pytest.param({"active_state": "active", "is_notify": True}, READY, id="systemd was told"),
        pytest.param(
            {"active_state": "reloading", "is_notify": True}, READY, id="it reloads, and serves on"
        ),
        pytest.param(
            {"active_state": "activating", "is_notify": True, "health": 200},
            STARTING,
            id="systemd was not told yet",
        ),
        # Of another type it is active as soon as there is a process.
        pytest.param({"active_state": "active"}, STARTING, id="systemd cannot know"),
        pytest.param({"active_state": "active", "health": 200}, READY, id="it says it is well"),
        pytest.param({"is_notify": True}, STARTING, id="systemd was not asked"),
        pytest.param({"is_notify": True, "health": 200}, READY, id="not asked, but it is well"),
        pytest.param({"health": 200}, READY, id="health alone"),
        pytest.param({"running": 0}, READY, id="counters alone"),
        pytest.param(
            {"completion": {"outcome": "answered", "seconds": 0.1}}, READY, id="a token alone"
        ),
        pytest.param(
            {"completion": {"outcome": "waiting", "seconds": 0.1}}, STARTING, id="no token yet"
        ),
        pytest.param(
            {"completion": {"outcome": "failed", "seconds": 0.1}}, STARTING, id="a refusal"
        ),
    ],
)
def test_whether_its_start_is_over(look, state):
    assert told({"at": 100, **look}).state == state


# -- it answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "tokens", "evidence"),
    [
        pytest.param(5, 300, ("60.0 tokens/s over 5 s",), id="several"),
        pytest.param(10, 1, ("0.1 tokens/s over 10 s",), id="a single token"),
        pytest.param(1, 5, ("5.0 tokens/s over 1 s",), id="a second"),
        pytest.param(10, 0, (), id="none, which is no rate"),
        pytest.param(10, -7, (), id="counted anew since a restart"),
        pytest.param(0, 5, (), id="no time between the looks"),
    ],
)
def test_how_fast_it_was(span, tokens, evidence):
    verdict = told(
        {"at": 100, "running": 0, "generation_tokens": 70},
        {"at": 100 + span, "running": 0, "generation_tokens": 70 + tokens},
    )
    assert verdict == Verdict(READY, "it answers and has nothing to do", evidence)


def test_how_full_its_cache_is():
    verdict = told({"at": 0, "running": 0, "kv_cache_usage": 1.0, "memory_bytes": 2 * GIB})
    assert verdict.evidence == ("KV cache 100 % full", "memory 2.0 GiB")


@pytest.mark.parametrize(
    ("load", "words"),
    [
        pytest.param({"running": 2, "waiting": 0}, "2 running, 0 waiting", id="none waits"),
        pytest.param({"running": 0, "waiting": 2}, "0 running, 2 waiting", id="none runs"),
        pytest.param({"running": 2, "waiting": 2}, "2 running, 2 waiting", id="as many"),
        pytest.param({"running": 2}, "2 running, 0 waiting", id="nothing told of any that wait"),
    ],
)
def test_what_it_has_to_do(load, words):
    before, now = {"at": 0, "work": {"tokens": 1}}, {"at": 5, "work": {"tokens": 2}}
    assert told(before | load, now | load) == Verdict(BUSY, f"it computes: {words}")
    # The same requests, and nothing has come of them.
    now["work"] = before["work"]
    summary = f"{words}; the last token was computed 5 s ago"
    assert told(before | load, now | load) == Verdict(BUSY, summary, ("no token for 5 s", words))


@pytest.mark.parametrize("before", [[], [waits(0, running=1)]], ids=["first look", "since then"])
def test_a_token_of_our_own_is_a_token(before):
    now = waits(60, "answered", 0.25, running=1)
    assert told(*before, now) == Verdict(
        BUSY, "it computes: 1 running, 0 waiting", ("computed a token in 0.25 s",)
    )


# -- it has died ----------------------------------------------------------------------------------


@pytest.mark.parametrize("health", [500, 503])
def test_the_engine_has_died_by_its_own_word(health):
    assert told({"at": 0, "running": 1, "health": health}) == Verdict(
        CRASHED,
        "the engine has died",
        (f"/health answers {health}",),
        "The server ends by itself and is started again.",
        cause="engine_died",
    )


@pytest.mark.parametrize("health", [None, 0], ids=["not asked", "no answer"])
def test_the_engine_has_died_as_its_process_is_gone(health):
    server = {"pid": 7, "name": "vllm"}
    verdict = told(
        {"at": 0, "running": 1, "processes": [server, {"pid": 9, "name": "VLLM::EngineCore"}]},
        {"at": 5, "running": 1, "processes": [server], "health": health},
    )
    assert (verdict.state, verdict.summary) == (CRASHED, "the engine has died")
    assert verdict.evidence == ("the engine's process is gone",)


def test_the_engine_has_died_and_the_log_says_of_what():
    line = OUT_OF_MEMORY + " Of it" * 99
    (cause,) = (one for one in causes.CAUSES if one.name == "gpu_out_of_memory")
    verdict = told({"at": 0, "running": 1, "health": 503}, log=[line])
    assert verdict == Verdict(
        CRASHED,
        "the engine has died: the GPU's memory is used up",
        ("/health answers 503", verdict.evidence[1]),
        cause.remedy,
        cause="gpu_out_of_memory",
    )
    said = verdict.evidence[1].removeprefix("log: ")
    assert len(said) == 300
    assert said in line
    assert "CUDA out of memory" in said


@pytest.mark.parametrize(
    ("detail", "evidence"),
    [
        pytest.param("answered 500: broken", "answered 500: broken", id="an error"),
        pytest.param("", "the answer had no text", id="no text"),
        pytest.param("5" * 301, "5" * 300, id="a long text is cut"),
    ],
)
def test_it_refuses_what_it_is_asked(detail, evidence):
    asked = {"outcome": "failed", "seconds": 0.1, "detail": detail}
    assert told(
        {"at": 0, "running": 0, "health": 200, "completion": asked, "memory_bytes": GIB}
    ) == Verdict(
        CRASHED,
        "it answers a completion with an error",
        (evidence, "memory 1.0 GiB"),
        "The log says why; restart the unit.",
        cause="completion_failed",
    )


def test_what_has_fallen_silent_refuses_nothing():
    verdict = told(
        {"at": 0, "running": 0, "listening": True, "health": 200, "cpu_seconds": 5},
        waits(40, "failed", 0.1, listening=True, health=0),
    )
    assert (verdict.state, verdict.summary) == (HUNG_WHILE_SERVING, NOTHING)


# -- it hangs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "cpu", "gpu", "state"),
    [
        pytest.param(29, 0, None, BUSY, id="idle for 29 s"),
        pytest.param(30, 0, None, HUNG_WHILE_SERVING, id="idle for 30 s"),
        pytest.param(100, 4.9, None, HUNG_WHILE_SERVING, id="0.049 cores do nothing"),
        pytest.param(100, 5, None, BUSY, id="0.05 cores work"),
        pytest.param(100, 0, 1.0, HUNG_WHILE_SERVING, id="a card at 1 % does nothing"),
        pytest.param(100, 0, 1.1, BUSY, id="a card at more works"),
        pytest.param(299, 299, None, BUSY, id="busy for 299 s"),
        pytest.param(300, 300, None, HUNG_WHILE_SERVING, id="busy for 300 s"),
        pytest.param(300, 0, 100.0, HUNG_WHILE_SERVING, id="a busy card for 300 s"),
    ],
)
def test_from_when_on_it_hangs(seconds, cpu, gpu, state):
    look = {"running": 1, "waiting": 1, "gpu_utilization": gpu}
    before, now = {"at": 100, "cpu_seconds": 0}, {"at": 100 + seconds, "cpu_seconds": cpu}
    assert told(before | look, now | look).state == state


@pytest.mark.parametrize(
    ("workers", "remedy"),
    [
        pytest.param([], ONE_CARD, id="none"),
        pytest.param([0], ONE_CARD, id="one"),
        pytest.param([0, 1], MANY_CARDS, id="two"),
    ],
)
@pytest.mark.parametrize(
    ("cpu", "summary"),
    [
        pytest.param(0, NOTHING, id="idle"),
        pytest.param(
            400, "it works, but no token has come of it for too long", id="a kernel never ends"
        ),
    ],
)
def test_what_is_told_of_a_hang_and_what_to_do(cpu, summary, workers, remedy):
    processes = [{"pid": 10 + rank, "name": f"VLLM::Worker_TP{rank}"} for rank in workers]
    processes.append({"pid": 9, "name": "VLLM::EngineCore"})
    used = [*processes[:-1], processes[-1] | {"cpu_seconds": cpu}]
    look = {"running": 1, "waiting": 0, "health": 200, "memory_bytes": GIB}
    assert told(
        {"at": 100, "processes": processes, **look}, {"at": 500, "processes": used, **look}
    ) == Verdict(
        HUNG_WHILE_SERVING,
        summary,
        (
            "no token for 400 s",
            "1 running, 0 waiting",
            "/health answers 200",
            f"CPU of the engine {cpu / 400:.2f} cores",
            "memory 1.0 GiB",
        ),
        remedy,
    )


@pytest.mark.parametrize(
    ("span", "used", "words"),
    [
        pytest.param(40, 40, "CPU of the engine 1.00 cores", id="it works"),
        pytest.param(1, 0.5, "CPU of the engine 0.50 cores", id="within a second"),
        pytest.param(40, 0, "CPU of the engine 0.00 cores", id="it sleeps"),
    ],
)
def test_whose_work_counts_is_the_engine_not_the_api_server(span, used, words):
    def look(at, server, engine):
        names = [(7, "vllm", server), (9, "VLLM::EngineCore", engine)]
        processes = [{"pid": pid, "name": name, "cpu_seconds": cpu} for pid, name, cpu in names]
        return {"at": at, "running": 1, "processes": processes, "cpu_seconds": server + engine}

    verdict = told(look(100, 20, 60), look(100 + span, 20 + 3 * span, 60 + used))
    assert verdict.state == (BUSY if used else HUNG_WHILE_SERVING)
    assert verdict.evidence == (f"no token for {span} s", "1 running, 0 waiting", words)


def test_how_long_ago_the_last_token_was_not_how_long_it_is_looked_at():
    looks = [waits(at, "denied", 99, running=1) for at in (100, 120, 140, 149, 150)]
    for look, tokens in zip(looks, (1, 2, 2, 2, 2), strict=True):
        look["work"] = {"tokens": tokens}
    assert told(*looks[:3]).summary == "1 running, 0 waiting; the last token was computed 20 s ago"
    assert told(*looks[:4]).state == BUSY
    assert told(*looks).evidence[0] == "no token for 30 s"
    assert told(*looks).state == HUNG_WHILE_SERVING


@pytest.mark.parametrize(
    "reached",
    [
        pytest.param({"health": 200}, id="by its health"),
        pytest.param({"running": 0}, id="by its counters"),
    ],
)
def test_a_long_start_is_no_silence(reached):
    looks = [
        {"at": 0, "listening": False, "cpu_seconds": 1},
        {"at": 300, "cpu_seconds": 5, **reached},
        waits(310, "waiting", 9, **reached),
        waits(330, "waiting", 29, **reached),
    ]
    for count, words in ((3, "no token for 10 s"), (4, "no token for 30 s")):
        assert told(*looks[:count]).evidence[0] == words
    assert [told(*looks[:count]).state for count in (3, 4)] == [BUSY, HUNG_WHILE_SERVING]


@pytest.mark.parametrize("outcome", ["waiting", "timeout"])
def test_nobody_else_asks_but_our_own_question_is_never_answered(outcome):
    idle = {"running": 0, "waiting": 0}
    assert told(waits(0, "answered", 0.1, **idle), waits(35, outcome, 33, **idle)) == Verdict(
        HUNG_WHILE_SERVING,
        NOTHING,
        (
            "no token for 35 s",
            "0 running, 0 waiting",
            "a completion of one token is unanswered after 33 s",
            "CPU of the engine 0.00 cores",
        ),
        ONE_CARD,
    )


def test_a_question_that_is_older_than_the_looks():
    verdict = told(waits(0, "waiting", 50, running=1), waits(5, "waiting", 55, running=1))
    assert (verdict.state, verdict.evidence[0]) == (HUNG_WHILE_SERVING, "no token for 55 s")


def test_a_question_waits_its_turn_where_tokens_are_computed():
    looks = [
        waits(at, "waiting", 30 + at, running=64, work={"tokens": tokens})
        for at, tokens in ((0, 1), (5, 2), (25, 2))
    ]
    verdict = told(*looks)
    assert verdict.state == BUSY
    assert verdict.evidence[0] == "no token for 20 s"
    assert "a completion of one token is unanswered after 55 s" in verdict.evidence


@pytest.mark.parametrize("outcome", ["answered", "denied"])
def test_what_is_answered_is_not_told_as_unanswered(outcome):
    verdict = told(waits(0, outcome, 0.1, running=1), waits(60, outcome, 0.1, running=1))
    assert verdict.state == HUNG_WHILE_SERVING
    assert verdict.evidence == (
        "no token for 60 s",
        "1 running, 0 waiting",
        "CPU of the engine 0.00 cores",
    )


@pytest.mark.parametrize("listening", [True, None], ids=["listening", "listening unknown"])
@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        pytest.param({"health": 200}, {"health": 0}, ("/health is silent",), id="by its health"),
        pytest.param({"running": 0}, {}, (), id="its counters are not to be had any more"),
    ],
)
def test_the_api_server_is_silent(before, now, words, listening):
    look = {"cpu_seconds": 7, "listening": listening}
    assert told({"at": 0, **look, **before}, {"at": 40, **look, **now}) == Verdict(
        HUNG_WHILE_SERVING,
        NOTHING,
        ("no token for 40 s", *words, "CPU of the engine 0.00 cores"),
        ONE_CARD,
    )


def test_what_never_had_counters_is_not_silent_for_want_of_them():
    look = {"cpu_seconds": 7, "active_state": "active", "is_notify": True}
    assert told({"at": 0, **look}, {"at": 40, **look}).state == READY


def test_which_process_is_stopped_and_what_else_is_seen():
    processes = [
        {"pid": 7, "name": "vllm", "state": "T"},
        {"pid": 9, "name": "VLLM::EngineCore", "state": "T"},
    ]
    look = {"running": 0, "health": 200, "memory_bytes": GIB, "processes": processes}
    assert told({"at": 0, **look}) == Verdict(
        HUNG_WHILE_SERVING,
        "VLLM::EngineCore is stopped and computes nothing",
        (
            "VLLM::EngineCore (pid 9) is in state T: stopped by a signal",
            "no token for 0 s",
            "0 running, 0 waiting",
            "/health answers 200",
            "memory 1.0 GiB",
        ),
        "kill -CONT 9, or restart the unit",
    )


# -- a start: what is work ------------------------------------------------------------------------


def processes(server, engine):
    names = [("vllm", server), ("VLLM::EngineCore", engine)]
    return [
        {"pid": pid, "name": name, "cpu_seconds": cpu} for pid, (name, cpu) in enumerate(names, 7)
    ]


@pytest.mark.parametrize(
    ("before", "now", "works"),
    [
        pytest.param({}, {"cpu_seconds": 9.9}, False, id="0.0495 cores"),
        pytest.param({}, {"cpu_seconds": 10}, True, id="0.05 cores"),
        pytest.param(
            {"processes": processes(0, 3)},
            {"processes": processes(90, 3), "cpu_seconds": 90},
            True,
            id="the API server works, and the engine does not yet",
        ),
        pytest.param({}, {"gpu_utilization": 1.0}, False, id="a card at 1 %"),
        pytest.param({}, {"gpu_utilization": 1.5}, True, id="a card at more"),
        pytest.param({"memory_bytes": GIB}, {"memory_bytes": GIB}, False, id="the same memory"),
        pytest.param(
            {"memory_bytes": GIB}, {"memory_bytes": GIB + 8 * MIB - 1}, False, id="hardly 8 MiB"
        ),
        pytest.param({"memory_bytes": GIB}, {"memory_bytes": GIB + 8 * MIB}, True, id="8 MiB"),
        pytest.param({"memory_bytes": GIB}, {"memory_bytes": GIB - 8 * MIB}, True, id="given back"),
        pytest.param({}, {"memory_bytes": GIB}, False, id="memory was unknown"),
        pytest.param(
            {"gpu_bytes": GIB}, {"gpu_bytes": GIB + MIB - 1}, False, id="hardly 1 MiB of a card"
        ),
        pytest.param({"gpu_bytes": GIB}, {"gpu_bytes": GIB + MIB}, True, id="1 MiB of a card"),
        pytest.param({"said": 4}, {"said": 4}, False, id="nothing said"),
        pytest.param({"said": 4}, {"said": 5}, True, id="a line said"),
        pytest.param({"read_bytes": 4}, {"read_bytes": 4}, False, id="nothing read"),
        pytest.param({"read_bytes": 4}, {"read_bytes": 5}, True, id="a byte read"),
        pytest.param({"written_bytes": 4}, {"written_bytes": 5}, True, id="a byte written"),
        pytest.param({}, {"compilers": ["nvcc"]}, True, id="a compiler runs"),
    ],
)
def test_what_is_work_of_a_start(before, now, works):
    verdict = told({"at": 100, "cpu_seconds": 0} | before, {"at": 300, "cpu_seconds": 0} | now)
    if works:
        assert verdict.state not in (HUNG_AT_START, CRASHED)
        assert verdict.remedy is None
    else:
        assert verdict.state == HUNG_AT_START
        assert verdict.summary == (
            "it has done nothing for 200 s; the last that was seen: it is starting"
        )


def test_a_card_of_which_nothing_is_known_does_no_work():
    looks = [{"at": at, "cpu_seconds": 0} for at in (0, 200)]
    assert told(*looks, idle_gpu=0.0).state == HUNG_AT_START
    looks[1]["gpu_utilization"] = 0.5
    assert told(*looks, idle_gpu=0.0).state == STARTING


# -- a start: workers that wait -------------------------------------------------------------------


def pair(at, used, other=0.0, *, second=None, state="S", first_pid=11, **fields):
    """A look at two workers: how much CPU they have used, and the rest of the server."""
    spent = [used, used if second is None else second]
    return {
        "at": at,
        "cpu_seconds": sum(spent) + other,
        "memory_bytes": 8 * GIB,
        "read_bytes": 1000,
        "processes": [
            {"pid": first_pid, "name": "VLLM::Worker_TP0", "cpu_seconds": spent[0]},
            {"pid": 12, "name": "VLLM::Worker_TP1", "cpu_seconds": spent[1], "state": state},
        ],
        **fields,
    }


WAIT = [
    pytest.param([pair(1000, 0), pair(1300, 300)], 300, id="300 s"),
    pytest.param([pair(1000, 0), pair(1500, 400)], 500, id="four fifths of a core each"),
    pytest.param(
        [pair(1000, 9, compilers=["nvcc"]), pair(1010, 10), pair(1320, 320)],
        310,
        id="for long enough since the compilers ended",
    ),
    pytest.param(
        [pair(1000, 0, first_pid=10), pair(1010, 10), pair(1320, 320)],
        310,
        id="for long enough since a worker came",
    ),
    pytest.param(
        [pair(1000, 0, said=1), pair(1010, 10, said=2), pair(1320, 320, said=2)],
        310,
        id="for long enough since a line was said",
    ),
    pytest.param(
        [pair(at, 500, gpu_utilization=95) for at in (1000, 1200, 1400)], 400, id="cards at 95 %"
    ),
]
DO_NOT_WAIT = [
    pytest.param([pair(1000, 0), pair(1299, 299)], id="299 s"),
    pytest.param([pair(1000, 500), pair(1500, 899.9, 200)], id="hardly four fifths of a core"),
    pytest.param([pair(1000, 0), pair(1500, 500, second=9)], id="only one is busy"),
    pytest.param([pair(1000, 900), pair(1400, 900, 400)], id="another process is busy, not they"),
    pytest.param(
        [pair(1000, 0), pair(1100, 100, 50), pair(1400, 100, 350)], id="they were busy, and are not"
    ),
    pytest.param(
        [pair(1000, 0, compilers=["nvcc"]), pair(1100, 100), pair(1390, 390)],
        id="compilers ran until 290 s ago",
    ),
    pytest.param(
        [pair(1000, 0, first_pid=10), pair(1100, 100), pair(1390, 390)],
        id="a worker is new since 290 s",
    ),
    pytest.param(
        [pair(at, at, memory_bytes=None) for at in (1000, 1400)], id="memory is not known"
    ),
    pytest.param(
        [pair(at, at, read_bytes=None) for at in (1000, 1400)], id="what it reads is not known"
    ),
    pytest.param(
        [pair(at, 500, gpu_utilization=94) for at in (1000, 1200, 1400)], id="cards at 94 %"
    ),
    pytest.param(
        [pair(at, 500, gpu_utilization=gpu) for at, gpu in ((1000, 99), (1200, 9), (1400, 99))],
        id="cards at rest in between",
    ),
]


@pytest.mark.parametrize(("looks", "seconds"), WAIT)
def test_workers_wait_for_each_other(looks, seconds):
    verdict = told(*looks)
    assert (verdict.state, verdict.cause) == (HUNG_AT_START, "workers_wait")
    assert verdict.summary == (
        f"its 2 workers wait for each other: they have been busy for {seconds} s, and nothing else "
        "has moved"
    )


@pytest.mark.parametrize("looks", DO_NOT_WAIT)
def test_workers_do_not_wait_for_each_other(looks):
    verdict = told(*looks)
    assert (verdict.state, verdict.summary) == (STARTING, "it is starting")
    assert (verdict.cause, verdict.remedy) == (None, None)


def test_workers_wait_as_soon_as_the_limit_has_it():
    # No time between two looks: nothing can be told of it, whatever the patience.
    assert told(pair(1000, 7), pair(1000, 7), spin=0.0).state == STARTING
    assert told(pair(1000, 7), pair(1000.5, 7.5), spin=1.0).state == STARTING
    assert told(pair(1000, 7), pair(1001, 8), spin=1.0).cause == "workers_wait"


@pytest.mark.parametrize(
    ("looks", "is_held"),
    [
        pytest.param([(0, "S", 1), (20, "T", 1), (49, "T", 1)], False, id="29 s"),
        pytest.param([(0, "S", 1), (20, "T", 1), (50, "T", 1)], True, id="30 s"),
        pytest.param([(0, "T", 1), (20, "T", 2), (49, "T", 2)], False, id="29 s after a line"),
        pytest.param([(0, "T", 1), (20, "T", 2), (50, "T", 2)], True, id="30 s after a line"),
        pytest.param([(0, "T", 1), (20, "T", 1), (50, "S", 1)], False, id="it goes on"),
    ],
)
def test_a_worker_is_stopped_and_the_other_spins(looks, is_held):
    verdict = told(*(pair(at, at, second=0.0, state=state, said=said) for at, state, said in looks))
    if is_held:
        assert verdict.state == HUNG_AT_START
        assert verdict.summary == "VLLM::Worker_TP1 is stopped, and the others wait for it"
        assert verdict.remedy == "kill -CONT 12, or restart the unit"
        assert verdict.evidence[0] == (
            "VLLM::Worker_TP1 (pid 12) is in state T: stopped by a signal"
        )
    else:
        assert (verdict.state, verdict.remedy) == (STARTING, None)
