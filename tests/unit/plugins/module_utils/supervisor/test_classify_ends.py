# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user is told of a server that starts or has ended: word for word, and from when on."""

from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import cards, causes
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.classify import (
    BY_FIGURES,
    CRASHED,
    DOWNLOADING,
    HUNG_AT_START,
    HUNG_WHILE_SERVING,
    LOADING,
    ORPHANED,
    RESULTS,
    STARTING,
    STOPPED,
    STOPPING,
    Limits,
    Verdict,
    classify,
    phase_of,
    size,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.sample import (
    Process,
    Sample,
)

from .reported import API, AT, composed

LIMITS = Limits(start_deadline=600, start_stall=120, spin=300, stall=30)
BEGAN = 1000.0
"""The monotonic clock is never at zero."""
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
HALF = "Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:06<00:06,  3.05s/it]"
CONTINUE = "kill -CONT {}, or restart the unit"


def ended(log=(), **fields):
    return classify([Sample(BEGAN, **fields)], log, LIMITS)


def looks(*fields):
    return [Sample(**one) for one in fields]


def loads(evidence):
    """What is told of a start that goes on after the line `HALF`."""
    return Verdict(LOADING, "it loads the weights, 50 %", evidence, None, 50)


# -- figures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "told"),
    [
        pytest.param(0, "0 B", id="nothing"),
        pytest.param(1023, "1023 B", id="just below a KiB"),
        pytest.param(KIB, "1.0 KiB", id="a KiB"),
        pytest.param(KIB + KIB // 2, "1.5 KiB", id="above a KiB"),
        pytest.param(1023 * KIB, "1023.0 KiB", id="just below a MiB"),
        pytest.param(MIB, "1.0 MiB", id="a MiB"),
        pytest.param(MIB + MIB // 2, "1.5 MiB", id="above a MiB"),
        pytest.param(1023 * MIB, "1023.0 MiB", id="just below a GiB"),
        pytest.param(GIB, "1.0 GiB", id="a GiB"),
        pytest.param(80 * GIB, "80.0 GiB", id="a card"),
        pytest.param(-3 * MIB, "-3.0 MiB", id="less than before"),
    ],
)
def test_a_size_is_told_in_the_largest_unit_of_which_there_is_one(count, told):
    assert size(count) == told


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        pytest.param({}, (), id="nothing is known"),
        pytest.param({"restarts": 0}, (), id="never restarted"),
        pytest.param({"restarts": 1}, ("systemd has restarted it 1 time",), id="restarted once"),
        pytest.param({"restarts": 2}, ("systemd has restarted it 2 times",), id="restarted twice"),
        pytest.param({"memory_bytes": 3 * GIB}, ("memory 3.0 GiB",), id="no limit of memory"),
        pytest.param(
            {"memory_bytes": 3 * GIB, "memory_max_bytes": 8 * GIB},
            ("memory 3.0 GiB of 8.0 GiB",),
            id="a limit of memory",
        ),
        pytest.param({"gpu_bytes": 512 * MIB}, ("GPU memory 512.0 MiB",), id="a card, no more"),
        pytest.param(
            {"gpu_bytes": 512 * MIB, "gpu_utilization": 97.0},
            ("GPU memory 512.0 MiB, utilization 97 %",),
            id="a card and how busy it is",
        ),
    ],
)
def test_what_it_has_is_told_also_while_it_is_being_stopped(fields, told):
    verdict = ended(active_state="deactivating", **fields)
    assert verdict == Verdict(STOPPING, "it is being stopped", told)


def test_without_a_look_nothing_is_known():
    verdict = classify([], [], LIMITS)
    assert verdict == Verdict(STOPPED, "nothing is known: no sample was taken")


# -- ended: stopped, or left over ------------------------------------------------------------------


@pytest.mark.parametrize("result", [None, "", "success"])
def test_a_server_that_somebody_stopped(result):
    assert ended(active_state="inactive", sub_state="dead", result=result) == Verdict(
        STOPPED, "it is stopped", remedy="systemctl start the unit, to serve."
    )


