# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running gateway is told; the answers are HAProxy 2.6's, shortened."""

from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.gateway.runtime import (
    Gateway,
    Server,
    backend_name,
    of,
    read_servers,
    server_name,
    without_another,
)

STAT = """# pxname,svname,qcur,qmax,scur,smax,status,type,
gateway,FRONTEND,,,3,9,OPEN,0,
model:one,a:x,0,0,2,4,UP,2,
model:one,b:x,1,1,1,4,DRAIN,2,
model:one,BACKEND,0,0,3,8,UP,1,
model:two,b:y,0,0,0,0,DOWN 1/2,2,
"""
STATE = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight
4 model:one 1 a:x 10.0.0.1 2 0 1
4 model:one 2 b:x 10.0.0.2 2 8 1
5 model:two 1 b:y 10.0.0.2 0 9 1

"""
A, B, Y = (
    Server("model:one", "a:x", "UP", 2),
    Server("model:one", "b:x", "DRAIN", 2, is_drained=True),
    Server("model:two", "b:y", "DOWN 1/2", 0, is_drained=True),
)


def test_servers_are_read() -> None:
    assert read_servers(STAT, STATE) == [A, B, Y]


def up(backend: str, name: str) -> Server:
    return Server(backend, name, "UP 1/2", 0)


@pytest.mark.parametrize(
    ("servers", "names", "alone"),
    [
        ([up("m", "a"), up("m", "b")], ["a"], []),
        ([up("m", "a"), up("m", "b")], ["a", "b"], ["m"]),
        ([up("m", "a")], ["a"], ["m"]),
        ([A, B], ["a:x"], ["model:one"]),  # the other one is drained
        ([A, B], ["b:x"], []),  # and is not needed
        ([up("m", "a"), up("m", "b"), up("n", "a")], ["a"], ["n"]),
        ([Y], ["b:y"], []),  # it does not serve anyway
        ([up("m", "a")], ["other"], []),
    ],
)
def test_who_is_the_last(servers: list[Server], names: list[str], alone: list[str]) -> None:
    assert without_another(servers, names) == alone


def test_names_are_haproxys_and_differ() -> None:
    assert backend_name("qwen2.5-7b") == "model:qwen2.5-7b"
    names = {backend_name(model) for model in ("a/b", "a_b", "a@b", "a b")}
    assert len(names) == 4
    assert server_name("gpu1", "m") == "gpu1:m"


class Fake(Gateway):
    """Answers as told, and remembers what it was asked."""

    def __init__(self, answers: list[str]) -> None:
        super().__init__(sleep=self.asked_to_sleep, clock=lambda: self.now)
        self.answers = answers
        self.asked: list[str] = []
        self.now = 0.0

    def asked_to_sleep(self, seconds: float) -> None:
        self.now += seconds

    def ask(self, command: str) -> str:
        self.asked.append(command)
        if command == "show stat":
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return STATE if command == "show servers state" else "\n"


def test_requests_under_way_are_waited_for() -> None:
    gateway = Fake([STAT, STAT, STAT.replace("a:x,0,0,2", "a:x,0,0,0")])
    left = gateway.wait(["a:x"], lambda now: all(not one.sessions for one in now.values()), 60)
    assert [one.sessions for one in left] == [0]
    assert gateway.now == 0.5


def test_and_no_longer_than_that() -> None:
    gateway = Fake([STAT])
    left = gateway.wait(["a:x"], lambda now: all(not one.sessions for one in now.values()), 3)
    assert [one.sessions for one in left] == [2]
    assert gateway.now == 3


def test_each_server_is_set() -> None:
    gateway = Fake([STAT])
    gateway.set_state(of([A, B, Y], ["b:x", "b:y"]), "ready")
    assert gateway.asked == [
        "set server model:one/b:x state ready",
        "set server model:two/b:y state ready",
    ]
