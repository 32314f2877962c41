# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The classifier against a table of cases, and what must hold for any samples at all."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor import causes
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.classify import (
    BAD,
    BY_FIGURES,
    CRASHED,
    HUNG_AT_START,
    HUNG_WHILE_SERVING,
    STATES,
    Limits,
    classify,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.log import Tail
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.process import (
    LOG_LINES,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.supervisor.sample import (
    Completion,
    Process,
    Sample,
)

from .reported import composed

ROOT = Path(__file__).parents[5]
FIXTURES = ROOT / "tests/fixtures/classify"
SCARY = yaml.safe_load((FIXTURES / "scary.yml").read_text())
REPORTED = yaml.safe_load((FIXTURES / "reported.yml").read_text())
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted(FIXTURES.glob("*.yml"))
    if path.stem not in ("reported", "scary")
    for case in yaml.safe_load(path.read_text())
]
LOGS = {path.stem: path.read_text().split("\n") for path in (FIXTURES / "logs").glob("*.log")}


def sample(fields):
    fields = dict(fields)
    if "work" in fields:
        fields["work"] = tuple(fields["work"].items())
    if "completion" in fields:
        fields["completion"] = Completion(**fields["completion"])
    for name in ("processes", "strays"):
        if name in fields:
            fields[name] = tuple(Process(**process) for process in fields[name])
    fields["kernel"] = tuple(fields.get("kernel", ()))
    fields["compilers"] = tuple(fields.get("compilers", ()))
    return Sample(**fields)


@pytest.mark.parametrize("case", CASES)
def test_case(case):
    expect = dict(case["expect"])
    log = LOGS[case["log_file"]] if "log_file" in case else case.get("log", [])
    verdict = classify([sample(one) for one in case["samples"]], log, Limits())
    assert verdict.state == expect.pop("state")
    evidence = expect.pop("evidence", None)
    if evidence == []:
        assert verdict.evidence == ()
    for part in evidence or []:
        assert part in "\n".join(verdict.evidence)
    for name in ("summary", "remedy"):
        if name in expect:
            assert expect.pop(name) in (getattr(verdict, name) or "")
    for name in ("cause", "percent"):
        if name in expect:
            assert getattr(verdict, name) == expect.pop(name)
    assert not expect
    if verdict.state in BAD:
        assert verdict.remedy
        assert verdict.evidence


def kept(log):
    """What the supervisor would have of a log that was written to it."""
    tail = Tail(LOG_LINES)
    tail.feed("\n".join([*log, ""]).encode())
    return tail.lines


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in REPORTED])
def test_what_people_report(case):
    samples = [sample(one) for one in case.get("samples", [{"at": 0, "exit_status": 1}])]
    verdict = classify(samples, kept(composed(case)), Limits())
    expect = case["expect"]
    assert (verdict.state, verdict.cause) == (CRASHED, expect["cause"]), verdict
    for part in expect["evidence"]:
        assert part in "\n".join(verdict.evidence)
    assert expect.get("remedy", "") in verdict.remedy
    assert case["source"]


def test_every_state_and_every_cause_has_a_case():
    expected = [case.values[0]["expect"] for case in CASES]
    assert {one["state"] for one in expected} == set(STATES)
    told = {one.get("cause") for one in expected} | {one["expect"]["cause"] for one in REPORTED}
    assert {cause.name for cause in causes.CAUSES} - told == set()
    assert {signal.cause for signal in causes.SIGNALS.values()} - told == set()
    assert len(REPORTED) + len(LOGS) >= 80


# good_h100: vLLM 0.26.0 on an H100 with driver 580, CUDA graphs, Triton attention.
@pytest.mark.parametrize("name", ["good_compile", "good_h100"])
def test_no_log_of_a_server_that_came_up_tells_a_cause(name):
    assert causes.find_cause(LOGS[name]) is None


def test_no_samples():
    assert classify([], ["CUDA out of memory"], Limits()).state in STATES