def test_a_server_that_systemd_is_about_to_start_again_is_not_stopped():
    verdict = ended(active_state="inactive", sub_state="auto-restart", result="success")
    assert verdict.state == CRASHED


ENGINE = Process(812, "VLLM::EngineCore", gpu_bytes=14 * GIB)
WORKERS = (Process(813, "VLLM::Worker_TP0"), Process(814, "VLLM::Worker_TP1"))
OTHER = Process(815, "python3")
ENGINE_TOLD = "VLLM::EngineCore (pid 812), holds 14.0 GiB of GPU memory"
WORKERS_TOLD = ("VLLM::Worker_TP0 (pid 813)", "VLLM::Worker_TP1 (pid 814)")


@pytest.mark.parametrize(
    ("processes", "count", "told"),
    [
        pytest.param((ENGINE,), "one process", (ENGINE_TOLD,), id="an engine"),
        pytest.param((OTHER, ENGINE), "one process", (ENGINE_TOLD,), id="and a helper of it"),
        pytest.param(WORKERS, "2 processes", WORKERS_TOLD, id="two workers"),
        pytest.param(
            (ENGINE, *WORKERS), "3 processes", (ENGINE_TOLD, *WORKERS_TOLD), id="engine and workers"
        ),
    ],
)
def test_a_server_that_was_killed_and_has_left_its_engine_behind(processes, count, told):
    assert ended(exit_status=-9, processes=processes) == Verdict(
        ORPHANED,
        f"the API server was killed (ended by signal 9 (SIGKILL)) and has left {count} behind",
        told,
        "End them: systemctl kill --signal=KILL the unit, then start it.",
        cause="killed",
    )


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"exit_status": 0}, id="it ended by itself, and its engine still ends"),
        pytest.param({"exit_status": 1}, id="it failed, and its engine still ends"),
        pytest.param({"exit_status": -9, "active_state": "failed"}, id="systemd ends what is left"),
        pytest.param({"exit_status": -9, "processes": (OTHER,)}, id="what is left is no engine"),
    ],
)
def test_a_server_that_has_left_nothing_behind(fields):
    assert ended(**{"processes": (ENGINE,), **fields}).state == CRASHED


@pytest.mark.parametrize(
    ("strays", "told", "pids"),
    [
        pytest.param(
            (Process(41, "vllm", unit="session-1.scope"),),
            ("vllm (pid 41), in session-1.scope",),
            "41",
            id="one",
        ),
        pytest.param(
            (Process(41, "vllm"), Process(42, "VLLM::EngineCore", gpu_bytes=GIB)),
            ("vllm (pid 41)", "VLLM::EngineCore (pid 42), holds 1.0 GiB of GPU memory"),
            "41 42",
            id="two",
        ),
    ],
)
def test_processes_of_a_unit_that_is_down(strays, told, pids):
    assert ended(active_state="inactive", result="success", strays=strays) == Verdict(
        ORPHANED,
        "the unit is down, and processes of it are still there",
        told,
        f"kill -KILL {pids}",
    )


# -- ended: how ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        pytest.param({"active_state": "failed"}, "it is not running", id="nothing is known"),
        pytest.param(
            {"active_state": "failed", "result": ""}, "it is not running", id="no result of systemd"
        ),
        pytest.param(
            {"active_state": "failed", "result": "protocol"},
            "systemd's result: protocol",
            id="systemd's result",
        ),
        pytest.param({"exit_status": 1}, "exit status 1", id="a status"),
        pytest.param({"exit_status": 128}, "exit status 128", id="the last that is no signal"),
        pytest.param(
            {"exit_status": 137}, "exit status 137: signal 9 (SIGKILL)", id="a shell's SIGKILL"
        ),
        pytest.param({"exit_status": 138}, "exit status 138", id="a shell's unnamed signal"),
        pytest.param({"exit_status": -9}, "ended by signal 9 (SIGKILL)", id="SIGKILL"),
        pytest.param({"exit_status": -11}, "ended by signal 11 (SIGSEGV)", id="SIGSEGV"),
        pytest.param({"exit_status": -10}, "ended by signal 10", id="an unnamed signal"),
    ],
)
def test_how_it_ended_is_the_first_evidence(fields, told):
    assert ended(**fields).evidence == (told,)


