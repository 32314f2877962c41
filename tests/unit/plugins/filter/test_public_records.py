# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.compute_plane.vllm.plugins.filter.public_records import public_records
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.urls import url_of


@pytest.mark.parametrize(
    ("host", "port", "scheme", "url"),
    [
        ("llm.example", 8000, "http", "http://llm.example:8000"),
        ("10.0.0.5", 8000, "https", "https://10.0.0.5:8000"),
        ("fd00::5", 8000, "http", "http://[fd00::5]:8000"),
        ("[fd00::5]", 8000, "http", "http://[fd00::5]:8000"),
        ("::1", None, "http", "http://[::1]"),
    ],
)
def test_urls(host: str, port: int | None, scheme: str, url: str) -> None:
    assert url_of(host, port, scheme) == url


@pytest.mark.parametrize(
    ("listen", "own", "address", "urls", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000", "h1", {}, "http://h1:8000"),
        ("::", "http://[::1]:8001", "fd00::5", {}, "http://[fd00::5]:8001"),
        ("0.0.0.0", "https://127.0.0.1:8000", "fd00::5", {}, "https://[fd00::5]:8000"),
        ("10.0.0.5", "http://10.0.0.5:8000", "h1", {}, "http://10.0.0.5:8000"),
        (
            "0.0.0.0",
            "http://127.0.0.1:8000",
            "h1",
            {"m": "https://m.example/"},
            "https://m.example",
        ),
        ("10.0.0.5", "http://10.0.0.5:8000", "h1", {"m": "https://m.example"}, "https://m.example"),
        (
            "10.0.0.5",
            "http://10.0.0.5:8000",
            "h1",
            {"n": "https://n.example"},
            "http://10.0.0.5:8000",
        ),
    ],
)
def test_records_have_the_address_that_others_reach(
    listen: str, own: str, address: str, urls: dict[str, str], url: str
) -> None:
    record = {"instance": "m", "listen_host": listen, "url": own, "openai_base_url": f"{own}/v1"}
    (public,) = public_records([record], address, urls)
    assert public == {**record, "url": url, "openai_base_url": f"{url}/v1"}
