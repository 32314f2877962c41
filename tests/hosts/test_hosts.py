# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The throwaway hosts, tried out for real: boots some, takes a minute, needs root.

    sudo .venv/bin/pytest tests/hosts/test_hosts.py

It works on a set of hosts of its own and leaves those that are up alone. Where the tool's needs are
not met it fails; only without root it is skipped.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from throwaway import images, launcher
from throwaway.common import Settings

PREFIX = "testhosts-"
TOOL = Path(__file__).with_name("testhosts.py")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="throwaway hosts need root"),
    pytest.mark.timeout(600),  # the first run builds two images
]

ALLOCATE = "import sys; print(len(bytearray(int(sys.argv[1]) << 20)))"

OPEN_DEVICE = """
import errno, os, sys
try:
    os.open("/dev/throwaway", os.O_RDWR)
except OSError as error:
    print(errno.errorcode[error.errno])
"""

FORK = """
import os, signal
children = []
try:
    for number in range(20):
        children.append(os.fork())
        if children[-1] == 0:
            signal.pause()
except BlockingIOError:
    pass
for child in children:
    os.kill(child, signal.SIGKILL)
print(len(children))
"""

BUSY = """
import time
start, worked = time.monotonic(), time.process_time()
while time.process_time() - worked < 0.4:
    pass
print(time.monotonic() - start)
"""


CONNECT = """
import errno, socket, sys
try:
    socket.create_connection((sys.argv[1], 9), timeout=2)
except OSError as error:
    print(errno.errorcode[error.errno] if error.errno else "nothing came back")
"""

# An `up` that is killed in the moment in which it has started the host's supervisor.
KILLED_IN_THE_MOMENT = """
import os, runpy, signal, subprocess, sys

class Popen(subprocess.Popen):
    def __init__(self, argv, **options):
        super().__init__(argv, **options)
        if "_supervise" in argv:
            os.kill(os.getpid(), signal.SIGKILL)

subprocess.Popen = Popen
sys.path.insert(0, os.path.dirname(sys.argv[1]))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Tool:
    """The command line, on a state directory of its own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.env = {**os.environ, "TESTHOSTS_STATE": str(state), "TESTHOSTS_ENVIRONMENT": "A=1 B=2"}
        self.env.pop("TESTHOSTS_SUBNET", None)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, TOOL, *words],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, status: int = 0) -> str:
        """Run a command and return its output: stdout when it shall work, else stderr."""
        process = self.start(*words)
        out, err = process.communicate(timeout=600)
        assert process.returncode == status, f"{words}: {process.returncode}\n{out}\n{err}"
        return out if status == 0 else err

    def up(self, *words: str) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self("up", *words, "--json"))
        return result

    def ssh(self, host: str, *command: str, status: int = 0) -> str:
        return self("ssh", host, "--", *command, status=status)

    def python(self, host: str, program: str, *words: str, properties: Sequence[str] = ()) -> str:
        """Run a program in a transient service of a host; return what it printed."""
        settings = [word for setting in properties for word in ("-p", setting)]
        unit = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", *settings]
        return self("exec", host, "--", *unit, "python3", "-c", program, *words).strip()


def wait_for(what: str, condition: Callable[[], bool], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.1)


def remove_abandoned() -> None:
    """Remove the hosts of earlier runs that were killed: nobody holds their lock any more."""
    for owner in Path("/var/tmp").glob(f"{PREFIX}*/owner"):
        with owner.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            Tool(owner.parent / "state")("clean")
            shutil.rmtree(owner.parent)


@pytest.fixture(scope="module")
def tool() -> Iterator[Tool]:
    remove_abandoned()
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, dir="/var/tmp") as directory,
        open(Path(directory) / "owner", "w", encoding="ascii") as owner,
    ):
        fcntl.flock(owner, fcntl.LOCK_EX)
        tool = Tool(Path(directory) / "state")
        assert tool("check").startswith("nothing is missing")
        try:
            yield tool
        finally:
            tool("clean")


@pytest.fixture(scope="module")
def pair(tool: Tool) -> dict[str, str]:
    """Two hosts, booted at the same moment: name and address."""
    started = [
        tool.start("up", name, "--json", "--image", image)
        for name, image in (("twelve", "bookworm"), ("thirteen", "trixie"))
    ]
    addresses = {}
    for process in started:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        host = json.loads(out)
        assert host["changed"]
        assert host["state"] == "running"
        addresses[host["name"]] = host["ip"]
    return addresses


@pytest.fixture(params=["twelve", "thirteen"])
def host(request: pytest.FixtureRequest, pair: dict[str, str]) -> str:
    name: str = request.param
    assert name in pair
    return name