@pytest.mark.parametrize("restarts", [pytest.param(1, id="once"), pytest.param(3, id="thrice")])
def test_how_often_it_was_started_again_stands_beside_how_it_ended(restarts):
    times = "1 time" if restarts == 1 else "3 times"
    assert ended(exit_status=1, restarts=restarts) == Verdict(
        CRASHED,
        "it ended by itself, for a reason that is not known here",
        ("exit status 1", f"systemd has restarted it {times}"),
        "Read the end of its log: journalctl -u the unit.",
        cause="unknown",
    )


@pytest.mark.parametrize("status", [-2, -10])
def test_a_signal_that_tells_nothing_of_the_reason(status):
    assert ended(exit_status=status) == Verdict(
        CRASHED,
        f"it was killed by signal {-status}",
        (f"ended by signal {-status}",),
        "journalctl -k and systemctl status tell who did it.",
        cause="killed",
    )


# -- ended: memory ---------------------------------------------------------------------------------

OOM = "memory_limit"


@pytest.mark.parametrize(
    ("before", "now", "status", "cause"),
    [
        pytest.param(0, 0, 1, "unknown", id="none was killed"),
        pytest.param(0, 1, 1, OOM, id="the engine was killed, the server ended by that"),
        pytest.param(None, 1, 1, OOM, id="and how many there were before is not known"),
        pytest.param(0, 1, -9, OOM, id="the server was killed"),
        pytest.param(2, 3, 1, OOM, id="the third of them"),
        pytest.param(2, 2, 1, "unknown", id="it happened before, and it ended by itself now"),
        pytest.param(2, 2, -9, OOM, id="it happened before the first look, to the server"),
        pytest.param(1, 1, -9, OOM, id="that was the first"),
        pytest.param(1, 1, 137, OOM, id="that was the first, as a shell tells it"),
        pytest.param(0, 0, -9, "killed", id="somebody else killed it"),
        pytest.param(1, 1, -10, "killed", id="it happened before, and another signal ended it"),
        pytest.param(1, 1, 9, "unknown", id="it happened before, and 9 is a status"),
    ],
)
def test_a_server_was_killed_for_memory_if_the_kernel_counts_one_more(before, now, status, cause):
    samples = looks(
        {"at": BEGAN, "oom_kills": before, "memory_max_bytes": 8 * GIB},
        {
            "at": BEGAN + 5,
            "oom_kills": now,
            "exit_status": status,
            "memory_max_bytes": 8 * GIB,
        },
    )
    assert classify(samples, [], LIMITS).cause == cause


@pytest.mark.parametrize(
    ("limit", "cause", "told"),
    [
        pytest.param(None, "host_memory", "the kernel killed it for memory", id="the host's"),
        pytest.param(
            8 * GIB, OOM, "the kernel killed it for memory, limit 8.0 GiB", id="the unit's limit"
        ),
    ],
)
def test_whose_memory_was_used_up(limit, cause, told):
    summary, remedy = BY_FIGURES[cause]
    verdict = ended(
        active_state="failed", result="oom-kill", exit_status=-9, memory_max_bytes=limit
    )
    assert verdict == Verdict(
        CRASHED, summary, ("ended by signal 9 (SIGKILL)", told), remedy, cause=cause
    )


# -- ended: the log against how it ended -----------------------------------------------------------

