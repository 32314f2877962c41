# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is printed and reported of a verification."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.compute_plane.vllm.plugins.action.vllm_verify import (
    ActionModule,
    summary,
)

if TYPE_CHECKING:
    from pathlib import Path


def check(name: str, passed: bool) -> dict[str, Any]:
    return {
        "name": name,
        "severity": "error",
        "outcome": "passed" if passed else "failed",
        "passed": passed,
        "detail": "Paris.",
        "question": "",
        "answer": "a very long one",
        "seconds": 0.1,
    }


def returned(passed: bool, listen_host: str = "127.0.0.1") -> dict[str, Any]:
    """What the module returns of a run of the whole suite."""
    checks = [check("health", True), check("capital", passed)]
    found = {"at": "2026-11-23", "seconds": 1.0, "model_seconds": 0.9, "passed": passed}
    endpoint = {
        "name": "m",
        "url": "http://127.0.0.1:8000",
        "served_model_name": "m",
        "full": True,
        "passed": passed,
        "checks": checks,
        "verification": {**found, "checks": checks},
        "record": {"instance": "m", "url": "http://127.0.0.1:8000", "listen_host": listen_host},
    }
    result: dict[str, Any] = {"changed": False, "endpoints": [endpoint]}
    return result if passed else {**result, "failed": True, "msg": "m: capital: no"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def one(given: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        monkeypatch.setattr(ActionBase, "run", lambda *_, **__: {})
        plugin = ActionModule.__new__(ActionModule)
        plugin._play_context = SimpleNamespace(remote_addr="192.0.2.7")
        plugin._task = SimpleNamespace(args={"endpoints": [{"name": "m"}], **arguments})
        plugin.follow = lambda *_: copy.deepcopy(given)  # type: ignore[method-assign]
        return plugin.run(task_vars={"inventory_hostname": "gpu1"})

    return one


def test_what_passed_is_returned_whole(tmp_path: Path, run: Any) -> None:
    line = "http://127.0.0.1:8000 serves m, verified: health, capital. It says: Paris."
    assert run(returned(True), reports_dir=str(tmp_path)) == {**returned(True), "summary": [line]}
    assert (tmp_path / "gpu1.html").exists()


def test_one_that_listens_on_all_addresses_is_named_by_the_hosts(run: Any) -> None:
    (line,) = run(returned(True, "0.0.0.0"))["summary"]
    assert line.startswith("http://192.0.2.7:8000 serves m, verified: ")


def test_of_what_failed_the_failed_checks_are_printed_and_all_of_it_is_reported(
    tmp_path: Path, run: Any
) -> None:
    result = run(returned(False), reports_dir=str(tmp_path))
    (endpoint,) = result["endpoints"]
    assert [one["name"] for one in endpoint["checks"]] == ["capital"]
    assert "verification" not in endpoint
    assert result["msg"].splitlines()[1].startswith(f"The reports are {tmp_path}/gpu1.failed.html")
    assert "health" in (tmp_path / "gpu1.failed.html").read_text()


def test_a_module_that_ended_before_it_asked_has_no_reports(tmp_path: Path, run: Any) -> None:
    ended = {"failed": True, "msg": "suite[0]: wrong"}
    assert run(ended, reports_dir=str(tmp_path)) == ended
    assert list(tmp_path.iterdir()) == []


def test_what_another_task_has_just_verified_is_not_asked_again(tmp_path: Path, run: Any) -> None:
    (endpoint,) = returned(True)["endpoints"]
    verified = [{**endpoint, "name": "other"}, endpoint]
    asked = {"changed": False, "endpoints": [], "summary": [], "msg": "the module ran"}
    found = {
        "changed": False,
        "endpoints": [endpoint],
        "summary": summary([endpoint], "192.0.2.7"),
        "diff": [],
    }
    assert run(asked, verified=verified, mode="auto") == found
    for arguments in (
        {"verified": verified, "mode": "full"},
        {"verified": verified, "reports_dir": str(tmp_path)},
        {"verified": verified[:1]},
        {"verified": []},
        {},
    ):
        assert run(asked, **arguments) == asked, arguments


def test_the_line_of_an_endpoint_says_what_was_verified_and_what_is_a_warning() -> None:
    (endpoint,) = returned(False)["endpoints"]
    (line,) = summary([endpoint], "192.0.2.7")
    assert line.endswith("verified: health. Not passed (warnings): capital. It says: Paris.")
    assert summary([{**endpoint, "checks": []}], None)[0].endswith(
        "(warnings): capital. It is asleep."
    )
    foreign = {**endpoint, "record": None, "served_model_name": "llama"}
    assert summary([foreign], None)[0].startswith(
        "http://127.0.0.1:8000 serves llama, verified: health."
    )