def test_each_runs_its_own_debian_at_its_own_address(tool: Tool, pair: dict[str, str]) -> None:
    assert len(set(pair.values())) == 2
    assert 'VERSION_ID="12"' in tool.ssh("twelve", "cat", "/etc/os-release")
    assert 'VERSION_ID="13"' in tool.ssh("thirteen", "cat", "/etc/os-release")
    for name, address in pair.items():
        assert tool.ssh(name, "hostname").strip() == name
        assert address in tool.ssh(name, "ip", "-4", "address", "show", "dev", "host0")


def test_they_reach_each_other(tool: Tool, pair: dict[str, str]) -> None:
    for here, there in (("twelve", "thirteen"), ("thirteen", "twelve")):
        greeting = f"exec 3<>/dev/tcp/{pair[there]}/22; read -t 5 -u 3 line; echo $line"
        assert tool("exec", here, "--", "bash", "-c", greeting).startswith("SSH-2.0")


def test_up_again_changes_nothing(tool: Tool, host: str) -> None:
    assert tool.up(host)["changed"] is False


def test_up_as_another_is_refused(tool: Tool, pair: dict[str, str]) -> None:
    assert pair
    told = tool("up", "twelve", "--image", "trixie", status=2)
    assert "image is bookworm, not trixie" in told
    assert len(told.splitlines()) == 1


def test_list_and_inventory_name_them(tool: Tool, pair: dict[str, str]) -> None:
    listed = {entry["name"]: entry for entry in json.loads(tool("list", "--json"))}
    assert {name: entry["ip"] for name, entry in listed.items()} == pair
    inventory = tool("inventory", *pair)
    assert all(f'ansible_host: "{address}"' in inventory for address in pair.values())


def test_apt_works_and_finds_the_lists_old(tool: Tool, host: str) -> None:
    age = tool("exec", host, "--", "stat", "--format=%Y", "/var/lib/apt/lists")
    assert age.strip() == "0"
    tool("exec", host, "--", "apt-get", "update", "-qq")
    simulated = tool("exec", host, "--", "apt-get", "install", "--simulate", "python3-venv")
    assert "Inst python3-venv" in simulated


def test_memory_max_kills(tool: Tool, host: str) -> None:
    assert tool.python(host, ALLOCATE, "200", properties=["MemoryMax=400M"]) == str(200 << 20)
    unit = ["systemd-run", "--quiet", "--wait", "--unit=greedy", "-p", "MemoryMax=64M"]
    unit += ["-p", "MemorySwapMax=0"]
    process = tool.start("exec", host, "--", *unit, "python3", "-c", ALLOCATE, "200")
    process.communicate(timeout=60)
    assert process.returncode != 0
    shown = tool("exec", host, "--", "systemctl", "show", "greedy", "-p", "ExecMainStatus,Result")
    assert "ExecMainStatus=9\n" in shown, shown
    tool("exec", host, "--", "systemctl", "reset-failed", "greedy")


def test_tasks_max_and_cpu_quota_hold(tool: Tool, host: str) -> None:
    assert tool.python(host, FORK) == "20"
    assert int(tool.python(host, FORK, properties=["TasksMax=5"])) < 5
    # 0.4 s of work at a fifth of a processor takes 2 s, less one period's allowance.
    assert float(tool.python(host, BUSY, properties=["CPUQuota=20%"])) > 1.5


def test_device_policy_is_enforced(tool: Tool, host: str) -> None:
    # A node of a driver that is not there: who may open it gets ENXIO, who may not EPERM.
    tool("exec", host, "--", "mknod", "/dev/throwaway", "c", "195", "250")
    assert tool.python(host, OPEN_DEVICE) == "ENXIO"
    closed = "DevicePolicy=closed"
    assert tool.python(host, OPEN_DEVICE, properties=[closed]) == "EPERM"
    allowed = [closed, "DeviceAllow=/dev/throwaway rw"]
    assert tool.python(host, OPEN_DEVICE, properties=allowed) == "ENXIO"


def test_address_policy_is_enforced(tool: Tool, pair: dict[str, str], host: str) -> None:
    # Nobody listens at that port of the other host: who may ask is told so.
    other = next(address for name, address in pair.items() if name != host)
    assert tool.python(host, CONNECT, other) == "ECONNREFUSED"
    denied = tool.python(host, CONNECT, other, properties=["IPAddressDeny=any"])
    assert denied in ("nothing came back", "EPERM")


def test_services_have_the_variables_of_all_hosts(tool: Tool, host: str) -> None:
    assert tool.python(host, "import os; print(os.environ['A'], os.environ['B'])") == "1 2"


def test_logs_have_console_and_journal(tool: Tool, host: str) -> None:
    logs = tool("logs", host)
    assert f"== console of {host}" in logs
    assert "Startup finished" in logs