SERVERS = composed({"server": ["OSError: [Errno 98] Address already in use"]})
ENGINES = composed({"engine": ["RuntimeError: NCCL error: unhandled system error"]})
VAGUE = [f"{API}ERROR {AT} [core_client.py:600] Engine core proc EngineCore_DP0 died unexpectedly."]


@pytest.mark.parametrize(
    ("log", "result", "status", "cause"),
    [
        pytest.param(SERVERS, "exit-code", 1, "port_in_use", id="server: its own end"),
        pytest.param(SERVERS, "watchdog", -6, "watchdog", id="server: the watchdog's"),
        pytest.param(SERVERS, "timeout", 1, "timeout", id="server: systemd's patience ended"),
        pytest.param(SERVERS, "timeout", None, "timeout", id="server: and no status is known"),
        pytest.param(SERVERS, "watchdog", None, "watchdog", id="server: the same of the watchdog"),
        pytest.param(SERVERS, "signal", -9, "killed", id="server: somebody killed it"),
        pytest.param(SERVERS, "signal", -15, "killed", id="server: somebody ended it"),
        pytest.param(SERVERS, None, 137, "killed", id="server: somebody killed its container"),
        pytest.param(SERVERS, "signal", -6, "port_in_use", id="server: it gave up over that"),
        pytest.param(SERVERS, "signal", -10, "port_in_use", id="server: another signal"),
        pytest.param(SERVERS, "signal", -16, "port_in_use", id="server: yet another"),
        pytest.param(SERVERS, "start-limit-hit", 1, "port_in_use", id="server: too many starts"),
        pytest.param(ENGINES, "watchdog", -9, "nccl_failed", id="engine: before the watchdog"),
        pytest.param(VAGUE, "exit-code", 1, "engine_died", id="vague: nothing else is known"),
        pytest.param(VAGUE, "watchdog", 1, "watchdog", id="vague: systemd's word alone"),
        pytest.param(VAGUE, "signal", -11, "segfault", id="vague: the signal alone"),
        pytest.param(VAGUE, "watchdog", -6, "watchdog", id="vague: both"),
    ],
)
def test_whose_word_counts_most(log, result, status, cause):
    verdict = ended(log, active_state="failed", result=result, exit_status=status)
    assert (verdict.state, verdict.cause) == (CRASHED, cause)


@pytest.mark.parametrize("result", sorted(RESULTS))
def test_what_systemd_says_of_the_end_is_told(result):
    cause, summary, remedy = RESULTS[result]
    assert ended(active_state="failed", result=result) == Verdict(
        CRASHED, summary, (f"systemd's result: {result}",), remedy, cause=cause
    )


LONG = f"RuntimeError: NCCL error: {'x' * 400}"
XID = "NVRM: Xid (PCI:0000:01:00): 79, pid=812, GPU has fallen off the bus."


def test_a_lost_card_is_told_before_what_the_log_says_of_it_in_300_characters():
    summary, remedy = cards.CAUSES[cards.LOST]
    assert ended([LONG], exit_status=1, kernel=(XID,)) == Verdict(
        CRASHED,
        summary,
        ("exit status 1", f"kernel: {XID}", f"log: {LONG[:300]}"),
        remedy,
        cause=cards.LOST,
    )


def test_a_line_of_the_log_is_told_in_300_characters_and_what_raised_it_in_200():
    raised, told = f"ValueError: {'x' * 400}", f"NCCL error: {'y' * 400}"
    log = composed({"engine": [raised, told]})
    verdict = ended(log, exit_status=1)
    assert verdict.cause == "nccl_failed"
    assert verdict.evidence == (
        "exit status 1",
        f"log: {told[:300]}",
        f"raised as: {raised[:200]}",
    )


def test_every_signal_that_is_known_is_told_by_what_it_means():
    for number, signal in causes.SIGNALS.items():
        assert ended(exit_status=-number) == Verdict(
            CRASHED,
            f"it {signal.summary}: signal {number}",
            (f"ended by signal {number} ({signal.name})",),
            signal.remedy,
            cause=signal.cause,
        )


