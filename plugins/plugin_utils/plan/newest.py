# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The newest release that a host can run: `vllm_release: newest-that-fits`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.problems import (
    Findings,
    quoted,
)

NEWEST = "newest-that-fits"

# Problems of a host that another release may not have. Every other one is told of the release that
# is taken, for an older one would only hide it.
OBSTACLES = frozenset(
    {
        "compute-capability-too-high",
        "compute-capability-too-low",
        "driver-too-old",
        "glibc-too-old",
        "python-not-found",
        "unknown-accelerator",
        "unsupported-cpu",
    }
)
# Those of them that nothing on the host mends, but another GPU.
_FOR_GOOD = frozenset(
    {"compute-capability-too-high", "compute-capability-too-low", "unknown-accelerator"}
)


def plan_newest(
    releases: Sequence[str], plan_of: Callable[[str], dict[str, Any]]
) -> dict[str, Any]:
    """Plan with the newest release that the host's driver, GPUs, CPU, Python and C library can run.

    Args:
        releases: The releases that there is data for, oldest first; at least one.
        plan_of: Makes the plan with a release.

    Returns:
        That release's plan, with a note that says which it is and why no newer one. Where none
        fits, the plan with the release that lacks least, and one problem in place of what it lacks.
    """
    passed: list[tuple[str, list[dict[str, str]], dict[str, Any]]] = []
    for release in reversed(releases):
        plan = plan_of(release)
        obstacles = [found for found in plan["problems"] if found["code"] in OBSTACLES]
        if not obstacles:
            plan["notes"].insert(0, _chosen(release, passed))
            return plan
        passed.append((release, obstacles, plan))
    release, obstacles, plan = min(
        passed, key=lambda row: (any(p["code"] in _FOR_GOOD for p in row[1]), len(row[1]))
    )
    findings = Findings()
    findings.problem(
        "no-release-fits",
        "vllm_release",
        f"no release fits this host: {_reasons(passed)}",
        f"for vLLM {release}: " + "; ".join(found["remedy"] for found in obstacles),
    )
    others = [found for found in plan["problems"] if found not in obstacles]
    return {**plan, "problems": findings.problems + others}


def _chosen(release: str, passed: list[tuple[str, list[dict[str, str]], Any]]) -> dict[str, str]:
    findings = Findings()
    newer = f" (no newer one: {_reasons(passed)})" if passed else ""
    findings.note(
        "release-chosen",
        "vllm_release",
        f'vLLM {release} is the newest that fits{newer}; vllm_release: "{release}" keeps it when '
        "the collection gets newer ones",
    )
    return findings.notes[0]


def _reasons(passed: list[tuple[str, list[dict[str, str]], Any]]) -> str:
    return "; ".join(
        f"{release}: {quoted(dict.fromkeys(found['message'] for found in obstacles))}"
        for release, obstacles, _plan in passed
    )
