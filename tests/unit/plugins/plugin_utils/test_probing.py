# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of `vllm_probe`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.plugin_utils import code, probing

COMMIT = "1" * 40
FACTS = {"host": {"hostname": "one"}}
RECORD = {
    "repo_id": "org/name",
    "revision": "main",
    "trust_remote_code": True,
    "commit": COMMIT,
    "path": "/hub/x",
    "listed": {
        "files": [["model.safetensors", 100, "a" * 64, "a" * 64], ["x.py", 10, "b" * 40, None]],
        "index": None,
    },
    "sizes": {"a" * 64: 100},
}


def host(*results: dict[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
    """An action whose host answers so, and what it was asked."""
    left, asked = list(results), []

    def execute(module_name: str, module_args: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        assert module_name == "compute_plane.vllm.vllm_probe"
        asked.append(module_args)
        return left.pop(0)

    return SimpleNamespace(_execute_module=execute), asked


def test_one_round_trip_says_what_models_are_there() -> None:
    action, asked = host({"changed": False, "facts": FACTS, "records": [RECORD]})
    result = probing.probe(action, {"hub": []}, {})
    assert asked == [{"hub": []}]
    assert result.keys() == {"changed", "facts"}
    (entry,) = result["facts"].pop("hub")
    assert result["facts"] == FACTS
    assert entry["commit"] == COMMIT
    assert (entry["bytes"], entry["download_bytes"]) == (110, 10)


def test_a_host_that_asks_for_code_is_sent_it(monkeypatch: Any) -> None:
    monkeypatch.setattr(code, "send", lambda _action: "/tmp/code.zip")
    answer = {"changed": False, "facts": FACTS, "records": []}
    action, asked = host({"failed": True, "needs_code": True}, answer)
    assert probing.probe(action, {}, {})["facts"] == {**FACTS, "hub": []}
    assert asked == [{}, {"code_archive": "/tmp/code.zip"}]


def test_a_failure_is_returned_as_it_is() -> None:
    action, _asked = host({"failed": True, "msg": "no"})
    assert probing.probe(action, {}, {}) == {"failed": True, "msg": "no"}


# What Debian's dash and sudo and RHEL's bash print; the first three were seen with ansible-core
# 2.16, 2.19 and 2.21 on a throwaway host without Python, without sudo, outside the group sudo.
@pytest.mark.parametrize(
    ("stderr", "says"),
    [
        ("/bin/sh: 1: /usr/bin/python3: not found\n", "apt-get install python3"),
        ("/bin/sh: 1: sudo: not found\n", "apt-get install sudo, then adduser me sudo"),
        ("me is not in the sudoers file.\n", "adduser me sudo"),
        ("/bin/sh: /usr/bin/python3: No such file or directory", "dnf install python3"),
        ("/bin/sh: line 1: /usr/bin/python: command not found", "ansible_python_interpreter"),
        ("me is not in the sudoers file.  This incident will be reported.", "usermod -aG wheel me"),
        ("Sorry, user me is not allowed to execute '/bin/sh -c …' as root on x.", "adduser me"),
        ("Sorry, user me may not run sudo on gpu1.", "ansible_user: root"),
        ("sudo: sorry, you must have a tty to run sudo", "ansible_ssh_pipelining: false"),
        ("SyntaxError: future feature annotations is not defined", "name a newer one in"),
        (
            "Traceback (most recent call last):\nOSError: [Errno 28] No space left on device: 'x'",
            "make room on the host",
        ),
        (
            "Traceback (most recent call last):\nValueError: odd\n",
            "did not come to its end: ValueError: odd",
        ),
    ],
)
@pytest.mark.parametrize("stream", ["module_stderr", "module_stdout"])
def test_a_host_that_runs_no_module_is_told_with_what_to_do(
    stderr: str, says: str, stream: str
) -> None:
    failure = {"failed": True, "msg": "MODULE FAILURE", "rc": 1, stream: stderr}
    action, _asked = host(failure)
    result = probing.probe(action, {}, {"ansible_user": "me"})
    assert result == {**failure, "msg": result["msg"]}
    assert says in result["msg"]
    assert stderr.strip().splitlines()[-1] in result["msg"]
