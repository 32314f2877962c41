# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from throwaway import common
from throwaway.common import HostsError, Settings


def test_settings_defaults() -> None:
    settings = Settings.from_environment({"HOME": "/home/u"})
    assert settings.images == Path("/home/u/.cache/compute_plane.vllm/images")
    assert settings.state == Path("/var/lib/compute_plane.vllm/hosts")
    assert settings.ident == "testhosts0"
    assert (settings.subnet, settings.mirror, settings.dns) == (None, None, ())


def test_settings_from_environment() -> None:
    settings = Settings.from_environment(
        {
            "HOME": "/home/u",
            "XDG_CACHE_HOME": "/big",
            "TESTHOSTS_STATE": "/big/hosts",
            "TESTHOSTS_SUBNET": "10.9.0.0/24",
            "TESTHOSTS_DNS": "192.0.2.1, 192.0.2.2",
            "TESTHOSTS_ENVIRONMENT": "A=1 B=2",
        }
    )
    assert settings.images == Path("/big/compute_plane.vllm/images")
    assert settings.key == Path("/big/hosts/.ssh/id_ed25519")
    assert settings.subnet == "10.9.0.0/24"
    assert settings.dns == ("192.0.2.1", "192.0.2.2")
    assert settings.environment == "A=1 B=2"


def test_each_state_directory_has_an_ident_that_fits_an_interface() -> None:
    idents = {
        Settings.from_environment({"TESTHOSTS_STATE": path}).ident
        for path in ("", "/a", "/b", "/var/lib/compute_plane.vllm/other")
    }
    assert len(idents) == 4
    assert all(len(ident) <= 15 for ident in idents)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5", 5),
        ("4K", 4096),
        ("512M", 512 << 20),
        ("2g", 2 << 30),
        ("1T", 1 << 40),
        ("2GiB", 2 << 30),
    ],
)
def test_parse_size(text: str, size: int) -> None:
    assert common.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5G", "G", "2X", "1 G", "0x10"])
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(HostsError, match="is not a size"):
        common.parse_size(text)


MOUNTINFO = r"""
25 1 254:0 / / rw,relatime - ext4 /dev/vda rw
41 25 0:33 / /state/a/root rw,relatime shared:5 - overlay testhosts0-a rw,lowerdir=/i/rootfs
42 41 0:34 / /state/a/root/run rw - tmpfs tmpfs rw
43 25 0:35 / /state/ab/root rw - overlay testhosts0-ab rw
44 25 0:36 / /state/a\040b rw - tmpfs tmpfs rw
""".lstrip()


@pytest.mark.parametrize(
    ("directory", "found"),
    [
        ("/state/a", ["/state/a/root/run", "/state/a/root"]),
        ("/state/a b", ["/state/a b"]),
        ("/state/none", []),
    ],
)
def test_mounts_below(directory: str, found: list[str]) -> None:
    assert common.mounts_below(Path(directory), MOUNTINFO) == [Path(path) for path in found]


def test_run_tells_what_failed() -> None:
    with pytest.raises(HostsError, match=r"`sh -c .*` failed with status 3: no such luck"):
        common.run(["sh", "-c", "echo no such luck >&2; exit 3"])


def test_run_tells_what_is_not_installed() -> None:
    with pytest.raises(HostsError, match="no-such-program is not installed"):
        common.run(["no-such-program"])


def test_run_is_bounded() -> None:
    with pytest.raises(HostsError, match="took more than"):
        common.run(["sleep", "5"], timeout=0.1)


def test_json_survives_a_torn_file(tmp_path: Path) -> None:
    file = tmp_path / "host.json"
    assert common.read_json(file) is None
    common.write_json(file, {"ip": "10.77.0.11"})
    assert common.read_json(file) == {"ip": "10.77.0.11"}
    file.write_text('{"ip": "10.7')
    assert common.read_json(file) is None
    assert [path.name for path in tmp_path.iterdir()] == ["host.json"]
