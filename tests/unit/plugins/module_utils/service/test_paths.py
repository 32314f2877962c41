# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the environment is there with which an instance was proved: ours, or a user's own."""

from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.service.paths import Paths


@pytest.mark.parametrize(
    ("directory", "files", "there"),
    [
        pytest.param("releases/0.26.0-cuda", [".proved.json", "bin/python"], True, id="proved"),
        pytest.param("releases/0.26.0-cuda", ["bin/python"], False, id="half of an installation"),
        pytest.param("releases/0.26.0-cuda", [], False, id="removed"),
        # As a rollback on two H200 found it: an environment of one's own has no proof in it.
        pytest.param("own", ["bin/python"], True, id="a user's own"),
        pytest.param("own", [], False, id="a user's own, removed"),
        pytest.param("releases-of-mine/x", ["bin/python"], True, id="a name that begins alike"),
    ],
)
def test_whether_an_environment_is_there(tmp_path, directory, files, there):
    paths = Paths("/etc/vllm", "/var/lib/vllm", "/units", releases_dir=str(tmp_path / "releases"))
    venv = tmp_path / directory
    for name in files:
        (venv / name).parent.mkdir(parents=True, exist_ok=True)
        (venv / name).touch()
    assert paths.has_release(str(venv)) is there
