# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage to a proved venv is found, named and repaired; a venv of one's own is only verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .conftest import SITE, VENV

if TYPE_CHECKING:
    from .conftest import Hosts, Machine

ALTERED = f"{SITE}/torch/lib/7.so"
DAMAGE = {
    "altered in place": (f"printf x | dd of={ALTERED} conv=notrunc", ["torch/lib/7.so"]),
    "cut off": (f"truncate -s 100 {ALTERED}", ["torch/lib/7.so"]),
    "missing": (f"rm {SITE}/vllm/__init__.py", ["vllm/__init__.py"]),
    "a script": (f"rm {VENV}/bin/vllm", ["bin/vllm"]),
    "a RECORD": (f"echo '\"' >{SITE}/torch-9.9.0.dist-info/RECORD", ["torch-9.9.0.dist-info"]),
    "without wheel": (f"rm {VENV}/pyvenv.cfg {VENV}/bin/python", ["pyvenv.cfg", "bin/python"]),
    "the alias": (f"rm {SITE}/alias-1.0.dist-info/METADATA", ["alias-1.0.dist-info/METADATA"]),
    "added": (f"touch {SITE}/evil.pth", ["evil.pth"]),
    "the manifest": (f"rm {VENV}/.manifest", [".manifest"]),
}
ALIAS = {"name": "alias", "version": "1.0"}


def test_damage_is_found_named_and_repaired(machine: Machine) -> None:
    machine.succeeds(metadata_alias=ALIAS)
    expected = machine.manifest()
    inode = machine("stat", "-c", "%i", VENV)
    for what, (command, named) in DAMAGE.items():
        machine("sh", "-c", command)
        foreseen = machine.succeeds(metadata_alias=ALIAS, _ansible_check_mode=True)
        result = machine.succeeds(metadata_alias=ALIAS)
        for seen in (foreseen, result):
            assert seen["changed"], what
            assert all(path in seen["msg"] for path in named), seen["msg"]
        assert machine.succeeds(metadata_alias=ALIAS, verify="full")["changed"] is False, what
        assert machine.manifest() == expected, what
    assert machine("stat", "-c", "%i", VENV) == inode  # it was never removed


def test_damage_that_came_with_hard_links_does_not_come_back_from_the_cache(
    machine: Machine,
) -> None:
    machine.succeeds()
    links = int(machine("stat", "-c", "%h", ALTERED))
    assert links > 1  # the venv shares its bytes with the cache
    machine("sh", "-c", f"printf x | dd of={ALTERED} conv=notrunc")
    machine.succeeds()
    machine("rm", "-rf", VENV)
    machine.succeeds()
    assert machine.succeeds(verify="full")["changed"] is False


def bytecode(machine: Machine) -> str:
    """The bytecode's files with their inodes: an import would have made new ones."""
    return machine("sh", "-c", f"cd {VENV}/.pycache && find . -type f -printf '%i %p\\n' | sort")


def test_the_same_bytes_are_proved_once(machine: Machine) -> None:
    machine.succeeds()
    manifest, compiled = machine.manifest(), bytecode(machine)
    assert "vllm/__init__" in compiled
    assert f"{SITE.removeprefix(VENV + '/')}/vllm-0.0.0.dist-info/METADATA" in manifest
    machine("rm", "-rf", VENV)
    versions = machine.succeeds()["versions"]
    assert versions == {"vllm": "9.9.1", "torch": "9.9.0", "cuda": "9.9", "triton": "9.9.2"}
    assert machine.manifest() == manifest
    assert bytecode(machine) == compiled
    assert machine.succeeds(verify="full")["changed"] is False


@pytest.mark.parametrize(
    "change",
    [
        "touch /usr/bin/python3.11",
        "echo ' ' >>/opt/vllm/cache/proofs/made-up/manifest",
        "find /opt/vllm/cache/uv -path '*/torch/lib/7.so' -exec truncate -s +1 {} +",
    ],
    ids=["another interpreter", "a damaged proof", "a damaged cache"],
)
def test_what_is_not_the_same_is_proved_anew(machine: Machine, change: str) -> None:
    machine.succeeds()
    compiled = bytecode(machine)
    machine("rm", "-rf", VENV)
    machine("sh", "-c", change)
    machine.succeeds()
    assert bytecode(machine) != compiled
    assert machine.succeeds(verify="full")["changed"] is False