def test_it_works_as_a_plain_package_of_files(tmp_path):
    package = ROOT / "plugins/module_utils/supervisor"
    (tmp_path / "somewhere").symlink_to(package)
    program = "from somewhere.classify import *; print(classify([], [], Limits()).state)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "stopped\n", done.stderr


# -- properties ------------------------------------------------------------------------------------

NUMBERS = st.one_of(st.none(), st.integers(-5, 10**12))
REALS = st.one_of(st.none(), st.floats())
PROCESSES = st.lists(
    st.builds(
        Process,
        pid=st.integers(1, 9),
        name=st.sampled_from(["vllm", "VLLM::EngineCore", "cc1plus"]),
        state=st.sampled_from("RSDTt"),
        cpu_seconds=st.floats(),
        gpu_bytes=NUMBERS,
        unit=st.sampled_from([None, "session-1.scope"]),
    ),
    max_size=3,
).map(tuple)
WORK = st.dictionaries(st.sampled_from(["tokens", "kv"]), st.floats()).map(
    lambda d: tuple(d.items())
)
SAMPLES = st.builds(
    Sample,
    at=st.floats(),
    age=REALS,
    active_state=st.sampled_from(
        [None, "active", "activating", "deactivating", "failed", "inactive"]
    ),
    sub_state=st.sampled_from([None, "running", "auto-restart", "dead"]),
    result=st.sampled_from([None, "success", "exit-code", "oom-kill", "watchdog", "odd"]),
    restarts=NUMBERS,
    is_notify=st.booleans(),
    exit_status=st.one_of(st.none(), st.integers(-64, 255)),
    processes=st.one_of(st.none(), PROCESSES),
    cpu_seconds=REALS,
    read_bytes=NUMBERS,
    written_bytes=NUMBERS,
    memory_bytes=NUMBERS,
    memory_max_bytes=NUMBERS,
    oom_kills=NUMBERS,
    gpu_bytes=NUMBERS,
    gpu_utilization=REALS,
    compilers=st.lists(st.sampled_from(["cc1", "nvcc"])).map(tuple),
    listening=st.sampled_from([None, True, False]),
    health=st.sampled_from([None, 0, 200, 503]),
    running=NUMBERS,
    waiting=NUMBERS,
    work=WORK,
    completion=st.one_of(
        st.none(),
        st.builds(
            Completion,
            outcome=st.sampled_from(["answered", "waiting", "timeout", "failed", "denied"]),
            seconds=st.floats(),
            detail=st.text(max_size=9),
        ),
    ),
    strays=PROCESSES,
    kv_cache_usage=REALS,
    generation_tokens=NUMBERS,
)
LINES = st.lists(
    st.one_of(
        st.text(max_size=80),
        st.sampled_from([line for log in LOGS.values() for line in log[:40]]),
        st.integers(-9, 9999).map(lambda n: f"Loading pt checkpoint shards: {n}% Completed | 1/4"),
    ),
    max_size=5,
)


# What would make it worse, or changes nothing.
OPPOSITES = {
    "weights_do_not_fit": ["gpu_memory_utilization", "max_num_seqs", "max_model_len"],
    "kernel_shared_memory": ["gpu_memory_utilization", "max_model_len", "max_num_seqs"],
    "fp8_not_supported": ["gpu_memory_utilization", "driver"],
    "damaged_weights": ["remove", "/var/cache"],
    "lfs_pointer": ["/var/cache"],
    "rendezvous_port": ["another port of"],
    "shm_full": ["releases", "hub"],
    "device_assert": ["memory"],
    "glibc_too_old": ["vllm_runtime_verify"],
    "workers_wait": ["Raise", "raise"],
    "nccl_timeout": ["Raise", "raise"],
    "host_memory": ["gpu_memory_utilization"],
}


@pytest.mark.parametrize("name", sorted(OPPOSITES))
def test_no_remedy_is_the_opposite_of_its_cause(name):
    remedies = [cause.remedy for cause in causes.CAUSES if cause.name == name]
    remedies += [remedy for one, (_, remedy) in BY_FIGURES.items() if one == name]
    assert remedies
    for word in OPPOSITES[name]:
        assert all(word not in remedy for remedy in remedies)


