# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where what is known of an environment lies."""

from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime import venvs


def test_a_releases_bytecode_lies_in_it():
    assert venvs.bytecode("/opt/vllm/releases/0.14.1") == "/opt/vllm/releases/0.14.1/.pycache"


@pytest.mark.parametrize("venv", ["/srv/own", "/opt/vllm/releases/mine/too", "/opt/vllm/other"])
def test_in_somebodys_own_environment_nothing_lies(venv):
    found = venvs.bytecode(venv)
    assert found == venvs.own_path(venv, ".pycache")
    assert found.startswith("/opt/vllm/own/")


def test_environments_do_not_share():
    assert venvs.own_path("/srv/a", ".json") != venvs.own_path("/srv/b", ".json")
    assert venvs.own_path("/srv/a", ".json", "/x").startswith("/x/")