def test_reboot(tool: Tool, host: str) -> None:
    tool.ssh(host, "touch", "/run/marker", "/root/marker")
    started = time.monotonic()
    tool.start("ssh", host, "--", "systemctl", "reboot").communicate(timeout=20)

    def is_back() -> bool:
        process = tool.start("ssh", host, "--", "test", "!", "-e", "/run/marker")
        process.communicate(timeout=20)
        return process.returncode == 0

    wait_for("the host is back, with an empty /run", is_back, timeout=30)
    assert time.monotonic() - started < 30
    assert tool.up(host)["changed"] is False
    tool.ssh(host, "test", "-e", "/root/marker")


def test_memory_of_the_whole_host_is_limited(tool: Tool) -> None:
    tool.up("small", "--memory", "300M")
    assert tool.ssh("small", "python3", "-c", f"'{ALLOCATE}'", "100").strip() == str(100 << 20)
    # The kernel kills the program; systemd may end the whole session for it (OOMPolicy=).
    process = tool.start("ssh", "small", "--", "python3", "-c", f"'{ALLOCATE}'", "600")
    out, _ = process.communicate(timeout=60)
    assert process.returncode in (137, 255)
    assert out == ""
    tool.ssh("small", "true")
    assert tool("down", "small") == "removed small\n"


def test_a_seed_costs_nothing_and_a_host_cannot_change_the_machine_s_own(tool: Tool) -> None:
    cache = tool.state.parent / "cache"
    (cache / "deep").mkdir(parents=True)
    for name in ("old", "cut", "linked", "owned", "gone"):
        (cache / "deep" / name).write_text(name)
    (cache / "deep" / "big").write_bytes(bytes(64 << 20))
    (cache / "link").symlink_to("deep/old")
    tool.up("seeded", "--seed", f"{cache}=/opt/deep/cache")
    upper = tool.state / "seeded" / "upper"
    # The guest links on from it, as uv does into a venv, and no byte is copied.
    tool.ssh("seeded", "mkdir", "/opt/venv")
    tool.ssh("seeded", "ln /opt/deep/cache/deep/* /opt/venv/")
    assert tool.ssh("seeded", "stat -c %h%s /opt/venv/big").strip() == f"2{64 << 20}"
    used = sum(path.stat().st_blocks for path in (upper / "opt").rglob("*") if path.is_file())
    assert used * 512 < 1 << 20
    assert tool.ssh("seeded", "readlink", "/opt/deep/cache/link").strip() == "deep/old"

    # Whatever it does to them, the machine's stay as they are.
    tool.ssh("seeded", "cd /opt/venv; truncate -s 1 cut; echo x >>linked; chown 1:1 owned; rm gone")
    tool.ssh("seeded", "rm /opt/deep/cache/deep/gone; chmod 0600 /opt/deep/cache/deep/owned")
    assert tool.ssh("seeded", "cat /opt/deep/cache/deep/cut") == "c"
    for name in ("old", "cut", "linked", "owned", "gone"):
        assert (cache / "deep" / name).read_text() == name
    status = (cache / "deep" / "owned").stat()
    assert (status.st_uid, status.st_mode & 0o777) == (os.getuid(), 0o644)

    tool.ssh("seeded", "mkdir", "/opt/deep/cache/new")
    tool.ssh("seeded", "echo new >/opt/deep/cache/new/file; echo changed >/opt/deep/cache/fresh")
    holder = tool.start("ssh", "seeded", "--", "exec 3>/opt/deep/cache/open; echo ok; sleep 60")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ok\n"
    told = tool("harvest", "seeded", f"/opt/deep/cache={cache}", status=2)
    assert "still writes below /opt/deep/cache" in told
    assert not (cache / "new").exists()
    tool.ssh("seeded", "pkill", "sleep")
    holder.communicate(timeout=20)

    tool("harvest", "seeded", f"/opt/deep/cache={cache}")
    assert (cache / "new" / "file").read_text() == "new\n"
    tool.ssh("seeded", "echo more >>/opt/deep/cache/new/file")
    assert (cache / "new" / "file").read_text() == "new\n"
    assert (cache / "deep" / "cut").read_text() == "cut"
    tool("down", "seeded")
    assert (cache / "deep" / "old").stat().st_nlink == 1


def test_a_second_host_at_the_same_address_is_refused(tool: Tool, pair: dict[str, str]) -> None:
    told = tool("up", "thief", "--ip", pair["twelve"], status=2)
    assert f"--ip {pair['twelve']} is taken" in told
    assert tool("down", "thief") == "absent thief\n"


