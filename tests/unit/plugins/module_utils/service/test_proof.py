# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of the proof of a server, and what its failure says."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from endpoints.scripted import LENGTH, MODEL, ScriptedServer, chat, serving

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.openai_client import (
    Endpoint,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.failures import (
    StartFailed,
    TaskFailed,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.proof import Prover

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible_collections.compute_plane.vllm.plugins.module_utils.deploy.deployment import (
        Deployment,
    )

    from .conftest import Host

PARAMS: dict[str, Any] = {
    "suite": ["health", "chinese", "multi_turn"],
    "questions": [{"name": "capital", "prompt": "The capital?", "expect": "Paris"}],
    "ability": "warning",
    "thinking_tokens": 4096,
    "thinking_seconds": 300,
    "tools_path": sys.prefix,
    "answer_timeout": 5,
}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serving() as one:
        yield one


def wanted(host: Host, server: ScriptedServer) -> Deployment:
    return host.deployment(LENGTH, url=server.url, served_model_name=MODEL)


def test_the_evidence_of_a_failed_proof_is_kept_until_one_passes(
    tmp_path: Path, host: Host, server: ScriptedServer
) -> None:
    warnings: list[str] = []
    one = wanted(host, server)
    prover = Prover(host.installed, PARAMS, Progress(None), warnings.append)
    prover.prove(one)
    verified, failed = (tmp_path / "state_dir" / kind / "m.json" for kind in ("verified", "failed"))
    good = verified.read_text()
    assert not failed.exists()

    server.script["question"] = chat("It is Berlin.")
    server.script["turn 2"] = chat("70")
    with pytest.raises(StartFailed) as raised:
        prover.prove(one)
    said = str(raised.value).splitlines()
    assert said[0].startswith("vllm@m.service answers, but not truly: capital: ")
    assert said[1] == f"All questions and answers are in {failed} on the host."
    assert any(line.startswith("m: multi_turn: ") for line in warnings)
    answers = {c["name"]: c["answer"] for c in json.loads(failed.read_text())["checks"]}
    assert answers["capital"] == "It is Berlin."
    assert verified.read_text() == good
    evidence = raised.value.evidence
    assert evidence is not None
    assert (evidence["url"], evidence["verification"]["passed"]) == (server.url, False)

    server.script["question"] = chat("It is Paris.")
    prover.prove(one)
    assert not failed.exists()


def test_a_suite_that_cannot_be_read_ends_the_task(host: Host) -> None:
    prover = Prover(host.installed, {**PARAMS, "suite": ["helth"]}, Progress(None), print)
    with pytest.raises(TaskFailed, match="there is no 'helth'"):
        prover.suite("m")


def test_where_all_is_as_it_was_one_question_is_enough(host: Host, server: ScriptedServer) -> None:
    one = wanted(host, server)
    prover = Prover(host.installed, PARAMS, Progress(None), print)
    host.installed.endpoint = lambda _wanted, timeout: Endpoint(  # type: ignore[method-assign]
        server.url, timeout=timeout
    )
    assert prover.verify_briefly(one) is None  # never proved
    prover.prove(one)
    found = prover.last(one)
    assert found is not None
    assert prover.verify_briefly(one) is None  # no endpoint record yet
    prover.record(one, found)[1].write()
    brief = prover.verify_briefly(one)
    assert brief is not None
    assert (brief["full"], brief["passed"], brief["url"]) == (False, True, server.url)
    assert brief["record"]["verification"]["suite"] == found.suite

    other = Prover(host.installed, {**PARAMS, "suite": ["health"]}, Progress(None), print)
    assert other.verify_briefly(one) is None  # another suite is due
    server.script["question"] = chat("It is Berlin.")
    assert prover.verify_briefly(one) is None
    host.installed.endpoint = lambda _wanted, timeout: Endpoint(  # type: ignore[method-assign]
        "http://127.0.0.1:1", timeout=timeout
    )
    assert prover.verify_briefly(one) is None  # it does not answer
