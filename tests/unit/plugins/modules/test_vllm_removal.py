# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vllm_removal as Ansible runs it, on directories of the test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ansible_collections.compute_plane.vllm.plugins.module_utils.service.removal import Decision
from ansible_collections.compute_plane.vllm.plugins.modules import vllm_removal
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_args import (
    asked_for,
    patch_module_args,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host below a directory; a configuration of it names a template."""
    for path in (
        "etc/vllm/one.yaml",
        "etc/vllm/one.env",
        "var/lib/vllm/proved/x",
        "var/lib/vllm/m",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"chat-template: {tmp_path}/var/lib/vllm/proved/x\n")

    def rooted(hub: str, models: bool, keep: Any, mounts: Any) -> Decision:
        return Decision(hub, models, keep, mounts, str(tmp_path))

    named = vllm_removal.named_on_host
    monkeypatch.setattr(vllm_removal, "Decision", rooted)
    monkeypatch.setattr(vllm_removal, "named_on_host", lambda: named(f"{tmp_path}/etc/vllm"))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], **params: Any) -> dict[str, Any]:
    with patch_module_args(params), pytest.raises(SystemExit):
        vllm_removal.main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_what_a_check_says_is_what_is_done(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(capsys, _ansible_check_mode=True)
    assert (host / "etc/vllm/one.env").exists()
    done = run(capsys)
    assert done["removed"] == said["removed"] == [f"{host}/etc/vllm"]
    assert done["kept"][f"{host}/var/lib/vllm/m"] == "not made by this collection"
    assert done["kept"][f"{host}/var/lib/vllm/proved/x"] == f"named in {host}/etc/vllm/one.yaml"
    assert not (host / "etc/vllm").exists()
    assert (host / "var/lib/vllm/m").exists()


def test_what_cannot_be_removed_is_named(
    host: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(path: str) -> None:
        raise OSError(16, "Device or resource busy", path)

    monkeypatch.setattr(vllm_removal, "remove", busy)
    answer = run(capsys)
    assert answer["failed"]
    assert answer["msg"].startswith(f"{host}/etc/vllm: Device or resource busy")


def test_the_documentation_is_that_of_the_arguments() -> None:
    seen = asked_for(vllm_removal)["argument_spec"]
    documented = yaml.safe_load(vllm_removal.DOCUMENTATION)["options"]
    assert set(documented) == set(seen)
    for name, option in documented.items():
        for key in ("default", "type", "elements"):
            assert option.get(key) == seen[name].get(key), (name, key)
