#!/usr/bin/env python3
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do harm to a running instance on this host, and see that it heals and says why.

Usage: faults.py URL NAME KIND FAULT...

URL is the server's, NAME the instance, KIND what it is asked for: `chat` or `embed`.

Each fault is a function below; what is not as it should be ends the program with status 1.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

URL, NAME, KIND = sys.argv[1:4]
UNIT = f"vllm@{NAME}.service"
CONFIG = pathlib.Path(f"/etc/vllm/{NAME}.yaml")
VERDICT = pathlib.Path(f"/run/vllm/{NAME}/verdict.json")
DROP_IN = pathlib.Path(f"/etc/systemd/system/{UNIT}.d/10-compute-plane.conf")
HARM = pathlib.Path(f"/run/systemd/system/{UNIT}.d/90-harm.conf")
SHORTER = HARM.with_name("80-shorter.conf")
CACHE = pathlib.Path(f"/var/cache/vllm/{NAME}")
MODEL = re.findall(r"^served-model-name: \"?([^\"\n]+)", CONFIG.read_text(), re.MULTILINE)[0]
START = 240.0
"""Seconds that a start may take on a busy machine."""


class Wrong(Exception):
    """Something is not as it should be."""


def systemctl(*arguments: str) -> str:
    """Run systemctl."""
    return subprocess.run(
        ["systemctl", *arguments], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def watchdog() -> float:
    """Seconds within which the supervisor that runs must find a hang."""
    environ = pathlib.Path(f"/proc/{show('MainPID')}/environ").read_text().split("\0")
    return int(dict(one.partition("=")[::2] for one in environ)["WATCHDOG_USEC"]) / 1e6


def drain() -> float:
    """Seconds that the supervisor that runs gives to requests under way."""
    found = re.search(r" --drain=(\d+) ", processes()[int(show("MainPID"))])
    if found is None:
        raise Wrong("the supervisor has no --drain")
    return float(found.group(1))


def show(name: str) -> str:
    """A property of the unit."""
    return systemctl("show", UNIT, "--value", "--property", name)


def processes() -> dict[int, str]:
    """The unit's processes by PID, with what they call themselves."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"/{UNIT}" in (entry / "cgroup").read_text():
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
    return found


def pid_of(kind: str) -> int:
    """The process of the supervisor, the server or the engine."""
    for pid, command in processes().items():
        if kind in command:
            return pid
    raise Wrong(f"there is no {kind} among {processes()}")


def complete(tokens: int, timeout: float = 300.0) -> int:
    """Have tokens computed; returns how many."""
    # An engine on CPUs compiles its sampler at the first request with a temperature: after each
    # start it computes for ten seconds and more before it answers.
    body = {"model": MODEL, "prompt": "Once", "max_tokens": tokens, "temperature": 0}
    body["ignore_eos"] = True
    request = urllib.request.Request(  # noqa: S310 - the test host's own
        f"{URL}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
        return int(json.load(answer)["usage"]["completion_tokens"])


def wait_for(what: str, seconds: float, condition: Callable[[], bool]) -> float:
    """Wait for a condition; returns the seconds it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise Wrong(f"{what}: not within {seconds:.0f} s; {show('StatusText')}")
        time.sleep(0.2)
    return time.monotonic() - began


def embed(timeout: float) -> int:
    """Have a vector computed; returns how many values it has."""
    body = json.dumps({"model": MODEL, "input": "Once"}).encode()
    request = urllib.request.Request(  # noqa: S310 - the test host's own
        f"{URL}/v1/embeddings", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
        return len(json.load(answer)["data"][0]["embedding"])


def answers() -> bool:
    """Whether the server answers."""
    try:
        return embed(10) > 1 if KIND == "embed" else complete(1, 10) == 1
    except OSError:
        return False


def serves() -> bool:
    """Whether systemd knows that the server is ready, and it is."""
    return show("ActiveState") == "active" and answers()


def said(since: float) -> str:
    """The unit's journal since a time."""
    command = ["journalctl", "--unit", UNIT, "--since", f"@{since:.3f}", "--output", "cat"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def expect(text: str, *parts: str) -> None:
    """See that parts are in a text."""
    for part in parts:
        if part not in text:
            raise Wrong(f"{part!r} is not in:\n{text[-3000:]}")


@contextlib.contextmanager
def healing(*parts: str, within: float = START) -> Iterator[None]:
    """See that a harm is found, told with these words, and healed with no process left over."""
    since, before = time.time(), processes()
    main = show("MainPID")

    def is_found() -> bool:
        told = VERDICT.exists() and VERDICT.stat().st_mtime > since
        return told or show("MainPID") != main

    yield
    found = wait_for("the harm is found", within, is_found)
    wait_for("it is restarted", 30, lambda: show("MainPID") not in ("0", main))
    healed = wait_for("it answers again", START, serves)
    left = {pid: name for pid, name in processes().items() if pid in before}
    if left:
        raise Wrong(f"left over: {left}")
    expect(said(since), *parts)
    print(f"  found after {found:.1f} s, answering after another {healed:.1f} s")


@contextlib.contextmanager
def load(count: int, tokens: int, timeout: float = 300.0) -> Iterator[list[int]]:
    """Requests under way, as many at once; yields the list of what was answered."""
    answered: list[int] = []

    def ask() -> None:
        with contextlib.suppress(OSError, ValueError):
            answered.append(complete(tokens, timeout))

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    yield answered
    for thread in threads:
        thread.join(timeout)


def ask(connection: http.client.HTTPConnection) -> tuple[int, bool]:
    """Ask over a connection; returns the status and whether the server closes the connection."""
    body = json.dumps({"model": MODEL, "prompt": "1", "max_tokens": 1, "temperature": 0})
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("Connection") == "close"


@contextlib.contextmanager
def kept_connection() -> Iterator[http.client.HTTPConnection]:
    """A connection over which the server has answered, and which the client keeps open."""
    connection = http.client.HTTPConnection(URL.removeprefix("http://"), timeout=30)
    with contextlib.closing(connection):
        if ask(connection) != (200, False):
            raise Wrong("the server does not keep connections")
        yield connection


# -- the faults -----------------------------------------------------------------------------------


def server_killed() -> None:
    """The API server is killed; the engine loses its parent."""
    with healing("supervisor: orphaned: the API server was killed", "ended what was left"):
        os.kill(pid_of("vllm serve"), signal.SIGKILL)


def engine_killed() -> None:
    """The engine is killed; the server then ends by itself, and says that all is well."""
    with healing("supervisor: crashed"):
        os.kill(pid_of("VLLM::EngineCore"), signal.SIGKILL)
    status = json.loads(VERDICT.read_text())["exit_status"]
    print(f"  the server ended with status {status}")
    if status != 0:
        raise Wrong("the case is another one: the server's exit status tells (vllm issue 48966)")


def told() -> str:
    """The state that `/health` tells, "" where it says 200 or nothing."""
    try:
        with urllib.request.urlopen(f"{URL}/health", timeout=5):  # noqa: S310
            return ""
    except urllib.error.HTTPError as answer:
        return str(json.loads(answer.read())["state"]) if answer.code == 503 else ""
    except OSError:
        return ""


def engine_stopped_idle() -> None:
    """The engine computes nothing any more, and /health says so before the server is ended."""
    with healing("supervisor: hung while serving", within=watchdog()):
        os.kill(pid_of("VLLM::EngineCore"), signal.SIGSTOP)
        wait_for("/health", watchdog(), lambda: told() == "hung while serving")


def engine_stopped_under_load() -> None:
    """The same with requests under way."""
    with load(4, 1000), healing("supervisor: hung while serving", within=watchdog()):
        os.kill(pid_of("VLLM::EngineCore"), signal.SIGSTOP)


def supervisor_stopped() -> None:
    """The supervisor itself hangs: systemd's own watchdog."""
    with healing("Watchdog timeout", within=watchdog() + 15):
        os.kill(pid_of("--name="), signal.SIGSTOP)


def long_load() -> None:
    """Two hundred long requests at once, for two minutes, are no hang."""
    main, since, requests, seconds = show("MainPID"), time.time(), 200, 120.0
    status = ""

    def all_are_there() -> bool:
        nonlocal status
        status = show("StatusText")
        found = re.match(r"busy: (\d+) running, (\d+) waiting", status)
        return found is not None and sum(map(int, found.groups())) == requests

    with load(requests, 900, seconds) as answered:
        wait_for("all requests at once", 60, all_are_there)
    if show("MainPID") != main or "hung" in said(since):
        raise Wrong(said(since)[-3000:])
    print(
        f"  {status}; {len(answered)} of {requests} requests of 900 tokens were answered within "
        f"{seconds:.0f} s, when the clients gave up; not restarted"
    )


def restarted_under_load() -> None:
    """A restart lets the requests under way end, and refuses new ones meanwhile."""
    since, main = time.time(), show("MainPID")
    wait_for("nothing to do", START, lambda: "ready" in show("StatusText"))
    began = time.monotonic()
    complete(20)
    # One alone would take five seconds, and four at once less than the sixty that they get here.
    tokens = min(900, max(20, int(20 * 5 / (time.monotonic() - began))))
    with load(4, tokens) as answered, kept_connection() as kept, kept_connection():
        systemctl("restart", "--no-block", UNIT)
        time.sleep(1)
        if answered:
            raise Wrong("the case is another one: the requests have ended before the restart")
        try:
            complete(1, 5)
            raise Wrong("a new request was taken")
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
        status, closes = ask(kept)
        if status != 503 or not closes:
            raise Wrong(f"over a connection that was kept: {status}, closed: {closes}")
        stopped = wait_for("it stops", 60, lambda: show("MainPID") != main)
    if len(answered) != 4:
        raise Wrong(f"{len(answered)} of 4 requests under way were answered")
    wait_for("it answers again", START, serves)
    expect(said(since), "supervisor: stopping: 0 requests left")
    print(
        "  4 of 4 requests answered, new ones refused with 503, over a new connection and over one "
        f"that was kept; another that was kept idle; stopped after {stopped:.1f} s"
    )


def stopped_under_endless_load() -> None:
    """A stop is bounded also when the requests do not end in time."""
    bound = drain() + 30  # SIGTERM has ten seconds, SIGKILL five
    with load(64, 900) as answered:
        began = time.monotonic()
        systemctl("stop", UNIT)
        seconds = time.monotonic() - began
    if seconds > bound or processes():
        raise Wrong(f"it took {seconds:.0f} s, and left {processes()}")
    print(f"  stopped after {seconds:.1f} s, {len(answered)} of 64 requests answered")
    systemctl("start", "--no-block", UNIT)


def command_with(**options: int) -> str:
    """Settings that run the supervisor with other options."""
    command = re.findall(r"^ExecStart=.*$", DROP_IN.read_text(), re.MULTILINE)[-1]
    for name, value in options.items():
        command = re.sub(rf'"--{name}=\d+"', f'"--{name}={value}"', command)
    return f"ExecStart=\n{command}"


def shorter_times() -> None:
    """From the next start on the watchdog and the drain take less of the tests' time."""
    SHORTER.parent.mkdir(parents=True, exist_ok=True)
    SHORTER.write_text(f"[Service]\n{command_with(drain=5)}\nWatchdogSec=20\n")
    systemctl("daemon-reload")


def own_times() -> None:
    """From the next start on they are again what they are by default."""
    SHORTER.unlink()
    systemctl("daemon-reload")


def stop_and_forget() -> None:
    """Stop the unit, with no trace of what failed before."""
    systemctl("stop", UNIT)
    systemctl("reset-failed", UNIT)
    for file in (VERDICT, VERDICT.with_name("failed-starts.json")):
        file.unlink(missing_ok=True)


def verdict_of(change: Callable[[], object], seconds: float = 180.0) -> dict[str, object]:
    """What the supervisor finds about a start after a change; the next start has to wait."""
    stop_and_forget()
    change()
    systemctl("daemon-reload")
    systemctl("start", "--no-block", UNIT)
    wait_for("a verdict", seconds, VERDICT.exists)
    found: dict[str, object] = json.loads(VERDICT.read_text())
    wait_for("it waits", 20, lambda: "waiting before start 2 of 5" in show("StatusText"))
    if show("NRestarts") != "1":
        raise Wrong(f"{show('NRestarts')} restarts")
    systemctl("stop", UNIT)
    return found


def harm(text: str) -> Callable[[], None]:
    """A drop-in with more settings, gone after the next start of the host."""

    def change() -> None:
        HARM.parent.mkdir(parents=True, exist_ok=True)
        HARM.write_text(f"[Service]\n{text}\n")

    return change


@contextlib.contextmanager
def port_taken() -> Iterator[None]:
    """Another program listens where the server shall."""
    host, port = URL.removeprefix("http://").split(":")
    with socket.socket() as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        busy.bind((host, int(port)))
        busy.listen()
        yield


def given_up() -> None:
    """A server that cannot start is started again after a pause, and given up with a last word."""
    stop_and_forget()
    since = time.time()
    try:
        harm(command_with(starts=2))()
        with port_taken():
            systemctl("daemon-reload")
            systemctl("start", "--no-block", UNIT)
            seconds = wait_for("it is given up", 60, lambda: show("ActiveState") == "failed")
            time.sleep(5)  # longer than RestartSec=
        last = show("ActiveState"), show("NRestarts"), show("ExecMainStatus")
    finally:
        HARM.unlink()
    if last != ("failed", "1", "69") or seconds < 10:
        raise Wrong(f"after {seconds:.0f} s: {last}")
    expect(said(since), "giving up after 2 starts", f"systemctl start {UNIT}")
    print(f"  given up after {seconds:.0f} s and one restart")
    systemctl("daemon-reload")
    systemctl("start", "--no-block", UNIT)


def causes() -> None:
    """Servers that cannot start are told apart by why, and do not storm."""
    config = CONFIG.read_text()
    compiling = config.replace("enforce-eager: true\n", "")

    def hide_compilers() -> None:
        CONFIG.write_text(compiling)
        folder = pathlib.Path("/srv/without-compilers")
        folder.mkdir(exist_ok=True)
        for program in pathlib.Path("/usr/bin").iterdir():
            if not re.search(r"(^|-)(cc|c\+\+|gcc|g\+\+|clang|clang\+\+)(-\d+)?$", program.name):
                with contextlib.suppress(FileExistsError):
                    (folder / program.name).symlink_to(program)
        venv = re.findall(r'^Environment="VIRTUAL_ENV=(.*)"$', DROP_IN.read_text(), re.MULTILINE)
        harm(f"Environment=PATH={venv[0]}/bin:{folder}")()

    def fill_cache() -> None:
        CONFIG.write_text(compiling)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(CACHE)], check=True)

    kept = CACHE / "torch_compile_cache" / "kept"
    cut = pathlib.Path("/srv/cut")

    def cut_weights() -> None:
        model = re.findall(r"/srv/models/([\w.-]+)", config)[0]
        shutil.rmtree(cut, ignore_errors=True)
        shutil.copytree(f"/srv/models/{model}", cut / model)
        for weights in (cut / model).glob("*.safetensors"):
            os.truncate(weights, weights.stat().st_size // 2)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.touch()
        CONFIG.write_text(config.replace("/srv/models/", f"{cut}/"))

    cases: dict[str, Callable[[], object]] = {
        "damaged_weights": cut_weights,
        "unknown_flag": lambda: CONFIG.write_text(config + "no-such-flag: 1\n"),
        "bad_model_path": lambda: CONFIG.write_text(config.replace("/srv/models/", "/srv/gone/")),
        "memory_limit": harm("MemoryMax=700M"),
        "no_compiler": hide_compilers,
        "disk_full": fill_cache,
        "port_in_use": lambda: taken.enter_context(port_taken()),
    }
    wrong = []
    for cause, change in cases.items():
        began = time.monotonic()
        try:
            with contextlib.ExitStack() as taken:
                found = verdict_of(change)
        finally:
            CONFIG.write_text(config)
            HARM.unlink(missing_ok=True)
            if CACHE.is_mount():
                subprocess.run(["umount", str(CACHE)], check=True)
        print(
            f"  {cause}: {found['state']}: {found['summary']} {found['evidence']}, "
            f"{time.monotonic() - began:.0f} s"
        )
        if cause == "damaged_weights" and not kept.exists():
            wrong.append("the compile caches were removed for a damaged weight file")
        if found["cause"] != cause:
            wrong.append(f"{cause} was found to be {found['cause']}")
    kept.unlink(missing_ok=True)
    shutil.rmtree(cut, ignore_errors=True)
    stop_and_forget()
    systemctl("daemon-reload")
    systemctl("start", "--no-block", UNIT)
    if wrong:
        raise Wrong("; ".join(wrong))


def second_rank() -> int | None:
    """The engine's second worker, before it has met the first; `None` as long as there is none."""
    found = []
    for pid, command in processes().items():
        with contextlib.suppress(OSError, KeyError):
            status = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if (
                "VLLM::EngineCore" in processes()[int(status[1])]
                and "resource_tracker" not in command
            ):
                found.append(pid)
    return sorted(found)[1] if len(found) > 1 else None


def rank_stopped() -> None:
    """Of two processes one stops before they have met over gloo: that is a hang, not work."""
    config = CONFIG.read_text()
    stop_and_forget()
    try:
        CONFIG.write_text(config + "pipeline-parallel-size: 2\n")
        shorter = command_with(**{"start-stall": 20})
        harm(f"{shorter}\nEnvironment=VLLM_CPU_OMP_THREADS_BIND=nobind")()
        systemctl("daemon-reload")
        systemctl("start", "--no-block", UNIT)
        wait_for("a second rank", START, lambda: second_rank() is not None)
        os.kill(second_rank() or 0, signal.SIGSTOP)
        seconds = wait_for("a verdict", START, VERDICT.exists)
        found = json.loads(VERDICT.read_text())
    finally:
        CONFIG.write_text(config)
        HARM.unlink(missing_ok=True)
        systemctl("daemon-reload")
    stop_and_forget()
    systemctl("start", "--no-block", UNIT)
    print(f"  {found['state']} after {seconds:.0f} s: {found['summary']} {found['evidence']}")
    if found["state"] != "hung at start" or "is stopped" not in str(found["summary"]):
        raise Wrong(f"it was taken for {found['state']}: {found['summary']}")


# What a server might try. With "control" it must all succeed: then it is the sandbox that denies.
INTRUDER = """
import ctypes, os, socket, subprocess, sys
def unshare():
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):  # CLONE_NEWUSER
        raise OSError(ctypes.get_errno(), "unshare")
def become_root():
    found = subprocess.run(["/usr/local/testing/id", "-u"], stdout=subprocess.PIPE)
    if found.stdout.strip() != b"0":
        raise OSError(1, "not root")
attempts = {
    "write below /usr": lambda: open("/usr/local/testing/x", "w"),
    "write below /opt": lambda: open("/opt/vllm/testing/x", "w"),
    "read below /root": lambda: open("/root/testing").read(),
    "read below /home": lambda: open("/home/testing").read(),
    "open another device": lambda: open("/dev/testing", "rb"),
    "make a namespace": unshare,
    "use another kind of socket": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
    "become root": become_root,
    "see the processes of others": lambda: os.stat("/proc/1/status"),
}
control = sys.argv[1:] == ["control"]
for what, attempt in attempts.items():
    try:
        attempt()
    except OSError as error:
        print("INTRUDER", "fails" if control else "denied", what, error)
    else:
        print("INTRUDER", "can" if control else "IS NOT DENIED", what)
print("INTRUDER done")
"""


def sandbox() -> None:
    """Each protection of the unit denies what is possible without it."""
    testing = pathlib.Path("/usr/local/testing")
    script = pathlib.Path("/srv/intruder.py")
    script.write_text(INTRUDER)
    for folder in (testing, pathlib.Path("/opt/vllm/testing")):
        folder.mkdir(mode=0o777, exist_ok=True)
        folder.chmod(0o777)
    shutil.copy("/usr/bin/id", testing / "id")
    (testing / "id").chmod(0o4755)
    for file in (pathlib.Path("/root/testing"), pathlib.Path("/home/testing")):
        file.write_text("readable")
        file.chmod(0o644)
    pathlib.Path("/root").chmod(0o711)
    with contextlib.suppress(FileExistsError):
        os.mknod("/dev/testing", 0o666 | stat.S_IFCHR, os.makedev(10, 200))
    pathlib.Path("/dev/testing").chmod(0o666)
    user = ["setpriv", "--reuid=vllm", "--regid=vllm", "--clear-groups", "python3", str(script)]
    outside = subprocess.run([*user, "control"], stdout=subprocess.PIPE, text=True, check=True)
    since = time.time()
    systemctl("stop", UNIT)
    harm(f"ExecStartPre=/usr/bin/python3 {script}")()
    systemctl("daemon-reload")
    systemctl("start", "--no-block", UNIT)
    try:
        wait_for("the intruder", 30, lambda: "INTRUDER done" in said(since))
    finally:
        HARM.unlink()
        systemctl("daemon-reload")
    inside = [line for line in said(since).splitlines() if line.startswith("INTRUDER")]
    possible = {line.split("can ", 1)[1] for line in outside.stdout.splitlines() if " can " in line}
    denied = {line for line in inside if line.startswith("INTRUDER denied")}
    print("  without the sandbox: " + ", ".join(sorted(possible)))
    for line in sorted(denied):
        print(f"  {line}")
    if len(denied) != len(inside) - 1 or len(denied) != 9:
        raise Wrong("\n".join(inside))
    if len(possible) < len(denied) - 1:  # a kernel may not let users make namespaces at all
        raise Wrong(outside.stdout)
    security = subprocess.run(
        ["systemd-analyze", "--no-pager", "security", "--threshold=30", UNIT],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    print(f"  {security.stdout.strip().splitlines()[-1]}")
    if security.returncode:
        raise Wrong("the exposure is above 3.0")


FAULTS = {
    fault.__name__: fault
    for fault in (
        server_killed,
        engine_killed,
        engine_stopped_idle,
        engine_stopped_under_load,
        supervisor_stopped,
        long_load,
        restarted_under_load,
        stopped_under_endless_load,
        shorter_times,
        own_times,
        given_up,
        causes,
        rank_stopped,
        sandbox,
    )
}
NEED_NO_SERVER = (shorter_times, own_times, sandbox, given_up, causes)


def main() -> None:
    """Do harm."""
    for name in sys.argv[4:]:
        if FAULTS[name] not in NEED_NO_SERVER:
            wait_for("it serves", START, serves)
        began = time.monotonic()
        print(f"{name}: {(FAULTS[name].__doc__ or '').splitlines()[0]}", flush=True)
        try:
            FAULTS[name]()
        except Wrong as wrong:
            sys.exit(f"{name}: {wrong}")
        print(f"  as it should be, {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