# -- starting: how far -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "state", "percent"),
    [
        pytest.param("nothing that is known", STARTING, None, id="nothing"),
        pytest.param("Fetching 9 files:  30%|███ | 3/9", DOWNLOADING, 30, id="a download"),
        pytest.param(HALF, LOADING, 50, id="half of the weights"),
        pytest.param(HALF.replace(" 50", "100"), LOADING, 100, id="all of them"),
        pytest.param(HALF.replace(" 50", "101"), LOADING, 100, id="more than all is all"),
        pytest.param(HALF.replace(" 50", "250"), LOADING, 100, id="however much"),
        pytest.param("Loading weights took 1.27 seconds", LOADING, 100, id="it took so long"),
    ],
)
def test_how_far_a_start_is_by_a_line_of_its_log(line, state, percent):
    assert phase_of([line]) == (state, percent)


@pytest.mark.parametrize(
    ("log", "summary", "percent"),
    [
        pytest.param([], "it is starting", None, id="no figure"),
        pytest.param([HALF], "it loads the weights, 50 %", 50, id="a figure"),
    ],
)
def test_a_start_that_goes_on_is_told_in_a_sentence(log, summary, percent):
    verdict = classify(looks({"at": BEGAN}), log, LIMITS)
    state, said = (LOADING, (f"it said last: {HALF}",)) if log else (STARTING, ())
    assert verdict == Verdict(state, summary, said, None, percent)


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        pytest.param([{"at": BEGAN, "cpu_seconds": 7.0, "read_bytes": GIB}], (), id="one look"),
        pytest.param(
            [
                {"at": BEGAN, "cpu_seconds": 1.0, "read_bytes": 0},
                {"at": BEGAN + 0.5, "cpu_seconds": 1.25, "read_bytes": 512 * MIB},
            ],
            ("CPU 0.50 cores over 0 s", "512.0 MiB read from disks"),
            id="two looks in half a second",
        ),
        pytest.param(
            [
                {"at": BEGAN, "cpu_seconds": 1.0, "read_bytes": 0},
                {"at": BEGAN + 100, "cpu_seconds": 2.0, "read_bytes": 0},
                {"at": BEGAN + 105, "cpu_seconds": 6.0, "read_bytes": 2 * GIB},
            ],
            ("CPU 0.80 cores over 5 s", "2.0 GiB read from disks"),
            id="it works: since the look before",
        ),
        pytest.param(
            [
                {"at": BEGAN, "cpu_seconds": 1.0, "read_bytes": 0},
                {"at": BEGAN + 5, "cpu_seconds": 5.0, "read_bytes": 2 * GIB},
                {"at": BEGAN + 65, "cpu_seconds": 5.0, "read_bytes": 2 * GIB},
                {"at": BEGAN + 105, "cpu_seconds": 6.0, "read_bytes": 2 * GIB},
            ],
            ("CPU 0.01 cores over 100 s", "0 B read from disks"),
            id="it does not: since it worked last",
        ),
        pytest.param(
            [
                {
                    "at": BEGAN,
                    "cpu_seconds": 10.0,
                    "processes": (Process(812, "VLLM::EngineCore", cpu_seconds=5.0),),
                },
                {
                    "at": BEGAN + 5,
                    "cpu_seconds": 20.0,
                    "processes": (Process(812, "VLLM::EngineCore", cpu_seconds=6.0),),
                },
            ],
            ("CPU 2.00 cores over 5 s",),
            id="all that belongs to it counts, not the engine alone",
        ),
    ],
)
def test_what_has_moved_since_when(samples, told):
    verdict = classify(looks(*samples), [], LIMITS)
    assert (verdict.state, verdict.evidence) == (STARTING, told)


def test_what_it_said_last_is_told_in_200_characters():
    verdict = classify(looks({"at": BEGAN}), ["y" * 400, "x" * 400, ""], LIMITS)
    assert verdict.evidence == (f"it said last: {'x' * 200}",)


