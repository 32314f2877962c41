#!/usr/bin/env python3
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do harm to an instance over two throwaway hosts, from the machine, and see that it heals.

Usage: faults.py LEADER FOLLOWER [FAULT...]

Each fault is a function below; without names all of them are tried. After each the group must
answer again with nobody touching it, after one restart on each host, and while it does not,
`/health` must not say 200. What is not so ends the program with status 1.
"""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

HOSTS = pathlib.Path(__file__).resolve().parents[3] / "tests/hosts"
sys.path.insert(0, str(HOSTS))

from throwaway.addresses import interface_name  # noqa: E402
from throwaway.common import Settings  # noqa: E402
from throwaway.network import namespace  # noqa: E402

NAME = "smollm2"
UNIT = f"vllm@{NAME}.service"
LEADER, FOLLOWER = sys.argv[1:3]
START = 300.0
"""Seconds that a start of the group may take on a busy machine."""
NOTICED = 75.0
"""Seconds after a fault by which `/health` must no longer say 200: the watchdog's and a look's."""
CABLE = 60.0


class Wrong(Exception):
    """Something is not as it should be."""


def on(host: str, *command: str) -> str:
    """Run a command in a host, not over its network; empty where the host is down."""
    done = subprocess.run(
        [str(HOSTS / "testhosts.py"), "exec", host, "--", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def address() -> str:
    """The leader's address."""
    listed = subprocess.run(
        [str(HOSTS / "testhosts.py"), "list", "--json"], stdout=subprocess.PIPE, check=True
    )
    return next(str(one["ip"]) for one in json.loads(listed.stdout) if one["name"] == LEADER)


