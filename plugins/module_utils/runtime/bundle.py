# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions about a bundle: what belongs into it, and whether it is whole.

A bundle is one directory::

    wheels/*.whl        every wheel that the locks and the tools' lock name
    locks/*.txt         those locks
    models/NAME/        models, if any were asked for
    manifest.json       what the bundle is for, and every file with its size and SHA-256
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

SCHEMA = 1
MANIFEST = "manifest.json"
TOOLS_LOCK = "tools.txt"
INCOMING = ".incoming-"
"""What names begin with until the file or directory is whole."""

_ENTRIES = frozenset({"wheels", "locks", "models", MANIFEST, ".lock"})

_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;]+)"
    r"(?:\s*;\s*(?P<marker>.*?))?(?P<hashes>(?:\s+--hash=sha256:[0-9a-f]{64})+)"
)
_PLATFORM = re.compile(r"(x86_64|aarch64)-manylinux_2_(\d+)")
# PEP 600: the older names are aliases of these three.
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


class Requirement(NamedTuple):
    """One package of a lock."""

    name: str
    """As the simple index writes it: lower case, dashes."""
    version: str
    marker: str | None
    """For which interpreters and platforms it counts; `None` for all."""
    hashes: frozenset[str]
    """SHA-256 of the files that are the package."""


class File(NamedTuple):
    """One file of a bundle."""

    path: str
    """Below the bundle's directory, with slashes."""
    bytes: int
    sha256: str


def strange(names: Iterable[str]) -> list[str]:
    """The entries of a directory that show that it is not a bundle's."""
    return sorted(n for n in names if n not in _ENTRIES and not n.startswith(INCOMING))


def model_name(path: str) -> str:
    """The name of a model's directory in the bundle.

    A snapshot in Hugging Face's cache, which is named by its commit, gets the repository's name
    (https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
    """
    path = path.rstrip("/")
    match = re.search(r"/models--(?:[^/]+--)?([^/]+)/snapshots/[0-9a-f]{40}$", path)
    return match[1] if match else path.rpartition("/")[2]


def canonical(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_lock(text: str) -> list[Requirement]:
    """Read a lock in the requirements format, with hashes.

    Raises:
        ValueError: A line is not `name==version [; marker] --hash=sha256:…`.
    """
    found = []
    for raw in text.replace("\\\n", " ").splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _REQUIREMENT.fullmatch(line)
        if match is None:
            raise ValueError(f"not a pinned package with hashes: {line[:80]}")
        found.append(
            Requirement(
                canonical(match["name"]),
                match["version"],
                match["marker"],
                frozenset(re.findall(r"[0-9a-f]{64}", match["hashes"])),
            )
        )
    return found


def pinned(requirement: Requirement) -> str:
    """The requirement as one line for pip, without its marker."""
    hashes = " ".join(f"--hash=sha256:{sha256}" for sha256 in sorted(requirement.hashes))
    return f"{requirement.name}=={requirement.version} {hashes}\n"


def platform_tags(platform: str) -> list[str]:
    """The platform tags of wheels that fit a platform, best first (PEP 600).

    Args:
        platform: As in the release data: `x86_64-manylinux_2_28`.

    Raises:
        ValueError: It is not of that form.
    """
    match = _PLATFORM.fullmatch(platform)
    if match is None:
        raise ValueError(f"{platform!r} is not <x86_64|aarch64>-manylinux_2_<minor>")
    machine = match[1]
    tags = []
    for minor in range(int(match[2]), 4, -1):
        tags.append(f"manylinux_2_{minor}_{machine}")
        if minor in _LEGACY:
            tags.append(f"{_LEGACY[minor]}_{machine}")
    return [*tags, f"linux_{machine}"]


def marker_environment(python: str, platform: str) -> dict[str, str]:
    """What a marker is compared with, for an interpreter that is not the running one (PEP 508).

    Args:
        python: The minor version: `3.11`.
        platform: As in the release data.
    """
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": platform.split("-")[0],
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
        "extra": "",
    }


def pip_download(pip: Sequence[str], python: str, platform: str) -> list[str]:
    """The command that fetches wheels for an interpreter that is not the running one.

    Nothing is resolved, built or cached: each file is one that the lock names by its hash
    (https://pip.pypa.io/en/stable/cli/pip_download/).

    Args:
        pip: How pip is started.
        python: The minor version of the interpreter that the wheels are for.
        platform: As in the release data.
    """
    command = [*pip, "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-cache-dir", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
    command += ["--implementation", "cp", "--python-version", python]
    command += ["--abi", "cp" + python.replace(".", "")]
    for tag in platform_tags(platform):
        command += ["--platform", tag]
    return command


def wheel_name(filename: str) -> tuple[str, str] | None:
    """Name and version that a wheel's file name tells; `None` where it is no wheel's."""
    parts = filename[: -len(".whl")].split("-") if filename.endswith(".whl") else []
    return (canonical(parts[0]), parts[1]) if len(parts) in (5, 6) else None


def manifest(
    release: str,
    accelerator: str,
    platform: str,
    locks: Mapping[str, tuple[str | None, str]],
    files: Iterable[File],
) -> dict[str, Any]:
    """The content of `manifest.json`: the same for the same bundle.

    Args:
        release: The vLLM version.
        accelerator: `cuda` or `cpu`.
        platform: As in the release data.
        locks: Minor version of Python (`None` for the tools) and SHA-256, by the lock's file name.
        files: Every file of the bundle but the manifest.
    """
    return {
        "schema": SCHEMA,
        "release": release,
        "accelerator": accelerator,
        "platform": platform,
        "pythons": sorted(
            (python for python, _lock in locks.values() if python is not None),
            key=lambda python: [int(part) for part in python.split(".")],
        ),
        "locks": {
            name: {"python": python, "sha256": sha256}
            for name, (python, sha256) in sorted(locks.items())
        },
        "files": [file._asdict() for file in sorted(files)],
    }


def read_manifest(text: str) -> tuple[dict[str, Any], list[File]]:
    """Read `manifest.json`.

    Raises:
        ValueError: It is not one, or of another version of this collection; the text says which.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError("is cut off or damaged") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f"is not a bundle's manifest of schema {SCHEMA}")
    try:
        files = [
            File(str(row["path"]), int(row["bytes"]), str(row["sha256"]))
            for row in content["files"]
        ]
        for row in content["locks"].values():
            str(row["sha256"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError("is damaged") from error
    if any(file.path.startswith("/") or ".." in file.path.split("/") for file in files):
        raise ValueError("names files outside of the bundle")
    return content, files


def other_bundle(
    content: Mapping[str, Any], lock: str, sha256: str | None, tools: str
) -> str | None:
    """Why a bundle is not the one that is needed; `None` where it is.

    Args:
        content: Its manifest.
        lock: The lock that is needed, as the plan names it: `0.14.1/cpu-py311.txt`.
        sha256: The hash of that lock; `None` where only the tools are needed.
        tools: The hash of the tools' lock.
    """
    locks = {str(name): str(row["sha256"]) for name, row in content["locks"].items()}
    mine = {name: found for name, found in locks.items() if name != TOOLS_LOCK}
    if sha256 is not None and sha256 not in mine.values():
        release, _slash, name = lock.partition("/")
        if content.get("release") == release and name in mine:
            return f"its lock {name} is another edition of {lock}, so some packages are others"
        made = f"{content.get('release')} {content.get('accelerator')}"
        return (
            f"it is for vLLM {made} with Python {', '.join(map(str, content.get('pythons', ())))}, "
            f"and {lock} is needed"
        )
    if locks.get(TOOLS_LOCK) != tools:
        return "it holds another edition of the tools (requirements/tools.txt)"
    return None


def damage(wrong: Sequence[str], total: int) -> str:
    """The line for files that are not as the manifest says.

    Args:
        wrong: For each such file its path and what is wrong: `wheels/a.whl is missing`.
        total: How many files there are to be.
    """
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return f"{len(wrong)} of its {total} files are not as they were made: " + (
        ", ".join(wrong[:3]) + more
    )


_ADVICE = (
    (r"no space left on device|errno 28", "the disk is full; free space and run again"),
    (
        r"do not match the hashes",
        "the file is not the one that the lock names; the index or a mirror serves altered files",
    ),
    (
        (
            r"name resolution|name or service not known|connection refused|network is unreachable"
            r"|timed out|max retries|connection broken|incompleteread|reset by peer"
        ),
        (
            "the package index could not be reached; check the network, or name a mirror or a "
            "proxy in vllm_runtime_environment (PIP_INDEX_URL, HTTPS_PROXY), then run again: "
            "what came is kept"
        ),
    ),
    (
        r"certificate",
        "the package index's certificate is not trusted; set PIP_CERT in vllm_runtime_environment",
    ),
    (
        r"no matching distribution|could not find a version",
        "the package index has no such wheel; use one that mirrors all of the public index",
    ),
    (
        r"no module named pip",
        "this Python has no pip; install it, or name a Python that has in vllm_bundle_python",
    ),
)


def explain_pip(what: str, output: str) -> str:
    """The message for a pip that failed: what happened, and what to do about it.

    Args:
        what: The package that was asked for.
        output: What pip printed. Credentials in addresses are blotted out.
    """
    output = re.sub(r"//[^/@\s]+@", "//****@", output)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    tail = " | ".join([line for line in lines if not line.startswith("WARNING")][-3:])
    for pattern, advice in _ADVICE:
        if re.search(pattern, output, re.IGNORECASE):
            return f"{what}: {advice} ({tail or 'pip printed nothing'})"
    return f"{what}: pip failed: {tail or 'it printed nothing'}"
