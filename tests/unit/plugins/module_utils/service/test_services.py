# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of the proof of a server that was started, and what its failure says."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from endpoints.scripted import LENGTH, MODEL, ScriptedServer, chat, serving

from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import (
    Common,
    Deployment,
    deployment,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.services import (
    Services,
    StartFailed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="what is kept belongs to root")


class Module:
    """As much of AnsibleModule as a proof needs."""

    def __init__(self, directory: Path) -> None:
        self.warnings: list[str] = []
        self.params: dict[str, Any] = {
            "suite": ["health", "chinese", "multi_turn"],
            "questions": [{"name": "capital", "prompt": "The capital?", "expect": "Paris"}],
            "ability": "warning",
            "etc_dir": str(directory / "etc"),
            "state_dir": str(directory / "state"),
            "tools_path": sys.prefix,
            "answer_timeout": 5,
            "progress": None,
        }

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serving() as one:
        yield one


def wanted(server: ScriptedServer) -> Deployment:
    instance = {
        "name": "m",
        "venv": "/opt/vllm/releases/r",
        "config": {"model": "/srv/m", "max-model-len": LENGTH},
        "environment": {},
        "url": server.url,
        "served_model_name": MODEL,
    }
    return deployment(instance, Common("0.14.1", "[Unit]\n", "/opt/vllm/supervisor/0"), [])


def test_the_evidence_of_a_failed_proof_is_kept_until_one_passes(
    tmp_path: Path, server: ScriptedServer
) -> None:
    module = Module(tmp_path)
    services = Services(module)  # type: ignore[arg-type]
    services.results["m"] = {"name": "m"}
    services.prove(wanted(server))
    verified, failed = (tmp_path / "state" / kind / "m.json" for kind in ("verified", "failed"))
    good = verified.read_text()
    assert not failed.exists()

    server.script["question"] = chat("It is Berlin.")
    server.script["turn 2"] = chat("70")
    with pytest.raises(StartFailed) as raised:
        services.prove(wanted(server))
    said = str(raised.value).splitlines()
    assert said[0].startswith("vllm@m.service answers, but not truly: capital: ")
    assert said[1] == f"All questions and answers are in {failed} on the host."
    assert any(line.startswith("m: multi_turn: ") for line in module.warnings)
    answers = {c["name"]: c["answer"] for c in json.loads(failed.read_text())["checks"]}
    assert answers["capital"] == "It is Berlin."
    assert verified.read_text() == good
    evidence = services.results["m"]["evidence"]
    assert (evidence["url"], evidence["verification"]["passed"]) == (server.url, False)

    server.script["question"] = chat("It is Paris.")
    services.prove(wanted(server))
    assert not failed.exists()


@pytest.mark.parametrize(
    ("causes", "tried"),
    [
        # The next backend may do without what the first one lacks.
        (["import_failed", "no_nvcc"], ["A", "B"]),
        ([None, "engine_failed"], ["A", "B"]),
        (["port_in_use"], ["A"]),
        (["gpu_out_of_memory", "bad_model_path"], ["A", "B"]),
    ],
)
def test_a_trial_goes_on_as_long_as_another_backend_can_help(
    tmp_path: Path,
    server: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    causes: list[str | None],
    tried: list[str],
) -> None:
    services = Services(Module(tmp_path))  # type: ignore[arg-type]
    failures = iter(causes)
    said: list[str] = []

    def fails(_: Deployment) -> float:
        raise StartFailed("it crashed\nlong story", next(failures))

    def goes_back(_: Deployment, __: object, failure: str) -> str:
        said.extend(failure.splitlines())
        return ""

    monkeypatch.setattr(services, "unit_file", lambda unit: None)
    monkeypatch.setattr(services, "files", lambda deployment: [])
    monkeypatch.setattr(services, "write", lambda files: None)
    monkeypatch.setattr(services, "restart", fails)
    monkeypatch.setattr(services, "go_back", goes_back)
    one = wanted(server)
    services.change(one, dict.fromkeys("AB", one))
    assert [line.partition(":")[0] for line in said[1:-2]] == tried
    assert said[-2:] == ["it crashed", "long story"]
