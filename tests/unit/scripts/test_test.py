# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/test: what it starts when, and what it says and returns when steps fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "scripts" / "test"
TOOLS = ("ansible-lint", "yamllint", "ruff", "mypy", "pytest", "molecule")
SCRIPTS = ("check-ansible-test", "check-argument-specs", "check-build", "prefetch", "site")
# A step that logs when it runs, and fails where a file is named like a word of its command.
STEP = """#!/usr/bin/env bash
name="$(basename "$0") $*"
echo "begin $name" >> "$LOG"
sleep 0.05
echo "end $name" >> "$LOG"
for word in $name; do
    [[ $word != "${FAIL-}" ]] || { echo "E   $word is wrong"; exit 1; }
done
echo "$TESTHOSTS_ENVIRONMENT"
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the steps with hosts need root")

Run = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs it in a checkout whose tools only log that they run."""
    for path in (
        *(tmp_path / ".venv/bin" / name for name in TOOLS),
        *(tmp_path / "scripts" / name for name in SCRIPTS),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STEP)
        path.chmod(0o755)
    shutil.copy(PROGRAM, tmp_path / "scripts" / "test")
    for name in ("default", "faults", "new", "preflight"):
        scenario = tmp_path / "extensions/molecule" / name
        scenario.mkdir(parents=True)
        (scenario / "molecule.yml").touch()
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)

    def start(*groups: str, **environment: str) -> tuple[int, str, list[str]]:
        log = tmp_path / "log"
        log.write_text("")
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        done = subprocess.run(
            ["scripts/test", *groups],
            cwd=tmp_path,
            env={**kept, "LOG": str(log), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr, log.read_text().splitlines()

    return start


def begun(log: list[str]) -> list[str]:
    return [line.removeprefix("begin ") for line in log if line.startswith("begin ")]


def most_at_once(log: list[str], pattern: str) -> int:
    now = most = 0
    for line in log:
        if re.search(pattern, line):
            now += 1 if line.startswith("begin ") else -1
            most = max(most, now)
    return most


HOSTING = r"molecule |--timeout 900"


@needs_root
def test_all_that_there_is_runs_from_one_queue(run: Run) -> None:
    status, said, log = run()
    assert status == 0, said
    assert "\n28 passed, 0 failed in " in said
    assert len(begun(log)) == len(set(begun(log))) == 28
    assert most_at_once(log, " ") <= 3
    assert most_at_once(log, HOSTING) >= 2
    assert "VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1" in said


@needs_root
def test_the_longest_begin_when_what_all_need_is_there(run: Run) -> None:
    # One at a time, for two that begin together may say so in either order.
    _status, _said, log = run("lint", "molecule", JOBS="1")
    fetched = next(i for i, line in enumerate(log) if line.startswith("end prefetch "))
    assert not [line for line in log[:fetched] if re.search(HOSTING, line)]
    scenarios = [line.split()[-1] for line in begun(log) if line.startswith("molecule ")]
    assert scenarios == ["new", "faults", "default", "preflight"]


@needs_root
def test_no_host_is_up_beside_the_unit_tests(run: Run) -> None:
    _status, _said, log = run("lint", "molecule", "unit")
    ended = next(i for i, line in enumerate(log) if line.startswith("end pytest --num"))
    assert not [line for line in log[:ended] if re.search(HOSTING, line)]
    assert [line for line in log[:ended] if re.search(r"^begin (prefetch|yamllint)", line)]


@needs_root
def test_one_at_a_time_has_all_cores(run: Run) -> None:
    status, said, log = run("unit", "integration", JOBS="1")
    assert status == 0, said
    assert most_at_once(log, " ") == 1
    assert "OMP_NUM_THREADS" not in said


@needs_root
def test_after_a_mistake_that_lint_finds_no_host_is_started(run: Run) -> None:
    status, said, log = run(FAIL="yamllint")
    assert status == 1
    assert "yamllint:\n    E   yamllint is wrong" in said
    assert re.search(r"^molecule preflight +not run +0 s$", said, re.MULTILINE)
    (counts,) = re.findall(r"^(\d+) passed, 1 failed, (\d+) not run in ", said, re.MULTILINE)
    assert sum(map(int, counts)) == 27
    assert len(begun(log)) == 1 + int(counts[0])
    # The unit tests say what they find all the same.
    assert [line for line in begun(log) if line.startswith("pytest --num")]


@needs_root
def test_without_what_all_need_no_host_is_started(run: Run) -> None:
    status, said, log = run("molecule", FAIL="prefetch")
    assert (status, begun(log)[0].split()[0], len(begun(log))) == (1, "prefetch", 1), said
    assert "0 passed, 1 failed, 4 not run" in said


@needs_root
def test_a_scenario_that_fails_keeps_none_of_the_others(run: Run) -> None:
    status, said, log = run("molecule", "unit", FAIL="new")
    assert status == 1
    assert "5 passed, 1 failed in " in said
    assert "molecule new:\n    E   new is wrong" in said
    assert len(begun(log)) == 6


FAILED = """\
TASK [Do harm] ****
[ERROR]: Task failed: Module failed: non-zero return code
Origin: verify.yml:11:7

fatal: [vllm-faults]: FAILED! =>
    changed: true
    cmd:
    - faults.py
    - one
    - two
    - three
    - four
    - five
    rc: 1
    stderr: |-
        Traceback (most recent call last):
          File "faults.py", line 5, in <module>

        Wrong: it is not DOWN after 7 s
    stderr_lines: <omitted>
    stdout: |-
        server_killed: found after 2 s
    stdout_lines: <omitted>

PLAY RECAP ****
"""


@needs_root
def test_of_a_command_that_fails_the_summary_has_its_last_words(run: Run, tmp_path: Path) -> None:
    (tmp_path / "said").write_text(FAILED)
    (tmp_path / ".venv/bin/molecule").write_text(f"#!/bin/sh\ncat {tmp_path}/said; exit 1\n")
    status, said, _log = run("molecule", SCENARIO="faults")
    assert status == 1
    _all, summary = said.split("0 passed, 1 failed in ")
    assert "TASK [Do harm]" in summary
    assert "Wrong: it is not DOWN after 7 s" in summary
    assert "server_killed: found after 2 s" in summary
    assert "PLAY RECAP" not in summary


@needs_root
def test_one_scenario_alone(run: Run) -> None:
    status, said, log = run("molecule", SCENARIO="faults")
    assert (status, begun(log)) == (0, ["molecule test --scenario-name faults"]), said


@needs_root
def test_a_scenario_that_there_is_not(run: Run) -> None:
    status, said, log = run("lint", "molecule", SCENARIO="fautls")
    assert (status, "no molecule scenario fautls" in said, log) == (2, True, [])


def test_a_group_that_there_is_not(run: Run) -> None:
    status, said, log = run("lint", "lnit")
    assert (status, "no group lnit; there are lint, unit" in said, log) == (2, True, [])


def test_a_tool_that_is_missing(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".venv/bin/mypy").unlink()
    status, said, _log = run("lint")
    assert (status, said.count("mypy is missing; run: make env")) == (1, 2)
    assert "10 passed, 2 failed in " in said
