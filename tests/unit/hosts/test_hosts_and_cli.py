# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING

import pytest
import yaml
from throwaway import cli, hosts, launcher, needs
from throwaway.common import HostsError, Settings, write_json

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment(
        {"HOME": str(tmp_path), "TESTHOSTS_STATE": str(tmp_path / "my hosts")}
    )


def record(settings: Settings, name: str, ip: str) -> hosts.Host:
    host = hosts.Host(settings, name)
    host.directory.mkdir(parents=True)
    write_json(
        host.directory / "host.json",
        {
            "name": name,
            "ip": ip,
            "image": "bookworm",
            "memory": 1 << 30,
            "created": "2026-01-01T00:00:00+00:00",
            "seeds": [["/cache", "/opt/cache"]],
            "binds": ["/srv:/srv"],
            "binds_ro": ["/models:/srv/models"],
        },
    )
    return host


@pytest.mark.parametrize("name", ["gpu1", "a", "a-b", "1", "x" * 40])
def test_good_names(name: str) -> None:
    assert hosts.check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "A", "a.b", "a/b", "..", "a b", "x" * 41, "a\n", ".ssh", "ä"]
)
def test_bad_names(name: str) -> None:
    with pytest.raises(HostsError, match="cannot be a host's name"):
        hosts.check_name(name)


def test_inventory_is_yaml_that_ansible_reads(settings: Settings) -> None:
    chosen = [record(settings, "gpu1", "10.77.0.11"), record(settings, "gpu2", "10.77.0.12")]
    inventory = yaml.safe_load(cli.inventory_yaml(chosen))
    assert list(inventory["all"]["hosts"]) == ["gpu1", "gpu2"]
    variables = inventory["all"]["hosts"]["gpu2"]
    assert variables["ansible_host"] == "10.77.0.12"
    assert variables["ansible_user"] == "root"
    assert variables["ansible_ssh_private_key_file"] == str(settings.key)
    options = shlex.split(variables["ansible_ssh_common_args"])
    assert f"UserKnownHostsFile={settings.state}/gpu2/known_hosts" in options
    assert "StrictHostKeyChecking=yes" in options


def test_inventory_of_an_absent_host_is_an_error(settings: Settings) -> None:
    with pytest.raises(HostsError, match="there is no host gpu9"):
        cli.inventory_yaml([hosts.Host(settings, "gpu9")])


def test_recorded_options_reach_systemd_nspawn(settings: Settings) -> None:
    argv = launcher.nspawn_argv(record(settings, "gpu1", "10.77.0.11").machine)
    assert "--bind=/srv:/srv" in argv
    assert "--bind-ro=/models:/srv/models" in argv
    assert f"--machine={settings.ident}-gpu1" in argv
    assert "--hostname=gpu1" in argv
    assert argv[-1].startswith("/")  # the guest's PID 1 comes last


def test_the_unit_limits_memory_and_comes_back_after_a_reboot(settings: Settings) -> None:
    host = record(settings, "gpu1", "10.77.0.11")
    properties = launcher.Unit.properties(host.machine)
    assert f"MemoryMax={1 << 30}" in properties
    assert "MemorySwapMax=0" in properties
    assert "Delegate=yes" in properties
    assert "RestartForceExitStatus=133" in properties


def test_hosts_are_found_and_locks_and_keys_are_none(settings: Settings) -> None:
    assert hosts.every(settings) == []
    record(settings, "b", "10.77.0.12")
    record(settings, "a", "10.77.0.11")
    with settings.lock("network"):
        pass
    settings.key.parent.mkdir()
    assert [host.name for host in hosts.every(settings)] == ["a", "b"]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({}, None),
        ({"image": "bookworm", "ip": "10.77.0.11"}, None),
        ({"seeds": (("/cache", "/opt/cache"),), "binds": ("/srv:/srv",)}, None),
        ({"image": "trixie"}, "image is bookworm, not trixie"),
        ({"ip": "10.77.0.9", "memory": 5}, "ip is 10.77.0.11, not 10.77.0.9; memory is"),
        ({"binds_ro": ("/other",)}, "binds_ro is"),
    ],
)
def test_a_running_host_is_compared_with_what_is_wanted(
    settings: Settings, wanted: dict[str, object], told: str | None
) -> None:
    host = record(settings, "gpu1", "10.77.0.11")
    ask = hosts.Wanted("gpu1", **wanted)  # type: ignore[arg-type]
    if told is None:
        host._compare(host.require(), ask)
    else:
        with pytest.raises(HostsError, match=told):
            host._compare(host.require(), ask)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["up", "a", "--seed", "cache"], "is not DIRECTORY=/ABSOLUTE/PATH"),
        (["up", "a", "--seed", "cache=opt"], "is not DIRECTORY=/ABSOLUTE/PATH"),
        (["up", "a", "--memory", "lots"], "is not a size"),
        (["up", "a", "--image", "sid"], "invalid choice"),
        (["harvest", "a", "opt=cache"], "is not /ABSOLUTE/PATH=DIRECTORY"),
        ([], "COMMAND"),
    ],
)
def test_a_bad_command_line_is_told(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["up", "a"], ["down", "--all"], ["list"], ["clean"], ["ssh", "a"], ["logs", "a"]]
)
def test_without_root_one_line_and_status_2(
    words: list[str],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TESTHOSTS_STATE", str(settings.state))
    monkeypatch.setattr(needs.os, "geteuid", lambda: 1000)
    assert cli.main(words) == 2
    assert capsys.readouterr().err == "testhosts: this needs root: run it with sudo\n"
    assert not settings.state.exists()


def test_a_supervisors_lock_tells_that_it_lives(settings: Settings) -> None:
    host = record(settings, "gpu1", "10.77.0.11")
    supervised = launcher.Supervised()
    assert not supervised.alive(host.machine)
    lock = host.directory / "supervisor.lock"
    with open(lock, "w", encoding="ascii") as handle:
        assert not supervised.alive(host.machine)
        launcher.fcntl.flock(handle, launcher.fcntl.LOCK_EX)
        assert supervised.alive(host.machine)
        assert supervised.nspawn_pid(host.machine) is None  # not written down yet
        (host.directory / "nspawn.pid").write_text("4711\n")
        assert supervised.nspawn_pid(host.machine) == 4711
    assert not supervised.alive(host.machine)
    assert supervised.nspawn_pid(host.machine) is None


def test_leader_of_nothing() -> None:
    assert launcher.leader(None) is None
    assert launcher.leader(os.getpid()) is None  # it has no child that is a PID 1


def test_list_as_json_is_an_array(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(settings, "gpu1", "10.77.0.11")
    monkeypatch.setattr(hosts.Host, "alive", lambda self: False)
    monkeypatch.setenv("TESTHOSTS_STATE", str(settings.state))
    monkeypatch.setattr(needs.os, "geteuid", lambda: 0)
    assert cli.main(["list", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["name"] == "gpu1"
    assert entry["state"] == "stopped"
    assert entry["known_hosts"] == str(settings.state / "gpu1" / "known_hosts")
