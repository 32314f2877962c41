# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest
from throwaway import cgroups, needs, network
from throwaway.common import HostsError, Settings

Usage = namedtuple("Usage", "total used free")
PACKAGES_FILE = Path(needs.__file__).parents[1] / "packages.txt"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment(
        {
            "HOME": str(tmp_path),
            "TESTHOSTS_STATE": str(tmp_path / "not" / "yet" / "there"),
            "TESTHOSTS_DNS": "192.0.2.53",
        }
    )


@pytest.fixture
def good_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where nothing is missing, whatever this one lacks."""
    monkeypatch.setattr(needs.os, "geteuid", lambda: 0)
    monkeypatch.setattr(needs, "missing_packages", dict)
    monkeypatch.setattr(needs.shutil, "disk_usage", lambda path: Usage(1 << 40, 0, 1 << 40))
    monkeypatch.setattr(needs, "systemd_is_running", lambda: False)
    monkeypatch.setattr(cgroups, "missing_controllers", list)


def test_packages_file_names_what_the_tool_looks_for() -> None:
    listed = PACKAGES_FILE.read_text(encoding="utf-8").split()
    assert listed == sorted({*needs.COMMANDS.values(), needs.KEYRING_PACKAGE})


def test_missing_packages_name_what_was_not_found(tmp_path: Path) -> None:
    missing = needs.missing_packages(
        which=lambda command: None if command.startswith("ssh") else f"/usr/bin/{command}",
        keyring=tmp_path / "absent.gpg",
    )
    assert missing == {
        "openssh-client": ["ssh", "ssh-keygen"],
        "debian-archive-keyring": [str(tmp_path / "absent.gpg")],
    }
    line = needs.package_need(missing)
    assert line is not None
    assert line.endswith(
        ": apt-get install --no-install-recommends debian-archive-keyring openssh-client"
    )


def test_no_missing_packages_no_line() -> None:
    assert needs.package_need({}) is None


@pytest.mark.usefixtures("good_machine")
def test_nothing_missing(settings: Settings) -> None:
    assert needs.missing(settings) == []
    needs.require(settings)


@pytest.mark.usefixtures("good_machine")
def test_everything_missing_is_told_at_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(needs, "missing_packages", lambda: {"mmdebstrap": ["mmdebstrap"]})
    monkeypatch.setattr(needs.shutil, "disk_usage", lambda path: Usage(1 << 40, 0, 1 << 20))
    monkeypatch.setattr(cgroups, "missing_controllers", lambda: ["memory"])
    monkeypatch.setattr(network, "name_servers", lambda settings: [])
    found = needs.missing(settings)
    for part in (
        "sudo",
        "apt-get install --no-install-recommends mmdebstrap",
        "XDG_CACHE_HOME",
        "TESTHOSTS_STATE",
        "no cgroup controller memory",
        "TESTHOSTS_DNS",
    ):
        assert sum(part in need for need in found) == 1, part
    assert len(found) == 6
    assert all("\n" not in need for need in found)
    with pytest.raises(HostsError) as caught:
        needs.require(settings)
    assert all(need in str(caught.value) for need in found)


@pytest.mark.usefixtures("good_machine")
def test_systemd_brings_its_own_control_groups(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "missing_controllers", lambda: ["memory"])
    monkeypatch.setattr(needs, "systemd_is_running", lambda: True)
    assert needs.missing(settings) == []


def test_require_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs.os, "geteuid", lambda: 0)
    needs.require_root()
    monkeypatch.setattr(needs.os, "geteuid", lambda: 1000)
    with pytest.raises(HostsError, match="sudo"):
        needs.require_root()
