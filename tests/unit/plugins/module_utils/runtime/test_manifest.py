# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime import (
    manifest as venv_manifest,
)

if TYPE_CHECKING:
    from pathlib import Path

SITE = "lib/python3.11/site-packages"


def write(venv: Path, path: str, content: bytes) -> None:
    (venv / path).parent.mkdir(parents=True, exist_ok=True)
    (venv / path).write_bytes(content)


def install(venv: Path, name: str, files: dict[str, bytes]) -> None:
    record = f"{name}-1.0.dist-info/RECORD,,\n"
    for path, content in files.items():
        write(venv / SITE, path, content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(content)}\n"
    write(venv, f"{SITE}/{name}-1.0.dist-info/RECORD", record.encode())


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    install(tmp_path, "big_lib", {"big/a.so": b"aaaa", "big/b.so": b"bbbb", "same.py": b"1"})
    install(tmp_path, "other", {"other.py": b"other", "../../../bin/other": b"#!"})
    write(tmp_path, "pyvenv.cfg", b"home = /usr/bin")
    write(tmp_path, ".proved.json", b"{}")
    write(tmp_path, ".pycache/usr/x.pyc", b"x")
    write(tmp_path, f"{SITE}/big/__pycache__/a.pyc", b"x")
    (tmp_path / "lib64").symlink_to("lib")
    return tmp_path


def made(venv: Path) -> dict[str, venv_manifest.Entry]:
    return venv_manifest.make(str(venv), venv_manifest.scan(str(venv)))


def compared(
    venv: Path, entries: dict[str, venv_manifest.Entry], full: bool = False
) -> tuple[venv_manifest.Damage, list[str]]:
    return venv_manifest.compare(str(venv), entries, venv_manifest.scan(str(venv)), full)


def test_every_file_but_bytecode_and_records_of_the_venv_is_in_it(venv: Path) -> None:
    assert {path: entry.package for path, entry in made(venv).items()} == {
        "bin/other": "other",
        "lib64": "",
        "pyvenv.cfg": "",
        f"{SITE}/big/a.so": "big-lib",
        f"{SITE}/big/b.so": "big-lib",
        f"{SITE}/same.py": "big-lib",
        f"{SITE}/other.py": "other",
        f"{SITE}/big_lib-1.0.dist-info/RECORD": "big-lib",
        f"{SITE}/other-1.0.dist-info/RECORD": "other",
    }


def test_hashes_are_those_of_the_files(venv: Path) -> None:
    entries = made(venv)
    assert entries[f"{SITE}/big/a.so"].sha256 == hashlib.sha256(b"aaaa").hexdigest()
    assert entries["pyvenv.cfg"].sha256 == hashlib.sha256(b"home = /usr/bin").hexdigest()
    assert entries["lib64"].sha256 == hashlib.sha256(b"lib").hexdigest()


def test_what_is_written_is_what_is_read(venv: Path) -> None:
    write(venv, os.fsdecode(b'odd \xff"\n\t'), b"odd")
    entries = made(venv)
    assert venv_manifest.parse(venv_manifest.render(entries)) == entries


def test_an_undamaged_venv(venv: Path) -> None:
    for full in (False, True):
        assert compared(venv, made(venv), full) == (venv_manifest.Damage([], [], []), [])


def test_damage_of_every_kind(venv: Path) -> None:
    entries = made(venv)
    write(venv, f"{SITE}/big/a.so", b"aaax")
    (venv / SITE / "other.py").unlink()
    write(venv, f"{SITE}/sitecustomize.py", b"evil")
    (venv / "lib64").unlink()
    (venv / "lib64").symlink_to("liv")
    damage, touched = compared(venv, entries)
    assert damage == venv_manifest.Damage(
        [f"{SITE}/other.py"], [f"{SITE}/big/a.so", "lib64"], [f"{SITE}/sitecustomize.py"]
    )
    assert touched == []
    assert damage.text() == (
        f"missing: {SITE}/other.py; altered: {SITE}/big/a.so, lib64; added: {SITE}/sitecustomize.py"
    )
    paths = [*damage.missing, *damage.altered]
    assert venv_manifest.packages_of(entries, paths) == ["big-lib", "other"]


def test_another_time_alone_is_no_damage(venv: Path) -> None:
    entries = made(venv)
    os.utime(venv / SITE / "other.py", ns=(1, 1))
    assert compared(venv, entries) == (venv_manifest.Damage([], [], []), [f"{SITE}/other.py"])


def test_only_reading_everything_sees_a_change_that_keeps_size_and_time(venv: Path) -> None:
    entries = made(venv)
    path = venv / SITE / "big/b.so"
    before = path.stat().st_mtime_ns
    path.write_bytes(b"bbbx")
    os.utime(path, ns=(before, before))
    assert not compared(venv, entries)[0]
    assert compared(venv, entries, full=True)[0].altered == [f"{SITE}/big/b.so"]


def test_a_new_manifest_holds_what_the_wheels_say_not_what_came_from_a_damaged_cache(
    venv: Path,
) -> None:
    write(venv, f"{SITE}/big/a.so", b"longer than before")
    (venv / SITE / "big/b.so").unlink()
    damage, _ = compared(venv, made(venv))
    assert damage == venv_manifest.Damage([f"{SITE}/big/b.so"], [f"{SITE}/big/a.so"], [])


@pytest.mark.parametrize("content", [b"222", b"2"])
def test_a_file_that_two_packages_bring_is_the_later_ones(venv: Path, content: bytes) -> None:
    install(venv, "later", {"same.py": content})
    entries = made(venv)
    assert entries[f"{SITE}/same.py"].package == "later"
    assert not compared(venv, entries, full=True)[0]


def test_a_record_that_cannot_be_read_hides_nothing_of_the_others(venv: Path) -> None:
    write(venv, f"{SITE}/other-1.0.dist-info/RECORD", b'\xff\x00,"')
    assert made(venv)[f"{SITE}/big/a.so"].package == "big-lib"


def test_many_files_are_counted(venv: Path) -> None:
    damage = venv_manifest.Damage([f"f{n}" for n in range(8)], [], [])
    assert damage.text() == "missing: f0, f1, f2, f3, f4 and 3 more"


def test_in_doubt_a_file_newer_than_its_package_is_read(venv: Path) -> None:
    path = f"{SITE}/big/a.so"
    install(venv, "big_lib", {"big/a.so": b"aaaa", "big_lib-1.0.dist-info/METADATA": b"m"})
    assert not compared(venv, made(venv))[0]
    write(venv, path, b"aaaX")
    later = os.stat(venv / path).st_mtime_ns + 10**9
    os.utime(venv / path, ns=(later, later))
    assert not compared(venv, made(venv))[0]
    found = venv_manifest.scan(str(venv))
    doubted = venv_manifest.make(str(venv), found, doubt=True)
    assert compared(venv, doubted)[0].altered == [path]


def test_in_doubt_a_record_that_does_not_name_its_own_package_is_damaged(venv: Path) -> None:
    write(venv, f"{SITE}/other-1.0.dist-info/METADATA", b"m")
    found = venv_manifest.scan(str(venv))
    doubted = venv_manifest.make(str(venv), found, doubt=True)
    assert compared(venv, doubted)[0].altered == [f"{SITE}/other-1.0.dist-info/RECORD"]
    assert not compared(venv, made(venv))[0]
