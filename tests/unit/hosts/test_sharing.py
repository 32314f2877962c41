# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest
from throwaway import sharing
from throwaway.common import HostsError
from throwaway.sharing import Tally

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def layers(tmp_path: Path) -> tuple[Path, Path]:
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    upper.mkdir()
    (lower / "usr" / "lib").mkdir(parents=True)
    (lower / "lib").symlink_to("usr/lib")
    (lower / "root").mkdir(mode=0o700)
    (lower / "file").write_text("x")
    return upper, lower


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    cache = tmp_path / "cache"
    (cache / "deep").mkdir(parents=True)
    (cache / "deep").chmod(0o750)
    (cache / "deep" / "file").write_text("old")
    (cache / "link").symlink_to("deep")
    return cache


def test_seed_links_and_keeps_modes(layers: tuple[Path, Path], cache: Path) -> None:
    upper, lower = layers
    assert sharing.seed(upper, lower, cache, "/opt/cache") == Tally(linked=2)
    assert (upper / "opt/cache/deep/file").samefile(cache / "deep/file")
    assert stat.S_IMODE((upper / "opt/cache/deep").stat().st_mode) == 0o750
    assert os.readlink(upper / "opt/cache/link") == "deep"


def test_seed_of_an_absent_directory_makes_an_empty_one(
    layers: tuple[Path, Path], tmp_path: Path
) -> None:
    upper, lower = layers
    assert sharing.seed(upper, lower, tmp_path / "absent", "/opt/cache") == Tally()
    assert list((upper / "opt/cache").iterdir()) == []


def test_seed_copies_across_file_systems_and_says_so(
    layers: tuple[Path, Path],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    upper, lower = layers
    assert sharing.seed(upper, lower, cache, "/opt/cache") == Tally(copied=2)
    assert (upper / "opt/cache/deep/file").read_text() == "old"
    assert os.readlink(upper / "opt/cache/link") == "deep"
    assert "another file system" in capsys.readouterr().err


def test_a_directory_of_the_image_keeps_its_mode(layers: tuple[Path, Path]) -> None:
    upper, lower = layers
    sharing.make_directories(upper, lower, sharing.check_target("/root/new/deep"))
    assert stat.S_IMODE((upper / "root").stat().st_mode) == 0o700
    assert stat.S_IMODE((upper / "root/new").stat().st_mode) == 0o755


@pytest.mark.parametrize("target", ["/lib/cache", "/file/cache"])
def test_a_target_through_a_link_or_file_is_refused(layers: tuple[Path, Path], target: str) -> None:
    with pytest.raises(HostsError, match="is not a directory in the image"):
        sharing.make_directories(*layers, sharing.check_target(target))


@pytest.mark.parametrize("target", ["opt", "/", "", "/opt/../etc"])
def test_a_bad_target_is_refused(target: str) -> None:
    with pytest.raises(HostsError, match="is not an absolute path inside a host"):
        sharing.check_target(target)


def test_harvest_takes_what_is_new_and_nothing_else(
    layers: tuple[Path, Path], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upper, lower = layers
    sharing.seed(upper, lower, cache, "/opt/cache")
    guest = upper / "opt/cache"
    (guest / "deep" / "new").write_text("new")
    (guest / "tree" / "inner").mkdir(parents=True)
    (guest / "tree" / "inner" / "file").write_text("tree")
    (guest / "tree").chmod(0o700)
    (guest / "pointer").symlink_to("tree/inner")
    # Replaced in the guest: another inode. The machine keeps its own.
    (guest / "deep" / "file").unlink()
    (guest / "deep" / "file").write_text("changed")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(guest)  # a socket's path may have 107 characters
        listener.bind("socket")

    assert sharing.harvest(upper, "/opt/cache", cache, "gpu1") == Tally(copied=3)
    # Copies: what the guest writes from now on stays its own.
    for path in ("deep/new", "tree/inner/file"):
        assert (cache / path).read_bytes() == (guest / path).read_bytes()
        assert not (cache / path).samefile(guest / path)
    assert stat.S_IMODE((cache / "tree").stat().st_mode) == 0o700
    assert (cache / "deep/file").read_text() == "old"
    assert sorted(path.name for path in cache.iterdir()) == ["deep", "link", "pointer", "tree"]
    assert sharing.harvest(upper, "/opt/cache", cache, "gpu1") == Tally()

    # And into a directory that is not there yet.
    other = tmp_path / "other" / "cache"
    assert sharing.harvest(upper, "/opt/cache", other, "gpu1").copied == 5


def test_harvest_makes_directories_appear_whole(
    layers: tuple[Path, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upper, lower = layers
    sharing.seed(upper, lower, cache, "/opt/cache")
    tree = upper / "opt/cache/tree"
    tree.mkdir()
    for name in ("a", "b"):
        (tree / name).write_text(name)
    copy = sharing.copy

    def interrupted(source: str, target: Path) -> Tally:
        if source.endswith("/b"):
            raise KeyboardInterrupt
        return copy(source, target)

    monkeypatch.setattr(sharing, "copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sharing.harvest(upper, "/opt/cache", cache, "gpu1")
    assert sorted(path.name for path in cache.iterdir()) == ["deep", "link"]


def test_what_a_killed_harvest_left_is_removed_and_never_shared(
    layers: tuple[Path, Path], cache: Path
) -> None:
    upper, lower = layers
    (cache / ".harvest-gpu1" / "half").mkdir(parents=True)
    sharing.seed(upper, lower, cache, "/opt/cache")
    assert sorted(path.name for path in (upper / "opt/cache").iterdir()) == ["deep", "link"]
    sharing.harvest(upper, "/opt/cache", cache, "gpu1")
    assert sorted(path.name for path in cache.iterdir()) == ["deep", "link"]


def test_harvest_of_nothing_is_an_error(layers: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(HostsError, match="has no directory /opt/cache"):
        sharing.harvest(layers[0], "/opt/cache", tmp_path / "cache", "gpu1")
