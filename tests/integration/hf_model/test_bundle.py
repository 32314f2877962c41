# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models of the Hub in a bundle: what the role does for them, with the tools that it installs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .conftest import MODEL, SHARDS
from .test_play import playbook

if TYPE_CHECKING:
    from pathlib import Path

    from hub import Hub


@pytest.mark.timeout(300)
def test_models_of_the_hub_are_fetched_beside_the_bundle(
    hub: Hub, model: Path, tmp_path: Path
) -> None:
    first = hub.store.repositories[MODEL].resolve("main")
    role = {"name": "compute_plane.vllm.vllm_bundle", "tasks_from": "make_models", "public": True}
    variables = {
        "vllm_bundle_dir": str(tmp_path / "bundle"),
        "vllm_bundle_models": [str(model), f"{MODEL}@{first}", MODEL],
        "vllm_bundle_accelerator": "cpu",
        "vllm_model_endpoint": hub.url,
    }
    show = {"ansible.builtin.debug": {"msg": "{{ vllm_bundle_local_models + fetched }}"}}
    tasks = [
        {"ansible.builtin.include_role": role},
        {**show, "vars": {"fetched": "{{ vllm_bundle_fetched_models }}"}},
    ]
    for task in tasks:
        task["vars"] = {**variables, **task.get("vars", {})}  # type: ignore[dict-item]
    done = playbook(tmp_path, tasks)
    assert done.returncode == 0, done.stdout
    snapshot = tmp_path / f"bundle.work/hub/models--acme--tiny/snapshots/{first}"
    shown = done.stdout.split("TASK [ansible.builtin.debug]")[1]
    assert shown.index(str(model)) < shown.index(str(snapshot))
    assert sum(path.stat().st_size for path in snapshot.glob("*.safetensors")) == sum(SHARDS)
    assert not (tmp_path / "bundle").exists()  # made when all that goes in is there
