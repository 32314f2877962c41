# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What files a proved venv has, and whether they are still these.

The manifest is written when the venv is proved. Later the files are walked and compared by size and
time of modification; only a file that differs is read. What this cannot see is a change that keeps
both, such as a bad disk's: reading every file against its SHA-256 does.

The hashes of a wheel's files are those of its RECORD
(https://packaging.python.org/en/latest/specifications/recording-installed-packages/), so that a
venv of ten gigabytes is not read once more.
"""

from __future__ import annotations

import base64
import csv
import glob
import hashlib
import json
import os
import posixpath
import re
import stat
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.directories import PROVED

MANIFEST = ".manifest"

# At the top of the venv: the bytecode, scratch, the two records of the venv itself, uv's lock file.
_OUTSIDE = frozenset({".pycache", ".pycache.tmp", PROVED, MANIFEST, ".lock"})


class Entry(NamedTuple):
    """One installed file.

    Attributes:
        size: Bytes.
        mtime_ns: Time of modification, nanoseconds; 0 where the file was not there.
        sha256: Of the content, or of a symbolic link's target; 64 hexadecimal digits.
        package: The distribution that it belongs to; empty where no RECORD names it.
    """

    size: int
    mtime_ns: int
    sha256: str
    package: str


class Damage(NamedTuple):
    """How files differ from a manifest: sorted paths relative to the venv."""

    missing: list[str]
    altered: list[str]
    added: list[str]

    def __bool__(self) -> bool:
        return any(self)

    def text(self, limit: int = 5) -> str:
        """The files, as a person reads them; of each kind `limit` at most."""
        parts = []
        for kind, paths in zip(self._fields, self):
            if paths:
                more = f" and {len(paths) - limit} more" if len(paths) > limit else ""
                parts.append(f"{kind}: {', '.join(paths[:limit])}{more}")
        return "; ".join(parts)


def scan(venv: str) -> dict[str, tuple[int, int]]:
    """Size and time of modification (nanoseconds) of every file, by path relative to the venv.

    Bytecode is left out: Python itself compares it with its source.
    """
    found: dict[str, tuple[int, int]] = {}

    def enter(directory: int, prefix: str) -> None:
        folders = []
        with os.scandir(directory) as entries:
            for entry in entries:
                name = entry.name
                if entry.is_dir(follow_symlinks=False):
                    if name != "__pycache__" and (prefix or name not in _OUTSIDE):
                        folders.append(name)
                elif prefix or name not in _OUTSIDE:
                    # Relative to the directory, half as dear as by the whole path.
                    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                    found[prefix + name] = (status.st_size, status.st_mtime_ns)
        for name in folders:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            try:
                enter(inner, f"{prefix}{name}/")
            finally:
                os.close(inner)

    top = os.open(venv, os.O_RDONLY | os.O_DIRECTORY)
    try:
        enter(top, "")
    finally:
        os.close(top)
    return found


def file_sha256(path: str) -> str:
    """SHA-256 of a file's content, or of a symbolic link's target."""
    digest = hashlib.sha256()
    if stat.S_ISLNK(os.lstat(path).st_mode):
        digest.update(os.fsencode(os.readlink(path)))
        return digest.hexdigest()
    with open(path, "rb", buffering=0) as stream:
        buffer = memoryview(bytearray(1 << 20))
        while True:
            count = stream.readinto(buffer)
            if not count:
                return digest.hexdigest()
            digest.update(buffer[:count])


def normalized(name: str) -> str:
    """A distribution's name as locks and uv write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def recorded(venv: str) -> dict[str, list[Entry]]:
    """What the RECORDs of the installed distributions say of each file they give a hash for.

    Returns:
        By path relative to the venv; several entries where several distributions bring a file.
    """
    owners: dict[str, list[Entry]] = {}
    for record in glob.glob(
        os.path.join(glob.escape(venv), "lib", "python3*", "site-packages", "*.dist-info", "RECORD")
    ):
        folder = os.path.dirname(record)
        site = posixpath.relpath(os.path.dirname(folder), venv)
        package = normalized(os.path.basename(folder).split("-", 1)[0])
        # An entry is "name,algorithm=digest,size"; a damaged RECORD is found by its own hash.
        with open(record, encoding="utf-8", errors="replace", newline="") as stream:
            rows = [row for row in csv.reader(stream.read().replace("\0", "").splitlines()) if row]
        for row in rows:
            path = posixpath.normpath(posixpath.join(site, row[0]))
            algorithm, _equals, digest = (row[1] if len(row) > 1 else "").partition("=")
            if path.startswith("../") or "/__pycache__/" in path:
                continue
            size = int(row[2]) if len(row) > 2 and row[2].isdigit() else -1
            sha256 = _hexadecimal(digest) if algorithm == "sha256" else ""
            owners.setdefault(path, []).append(Entry(size, 0, sha256, package))
    return owners


def _hexadecimal(digest: str) -> str:
    """A RECORD's digest (URL-safe base64 without padding) in hexadecimal; empty if it is none."""
    try:
        raw = base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4))
    except ValueError:
        return ""
    return raw.hex() if len(raw) == 32 else ""


