#!/usr/bin/python
# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the venv of a release from its lock."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_runtime
short_description: Build the virtual environment of a vLLM release from its lock
version_added: 0.1.0
description:
  - Installs exactly what a lock with hashes names into a virtual environment whose name holds
    the lock's hash, lets the environment's own Python import the stack and name its versions, and
    only then marks it proved. A proved environment is never changed.
  - An interrupted run leaves an environment without the mark. It is not used, and the next run
    builds it again; packages that had arrived are in the cache.
  - The small environment O(tools_path), which holds uv, is built first, from O(tools_lock).
  - The action plugin of the same name shows the progress.
author: compute_plane.vllm contributors (@compute-plane)
attributes:
  check_mode:
    support: full
    description: Says whether an environment would be built.
  diff_mode:
    support: full
    description: Names the environments before and after.
options:
  venv:
    description: Where the release's environment is, or is to be.
    type: path
    required: true
  python:
    description: The Python interpreter that the environment is made for.
    type: path
    required: true
  lock:
    description: The text of the release's lock, in the requirements format, with hashes.
    type: str
    required: true
  expect:
    description:
      - The versions that the environment's own Python must name, by C(vllm), C(torch), C(cuda)
        (C(torch.version.cuda)) and C(triton).
    type: dict
    required: true
  release:
    description: The release, recorded in the environment.
    type: str
    required: true
  accelerator:
    description: The accelerator, recorded in the environment.
    type: str
    required: true
  installed_bytes:
    description: About how many bytes the installed environment has, for the progress shown.
    type: int
    default: 0
  metadata_alias:
    description:
      - A C(name) and a C(version) under which the environment's vLLM is to be found besides its
        own, for builds that are distributed under another name.
    type: dict
  tools_lock:
    description: The text of the lock of the tools' environment.
    type: str
    required: true
  tools_path:
    description: A symbolic link that always leads to the current tools' environment.
    type: path
    default: /opt/vllm/tools
  cache_dir:
    description:
      - uv's cache. On the same file system as O(venv), files are linked, not copied.
    type: path
    default: /opt/vllm/cache/uv
  bundle:
    description:
      - A directory on the host whose folder C(wheels) holds every wheel of O(lock) and
        O(tools_lock). Packages are taken from there, and from nowhere else.
    type: path
  progress:
    description: The file in which progress is kept; set by the action plugin.
    type: path
notes:
  - Proxies, mirrors and certificates of the package index are read from the task's environment, in
    uv's and pip's own variables, and from their configuration files on the host.
"""

EXAMPLES = r"""
- name: Build the release that the plan chose
  compute_plane.vllm.vllm_runtime:
    venv: "{{ plan.runtime.venv }}"
    python: "{{ plan.runtime.python }}"
    lock: "{{ lookup('ansible.builtin.file', 'releases/' ~ plan.runtime.lock, rstrip=false) }}"
    expect: "{{ plan.runtime.expect }}"
    release: "{{ plan.release }}"
    accelerator: "{{ plan.accelerator }}"
    tools_lock: "{{ lookup('ansible.builtin.file', 'requirements/tools.txt', rstrip=false) }}"
"""

RETURN = r"""
venv:
  description: The release's environment.
  type: str
  returned: always
  sample: /opt/vllm/releases/0.14.1-cpu-3f1d0a9be2c4
versions:
  description: What the environment's own Python said when it was proved.
  type: dict
  returned: when the environment is proved
  sample: {vllm: 0.14.1, torch: 2.9.1+cu128, cuda: "12.8", triton: 3.5.1}
seconds:
  description: How long each step took, in seconds.
  type: dict
  returned: when something was built
  sample: {tools: 6.1, install: 77.0, prove: 24.5}
