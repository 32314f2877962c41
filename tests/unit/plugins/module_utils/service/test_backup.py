# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs to a backup, and what restoring one changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.backup import (
    Kept,
    Places,
    decide,
    find,
    read_files,
    text_of,
    write,
)

HOST = Places(
    "/etc/vllm",
    "/var/lib/vllm",
    "/etc/systemd/system",
    ["/etc/proxy", "/srv/notes.txt"],
    ["/srv/hub", "/var/lib/vllm/hub"],
)


@pytest.mark.parametrize(
    ("path", "covered"),
    [
        ("/etc/vllm/m.env", True),
        ("/etc/vllm/m.yaml", False),  # the inventory makes it again
        ("/etc/vllm/m.endpoint.json", False),
        ("/etc/vllm/deep/m.env", False),
        ("/var/lib/vllm/proved/m.json", True),
        ("/var/lib/vllm/benchmarks/m.json", True),
        ("/var/lib/vllm/attention.json", True),
        ("/var/lib/vllm/hub/models--a--b/refs/main", False),
        ("/var/lib/vllm/proved/.m.json.x1", False),  # half a file
        ("/var/lib/vllm-other/proved/m.json", False),
        ("/etc/systemd/system/vllm@m.service.d/50-mine.conf", True),
        ("/etc/systemd/system/vllm@m.service.d/10-compute-plane.conf", False),
        ("/etc/systemd/system/other.service.d/50-mine.conf", False),
        ("/etc/systemd/system/vllm@.service", False),
        ("/etc/proxy/ca/key.pem", True),
        ("/etc/proxy", True),
        ("/etc/proxy2/key.pem", False),
        ("/srv/notes.txt", True),
        ("/srv/hub/x.txt", False),
        ("/var/lib/vllm/../../../etc/shadow", False),
        ("var/lib/vllm/proved/m.json", False),
        ("/etc/shadow", False),
    ],
)
def test_what_belongs_to_a_backup(path: str, covered: bool) -> None:
    assert HOST.covers(path) is covered


def kept(path: str = "/etc/vllm/m.env", text: str = "A=1\n") -> Kept:
    return Kept(path, text, 0o640, "root", "vllm")


@pytest.mark.parametrize(
    ("present", "overwrite", "written", "differing"),
    [
        (None, False, True, []),
        ("A=1\n", False, False, []),
        ("A=1\n", True, False, []),
        ("A=2\n", False, False, ["/etc/vllm/m.env"]),
        ("A=2\n", True, True, []),
        ("", False, False, ["/etc/vllm/m.env"]),
    ],
)
def test_what_is_written(
    present: str | None, overwrite: bool, written: bool, differing: list[str]
) -> None:
    decision = decide([kept()], {"/etc/vllm/m.env": present}, overwrite)
    assert (decision.write, decision.differing) == ([kept()] if written else [], differing)


def test_everything_that_is_wrong_with_a_backup_is_told_at_once() -> None:
    entries = [
        kept()._asdict(),
        kept("/etc/shadow")._asdict(),
        kept("/var/lib/vllm/../x")._asdict(),
        {"path": "/etc/vllm/n.env"},
        "no file",
    ]
    with pytest.raises(Failed) as problem:
        read_files(entries, HOST)
    lines = str(problem.value).splitlines()
    words = ["nothing was restored", "/etc/shadow", "/../x", "n.env", "no file"]
    assert [word in line for word, line in zip(words, lines, strict=True)] == [True] * 5
    assert "vllm_backup_paths" in lines[1]
    assert read_files(entries[:1], HOST) == [kept()]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A host with one of each."""
    for path, text in {
        "etc/m.env": "VLLM_API_KEY=k\n",
        "etc/m.yaml": "port: 8000\n",
        "state/proved/m.json": "{}",
        "state/hub/models--a--b/blob": "x" * 100,
        "units/vllm@m.service.d/50-mine.conf": "[Service]\nNice=5\n",
        "units/vllm@m.service.d/10-compute-plane.conf": "[Service]\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "etc/m.env").chmod(0o640)
    (tmp_path / "state/link.json").symlink_to("/etc/passwd")
    folders = (str(tmp_path / name) for name in ("etc", "state", "units"))
    return Places(*folders, [], [str(tmp_path / "state/hub")])  # type: ignore[call-arg]


def test_a_host_is_lost_and_has_again_what_was_kept(places: Places, tmp_path: Path) -> None:
    found = find(places)
    assert [os.path.relpath(one.path, tmp_path) for one in found] == [
        "etc/m.env",
        "state/proved/m.json",
        "units/vllm@m.service.d/50-mine.conf",
    ]
    for one in found:
        Path(one.path).unlink()
    for one in decide(found, {one.path: text_of(one.path) for one in found}, False).write:
        write(one)
    assert find(places) == found


def test_a_file_of_someone_whom_the_host_does_not_know_is_for_root_alone(
    places: Places, tmp_path: Path
) -> None:
    path = tmp_path / "etc/n.env"
    write(Kept(str(path), "B=2\n", 0o4640, "root", "no-such-group"))
    status = path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, 0, 0o600)


def test_what_is_no_small_text_is_refused(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state/a.bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Failed, match=r"a\.bin: is no text"):
        find(places)
    (tmp_path / "state/a.bin").unlink()
    monkeypatch.setattr(f"{find.__module__}.LARGEST", 15)
    with pytest.raises(Failed, match=r"m\.json: more than 0 MiB"):
        find(places)