def ask(path: str, body: dict[str, object] | None = None, timeout: float = 2.0) -> tuple[int, str]:
    """What the leader answers: status, 0 for none, and text."""
    connection = http.client.HTTPConnection(IP, 8000, timeout=timeout)
    try:
        text = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"}
        connection.request("GET" if body is None else "POST", path, text, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def answers(timeout: float = 30.0) -> bool:
    """Whether a completion comes back that is right."""
    body: dict[str, object] = {
        "model": NAME,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 16,
        "temperature": 0,
    }
    status, text = ask("/v1/chat/completions", body, timeout)
    return status == 200 and "Paris" in text


def group(host: str) -> dict[str, object]:
    """What a host's supervisor says of the group."""
    try:
        found = json.loads(on(host, "cat", f"/run/vllm/{NAME}/group.json") or "{}")
    except ValueError:
        return {}
    return dict(found)


def show(host: str, name: str) -> str:
    """A property of the unit on a host."""
    return on(host, "systemctl", "show", UNIT, "--value", "--property", name)


def serves() -> bool:
    """Whether both hosts say that the same generation serves, and it does."""
    told = [group(host) for host in (LEADER, FOLLOWER)]
    return (
        all(one.get("phase") == "serving" for one in told)
        and told[0].get("generation") == told[1].get("generation")
        and show(FOLLOWER, "ActiveState") == "active"
        and ask("/health")[0] == 200
        and answers()
    )


def wait_for(what: str, seconds: float, condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            told = {host: (group(host), show(host, "StatusText")) for host in (LEADER, FOLLOWER)}
            raise Wrong(f"{what}: not within {seconds:.0f} s; {told}")
        time.sleep(0.5)


def pid_of(host: str, title: str) -> str:
    """The process of an engine on a host."""
    found = on(host, "pgrep", "-f", f"^{title}").split()
    if not found:
        raise Wrong(f"{host} has no {title}")
    return found[0]


def follower_worker_killed() -> None:
    """The follower's worker is killed."""
    on(FOLLOWER, "kill", "-KILL", pid_of(FOLLOWER, "VLLM::Worker"))


def leader_engine_killed() -> None:
    """The leader's engine is killed."""
    on(LEADER, "kill", "-KILL", pid_of(LEADER, "VLLM::EngineCore"))


def follower_worker_stopped() -> None:
    """The follower's worker is stopped by a signal."""
    on(FOLLOWER, "kill", "-STOP", pid_of(FOLLOWER, "VLLM::Worker"))


def leader_engine_stopped() -> None:
    """The leader's engine is stopped by a signal."""
    on(LEADER, "kill", "-STOP", pid_of(LEADER, "VLLM::EngineCore"))


def follower_rebooted() -> None:
    """The follower's host reboots."""
    on(FOLLOWER, "systemctl", "reboot")


def leader_rebooted() -> None:
    """The leader's host reboots."""
    on(LEADER, "systemctl", "reboot")


def cable_pulled() -> None:
    """The follower's cable is pulled for a minute."""
    cable = interface_name(namespace(Settings.from_environment().ident, FOLLOWER))
    subprocess.run(["ip", "link", "set", cable, "down"], check=True)
    # In a session of its own: whoever ends this program leaves no cable pulled.
    plugged = f"sleep {CABLE:.0f}; ip link set {cable} up"
    subprocess.Popen(["sh", "-c", plugged], start_new_session=True)


FAULTS = {
    fault.__name__: fault
    for fault in (
        follower_worker_killed,
        leader_engine_killed,
        follower_worker_stopped,
        leader_engine_stopped,
        follower_rebooted,
        leader_rebooted,
        cable_pulled,
    )
}


def restarts() -> dict[str, int]:
    """How often systemd has started the unit anew on each host, since its boot."""
    return {host: int(show(host, "NRestarts") or 0) for host in (LEADER, FOLLOWER)}


def one_fault(fault: Callable[[], None]) -> None:
    """Do harm, watch, and compare."""
    wait_for("it serves before", START, serves)
    before, generation = restarts(), group(LEADER)["generation"]
    fault()
    began = time.monotonic()
    noticed: float | None = None
    states: dict[str, float] = {}
    while True:
        now = time.monotonic() - began
        status, text = ask("/health", timeout=1.0)
        if status == 503:
            # Without a text it is vLLM's own word of a dead engine.
            said = json.loads(text)["state"] if text.startswith("{") else "vLLM: 503"
            states.setdefault(str(said), round(now, 1))
        elif status != 200:
            states.setdefault("no connection", round(now, 1))
        if status != 200 and noticed is None:
            noticed = now
        if noticed is None and now > NOTICED:
            raise Wrong(f"/health says 200 {now:.0f} s after it: {group(LEADER)}")
        if noticed is not None and status == 200:
            anew = group(LEADER).get("generation")
            if anew in (generation, None):
                raise Wrong(f"/health says 200 again in the same generation after {now:.1f} s")
            if not answers():
                raise Wrong(f"/health says 200 after {now:.1f} s, and no answer comes")
            break
        if now > START + CABLE:
            raise Wrong(f"it does not answer after {now:.0f} s: {group(LEADER)} {group(FOLLOWER)}")
        time.sleep(0.25)
    healed = time.monotonic() - began
    print(f"  /health other than 200 after {noticed:.1f} s; what it said, and when: {states}")
    print(f"  answers again {healed:.0f} s after the fault")
    wait_for("both serve", 30, serves)
    time.sleep(5)  # a second restart would be seen by now
    rebooted = {"follower_rebooted": FOLLOWER, "leader_rebooted": LEADER}.get(fault.__name__)
    after = restarts()
    for host in (LEADER, FOLLOWER):
        wanted = 0 if host == rebooted else before[host] + 1
        print(f"  {host}: {after[host] - (0 if host == rebooted else before[host])} restart(s)")
        if after[host] != wanted:
            raise Wrong(f"{host} was restarted {after[host]} times in all, and not {wanted}")
    if not serves():
        raise Wrong("it serves no longer")


IP = address()


def main() -> None:
    """Do harm."""
    wait_for("it serves", START, serves)
    for name in sys.argv[3:] or FAULTS:
        print(f"{name}: {(FAULTS[name].__doc__ or '').splitlines()[0]}", flush=True)
        try:
            one_fault(FAULTS[name])
        except Wrong as wrong:
            for host in (LEADER, FOLLOWER):
                print(f"--- {host}", on(host, "journalctl", "-u", UNIT, "-n", "60", "--no-pager"))
            sys.exit(f"{name}: {wrong}")
        sys.stdout.flush()


if __name__ == "__main__":
    os.environ.setdefault("LC_ALL", "C")
    main()
