# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from throwaway import images
from throwaway.common import HostsError, Settings

if TYPE_CHECKING:
    from pathlib import Path

TARGETS = """\
Debian https://mirror.example/debian/
Debian https://mirror.example/debian/
Debian-Security https://mirror.example/debian-security/
Other https://other.example/apt/
"""


def test_sources_follow_the_machines_mirror_for_any_suite() -> None:
    keyring = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    assert images.sources_lines(TARGETS, "trixie") == [
        f"deb {keyring} https://mirror.example/debian/ trixie main",
        f"deb {keyring} https://mirror.example/debian/ trixie-updates main",
        f"deb {keyring} https://mirror.example/debian-security/ trixie-security main",
    ]


@pytest.mark.parametrize(
    "targets",
    [
        "",
        "Ubuntu https://mirror.example/ubuntu/\n",
        "Debian https://mirror.example/debian/\n",  # no security updates: leave it to the default
        "Debian cdrom://disc/\nDebian-Security file:/srv/mirror/\n",
    ],
)
def test_sources_are_mmdebstraps_default_elsewhere(targets: str) -> None:
    assert images.sources_lines(targets, "bookworm") == []


def test_an_images_name_changes_with_what_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    base = images.digest(images.recipe("bookworm", None))
    assert images.digest(images.recipe("bookworm", None)) == base
    assert images.digest(images.recipe("trixie", None)) != base
    assert images.digest(images.recipe("bookworm", "https://mirror.example/debian")) != base
    monkeypatch.setattr(images, "PACKAGES", (*images.PACKAGES, "more"))
    more = images.digest(images.recipe("bookworm", None))
    assert more != base
    monkeypatch.setattr(images.carryover, "bundle_digest", lambda: "another authority")
    assert images.digest(images.recipe("bookworm", None)) != more


def test_no_such_suite() -> None:
    with pytest.raises(HostsError, match="choose from bookworm, trixie"):
        images.recipe("sid", None)


def test_what_roles_install_is_not_in_the_image() -> None:
    assert not {"python3-venv", "python3-pip", "gcc", "build-essential"} & set(images.PACKAGES)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"HOME": str(tmp_path), "TESTHOSTS_STATE": str(tmp_path)})


def test_a_failed_build_leaves_nothing_and_the_next_one_works(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(settings: Settings, suite: str, part: Path) -> None:
        (part / "rootfs").mkdir()
        raise HostsError("no network")

    def work(settings: Settings, suite: str, part: Path) -> None:
        (part / "rootfs").mkdir()

    monkeypatch.setattr(images, "_build", fail)
    with pytest.raises(HostsError, match="no network"):
        images.ensure(settings, "bookworm")
    assert [path.name for path in settings.images.iterdir()] == [".locks"]

    # What a build that was killed leaves is removed by the next.
    (settings.images / ".bookworm-killed").mkdir()
    monkeypatch.setattr(images, "_build", work)
    image, built = images.ensure(settings, "bookworm")
    assert built
    assert images.is_built(image)
    assert stat.S_IMODE(image.stat().st_mode) == 0o755
    assert sorted(path.name for path in settings.images.iterdir()) == [".locks", image.name]
    assert images.ensure(settings, "bookworm") == (image, False)
    assert "interrupted" in capsys.readouterr().err

    assert images.remove_all(settings) == [str(image)]
    assert [path.name for path in settings.images.iterdir()] == [".locks"]


def test_disk_is_checked_before_a_build(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        images.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100 << 20})
    )
    with pytest.raises(HostsError, match="has 100 MiB free"):
        images.ensure(settings, "bookworm")
