# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import faulthandler
import os
import signal
import socket
import time

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host


@pytest.fixture
def host():
    return Host()


def test_what_is_not_there_is_an_answer(host, tmp_path):
    gone = str(tmp_path / "gone")
    assert host.read_bytes(gone) is None
    assert host.read_text(gone) is None
    assert host.listdir(gone) == []
    assert host.size(gone) is None
    assert host.disk(gone) is None
    assert not host.exists(gone)
    assert not host.is_dir(gone)
    assert not host.is_file(gone)
    assert not host.can_read(gone)
    assert not host.is_executable(gone)
    assert host.size(str(tmp_path)) is None  # a directory has no length


def test_files_are_read_in_parts(host, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789\xff")
    assert host.read_bytes(str(path), 3) == b"012"
    assert host.read_bytes(str(path), 2, offset=4) == b"45"
    assert host.read_text(str(path)) == "0123456789\N{REPLACEMENT CHARACTER}"
    assert host.size(str(path)) == 11


def test_a_program_answers(host):
    done = host.run(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.rc, done.stdout, done.stderr, done.error) == (3, "out\n", "err\n", None)


def test_a_program_gets_the_environment_it_is_given(host):
    done = host.run(["/bin/sh", "-c", "echo $PATH$HOME"], environ={"PATH": "/only/this"})
    assert done.stdout == "/only/this\n"


def test_a_program_that_is_not_there(host):
    done = host.run(["/no/such/program"])
    assert done.rc is None
    assert "/no/such/program cannot be started" in (done.error or "")


def test_a_program_that_hangs_is_stopped_with_its_children(host):
    started = time.monotonic()
    # The second sleep keeps the pipe open when only the shell is killed.
    done = host.run(["/bin/sh", "-c", "sleep 60 & echo $!; sleep 60"], timeout=0.3)
    assert time.monotonic() - started < 30
    assert done.rc is None
    assert done.error == "/bin/sh did not end within 0.3 s"


def test_programs_run_at_the_same_time(host):
    started = time.monotonic()
    running = [host.start(["sleep", "4"]) for _ in range(8)]
    assert [one.result().rc for one in running] == [0] * 8
    assert time.monotonic() - started < 30


def test_an_isolated_function_returns(host):
    asked = host.start_isolated(
        "Question", lambda: {"pid": os.getpid(), "list": [1, None]}
    ).result()
    assert asked.error is None
    assert asked.value["pid"] != os.getpid()
    assert asked.value["list"] == [1, None]


def test_an_isolated_function_may_return_much(host):
    assert (
        host.start_isolated("Question", lambda: "x" * 3_000_000).result().value == "x" * 3_000_000
    )


def raise_error():
    raise RuntimeError("no such device")


def crash():
    faulthandler.disable()  # pytest's own report of this crash would be in the way
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    ("function", "error", "number"),
    [
        (raise_error, "Question: RuntimeError: no such device", None),
        (crash, "Question crashed by signal 11 (SIGSEGV)", 11),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "Question crashed by signal 9 (SIGKILL)", 9),
        (lambda: os._exit(0), "Question ended without an answer", None),
    ],
)
def test_an_isolated_function_fails(host, function, error, number):
    asked = host.start_isolated("Question", function).result()
    assert (asked.value, asked.error, asked.signal) == (None, error, number)
    assert not asked.timed_out


def test_an_isolated_function_hangs(host):
    started = time.monotonic()
    asked = host.start_isolated("Question", lambda: time.sleep(60), timeout=0.2).result()
    assert time.monotonic() - started < 30
    assert asked.timed_out
    assert asked.error == "Question gave no answer within 0.2 s"


def test_an_isolated_function_that_ignores_sigterm_hangs(host):
    def stubborn():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)

    assert host.start_isolated("Question", stubborn, timeout=0.2).result().timed_out


def test_an_isolated_function_prints_nothing(host, capfd):
    def noisy():
        os.write(1, b"from a library")
        os.write(2, b"from a library")
        return "answer"

    assert host.start_isolated("Question", noisy).result().value == "answer"
    assert capfd.readouterr() == ("", "")


def test_no_child_is_left_behind(host):
    pids = [host.start_isolated("Question", os.getpid).result().value for _ in range(3)]
    assert [pid for pid in pids if os.path.exists(f"/proc/{pid}")] == []


def test_socket_owners_finds_this_process(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        inode = str(os.fstat(server.fileno()).st_ino)
        assert host.socket_owners([inode, "999999999999"]) == {inode: os.getpid()}


def test_about_this_machine(host):
    assert host.uname().sysname == "Linux"
    assert host.effective_uid() == os.geteuid()
    assert host.user_name(0) == "root"
    assert host.user_name(4_000_000_000) == "4000000000"
    assert host.cpu_count() >= 1
    assert host.disk("/").total_bytes >= host.disk("/").free_bytes > 0
    assert host.has_module("json")
    assert not host.has_module("no_such_module_anywhere")