# -- starting: it hangs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        pytest.param("T", "stopped by a signal", id="a signal"),
        pytest.param("t", "a debugger holds it", id="a debugger"),
    ],
)
def test_a_start_one_of_whose_processes_was_stopped(letter, why):
    process = Process(812, "VLLM::EngineCore", letter)
    verdict = classify(looks({"at": BEGAN, "processes": (process,)}), [HALF], LIMITS)
    assert verdict == Verdict(
        HUNG_AT_START,
        "VLLM::EngineCore is stopped; before that it loads the weights, 50 %",
        (
            f"VLLM::EngineCore (pid 812) is in state {letter}: {why}",
            f"it said last: {HALF}",
        ),
        CONTINUE.format(812),
        50,
    )


def test_a_start_that_worked_until_it_was_stopped_hangs_at_the_next_look():
    samples = looks(
        {"at": BEGAN, "cpu_seconds": 1.0, "processes": (ENGINE,)},
        {"at": BEGAN + 5, "cpu_seconds": 5.0, "processes": (ENGINE,)},
        {
            "at": BEGAN + 10,
            "cpu_seconds": 5.0,
            "processes": (Process(812, "VLLM::EngineCore", "T"),),
        },
    )
    verdict = classify(samples, [], LIMITS)
    assert verdict.state == HUNG_AT_START
    assert verdict.summary == "VLLM::EngineCore is stopped; before that it is starting"


@pytest.mark.parametrize("up", [False, True], ids=["starting", "serving"])
def test_of_several_that_are_stopped_the_engine_is_named(up):
    processes = (Process(7, "vllm", "T"), Process(8, "VLLM::EngineCore", "T"), Process(9, "x", "T"))
    samples = looks({"at": BEGAN, "processes": processes, "running": 1 if up else None})
    verdict = classify(samples, [], LIMITS)
    assert verdict.state == (HUNG_WHILE_SERVING if up else HUNG_AT_START)
    assert verdict.summary.startswith("VLLM::EngineCore is stopped")
    assert verdict.remedy == CONTINUE.format(8)


@pytest.mark.parametrize(
    ("seconds", "hangs"),
    [
        pytest.param(5, False, id="a moment"),
        pytest.param(29, False, id="just below"),
        pytest.param(30, True, id="at the limit"),
        pytest.param(31, True, id="above"),
    ],
)
def test_workers_that_wait_for_one_that_was_stopped(seconds, hangs):
    stopped = Process(12, "VLLM::Worker_TP1", "T")
    samples = looks(
        {
            "at": BEGAN,
            "cpu_seconds": 50.0,
            "processes": (Process(11, "VLLM::Worker_TP0", "R", 50.0), stopped),
        },
        {
            "at": BEGAN + seconds,
            "cpu_seconds": 50.0 + seconds,
            "processes": (Process(11, "VLLM::Worker_TP0", "R", 50.0 + seconds), stopped),
        },
    )
    evidence = (f"CPU 1.00 cores over {seconds} s", f"it said last: {HALF}")
    held = "VLLM::Worker_TP1 (pid 12) is in state T: stopped by a signal"
    assert classify(samples, [HALF], LIMITS) == (
        Verdict(
            HUNG_AT_START,
            "VLLM::Worker_TP1 is stopped, and the others wait for it",
            (held, *evidence),
            CONTINUE.format(12),
            50,
        )
        if hangs
        else loads(evidence)
    )


