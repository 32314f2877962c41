# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which candidates of a tuning are started. What starts, proves and measures is a substitute."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.benchmark import tuning
from ansible_collections.compute_plane.vllm.plugins.module_utils.service import serving
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.failures import StartFailed
from ansible_collections.compute_plane.vllm.plugins.module_utils.service.tuner import Tuning


class Services:
    """Starts what it is given, and notes it; those of `fails` do not come up."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.fails: set[str] = set()
        self.running = "eager"

    def restart(self, wanted: Any) -> float:
        self.started.append(wanted.fingerprint)
        self.running = "eager" if wanted.fingerprint in self.fails else wanted.fingerprint
        if wanted.fingerprint in self.fails:
            raise StartFailed("it does not come up")
        return 30.0

    def __getattr__(self, _name: str) -> Any:
        return lambda *_words, **_more: None


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> Tuning:
    made: Any = Tuning.__new__(Tuning)
    made.services = Services()
    made.params = {"goal": "throughput"}
    made.name, made.seen, made.planned = "a", {}, {}
    made.former = made.trying = SimpleNamespace(fingerprint="eager", config={})
    made.up = "eager"
    made.limits = SimpleNamespace(set=lambda _limits: None)
    names = {True: "eager", False: "graphs"}
    for eager, limit in ((True, None), (False, None), (True, 300), (True, 250), (False, 250)):
        choice = {"enforce_eager": eager, "gpu_power_limit": limit}
        made.planned[tuning.key(choice)] = {"gpu_power": {}}
    made.deployment = lambda choice: SimpleNamespace(
        fingerprint=names[choice["enforce_eager"]], config={}
    )
    for nothing in ("_tell", "_own_files", "_see_who_restarted", "_prove"):
        setattr(made, nothing, lambda *_words: None)
    made._files = lambda _wanted: []
    # What is measured is what runs.
    point = {"concurrency": 1, "figures": {"output_throughput": {"median": 1.0}}}
    made._measure = lambda *_words: [{**point, "served": made.services.running}]
    monkeypatch.setattr(serving, "why_not", lambda *_words: None)
    return made


def tried(tuned: Tuning, eager: bool, limit: int | None) -> dict[str, Any]:
    choice = {"enforce_eager": eager, "gpu_power_limit": limit}
    tuned.try_one(choice, None)  # type: ignore[arg-type]
    return tuned.seen[tuning.key(choice)]


def test_what_runs_is_not_started_again_for_a_limit_and_nothing_else_is_measured(
    tuned: Tuning,
) -> None:
    services: Any = tuned.services
    assert tried(tuned, True, None)["points"][0]["served"] == "eager"
    assert services.started == []
    assert tried(tuned, False, None)["points"][0]["served"] == "graphs"
    assert services.started == ["graphs"]
    # Back to what served before, once for both limits.
    assert tried(tuned, True, 300)["points"][0]["served"] == "eager"
    assert tried(tuned, True, 250)["points"][0]["served"] == "eager"
    assert services.started == ["graphs", "eager"]


def test_after_a_start_that_failed_what_is_measured_is_started(tuned: Tuning) -> None:
    services: Any = tuned.services
    services.fails = {"graphs"}
    assert tried(tuned, False, None)["state"] == "failed"
    assert tried(tuned, True, 300)["points"][0]["served"] == "eager"
    assert services.started == ["graphs", "eager"]
