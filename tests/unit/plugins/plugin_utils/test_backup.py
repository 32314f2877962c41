# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a backup on the controller: written, read, encrypted, cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.backup import (
    listing,
    read_backup,
    write_backup,
)

if TYPE_CHECKING:
    from pathlib import Path

FILES = [
    {
        "path": "/etc/vllm/m.env",
        "text": "VLLM_API_KEY=grün\n",
        "mode": 0o640,
        "user": "root",
        "group": "vllm",
    }
]


def test_a_backup_is_for_its_owner_alone_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "backups" / "gpu1.json"
    for files in ([], FILES):
        write_backup(str(path), "gpu1", files)
        assert path.stat().st_mode & 0o777 == 0o600
        backup = read_backup(DataLoader(), str(path))
        assert backup is not None
        assert (backup["host"], backup["files"]) == ("gpu1", files)
    assert [one.name for one in path.parent.iterdir()] == ["gpu1.json"]


def test_an_encrypted_backup_is_read(tmp_path: Path) -> None:
    path = tmp_path / "gpu1.json"
    write_backup(str(path), "gpu1", FILES)
    secrets = [("default", VaultSecret(b"password"))]
    path.write_bytes(VaultLib(secrets).encrypt(path.read_text()))
    loader = DataLoader()
    loader.set_vault_secrets(secrets)
    backup = read_backup(loader, str(path))
    assert backup is not None
    assert backup["files"] == FILES


def test_none(tmp_path: Path) -> None:
    assert read_backup(DataLoader(), str(tmp_path / "none.json")) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"schema": 1, "host": "gpu1", "files": [{"pa',
            "is no backup by vllm_backup: it was cut off",
        ),
        ("[]", "is no backup"),
        ('{"schema": 1, "files": []}', "is no backup"),
        (
            '{"schema": 2, "host": "gpu1", "files": []}',
            "schema 2, and this version of the collection reads 1",
        ),
        ('{"schema": 1, "host": "gpu1", "files": {}}', "is no backup"),
    ],
)
def test_what_is_no_backup_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "gpu1.json"
    path.write_text(text)
    with pytest.raises(AnsibleError, match=said):
        read_backup(DataLoader(), str(path))


def test_a_backup_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AnsibleError, match="the backup cannot be written"):
        write_backup(str(tmp_path / "file" / "gpu1.json"), "gpu1", FILES)


def test_people_see_paths_and_lengths_and_no_secret() -> None:
    assert listing(FILES) == "/etc/vllm/m.env 19\n"
    assert listing(None) == ""