"""

import contextlib
import datetime
import fcntl
import glob
import json
import os
import shutil
import subprocess
import tempfile
import time
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime import (
    PROVE_RELEASE,
    PROVE_TOOLS,
    PROVED,
    alias_dist_info,
    explain_failure,
    is_proved,
    lock_sha256,
    only_from,
    proved_record,
    unexpected_versions,
)


def read(path: str) -> str | None:
    """The text of a file, or C(None) where there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def write_atomically(path: str, text: str) -> None:
    """Write a file so that it is there whole or not at all, also after a power failure."""
    fd, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".")
    with os.fdopen(fd, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def bytes_written(pid: int) -> int:
    """How many bytes a process has written to files so far; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as stream:
            fields = dict(line.split(": ") for line in stream.read().splitlines())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields["wchar"])


class Builder:
    """Builds the two environments of one task."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.progress = Progress(self.params["progress"])
        self.seconds: dict[str, float] = {}
        tools_sha256 = lock_sha256(self.params["tools_lock"])
        self.tools_sha256 = tools_sha256
        self.tools_venv = f"{self.params['tools_path']}-{tools_sha256[:12]}"
        self.sha256 = lock_sha256(self.params["lock"])

    # -- what is there ------------------------------------------------------------------------

    def tools_are_current(self) -> bool:
        """Whether the link leads to a proved environment of the wanted lock."""
        path = self.params["tools_path"]
        return (
            os.path.realpath(path) == os.path.realpath(self.tools_venv)
            and os.path.islink(path)
            and is_proved(read(os.path.join(self.tools_venv, PROVED)), self.tools_sha256)
        )

    def marker(self) -> str | None:
        """The release environment's mark, or C(None)."""
        return read(os.path.join(self.params["venv"], PROVED))

    def check_bundle(self) -> None:
        """End the task where the bundle is not on the host."""
        bundle = self.params["bundle"]
        if bundle is not None and not glob.glob(os.path.join(bundle, "wheels", "*.whl")):
            self.fail(
                f"bundle: there are no wheels in {os.path.join(bundle, 'wheels')} on the host; "
                "bring the whole directory that the bundle was made in to the host"
            )

    # -- steps --------------------------------------------------------------------------------

    def fail(self, message: str) -> NoReturn:
        """End the task: what serves now is as it was."""
        self.progress.close()
        self.module.fail_json(msg=message, venv=self.params["venv"])
        raise SystemExit(1)  # for the type checker: fail_json has ended the process

    def call(self, argv: list[str], step: str, environment: dict[str, str], total: int = 0) -> str:
        """Run a program to its end, keeping the progress file up to date; returns its output."""
        started = time.monotonic()
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen(
                argv,
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **environment},
            )
            while process.poll() is None:
                done = bytes_written(process.pid)
                elapsed = time.monotonic() - started
                fields: dict[str, Any] = {"elapsed": elapsed}
                if total:
                    fields.update(
                        bytes_done=min(done, total), bytes_total=total, rate=done / (elapsed + 0.1)
                    )
                self.progress.update(step, **fields)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
            out.seek(0)
            err.seek(0)
            if process.returncode != 0:
                self.fail(explain_failure(step, err.read() + out.read()))
            return out.read()

    def prove(self, venv: str, script: str, step: str) -> dict[str, str | None]:
        """Let an environment's own Python import what it holds and name the versions."""
        output = self.call(
            [
                os.path.join(venv, "bin", "python"),
                "-I",
                "-X",
                "pycache_prefix=" + pycache(venv),
                "-c",
                script,
            ],
            step,
            {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"},
        )
        # vLLM logs to stdout while it is imported; the answer is the last line.
        versions: dict[str, str | None] = json.loads(output.strip().splitlines()[-1])
        return versions

    def build_tools(self) -> None:
        """Make the tools' environment with pip, and turn the link to it in one step."""
        started = time.monotonic()
        venv, link = self.tools_venv, self.params["tools_path"]
        if not is_proved(read(os.path.join(venv, PROVED)), self.tools_sha256):
            shutil.rmtree(venv, ignore_errors=True)
            self.call([self.params["python"], "-m", "venv", venv], "making the tools' venv", {})
            with tempfile.NamedTemporaryFile("w", suffix=".txt") as lock:
                lock.write(self.params["tools_lock"])
                lock.flush()
                pip = [os.path.join(venv, "bin", "python"), "-m", "pip", "--quiet", "--no-input"]
                exactly = ["--require-hashes", "--only-binary", ":all:", "--no-deps"]
                exactly += only_from(self.params["bundle"])
                self.call(
                    [*pip, "install", *exactly, "--requirement", lock.name],
                    "installing the tools",
                    {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
                )
            versions = self.prove(venv, PROVE_TOOLS, "proving the tools")
            write_atomically(
                os.path.join(venv, PROVED),
                proved_record(self.tools_sha256, self.params["python"], versions, now()),
            )
        temporary = f"{link}.new"
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.symlink(os.path.basename(venv), temporary)
        os.replace(temporary, link)
        self.seconds["tools"] = round(time.monotonic() - started, 1)

    def build_release(self) -> None:
        """Make the release's environment with uv, prove it, and mark it."""
        venv, uv = self.params["venv"], os.path.join(self.params["tools_path"], "bin", "uv")
        environment = {
            "UV_CACHE_DIR": self.params["cache_dir"],
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
            "VIRTUAL_ENV": venv,
        }
        started = time.monotonic()
        shutil.rmtree(venv, ignore_errors=True)
        os.makedirs(os.path.dirname(venv), mode=0o755, exist_ok=True)
        self.call(
            [uv, "venv", "--quiet", "--python", self.params["python"], venv],
            "making the venv",
            environment,
        )
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as lock:
            lock.write(self.params["lock"])
            lock.flush()
            self.call(
                [
                    uv,
                    "pip",
                    "install",
                    "--quiet",
                    "--require-hashes",
                    "--no-deps",
                    "--no-build",
                    *only_from(self.params["bundle"]),
                    "--requirement",
                    lock.name,
                ],
                "downloading and unpacking packages",
                environment,
                self.params["installed_bytes"],
            )
        self.write_alias()
        self.seconds["install"] = round(time.monotonic() - started, 1)
        started = time.monotonic()
        versions = self.prove(venv, PROVE_RELEASE, "proving the venv by its own Python")
        wrong = unexpected_versions(self.params["expect"], versions)
        if wrong:
            self.fail(f"the venv {venv} is not what the release data says: {'; '.join(wrong)}")
        write_atomically(
            os.path.join(venv, PROVED),
            proved_record(
                self.sha256,
                self.params["python"],
                versions,
                now(),
                release=self.params["release"],
                accelerator=self.params["accelerator"],
            ),
        )
        self.seconds["prove"] = round(time.monotonic() - started, 1)

    def write_alias(self) -> None:
        """Let the environment's vLLM be found under the wanted other name, too."""
        alias = self.params["metadata_alias"]
        if alias is None:
            return
        (packages,) = glob.glob(
            os.path.join(self.params["venv"], "lib", "python3*", "site-packages")
        )
        for path, text in alias_dist_info(alias["name"], str(alias["version"])).items():
            os.makedirs(os.path.dirname(os.path.join(packages, path)), exist_ok=True)
            write_atomically(os.path.join(packages, path), text)

    # -- the task -----------------------------------------------------------------------------

    def run(self) -> None:
        """Decide, build what is missing, and report."""
        venv = self.params["venv"]
        tools = not self.tools_are_current()
        release = not is_proved(self.marker(), self.sha256)
        changed = tools or release
        result: dict[str, Any] = {"changed": changed, "venv": venv}
        if changed:
            names = ([self.tools_venv] if tools else []) + ([venv] if release else [])
            result["diff"] = {"before": "", "after": "".join(f"proved venv {n}\n" for n in names)}
            self.check_bundle()
        if changed and not self.module.check_mode:
            os.makedirs(os.path.dirname(self.params["tools_path"]), mode=0o755, exist_ok=True)
            # Two plays at once on one host: the second waits, then finds the work done.
            with open(
                os.path.join(os.path.dirname(self.params["tools_path"]), ".lock"), "w"
            ) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not self.tools_are_current():
                    self.build_tools()
                if not is_proved(self.marker(), self.sha256):
                    self.build_release()
            result["seconds"] = self.seconds
        marker = self.marker()
        if marker is not None and is_proved(marker, self.sha256):
            result["versions"] = json.loads(marker)["versions"]
        self.progress.close()
        self.module.exit_json(**result)


def now() -> str:
    """The time, in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def pycache(venv: str) -> str:
    """Where the bytecode of a venv's modules is kept, apart from the installed files."""
    return os.path.join(venv, ".pycache")


def main() -> None:
    """Run the module."""
    os.umask(0o022)  # the service's user reads what is built here
    module = AnsibleModule(
        argument_spec={
            "venv": {"type": "path", "required": True},
            "python": {"type": "path", "required": True},
            "lock": {"type": "str", "required": True},
            "expect": {"type": "dict", "required": True},
            "release": {"type": "str", "required": True},
            "accelerator": {"type": "str", "required": True},
            "installed_bytes": {"type": "int", "default": 0},
            "metadata_alias": {"type": "dict"},
            "tools_lock": {"type": "str", "required": True},
            "tools_path": {"type": "path", "default": "/opt/vllm/tools"},
            "cache_dir": {"type": "path", "default": "/opt/vllm/cache/uv"},
            "bundle": {"type": "path"},
            "progress": {"type": "path"},
        },
        supports_check_mode=True,
    )
    Builder(module).run()


if __name__ == "__main__":
    main()
