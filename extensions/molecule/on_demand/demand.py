#!/usr/bin/python3
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask models on demand, on their own host, and do harm to them meanwhile.

Usage: demand.py WORD...; the words are at the end of this file. `many` and `dealt` take minutes and
are run by hand: DEMAND='cold dealt many sandbox' make molecule SCENARIO=on_demand.
"""

from __future__ import annotations

import concurrent.futures
import glob
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

SOCKETS = "/etc/systemd/system/vllm@*.socket"
PORTS = {
    path.split("@")[1].partition(".socket")[0]: int(found[1])
    for path in sorted(glob.glob(SOCKETS))
    for found in re.finditer(
        r"^ListenStream=.*?(\d+)$", Path(path).read_text("utf-8"), re.MULTILINE
    )
}
BROKER = "vllm-broker@host.service"


class Wrong(Exception):
    """Something is not as it should be."""


def expect(holds: bool, what: object) -> None:
    """End with a message unless something holds."""
    if not holds:
        raise Wrong(what)


def get(name: str, path: str) -> str:
    """What a model's port answers."""
    url = f"http://127.0.0.1:{PORTS[name]}{path}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def ask(name: str) -> float:
    """One question; returns its seconds. Whatever goes wrong is raised."""
    body = {
        "model": name,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
        "max_tokens": 16,
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORTS[name]}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=400) as answer:  # noqa: S310 - http alone
        said = json.load(answer)
    expect(said["model"] == name, said)
    expect("Paris" in said["choices"][0]["message"]["content"], said)
    return time.monotonic() - began


def metric(name: str, what: str) -> float:
    """What the broker tells Prometheus of a model."""
    text = get(name, "/metrics")
    found = re.search(rf"^compute_plane_broker_{what}{{[^}}]*}} (\S+)$", text, re.MULTILINE)
    if found is None:
        raise Wrong(text)
    return float(found[1])


def starts() -> float:
    """How often servers were started since the broker's start."""
    return sum(metric(name, "starts_total") for name in PORTS)


def tell_starts() -> None:
    """The same, to be compared."""
    print(f"starts {starts():.0f}")


def state(name: str) -> str:
    """What a model's supervisor sees."""
    text = Path(f"/run/vllm/{name}/state.json").read_text(encoding="utf-8")
    return str(json.loads(text)["state"])


def are_asleep() -> bool:
    """Whether no model has a server."""
    return all(state(name) == "asleep" for name in PORTS)