WELL = {
    "starting": [Sample(0, cpu_seconds=1), Sample(5, cpu_seconds=5)],
    "ready": [Sample(0, running=0, waiting=0, work=(("tokens", 1.0),), health=200)],
    "busy": [
        Sample(0, running=3, work=(("tokens", 1.0),), health=200),
        Sample(5, running=3, work=(("tokens", 9.0),), health=200),
    ],
}


@pytest.mark.parametrize("block", SCARY, ids=lambda block: block[0][-60:])
def test_a_line_of_a_log_that_is_well_is_no_cause(block):
    assert len(SCARY) >= 30
    assert causes.find_cause([*LOGS["good_h100"], *block]) is None
    assert causes.find_cause([*LOGS["good_compile"][:9], *block]) is None


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(WELL)),
    st.sampled_from(["good_h100", "good_compile"]),
    st.lists(st.tuples(st.integers(0, 999), st.sampled_from(SCARY)), min_size=1, max_size=9),
)
def test_no_scary_line_makes_a_failure_of_a_server_that_is_well(state, name, blocks):
    log = list(LOGS[name])
    for place, block in blocks:
        place %= len(log) + 1
        log[place:place] = block
    verdict = classify(WELL[state], kept(log), Limits())
    assert verdict.state not in BAD
    assert verdict.cause is None


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(REPORTED),
    st.lists(st.tuples(st.integers(0, 7), st.sampled_from(SCARY)), min_size=1, max_size=6),
)
def test_nothing_that_is_told_besides_outranks_the_end(case, blocks):
    log = composed(case)
    before, after = [], []
    for place, block in blocks:
        (after if place == 7 else before).extend(block)
    begin = next((n for n, line in enumerate(log) if "Traceback" in line or n > 3), 0)
    log = [*log[: max(0, begin - 1)], *before, *log[max(0, begin - 1) :], *after]
    samples = [sample(one) for one in case.get("samples", [{"at": 0, "exit_status": 1}])]
    assert classify(samples, kept(log), Limits()).cause == case["expect"]["cause"]


@settings(max_examples=500, deadline=None)
@given(st.lists(SAMPLES, max_size=4), LINES)
def test_it_never_raises_and_always_says_something(samples, log):
    verdict = classify(samples, log, Limits())
    assert verdict.state in STATES
    assert verdict.summary
    assert verdict.percent is None or 0 <= verdict.percent <= 100
    assert all(verdict.evidence)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(SAMPLES, min_size=2, max_size=4),
    LINES,
    st.sampled_from(["work", "work", "cpu_seconds", "read_bytes"]),
    st.floats(0.1, 1e6),
)
def test_a_counter_that_moves_means_that_it_does_not_hang(samples, log, counter, span):
    before, now = samples[-2], samples[-1]
    was_up = {"is_notify": True, "active_state": "active", "health": 200}
    if counter == "work":
        # While it serves, only what the engine has computed counts.
        before = dataclasses.replace(before, at=0.0, work=(("tokens", 5.0),))
        now = dataclasses.replace(now, at=span, work=(("tokens", 6.0),), **was_up)
    else:
        fields = {"is_notify": True, "active_state": "activating"}
        before = dataclasses.replace(before, at=0.0, **{counter: 0}, **fields)
        now = dataclasses.replace(now, at=span, **{counter: span}, **fields)
    verdict = classify([*samples[:-2], before, now], log, Limits())
    assert verdict.state not in (HUNG_AT_START, HUNG_WHILE_SERVING)


@settings(max_examples=200, deadline=None)
@given(st.lists(SAMPLES, min_size=1, max_size=3), LINES, st.floats(1, 1000), st.floats(1, 1000))
def test_more_patience_never_finds_a_hang_that_less_patience_does_not(samples, log, one, two):
    few, many = sorted((one, two))
    hasty = classify(samples, log, Limits(start_stall=few, stall=few, busy_stall=few))
    patient = classify(samples, log, Limits(start_stall=many, stall=many, busy_stall=many))
    if patient.state in (HUNG_AT_START, HUNG_WHILE_SERVING):
        assert hasty.state == patient.state