def traces(tool: Tool, name: str) -> list[str]:
    """Everything on this machine that bears a host's name, in this set of hosts."""
    ident = Settings.from_environment(tool.env).ident
    namespaces = subprocess.run(
        ["ip", "netns", "list"], capture_output=True, text=True, check=True
    ).stdout
    found = [line for line in namespaces.splitlines() if line.split()[0] == f"{ident}-{name}"]
    state = str(tool.state / name)
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [line for line in mounts if line.split()[4].startswith(state)]
    for group, _, _ in os.walk("/sys/fs/cgroup"):
        if ident in Path(group).parts and name in Path(group).name:
            found.append(group)
    if Path(state).exists():
        found.append(state)
    return found


def test_hosts_together_weigh_more_than_a_process_beside_them(
    tool: Tool, pair: dict[str, str]
) -> None:
    assert pair
    ident = Settings.from_environment(tool.env).ident
    weights = [
        int(file.read_text()) / usual
        for name, usual in (("cpu.weight", 100), ("cpu.shares", 1024))
        for file in Path("/sys/fs/cgroup").glob(f"**/{ident}/{name}")
    ]
    assert weights
    assert min(weights) > 2


def test_down_leaves_nothing(tool: Tool) -> None:
    tool.up("brief")
    assert traces(tool, "brief")
    started = time.monotonic()
    assert tool("down", "brief") == "removed brief\n"
    assert time.monotonic() - started < 20
    assert traces(tool, "brief") == []
    assert tool("down", "brief") == "absent brief\n"


def kill_unexpectedly(tool: Tool, name: str) -> None:
    """SIGKILL what looks after a host, as the kernel does when memory is short."""
    directory = tool.state / name
    if (directory / "supervisor.pid").exists():
        os.kill(int((directory / "supervisor.pid").read_text()), signal.SIGKILL)
    else:
        units = subprocess.run(
            ["systemctl", "list-units", "--plain", "--no-legend", f"testhosts*-{name}.service"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        unit = units.split()[0]
        subprocess.run(["systemctl", "kill", "--kill-whom=main", "-s", "KILL", unit], check=True)


def test_a_crash_is_recognised_and_cleaned_up(tool: Tool) -> None:
    address = tool.up("fragile")["ip"]
    kill_unexpectedly(tool, "fragile")

    def is_stopped() -> bool:
        entries = json.loads(tool("list", "--json"))
        return any(e["name"] == "fragile" and e["state"] == "stopped" for e in entries)

    wait_for("the host counts as stopped", is_stopped)
    assert traces(tool, "fragile")  # its cable and its mount are still there
    again = tool.up("fragile")
    assert again["changed"]
    assert again["state"] == "running"
    assert again["ip"] == address
    tool.ssh("fragile", "true")

    # A crash that even lost the record of the host.
    kill_unexpectedly(tool, "fragile")
    (tool.state / "fragile" / "host.json").unlink()
    assert tool.up("fragile")["changed"]
    assert tool("down", "fragile") == "removed fragile\n"
    assert traces(tool, "fragile") == []


def test_an_interrupted_up_leaves_nothing(tool: Tool) -> None:
    process = tool.start("up", "hasty")
    wait_for("the record", (tool.state / "hasty" / "host.json").exists)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert traces(tool, "hasty") == []


def test_a_killed_up_is_made_good_by_the_next(tool: Tool) -> None:
    process = tool.start("up", "killed")
    wait_for("the record", (tool.state / "killed" / "host.json").exists)
    process.kill()
    process.communicate(timeout=60)
    assert tool.up("killed")["state"] == "running"
    tool.ssh("killed", "true")
    tool("down", "killed")
    assert traces(tool, "killed") == []


def test_an_up_killed_as_it_starts_the_supervisor_is_made_good(tool: Tool) -> None:
    if launcher.systemd_is_running():
        pytest.skip("hosts are units of this machine's systemd: they have no supervisor")
    words = [sys.executable, "-c", KILLED_IN_THE_MOMENT, str(TOOL), "up", "moment"]
    killed = subprocess.run(words, env=tool.env, stdin=subprocess.DEVNULL, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert tool("down", "moment") == "removed moment\n"
    assert traces(tool, "moment") == []


def test_what_a_killed_build_left_mounted_is_removed_with_it() -> None:
    # Not below pytest's directory, which it tidies up: see `mounted`.
    left = Path(tempfile.mkdtemp(prefix=".bookworm-", dir="/var/tmp"))
    proc = left / "rootfs" / "proc"
    proc.mkdir(parents=True)
    subprocess.run(["mount", "-t", "proc", "-o", "ro", "proc", proc], check=True)
    images.remove(left)
    assert not left.exists()


def test_clean_removes_all(tool: Tool, pair: dict[str, str]) -> None:
    removed = tool("clean").splitlines()
    assert {f"removed {name}" for name in pair} <= set(removed)
    assert json.loads(tool("list", "--json")) == []
    for name in pair:
        assert traces(tool, name) == []
    tool("clean")