def wait(seconds: float, what: str, until: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not until():
        expect(time.monotonic() < end, f"not within {seconds} s: {what}")
        time.sleep(0.5)


def servers() -> dict[str, int]:
    """PIDs of vLLM's processes, by their instance."""
    found: dict[str, int] = {}
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            command = Path(path).read_bytes().split(b"\0")
        except OSError:
            continue
        for name in PORTS:
            if b"serve" in command and f"/etc/vllm/{name}.yaml".encode() in command:
                found[name] = int(path.split("/")[2])
    return found


def systemctl(*arguments: str) -> str:
    """What systemd says."""
    command = ["systemctl", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def asleep() -> None:
    """All fall asleep, and say so to whoever watches."""
    wait(240, "all asleep", are_asleep)
    expect(servers() == {}, servers())
    for name in PORTS:
        expect(json.loads(get(name, "/health"))["state"] == "asleep", name)
        expect(json.loads(get(name, "/v1/models"))["data"][0]["id"] == name, name)
    tell_starts()


def cold() -> None:
    """The first request of a cold model is answered."""
    before = starts()
    print(f"cold: answered after {ask('first'):.1f} s, then after {ask('first'):.1f} s")
    expect(starts() == before + 1, starts())


def in_turn(count: int) -> list[str]:
    """So many names of models, one after the other."""
    return [name for name, _number in zip(itertools.cycle(PORTS), range(count))]


def alternate(count: int) -> None:
    """One client asks one and the other in turn."""
    before, began = starts(), time.monotonic()
    waits = [ask(name) for name in in_turn(count)]
    print(
        f"alternating: {len(waits)} answered, 0 failed, {starts() - before:.0f} starts, longest"
        f" {max(waits):.1f} s, all {time.monotonic() - began:.0f} s"
    )
    expect(starts() - before <= count, starts() - before)
    expect(len(servers()) == 1, servers())


def dealt(clients: int, count: int) -> None:
    """Several clients are dealt requests for each model in turn."""
    before, began = starts(), time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        waits = list(pool.map(ask, in_turn(count)))
    print(
        f"dealt to {clients} clients: {len(waits)} answered, 0 failed,"
        f" {starts() - before:.0f} starts, longest {max(waits):.1f} s,"
        f" all {time.monotonic() - began:.0f} s"
    )


def share(clients: int, seconds: float) -> None:
    """Clients over all models for a while, and until the last is answered."""
    before, end = starts(), time.monotonic() + seconds
    waits: list[tuple[str, float]] = []
    failed: list[str] = []

    def client(name: str) -> None:
        while time.monotonic() < end:
            try:
                waits.append((name, ask(name)))
            except (OSError, ValueError, Wrong) as error:
                failed.append(f"{name}: {error!r}")

    threads = [threading.Thread(target=client, args=(name,)) for name in in_turn(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(not failed, failed[:5])
    counts = {name: sum(one == name for one, _seconds in waits) for name in PORTS}
    expect(all(counts.values()), counts)
    print(
        f"{clients} clients: {counts} answered, 0 failed,"
        f" {starts() - before:.0f} starts,"
        f" longest wait {max(seconds for _name, seconds in waits):.1f} s"
    )


def another() -> str:
    """A model that has no server."""
    return next(name for name in PORTS if name not in servers())


def switching() -> None:
    """A model is asked for by somebody whom nobody waits for, and its server has begun to start."""
    wanted = another()
    nobody = subprocess.DEVNULL
    subprocess.Popen(
        [sys.executable, __file__, f"ask={wanted}"],
        stdin=nobody,
        stdout=nobody,
        stderr=nobody,
        start_new_session=True,
    )
    wait(120, "the server's start", lambda: wanted in servers())
    print(f"{wanted} is starting")


def harmed(signum: signal.Signals, what: str) -> None:
    """A server gets a signal while it starts for a request, which is answered all the same."""
    wanted = another()
    told: list[float] = []
    thread = threading.Thread(target=lambda: told.append(ask(wanted)))
    thread.start()
    wait(120, "the server's start", lambda: wanted in servers())
    time.sleep(3)
    os.kill(servers()[wanted], signum)
    thread.join()
    expect(bool(told), "not answered")
    print(f"{what} in its start: {wanted} answered after {told[0]:.1f} s all the same")


def supervisor_killed() -> None:
    """The supervisor is killed with its server, and systemd starts it anew."""
    going = next(iter(servers()))
    systemctl("kill", "--signal=KILL", f"vllm@{going}.service")
    # What a dying server has taken is lost with it, and told as that (502).
    wait(10, "the server's end", lambda: going not in servers())
    print(f"killed with all: {going} answered after {ask(going):.1f} s")


def restarted_broker() -> None:
    """Requests come while the broker restarts."""
    going = next(iter(servers()))
    pid = servers()[going]
    failed: list[str] = []
    answered: list[float] = []
    over = threading.Event()

    def client() -> None:
        while not over.is_set():
            try:
                answered.append(ask(going))
            except (OSError, ValueError, Wrong) as error:
                failed.append(repr(error))

    threads = [threading.Thread(target=client) for _number in range(2)]
    for thread in threads:
        thread.start()
    for _time in range(3):
        time.sleep(2)
        systemctl("restart", BROKER)
    time.sleep(2)
    over.set()
    for thread in threads:
        thread.join()
    expect(not failed, failed[:5])
    expect(servers()[going] == pid, servers())
    print(f"broker restarted three times: {len(answered)} answered, 0 failed, same server")


def sandbox() -> None:
    """The broker as systemd has it: no network but its sockets, no capability."""
    wanted = {"User": "vllm", "CapabilityBoundingSet": "", "RestrictAddressFamilies": "AF_UNIX"}
    # By name, for else those that are empty are left out.
    told = systemctl("show", f"--property={','.join(wanted)}", BROKER)
    expect(dict(line.partition("=")[::2] for line in told.splitlines()) == wanted, told)
    going = next(iter(servers()))
    paths = [f"/run/vllm/{name}/control" for name in PORTS] + [f"/run/vllm/{going}/server.sock"]
    modes = {path: os.stat(path).st_mode & 0o077 for path in paths}
    expect(not any(modes.values()), modes)
    print("sandbox: as it should be; the sockets are the servers' user's alone")


def rebooted() -> None:
    """After a reboot nobody is awake, and the first request is answered."""
    wait(120, "the supervisors", are_asleep)
    expect(servers() == {}, servers())
    expect(starts() == 0, starts())
    print(f"after the reboot: asleep; the first request answered after {ask('second'):.1f} s")


WHAT: dict[str, Callable[[], None]] = {
    "asleep": asleep,
    "starts": tell_starts,
    "cold": cold,
    "alternate": lambda: alternate(40),
    "alternate_briefly": lambda: alternate(6),
    "dealt": lambda: dealt(8, 200),
    "share": lambda: share(4, 60),
    "many": lambda: share(8, 300),
    "switching": switching,
    "killed": lambda: harmed(signal.SIGKILL, "killed"),
    "hung": lambda: harmed(signal.SIGSTOP, "stopped"),
    "supervisor_killed": supervisor_killed,
    "restarted_broker": restarted_broker,
    "sandbox": sandbox,
    "rebooted": rebooted,
}

if __name__ == "__main__":
    for word in sys.argv[1:]:
        if word.startswith("ask="):
            ask(word[4:])
        else:
            WHAT[word]()
