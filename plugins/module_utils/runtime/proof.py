# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions about virtual environments that are named by their lock and never change once proved.

A venv is *proved* when it holds `.proved.json`, written last, after the venv's own Python has
imported the stack and named the expected versions. Whatever lacks that file is left over from an
interrupted run: it is never used and is built again from nothing.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit


def lock_sha256(lock: str) -> str:
    """The hash that names a venv: SHA-256 of the lock's text, as 64 hexadecimal digits."""
    return hashlib.sha256(lock.encode("utf-8")).hexdigest()


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """The values in uv's and pip's variables that nobody may read, longest first.

    These are users and passwords in URLs, as written and decoded, and the values of variables that
    are named for what they hold, such as `UV_INDEX_MIRROR_PASSWORD`
    (https://docs.astral.sh/uv/concepts/authentication/http/).
    """
    secrets = set()
    for name, value in environment.items():
        if re.search(r"PASSWORD|USERNAME|TOKEN|SECRET|CREDENTIAL|API_?KEY", name, re.IGNORECASE):
            secrets.add(value)
        for url in re.findall(r"[a-z][a-z0-9+.-]*://[^\s\"']+", value, re.IGNORECASE):
            user, _colon, password = urlsplit(url).netloc.rpartition("@")[0].partition(":")
            # A token may stand alone, in place of the user.
            for part in (password,) if password else (user,):
                secrets.update((part, unquote(part)))
    return sorted(secrets - {""}, key=lambda secret: (-len(secret), secret))


def without_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """A message without credentials: neither known ones nor any in front of a URL's host."""
    text = re.sub(r"://[^/\s]*@", "://***@", text)
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def own_fingerprint(venv: str) -> str:
    """What changes when a venv's Python or a package in it does; a few milliseconds.

    It covers the interpreter, `pyvenv.cfg` and every installed distribution's RECORD by size and
    time of modification. It does not see a file that was edited in place.

    Args:
        venv: Path of a virtual environment.

    Returns:
        64 hexadecimal digits.
    """
    python = os.path.realpath(os.path.join(venv, "bin", "python"))
    paths = [python, os.path.join(venv, "pyvenv.cfg")]
    site = os.path.join(glob.escape(venv), "lib", "python3*", "site-packages")
    for pattern in ("*.dist-info", "*.dist-info/RECORD", "*.pth"):
        paths += sorted(glob.glob(os.path.join(site, pattern)))
    seen = []
    for path in paths:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue
        seen.append((path, status.st_size, status.st_mtime_ns))
    return hashlib.sha256(json.dumps(seen).encode("utf-8")).hexdigest()


def is_proved(marker: str | None, sha256: str) -> bool:
    """Whether a venv may be used as it stands.

    Args:
        marker: Text of the venv's `.proved.json`; `None` where there is none.
        sha256: The hash of the lock that is wanted.
    """
    if marker is None:
        return False
    try:
        record = json.loads(marker)
    except ValueError:  # cut off half way: not proved
        return False
    return isinstance(record, dict) and record.get("lock_sha256") == sha256


def proved_record(
    sha256: str, python: str, versions: Mapping[str, Any], proved_at: str, **more: Any
) -> str:
    """The text of `.proved.json`."""
    record = {
        "lock_sha256": sha256,
        "python": python,
        "versions": dict(versions),
        "proved_at": proved_at,
        **more,
    }
    return json.dumps(record, indent=2, sort_keys=True) + "\n"