def test_only_the_full_check_sees_what_keeps_size_and_time(machine: Machine) -> None:
    machine.succeeds()
    machine(
        *("sh", "-c"),
        f"touch -r {ALTERED} /tmp/reference && printf x | dd of={ALTERED} conv=notrunc"
        f" && touch -r /tmp/reference {ALTERED}",
    )
    assert machine.succeeds()["changed"] is False
    assert "torch/lib/7.so" in machine.succeeds(verify="full")["msg"]
    assert machine.succeeds(verify="full")["changed"] is False


def test_damaged_tools_are_made_again(machine: Machine) -> None:
    machine.succeeds()
    machine("sh", "-c", "rm /opt/vllm/tools/bin/uv")
    assert machine.succeeds()["changed"] is True
    assert machine.succeeds()["changed"] is False


def test_two_hosts_have_the_same_packages_and_files(machine: Machine, hosts: Hosts) -> None:
    machine.succeeds()
    other = hosts.up("two")
    other.succeeds()
    tools = machine("readlink", "-f", "/opt/vllm/tools").strip()
    for venv in (VENV, tools):
        assert machine.manifest(venv) == other.manifest(venv)
        script = "from importlib.metadata import distributions as d; "
        script += "print(sorted((x.name, x.version) for x in d()))"
        lists = [host(f"{venv}/bin/python", "-I", "-c", script) for host in (machine, other)]
        assert lists[0] == lists[1]
    assert "torch" in machine.manifest()[f"{SITE.removeprefix(VENV + '/')}/torch/__init__.py"][2]


@pytest.fixture
def own(machine: Machine) -> dict[str, Any]:
    """Arguments for a venv that somebody made."""
    machine.succeeds()
    machine("sh", "-c", f"rm -rf /srv/own && cp -a {VENV} /srv/own && rm /srv/own/.proved.json")
    return {"venv": "/srv/own", "managed": False, "lock": None}


def test_a_venv_of_ones_own_is_verified_once_and_left_alone(
    machine: Machine, own: dict[str, Any]
) -> None:
    before = machine(
        "sh", "-c", "cd /srv/own && find . | sort | xargs ls -ld --time-style=full-iso"
    )
    result = machine.succeeds(**own)
    assert (result["changed"], result["versions"]["vllm"]) == (True, "9.9.1")
    assert machine.succeeds(**own)["changed"] is False
    after = machine("sh", "-c", "cd /srv/own && find . | sort | xargs ls -ld --time-style=full-iso")
    assert after == before


def test_another_package_in_it_is_noticed(machine: Machine, own: dict[str, Any]) -> None:
    machine.succeeds(**own)
    path = "/srv/own/lib/python3.11/site-packages/vllm"
    machine("sh", "-c", f"echo '__version__ = \"9.9.8\"' >{path}/__init__.py")
    machine("sh", "-c", f"mv {path}-9.9.1.dist-info {path}-9.9.8.dist-info")
    result = machine.module(**own)
    assert result["failed"]
    assert "vllm is 9.9.8, expected 9.9.1" in result["msg"]


def test_where_there_is_none_or_nobody_else_gets_in(machine: Machine, own: dict[str, Any]) -> None:
    result = machine.module(**{**own, "venv": "/srv/nothing"})
    assert "there is no virtual environment in /srv/nothing" in result["msg"]
    machine("chmod", "0700", "/srv/own")
    assert "the service's user cannot enter /srv/own (mode 0700)" in machine.module(**own)["msg"]


@pytest.mark.parametrize(
    "damage",
    ["vllm/__init__.py", "torch/version.py", "vllm-9.9.1.dist-info/METADATA"],
    ids=["an import fails", "an import is another", "uv cannot read it"],
)
def test_a_new_host_with_a_damaged_cache_fetches_what_is_damaged_and_says_so(
    machine: Machine, damage: str
) -> None:
    machine.succeeds()
    machine("rm", "-rf", VENV, "/opt/vllm/cache/proofs")
    machine("sh", "-c", f"find /opt/vllm/cache/uv -path '*/{damage}' -exec truncate -s 3 {{}} +")
    result = machine.succeeds()
    assert "the cache /opt/vllm/cache/uv held damaged packages" in result["msg"]
    assert damage.split("-")[0] in result["damage"]
    assert result["warnings"]
    machine("rm", "-rf", VENV, "/opt/vllm/cache/proofs")
    again = machine.succeeds()
    assert "damage" not in again
    assert machine.succeeds(verify="full")["changed"] is False
