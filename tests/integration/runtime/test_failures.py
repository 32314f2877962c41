# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever ends an installation: one clear line, no debris, and the next run completes."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import pytest

from .conftest import TOOLS_LOCK, VENV

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Machine

SEED = random.SystemRandom().randrange(1000)
KILLS_WITH_TOOLS = 4
KILLS_OF_RELEASE = 6
CLOSED = "http://ann:correct-horse@127.0.0.1:9/simple"


def killed_and_completed(machine: Machine, seconds: float, part: float) -> None:
    """Kill a run, see that nothing of it goes on, and let the next one complete."""
    machine.module(kill_after=max(0.1, seconds * part))
    machine.succeeds()
    assert machine.running("/opt/vllm") == []
    assert machine.left_over() == []
    assert machine.succeeds(verify="full")["changed"] is False


def test_ten_kills_at_random_moments_each_followed_by_a_run_that_completes(
    machine: Machine,
) -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    machine.forget(tools=True)
    began = time.monotonic()
    machine.succeeds()
    whole = time.monotonic() - began
    expected = machine.manifest()
    for _ in range(KILLS_WITH_TOOLS):
        machine.forget(tools=True)
        killed_and_completed(machine, whole, rng.random())
        assert machine.manifest() == expected
    machine.forget()
    began = time.monotonic()
    machine.succeeds()
    release = time.monotonic() - began
    for _ in range(KILLS_OF_RELEASE):
        machine.forget()
        killed_and_completed(machine, release, rng.random())
        assert machine.manifest() == expected


def test_a_killed_module_takes_its_programs_with_it(machine: Machine) -> None:
    machine.forget(tools=True)
    machine.module(kill_after=2.5)  # in the making of the tools' venv
    time.sleep(0.2)
    assert machine.running("m (venv|pip) ") == []
    machine.succeeds()


@pytest.mark.parametrize("what", ["tools", "release"])
def test_a_full_disk(machine: Machine, small: Path, what: str) -> None:
    opt = "/small/vllm"
    room = {"tools": 40 << 20, "release": 8 << 20}[what]
    status = os.statvfs(small)
    small.joinpath("ballast").write_bytes(bytes(status.f_bavail * status.f_bsize - room))
    if what == "tools":
        places = {"tools_path": f"{opt}/tools", "cache_dir": f"{opt}/cache/uv"}
    else:
        places = {"cache_dir": f"{opt}/cache/uv"}
    places["venv"] = f"{opt}/releases/made-up"
    result = machine.module(**places)
    assert result["failed"]
    assert "the disk is full" in result["msg"]
    assert "\n" not in result["msg"]
    assert machine.left_over(opt) == []
    small.joinpath("ballast").unlink()
    if what == "release":
        machine.succeeds(**places)
    machine("rm", "-rf", opt)


@pytest.mark.parametrize("what", ["tools_lock", "lock"])
def test_a_wheel_with_another_hash_is_refused(machine: Machine, what: str) -> None:
    lock = {"tools_lock": TOOLS_LOCK, "lock": machine.hosts.lock}[what]
    digests = [word.split(":")[1] for word in lock.split() if word.startswith("--hash=")]
    for digest in digests:
        lock = lock.replace(digest, digest[::-1])
    result = machine.module(**{what: lock})
    assert result["failed"]
    assert "a downloaded file is not the one the lock names" in result["msg"]
    machine("test", "!", "-e", VENV)
    assert machine.left_over() == []


def test_no_network_and_no_word_of_the_credentials(machine: Machine) -> None:
    environment = {
        "UV_DEFAULT_INDEX": CLOSED,
        "UV_HTTP_RETRIES": "0",
        "UV_INDEX_MIRROR_PASSWORD": "battery-staple",
    }
    result = machine.module(bundle=None, environment=environment)
    assert result["failed"]
    assert "the package index could not be reached" in result["msg"]
    printed = result["printed"] + machine("journalctl", "--no-pager", "--output=cat")
    for secret in ("correct-horse", "battery-staple", "ann:"):
        assert secret not in printed
    assert machine.left_over() == []
    machine.succeeds()


def test_a_bundle_that_is_not_there(machine: Machine) -> None:
    result = machine.module(bundle="/srv/nothing")
    assert result["msg"].startswith("bundle: there are no wheels in /srv/nothing/wheels")
