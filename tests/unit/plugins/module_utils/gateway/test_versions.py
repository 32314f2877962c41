# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which HAProxy packages may serve."""

from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.module_utils.gateway.versions import problem


@pytest.mark.parametrize(
    "version",
    [
        *("2.6.12-1+deb12u3", "2.6.12-1+deb12u4", "2.6.12-1+deb12u11", "3.0.11-1+deb13u1"),
        *("3.0.11-1+deb13u5", "2.8.16-1~bpo12+1", "2.8.20", "3.2.6-1", "1:3.2.7-1", "3.3.0-1"),
        "2.6.12-1+deb12u4+b1",
    ],
)
def test_mended(version: str) -> None:
    assert problem(version) is None


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("2.6.12-1", "CVE-2025-11230"),
        ("2.6.12-1+deb12u2", "2.6.12-1+deb12u3"),
        ("2.6.12-1+deb13u9", "CVE-2025-11230"),
        ("3.0.11-1", "3.0.11-1+deb13u1"),
        ("3.0.11-1+deb12u9", "CVE-2025-11230"),
        ("2.8.15-1", "2.8.16"),
        ("2.8.5-1ubuntu3.4", "CVE-2025-11230"),
        ("3.2.5-1", "CVE-2025-11230"),
        ("2.4.30-0ubuntu1", "too old"),
        ("nonsense", "no version"),
    ],
)
def test_not_known_to_be_mended(version: str, words: str) -> None:
    assert words in str(problem(version))