def make(venv: str, found: Mapping[str, tuple[int, int]], doubt: bool = False) -> dict[str, Entry]:
    """The manifest of a venv as it ought to be by its distributions' own RECORDs.

    Args:
        venv: The venv's path.
        found: What `scan` returned.
        doubt: Whether files may have been changed since they were unpacked. Such as are newer than
            their package's own description, which is unpacked last, have time 0 in the manifest, so
            that comparing reads them; and a RECORD that does not name that description is wrong.

    Returns:
        The manifest.

    Files that a RECORD names and that are not there are in it, too, so that comparing the venv with
    its new manifest finds them; where a size is not the RECORD's, the RECORD's is in it. Files that
    no RECORD gives a hash for are read.
    """
    entries = {}
    owners = recorded(venv)
    unpacked: dict[str, int] = {}
    if doubt:
        for path, (_size, mtime) in found.items():
            if path in owners and posixpath.dirname(path).endswith(".dist-info"):
                package = owners[path][0].package
                if posixpath.basename(path) in ("METADATA", "WHEEL"):
                    unpacked[package] = min(mtime, unpacked.get(package, mtime))
    for path in {*found, *owners}:
        claims = [claim for claim in owners.get(path, ()) if claim.sha256 and claim.size >= 0]
        package = owners[path][0].package if path in owners else ""
        if path not in found:
            if claims:
                entries[path] = claims[0]
            continue
        size, mtime = found[path]
        fitting = [claim for claim in claims if claim.size == size]
        if len({claim.sha256 for claim in fitting}) > 1:
            # Two distributions bring different files of one size: the later one's is there.
            actual = file_sha256(os.path.join(venv, path))
            fitting = [claim for claim in fitting if claim.sha256 == actual] or fitting
        if fitting:
            newer = mtime > unpacked.get(package, mtime)
            entries[path] = fitting[0]._replace(mtime_ns=0 if newer else mtime)
        elif claims:
            entries[path] = claims[0]
        else:
            entries[path] = Entry(size, mtime, file_sha256(os.path.join(venv, path)), package)
    for path in found if doubt else ():
        described = posixpath.join(posixpath.dirname(path), "METADATA")
        if path.endswith(".dist-info/RECORD") and described in found and described not in owners:
            name = posixpath.basename(posixpath.dirname(path)).split("-", 1)[0]
            entries[path] = Entry(-1, 0, "", normalized(name))
    return entries


def render(entries: Mapping[str, Entry]) -> str:
    """The text of a manifest: a JSON object, one file a line."""
    lines = (
        f"{json.dumps(path)}: {json.dumps(list(entry))}" for path, entry in sorted(entries.items())
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def parse(text: str) -> dict[str, Entry]:
    """The entries of a manifest.

    Raises:
        ValueError: It is not one.
    """
    return {path: Entry(*fields) for path, fields in json.loads(text).items()}


def compare(
    venv: str,
    entries: Mapping[str, Entry],
    found: Mapping[str, tuple[int, int]],
    full: bool = False,
) -> tuple[Damage, list[str]]:
    """Compare what is there with a manifest.

    Args:
        venv: The venv's path.
        entries: Its manifest.
        found: What `scan` returned.
        full: Read every file, not only those whose time or size differs.

    Returns:
        The damage, and the files that only have another time: their content is the manifest's.
    """
    altered, touched = [], []
    for path, (size, mtime) in found.items():
        entry = entries.get(path)
        if entry is None or (not full and entry[:2] == (size, mtime)):
            continue
        if entry.size != size or file_sha256(os.path.join(venv, path)) != entry.sha256:
            altered.append(path)
        elif entry.mtime_ns != mtime:
            touched.append(path)
    missing = sorted(path for path in entries if path not in found)
    added = sorted(path for path in found if path not in entries)
    return Damage(missing, sorted(altered), added), sorted(touched)


def packages_of(entries: Mapping[str, Entry], paths: Iterable[str]) -> list[str]:
    """The distributions that files belong to, sorted; files of none are left out."""
    return sorted({entries[path].package for path in paths} - {""})
