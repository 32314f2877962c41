# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports of a benchmark: made on the controller, also of one that is worse than its baseline."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.action.vllm_benchmark import ActionModule
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.progress import ProgressAction

if TYPE_CHECKING:
    from pathlib import Path

MEASURED: dict[str, Any] = {
    "instance": "m",
    "release": "0.14.1",
    "measured_at": "2026-11-23T01:00:00+00:00",
    "seconds": 1.0,
    "seed": 1,
    "repeats": 1,
    "served_model_name": "m",
    "model": "/m",
    "accelerator": "cpu",
    "versions": {},
    "config": {},
    "attention_backend": {"planned": None, "engine": None},
    "gpus": [],
    "ceiling": {"reason": "on a CPU"},
    "points": [],
    "skipped": [],
    "comparison": None,
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run the action whose module returns something; gives the result."""

    def one(arguments: dict[str, Any], **returned: Any) -> dict[str, Any]:
        def module(self: Any, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
            assert "reports_dir" not in self._task.args
            return json.loads(json.dumps(returned))  # type: ignore[no-any-return]

        monkeypatch.setattr(ProgressAction, "run", module)
        plugin = ActionModule.__new__(ActionModule)
        plugin._task = SimpleNamespace(args=arguments)
        plugin._loader = SimpleNamespace(path_dwim=lambda path: str(tmp_path / path))
        result: dict[str, Any] = plugin.run(task_vars={"inventory_hostname": "gpu1"})
        return result

    return one


@pytest.mark.parametrize("failed", [False, True])
def test_the_reports_are_on_the_controller_beside_the_playbook(
    tmp_path: Path, run: Any, failed: bool
) -> None:
    instances = [{"name": "m", "measured": MEASURED}]
    result = run({"reports_dir": "reports"}, failed=failed, instances=instances)
    page = tmp_path / "reports" / "gpu1-m.html"
    assert result["instances"] == [{"name": "m", "page": str(page)}]
    assert "measured 2026-11-23T01:00:00+00:00" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text()) == MEASURED


def test_without_a_folder_there_are_none(tmp_path: Path, run: Any) -> None:
    result = run({"reports_dir": ""}, instances=[{"name": "m", "measured": MEASURED}])
    assert result == {"instances": [{"name": "m"}]}
    assert list(tmp_path.iterdir()) == []


def test_check_mode_and_a_task_that_measured_nothing_have_none(tmp_path: Path, run: Any) -> None:
    for returned in ({"instances": [{"name": "m", "lines": []}]}, {"failed": True, "msg": "x"}):
        assert run({"reports_dir": "reports"}, **returned) == returned
    assert list(tmp_path.iterdir()) == []


def test_reports_that_cannot_be_written_fail(tmp_path: Path, run: Any) -> None:
    (tmp_path / "file").write_text("")
    result = run({"reports_dir": "file"}, instances=[{"name": "m", "measured": MEASURED}])
    assert result["failed"] is True
    assert result["msg"].startswith("the reports cannot be written: ")