@pytest.mark.parametrize(
    ("log", "seconds", "hangs"),
    [
        pytest.param([], 299, False, id="before the weights: just below"),
        pytest.param([], 300, True, id="before the weights: at the limit"),
        pytest.param([], 301, True, id="before the weights: above"),
        pytest.param([HALF], 301, False, id="with weights: not yet"),
        pytest.param([HALF], 599, False, id="with weights: just below twice the limit"),
        pytest.param([HALF], 600, True, id="with weights: at twice the limit"),
        pytest.param([HALF], 601, True, id="with weights: above it"),
    ],
)
def test_workers_that_wait_for_each_other(log, seconds, hangs):
    still = {
        "memory_bytes": 8 * GIB,
        "read_bytes": GIB,
        "gpu_utilization": 100.0,
        "processes": WORKERS,
    }
    samples = looks({"at": BEGAN, **still}, {"at": BEGAN + seconds, **still})
    verdict = classify(samples, log, LIMITS)
    percent = 50 if log else None
    assert verdict.percent == percent
    if not hangs:
        assert verdict.state == (LOADING if log else STARTING)
        assert verdict.cause is None
        return
    assert (verdict.state, verdict.cause) == (HUNG_AT_START, "workers_wait")
    assert verdict.summary == (
        f"its 2 workers wait for each other: they have been busy for {seconds} s, "
        "and nothing else has moved"
    )
    assert verdict.remedy == BY_FIGURES["workers_wait"][1]


@pytest.mark.parametrize(
    ("seconds", "hangs"),
    [
        pytest.param(119, False, id="just below"),
        pytest.param(120, True, id="at the limit"),
        pytest.param(121, True, id="above"),
    ],
)
def test_a_start_that_does_nothing(seconds, hangs):
    samples = looks({"at": BEGAN, "cpu_seconds": 9.0}, {"at": BEGAN + seconds, "cpu_seconds": 9.0})
    evidence = (f"CPU 0.00 cores over {seconds} s", f"it said last: {HALF}")
    assert classify(samples, [HALF], LIMITS) == (
        Verdict(
            HUNG_AT_START,
            f"it has done nothing for {seconds} s; the last that was seen: "
            "it loads the weights, 50 %",
            evidence,
            'Restart the unit; with several cards, set environment: {NCCL_P2P_DISABLE: "1"}; with '
            "one, choose another attention_backend (TRITON_ATTN is the safe one). Look for Xid in "
            "journalctl -k. A model on a network file system: see whether it still answers.",
            50,
        )
        if hangs
        else loads(evidence)
    )


def test_a_start_does_nothing_since_the_look_before_the_last_two():
    samples = looks(
        {"at": BEGAN, "cpu_seconds": 1.0},
        {"at": BEGAN + 100, "cpu_seconds": 51.0},
        {"at": BEGAN + 250, "cpu_seconds": 51.0},
    )
    verdict = classify(samples, [], LIMITS)
    assert verdict.state == HUNG_AT_START
    assert verdict.summary == (
        "it has done nothing for 150 s; the last that was seen: it is starting"
    )


def test_nobody_says_that_a_start_does_nothing_whose_cpu_time_cannot_be_read():
    samples = looks(
        {"at": BEGAN, "processes": (ENGINE,)}, {"at": BEGAN + 200, "processes": (ENGINE,)}
    )
    assert classify(samples, [], LIMITS) == Verdict(STARTING, "it is starting")


@pytest.mark.parametrize(
    ("age", "late"),
    [
        pytest.param(599.0, False, id="just below"),
        pytest.param(600.0, False, id="it may take so long"),
        pytest.param(601.0, True, id="later"),
    ],
)
def test_a_start_that_is_late_but_at_work(age, late):
    samples = looks(
        {"at": BEGAN, "cpu_seconds": 1.0}, {"at": BEGAN + 5, "cpu_seconds": 6.0, "age": age}
    )
    where = "it loads the weights, 50 %"
    evidence = (
        "CPU 1.00 cores over 5 s",
        f"started {age:.0f} s ago",
        f"it said last: {HALF}",
    )
    assert classify(samples, [HALF], LIMITS) == (
        Verdict(
            LOADING,
            f"{where}; it is at work, but past its deadline of 600 s",
            evidence,
            "Raise vllm_service_start_timeout.",
            50,
        )
        if late
        else loads(evidence)
    )
