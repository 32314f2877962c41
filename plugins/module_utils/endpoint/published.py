# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoint records that are there: where, in which state, and under which address others reach one.

Apart from `record.py`, which makes them and for that needs all that verifies.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import File
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import read
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.urls import url_of

STATES = ("starting", "verified", "failed")


def record_path(etc_dir: str, name: str) -> str:
    """Where an instance's record is."""
    return os.path.join(etc_dir, f"{name}.endpoint.json")


def record_text(record: Mapping[str, Any]) -> str:
    """The file of a record."""
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def read_record(text: str | None) -> dict[str, Any] | None:
    """A record; `None` where its file is not there or holds none."""
    try:
        record = json.loads(text or "")
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def with_state(text: str | None, state: str) -> str | None:
    """The file of a record whose state alone has changed; `None` where there is no record."""
    record = read_record(text)
    return None if record is None else record_text({**record, "state": state})


def publish_state(etc_dir: str, name: str, state: str) -> bool:
    """Say in an instance's record, where it has one, how it is; returns whether that was new."""
    path = record_path(etc_dir, name)
    text = with_state(read(path), state)
    if text is None:
        return False
    file = File(path, text)
    if file.is_right():
        return False
    file.write()
    return True


def with_public_url(
    record: Mapping[str, Any], url: str | None, address: str | None
) -> dict[str, Any]:
    """The record as others need it: with the address under which they reach the endpoint.

    Args:
        record: The record.
        url: The address that somebody chose; `None` for none.
        address: The host's, for an endpoint that listens on all addresses, which none could ask.
    """
    if url is None and address and record.get("listen_host") in ("0.0.0.0", "::"):  # noqa: S104
        own = urlsplit(str(record["url"]))
        url = url_of(address, own.port, own.scheme)
    if url is None:
        return {**record}
    url = url.rstrip("/")
    return {**record, "url": url, "openai_base_url": f"{url}/v1"}
