# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a host is sent what tells why a server ended."""

from __future__ import annotations

import zipfile
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.compute_plane.vllm.plugins.action.vllm_status import ActionModule

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_host_is_sent_causes_only_where_a_server_has_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_ended: bool
) -> None:
    asked: list[dict[str, Any]] = []

    def execute(module_name: str, module_args: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        asked.append(module_args)
        if has_ended and "code_archive" not in module_args:
            return {"failed": True, "msg": "why", "needs_code": True}
        return {"changed": False, "instances": []}

    def make() -> None:
        plugin._connection._shell.tmpdir = str(tmp_path)

    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    plugin: Any = ActionModule.__new__(ActionModule)
    plugin._task = SimpleNamespace(args={"lines": 5})
    shell = SimpleNamespace(tmpdir=None, join_path=lambda *parts: "/".join(parts))
    plugin._connection = SimpleNamespace(_shell=shell)
    plugin._execute_module = execute
    plugin._make_tmp_path = make
    plugin._transfer_data = lambda path, data: (tmp_path / "code.zip").write_bytes(data)
    plugin._fixup_perms2 = lambda paths: None
    assert plugin.run(task_vars={}) == {"changed": False, "instances": []}
    sent = str(tmp_path / "code.zip")
    again = [{"lines": 5, "code_archive": sent}] if has_ended else []
    assert asked == [{"lines": 5}, *again]
    if has_ended:
        assert "supervisor/causes.py" in zipfile.ZipFile(sent).namelist()
