# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports of a server that was started, answered wrongly, and was taken back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.action.vllm_rollback import (
    ActionModule as Rollback,
)
from ansible_collections.compute_plane.vllm.plugins.action.vllm_service import (
    ActionModule as Service,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.supervisors import (
    content_name,
    sent_texts,
)
from ansible_collections.compute_plane.vllm.plugins.plugin_utils import progress
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.progress import ProgressAction

CHECK = {
    "name": "capital",
    "check": "question",
    "severity": "error",
    "outcome": "failed",
    "passed": False,
    "detail": "nothing in it matches",
    "question": "The capital of France?",
    "answer": "Berlin",
    "seconds": 0.5,
}
FOUND = {
    "at": "2026-11-23T01:00:00+00:00",
    "seconds": 0.5,
    "model_seconds": 0.5,
    "passed": False,
    "checks": [CHECK],
}
EVIDENCE = {
    "name": "m",
    "url": "http://127.0.0.1:8000",
    "served_model_name": "m",
    "verification": FOUND,
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run an action whose module returns something; gives its result and the module's arguments."""

    def one(action: type, arguments: dict[str, Any], returned: dict[str, Any]) -> tuple[Any, Any]:
        task = SimpleNamespace(args=arguments)

        def module(self: Any, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
            return json.loads(json.dumps(returned))  # type: ignore[no-any-return]

        monkeypatch.setattr(ProgressAction, "run", module)
        plugin = action.__new__(action)
        plugin._task = task
        return plugin.run(task_vars={"inventory_hostname": "gpu1"}), task.args

    return one


@pytest.mark.parametrize("action", [Service, Rollback])
def test_what_was_taken_back_has_reports(tmp_path: Path, run: Any, action: type) -> None:
    (tmp_path / "gpu1.html").write_text("the last that passed")
    returned = {"failed": True, "msg": "wrong", "instances": [{"name": "m", "evidence": EVIDENCE}]}
    result, arguments = run(action, {"reports_dir": str(tmp_path), "release": "r"}, returned)
    assert arguments == {"release": "r"}
    assert result["msg"].splitlines()[1].startswith(f"The reports are {tmp_path}/gpu1.failed.html")
    assert result["instances"] == [{"name": "m"}]
    assert "Berlin" in (tmp_path / "gpu1.failed.html").read_text()
    assert (tmp_path / "gpu1.failed.junit.xml").exists()
    assert (tmp_path / "gpu1.html").read_text() == "the last that passed"


def test_without_a_folder_there_are_no_reports(run: Any) -> None:
    returned = {"failed": True, "msg": "wrong", "instances": [{"name": "m", "evidence": EVIDENCE}]}
    result, _arguments = run(Service, {"reports_dir": ""}, returned)
    assert result == {"failed": True, "msg": "wrong", "instances": [{"name": "m"}]}


def test_what_was_proved_says_nothing_of_reports(tmp_path: Path, run: Any) -> None:
    for returned in ({"changed": True, "instances": [{"name": "m"}]}, {"failed": True, "msg": "x"}):
        result, _arguments = run(Service, {"reports_dir": str(tmp_path)}, returned)
        assert result == returned
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_asks_for_code_is_sent_it_and_asked_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[dict[str, Any]] = []

    def execute(module_name: str, module_args: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        asked.append(module_args)
        if len(asked) == 1:
            return {"failed": True, "needs_code": True}
        if "code_archive" in module_args:
            files = sent_texts(module_args["code_archive"])
            assert content_name(files) == module_args["supervisor"]
        return {"changed": True}

    monkeypatch.setattr(
        progress,
        "ProgressReader",
        lambda *_: SimpleNamespace(start=lambda: None, stop=lambda: None),
    )
    plugin: Any = Service.__new__(Service)
    plugin._connection = SimpleNamespace(
        _shell=SimpleNamespace(tmpdir=str(tmp_path), join_path=os.path.join)
    )
    plugin._execute_module = execute
    plugin._transfer_data = lambda path, data: Path(path).write_bytes(data)
    plugin._fixup_perms2 = lambda paths: None
    variables = {"inventory_hostname": "gpu1"}
    assert plugin.follow("m", {"release": "r"}, variables) == {"changed": True}
    assert len(asked) == 2
    first, second = asked
    assert (first["release"], "code_archive" in first) == ("r", False)
    assert {**first, "code_archive": str(tmp_path / "code.zip")} == second
    # A host that needs none is sent none.
    assert plugin.follow("m", {"release": "r"}, variables) == {"changed": True}
    assert "code_archive" not in asked[-1]
