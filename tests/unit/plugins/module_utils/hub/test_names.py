# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What names a model: one rule, and the plan and the fetch both go by it."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.layout import (
    folder_name,
    snapshot_path,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.names import (
    repo_id_problem,
    revision_problem,
)
from ansible_collections.compute_plane.vllm.plugins.modules import hf_model
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.planner import make_plan
from ansible_collections.compute_plane.vllm.plugins.plugin_utils.plan.release import ReleaseData
from ansible_collections.compute_plane.vllm.tests.unit.plugins.module_args import patch_module_args

LONGEST = "x" * 96


@pytest.mark.parametrize(
    "good",
    ["Qwen/Qwen2.5-7B-Instruct", "a/b_c.d-1", "01-ai/Yi", "_a/b_", f"{LONGEST}/{LONGEST}"],
)
def test_good_repository_ids(good: str) -> None:
    assert repo_id_problem(good) is None


@pytest.mark.parametrize(
    "bad",
    [
        *("", "gpt2", "a/b/c", "/a", "a/", "a b", "a--b/c", "a/b..c", "a/.b", "a/b.git", "a/b-"),
        *("a/-b", ".a/b", "a-/b", "a./b", "é/x", "a/b\n", "org/na--me", f"a/{LONGEST}x"),
        f"{LONGEST}x/a",
    ],
)
def test_bad_repository_ids(bad: str) -> None:
    assert repo_id_problem(bad)


@pytest.mark.parametrize(
    "good",
    ["main", "v1.0", "v1+cpu", "refs/pr/1", "feature/x", "a" * 40, "ä", "a.lock.b"],
)
def test_good_revisions(good: str) -> None:
    assert revision_problem(good) is None


@pytest.mark.parametrize(
    "bad",
    [
        *("", "../x", "a..b", "/a", "a/", "a//b", "-a", "a b", "a~1", "a^", "a:b", "a\\b", "@"),
        *("x.lock", "x.lock/y", ".a", "a/.b", "a?", "a*", "a[", "@{1}", "a.", "a\n", "a\u2028b"),
        *("\ud800", "x" * 256, "ä" * 128),
    ],
)
def test_bad_revisions(bad: str) -> None:
    assert revision_problem(bad)


def test_where_a_cache_keeps_it() -> None:
    assert folder_name("org/name") == "models--org--name"
    commit = "0a" * 20
    for hub in ("/srv/hub", "/srv/hub/"):
        expected = f"/srv/hub/models--org--name/snapshots/{commit}"
        assert snapshot_path(hub, "org/name", commit) == expected


def plan_accepts(model: str, revision: str) -> bool:
    """Whether preflight has nothing against a model."""
    instance = {"name": "one", "model": model, "revision": revision}
    plan = make_plan({"release": "0.14.1", "instances": [instance]}, {}, ReleaseData())
    keys = {"vllm_instances[0].model", "vllm_instances[0].revision"}
    return not any(problem["where"] in keys for problem in plan["problems"])


def fetch_accepts(model: str, revision: str) -> bool:
    """Whether hf_model begins with it: with fetch=false it only looks into an empty cache."""
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        arguments = {"repo_id": model, "revision": revision, "cache_dir": folder, "fetch": False}
        with (
            patch_module_args(arguments),
            contextlib.redirect_stdout(said),
            pytest.raises(SystemExit),
        ):
            hf_model.main()
    result: dict[str, Any] = json.loads(said.getvalue())
    return not result.get("failed")


letters = st.sampled_from("aZ09._-/@{~^: +\\*[?\x7fä\u2028")
names = st.one_of(
    st.lists(
        st.sampled_from(["a", "Z9", "-", "--", ".", "..", "_", ".git", ".lock", "/", "x" * 95]),
        max_size=6,
    ).map("".join),
    st.text(letters, max_size=8),
    st.text(max_size=6),
)
models = st.one_of(names, st.builds("{}/{}".format, names, names)).filter(
    # An absolute path is no repository, and nothing is no model.
    lambda name: not name.startswith("/")
)


@given(models)
@example("gpt2")
@example("org/na--me")
@example("org/" + "x" * 97)
@example("org/name.git")
def test_the_plan_accepts_a_model_that_the_fetch_accepts(model: str) -> None:
    assert plan_accepts(model, "main") == fetch_accepts(model, "main")


@given(names)
@example("v1+cpu")
@example("foo.lock")
@example("a//b")
@example("x y")
def test_the_plan_accepts_a_revision_that_the_fetch_accepts(revision: str) -> None:
    assert plan_accepts("org/name", revision) == fetch_accepts("org/name", revision)
