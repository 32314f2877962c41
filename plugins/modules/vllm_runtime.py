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
  - A killed run leaves an environment without the mark. It is not used, and the next run builds it
    again; packages that had arrived are in the cache. A run that fails removes what it began.
  - Every run compares the environment's files with its manifest. Damaged packages are dropped from
    the cache, which shares their files by hard links, and installed again; the environment itself
    stays where it is, since it may be serving.
  - What was proved is kept beside O(cache_dir), with the bytecode. An environment that is built
    again from the same lock with the same interpreter, and whose every file is as it was then, is
    proved by that comparison and not imported again.
  - An environment that somebody else made is only verified, see O(managed).
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
    description:
      - The text of the release's lock, in the requirements format, with hashes. Required if
        O(managed=true).
    type: str
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
  managed:
    description:
      - Whether this module makes the environment. With V(false) O(venv) is somebody's own, and its
        Python is only asked whether its versions are those of O(expect). The answer is kept under
        O(own_dir) and holds until a package of the environment changes.
    type: bool
    default: true
  own_dir:
    description: Where the proofs of environments that are not managed are kept.
    type: path
    default: /opt/vllm/own
  verify:
    description:
      - V(quick) compares size and time of modification of every file with the manifest and reads
        those that differ. It does not see a change that keeps both, such as a bad disk's.
      - V(full) reads every file. An environment that is not managed is proved anew.
    type: str
    choices: [quick, full]
    default: quick
  environment:
    description:
      - Variables for uv and pip, such as a proxy, a mirror, a certificate authority, or the
        credentials of an index (C(UV_INDEX_NAME_PASSWORD)). They reach the programs in no command
        line, and what these print is freed from credentials.
    type: dict
    default: {}
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
  only_tools:
    description:
      - See to the tools' environment and leave the release's as it is, so that what needs the tools
        can begin before the release is installed.
    type: bool
    default: false
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
  - Settings of the package index are also read from uv's and pip's configuration files on the host.
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
damage:
  description: The files that were not as the manifest says, before they were repaired.
  type: str
  returned: when a proved environment was damaged
  sample: "altered: lib/python3.11/site-packages/vllm/envs.py"
seconds:
  description: How long each step took, in seconds.
  type: dict
  returned: when something was built
  sample: {tools: 6.1, install: 77.0, prove: 24.5}
"""

import contextlib
import datetime
import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from typing import IO, Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.children import dies_with
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.files import (
    read,
    write_atomically,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime import (
    manifest as venv_manifest,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.proof import (
    PROVE_RELEASE,
    PROVE_TOOLS,
    PROVED,
    alias_dist_info,
    explain_failure,
    interpreter_identity,
    is_proved,
    lock_sha256,
    locked_packages,
    only_from,
    own_fingerprint,
    proved_record,
    read_proof,
    secrets_of,
    unexpected_versions,
    without_secrets,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.venvs import own_path

LOCK = "requirements.txt"
"""The lock that a venv was built from, in the venv."""


def link_or_copy(source: str, target: str) -> None:
    """Give a file a second name; where the file system cannot, a copy of the same time."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        shutil.copy2(source, target, follow_symlinks=False)


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
        self.environment = {
            name: str(value) for name, value in (self.params["environment"] or {}).items()
        }
        self.secrets = secrets_of(self.environment)
        # Ansible would hide every value of a no_log parameter, also a "1", wherever it is found.
        module.no_log_values = set(self.secrets)
        self.params["environment"] = dict.fromkeys(self.environment, "not shown")
        self.tools_sha256 = lock_sha256(self.params["tools_lock"])
        self.tools_venv = f"{self.params['tools_path']}-{self.tools_sha256[:12]}"
        self.sha256 = lock_sha256(self.params["lock"] or "")
        self.guard: IO[str] | None = None
        self.unproved: str | None = None

    # -- what is there ------------------------------------------------------------------------

    def tools_are_current(self) -> bool:
        """Whether the link leads to a proved environment of the wanted lock."""
        path = self.params["tools_path"]
        return (
            os.path.realpath(path) == os.path.realpath(self.tools_venv)
            and os.path.islink(path)
            and self.record(self.tools_venv, self.tools_sha256) is not None
            and not self.damage(self.tools_venv)[0]
        )

    def record(self, venv: str, sha256: str) -> dict[str, Any] | None:
        """What was recorded when an environment was proved, or C(None) if it is not."""
        marker = read(os.path.join(venv, PROVED))
        if marker is None or not is_proved(marker, sha256):
            return None
        record: dict[str, Any] = json.loads(marker)
        return record

    def damage(
        self, venv: str
    ) -> tuple[venv_manifest.Damage, dict[str, venv_manifest.Entry], list[str]]:
        """Compare a proved environment with its manifest.

        Returns:
            The damage, the manifest, and the files that only have another time.
        """
        found = venv_manifest.scan(venv)
        text = read(os.path.join(venv, venv_manifest.MANIFEST)) or ""
        record = json.loads(read(os.path.join(venv, PROVED)) or "{}")
        full = self.params["verify"] == "full"
        if hashlib.sha256(text.encode()).hexdigest() == record.get("manifest_sha256"):
            entries = venv_manifest.parse(text)
            damage, touched = venv_manifest.compare(venv, entries, found, full)
            return damage, entries, touched
        # Without its manifest a venv is judged by its packages' own records, every file of it.
        entries = venv_manifest.make(venv, found)
        damage = venv_manifest.compare(venv, entries, found, full=True)[0]
        missing = sorted([*damage.missing, venv_manifest.MANIFEST])
        return damage._replace(missing=missing), entries, []

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
        """End the task: what serves now is as it was, what was begun is removed."""
        if self.unproved is not None:
            shutil.rmtree(self.unproved, ignore_errors=True)
        if self.guard is not None:
            self.clear_scratch()
        with contextlib.suppress(OSError):
            self.progress.close()
        self.module.fail_json(msg=without_secrets(message, self.secrets), venv=self.params["venv"])
        raise SystemExit(1)  # for the type checker: fail_json has ended the process

    def call(self, argv: list[str], step: str, environment: dict[str, str], total: int = 0) -> str:
        """Run a program to its end, keeping the progress file up to date; returns its output."""
        started = time.monotonic()
        # PYTHONPATH would show pip packages that the venv itself lacks.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            # Its input is the lock file, which is empty. What it starts in turn (ensurepip)
            # inherits that, and with it the lock: after a kill, the next run waits for the last.
            process = subprocess.Popen(
                argv,
                stdout=out,
                stderr=err,
                stdin=self.guard,
                env={**inherited, **self.environment, **environment},
                preexec_fn=dies_with(os.getpid()),  # noqa: PLW1509 - there is one thread
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

    def prove(
        self, venv: str, script: str, step: str, pycache: str | None = None
    ) -> dict[str, str | None]:
        """Let an environment's own Python import what it holds and name the versions."""
        # Bytecode is kept apart from the installed files.
        prefix = pycache or os.path.join(venv, ".pycache")
        # torch leaves a directory in TMPDIR when it is killed.
        scratch = f"{prefix}.tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        os.makedirs(scratch, mode=0o755)
        python = os.path.join(venv, "bin", "python")
        output = self.call(
            [python, "-I", "-X", f"pycache_prefix={prefix}", "-c", script],
            step,
            {
                "VLLM_NO_USAGE_STATS": "1",
                "DO_NOT_TRACK": "1",
                "HF_HUB_OFFLINE": "1",
                "TMPDIR": scratch,
            },
        )
        shutil.rmtree(scratch)
        # vLLM logs to stdout while it is imported; the answer is the last line.
        versions: dict[str, str | None] = json.loads(output.strip().splitlines()[-1])
        return versions

    def mark(
        self,
        venv: str,
        sha256: str,
        versions: dict[str, str | None],
        entries: dict[str, venv_manifest.Entry],
        **more: Any,
    ) -> None:
        """Write an environment's manifest, then its mark."""
        text = venv_manifest.render(entries)
        write_atomically(os.path.join(venv, venv_manifest.MANIFEST), text)
        record = proved_record(
            sha256,
            self.params["python"],
            versions,
            now(),
            manifest_sha256=hashlib.sha256(text.encode()).hexdigest(),
            **more,
        )
        write_atomically(os.path.join(venv, PROVED), record)

    def build_tools(self) -> None:
        """Make the tools' environment with pip, and turn the link to it in one step."""
        started = time.monotonic()
        venv, link = self.tools_venv, self.params["tools_path"]
        if self.record(venv, self.tools_sha256) is None or self.damage(venv)[0]:
            shutil.rmtree(venv, ignore_errors=True)
            self.unproved = venv
            # What a kill leaves of pip's own goes with the unproved venv.
            scratch = os.path.join(venv, ".tmp")
            os.makedirs(scratch, mode=0o755)
            variables = {"TMPDIR": scratch, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
            python = self.params["python"]
            self.call([python, "-m", "venv", venv], "making the tools' venv", variables)
            lock = os.path.join(venv, LOCK)
            write_atomically(lock, self.params["tools_lock"])
            pip = [os.path.join(venv, "bin", "python"), "-m", "pip", "--quiet", "--no-input"]
            exactly = ["--require-hashes", "--only-binary", ":all:", "--no-deps"]
            exactly += only_from(self.params["bundle"])
            self.call(
                [*pip, "install", *exactly, "--requirement", lock],
                "installing the tools",
                variables,
            )
            shutil.rmtree(scratch)
            versions = self.prove(venv, PROVE_TOOLS, "proving the tools")
            entries = venv_manifest.make(venv, venv_manifest.scan(venv))
            self.mark(venv, self.tools_sha256, versions, entries)
            self.unproved = None
        temporary = f"{link}.new"
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.symlink(os.path.basename(venv), temporary)
        os.replace(temporary, link)
        self.seconds["tools"] = round(time.monotonic() - started, 1)

    def uv(self, arguments: list[str], step: str, total: int = 0) -> None:
        """Run uv on the release's environment."""
        self.call(
            [os.path.join(self.params["tools_path"], "bin", "uv"), *arguments],
            step,
            {
                "UV_CACHE_DIR": self.params["cache_dir"],
                "UV_PYTHON_DOWNLOADS": "never",
                "UV_NO_PROGRESS": "1",
                "VIRTUAL_ENV": self.params["venv"],
            },
            total,
        )

    def make_skeleton(self) -> None:
        """Make the environment without packages, or make again what is missing of one."""
        python = self.params["python"]
        self.uv(
            ["venv", "--quiet", "--allow-existing", "--python", python, self.params["venv"]],
            "making the venv",
        )
        write_atomically(os.path.join(self.params["venv"], LOCK), self.params["lock"])

    def install(self, again: list[str], step: str, total: int = 0) -> None:
        """Install what the lock names and is not there, and some packages again."""
        self.clear_scratch()
        for package in again:
            # The cache's files are the venv's own, by hard links, and as damaged.
            self.uv(["cache", "clean", "--quiet", package], "dropping damaged packages")
        anew = [
            f"--re{what}-package={package}" for package in again for what in ("install", "fresh")
        ]
        arguments = ["--quiet", "--require-hashes", "--no-deps", "--no-build", *anew]
        arguments += only_from(self.params["bundle"])
        requirements = os.path.join(self.params["venv"], LOCK)
        self.uv(["pip", "install", *arguments, "--requirement", requirements], step, total)

    def clear_scratch(self) -> None:
        """Remove what a uv that was killed or failed was unpacking; the lock is held."""
        for left_over in glob.glob(os.path.join(glob.escape(self.params["cache_dir"]), ".tmp*")):
            shutil.rmtree(left_over, ignore_errors=True)

    def build_release(self) -> None:
        """Make the release's environment with uv, prove it, and mark it."""
        venv = self.params["venv"]
        started = time.monotonic()
        shutil.rmtree(venv, ignore_errors=True)
        os.makedirs(os.path.dirname(venv), mode=0o755, exist_ok=True)
        self.unproved = venv
        self.make_skeleton()
        self.install([], "downloading and unpacking packages", self.params["installed_bytes"])
        self.write_alias()
        self.seconds["install"] = round(time.monotonic() - started, 1)
        started = time.monotonic()
        recalled = self.recall_proof()
        if recalled is not None:
            self.mark_release(*recalled)
        else:
            before = venv_manifest.scan(venv)
            versions = self.prove_release()
            found = venv_manifest.scan(venv)
            entries = venv_manifest.make(venv, found)
            damage = venv_manifest.compare(venv, entries, found)[0]
            if damage:
                # The cache had been damaged before, by way of an environment that is gone since.
                versions, entries = self.repair(damage, entries)
            self.keep_proof(versions, entries, sorted(entries.keys() - before.keys()))
            self.mark_release(versions, entries)
        self.unproved = None
        self.seconds["prove"] = round(time.monotonic() - started, 1)

    def proof(self) -> str:
        """Where the release's proof outlives its environment: beside the packages' cache."""
        caches = os.path.dirname(self.params["cache_dir"].rstrip("/"))
        return os.path.join(caches, "proofs", os.path.basename(self.params["venv"]))

    def keep_proof(
        self,
        versions: dict[str, str | None],
        entries: dict[str, venv_manifest.Entry],
        made_by_import: list[str],
    ) -> None:
        """Keep what the first import said and left, for the next build of the same bytes."""
        venv, proof = self.params["venv"], self.proof()
        fresh = f"{proof}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        os.makedirs(fresh, mode=0o755)
        for path in made_by_import:
            target = os.path.join(fresh, "files", path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            link_or_copy(os.path.join(venv, path), target)
        shutil.copytree(
            os.path.join(venv, ".pycache"),
            os.path.join(fresh, "pycache"),
            copy_function=link_or_copy,
        )
        text = venv_manifest.render(entries)
        write_atomically(os.path.join(fresh, "manifest"), text)
        record = {
            "interpreter": interpreter_identity(self.params["python"]),
            "lock_sha256": self.sha256,
            "manifest_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "versions": versions,
        }
        write_atomically(os.path.join(fresh, "proof.json"), json.dumps(record, indent=2) + "\n")
        shutil.rmtree(proof, ignore_errors=True)
        os.rename(fresh, proof)

    def recall_proof(
        self,
    ) -> tuple[dict[str, str | None], dict[str, venv_manifest.Entry]] | None:
        """Find that this host has proved the same bytes with the same interpreter before.

        Every file is compared with the manifest of that proof: by its time and size where they are
        the same, as those of files linked from the cache are, else by its content.

        Returns:
            The versions and the manifest; C(None) where the environment has to be proved.
        """
        venv, proof = self.params["venv"], self.proof()
        record = read_proof(
            read(os.path.join(proof, "proof.json")),
            read(os.path.join(proof, "manifest")),
            self.sha256,
            interpreter_identity(self.params["python"]),
        )
        if record is None:
            return None
        self.progress.update("comparing the venv with one that was proved on this host")
        versions, entries = record
        made_by_import = os.path.join(proof, "files")
        for path in venv_manifest.scan(made_by_import) if os.path.isdir(made_by_import) else ():
            target = os.path.join(venv, path)
            if not os.path.lexists(target):
                os.makedirs(os.path.dirname(target), exist_ok=True)
                link_or_copy(os.path.join(made_by_import, path), target)
        found = venv_manifest.scan(venv)
        damage = venv_manifest.compare(venv, entries, found)[0]
        if damage:
            return None
        shutil.copytree(
            os.path.join(proof, "pycache"),
            os.path.join(venv, ".pycache"),
            copy_function=link_or_copy,
        )
        return versions, {path: entries[path]._replace(mtime_ns=found[path][1]) for path in found}

    def prove_release(self, pycache: str | None = None) -> dict[str, str | None]:
        """Let the release's environment name its versions; ends the task if they are others."""
        venv = self.params["venv"]
        versions = self.prove(venv, PROVE_RELEASE, "proving the venv by its own Python", pycache)
        wrong = unexpected_versions(self.params["expect"], versions)
        if wrong:
            self.fail(f"the venv {venv} is not what the release data says: {'; '.join(wrong)}")
        return versions

    def mark_release(
        self, versions: dict[str, str | None], entries: dict[str, venv_manifest.Entry]
    ) -> None:
        """Mark the release's environment as proved."""
        self.mark(
            self.params["venv"],
            self.sha256,
            versions,
            entries,
            release=self.params["release"],
            accelerator=self.params["accelerator"],
        )

    def repair(
        self, damage: venv_manifest.Damage, entries: dict[str, venv_manifest.Entry]
    ) -> tuple[dict[str, str | None], dict[str, venv_manifest.Entry]]:
        """Install the damaged packages of the release's environment again, and prove it.

        Returns:
            The versions, and the manifest of what is there now.
        """
        venv = self.params["venv"]
        locked = locked_packages(self.params["lock"])
        bad = [path for path in (*damage.missing, *damage.altered) if path in entries]
        again = [name for name in venv_manifest.packages_of(entries, bad) if name in locked]
        for path in (*damage.altered, *damage.added):
            # uv cannot work with a damaged RECORD, and does with none.
            entry = entries.get(path)
            if entry is None or entry.package not in locked or path.endswith("/RECORD"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(venv, path))
        if any(entries[path].package not in locked for path in bad):
            self.make_skeleton()
            self.write_alias()
        if again:
            self.install(again, f"installing damaged packages again ({', '.join(again)})")
        versions = self.prove_release()
        found = venv_manifest.scan(venv)
        # Packages that were left alone were compared before; of the others each file is read.
        fresh = {
            path: status
            for path, status in found.items()
            if path not in entries or entries[path][:2] != status
        }
        still = venv_manifest.compare(venv, entries, fresh, full=True)[0]
        missing = sorted(path for path in entries if path not in found)
        still = still._replace(missing=missing)
        if still:
            self.fail(
                f"the venv {venv} is damaged and could not be repaired ({still.text()}); "
                "stop what serves from it, remove it and run again"
            )
        return versions, {path: entries[path]._replace(mtime_ns=found[path][1]) for path in found}

    def write_alias(self) -> None:
        """Let the environment's vLLM be found under the wanted other name, too."""
        alias = self.params["metadata_alias"]
        if alias is None:
            return
        (packages,) = glob.glob(
            os.path.join(glob.escape(self.params["venv"]), "lib", "python3*", "site-packages")
        )
        for path, text in alias_dist_info(alias["name"], str(alias["version"])).items():
            os.makedirs(os.path.dirname(os.path.join(packages, path)), exist_ok=True)
            write_atomically(os.path.join(packages, path), text)

    # -- somebody's own environment -----------------------------------------------------------

    def own_record(self) -> str:
        """Where the proof of the environment is kept, outside of it."""
        return own_path(self.params["venv"], ".json", self.params["own_dir"])

    def own_versions(self) -> dict[str, Any] | None:
        """The versions of an environment that is not managed, if it is as when it was proved."""
        try:
            record = json.loads(read(self.own_record()) or "{}")
        except ValueError:  # cut off half way
            return None
        if record.get("fingerprint") != own_fingerprint(self.params["venv"]):
            return None
        versions: dict[str, Any] = record["versions"]
        return versions

    def check_own(self) -> None:
        """End the task where there is no environment, or the service's user cannot reach it."""
        venv = self.params["venv"]
        if not os.access(os.path.join(venv, "bin", "python"), os.X_OK):
            self.fail(
                f"vllm_runtime_venv: there is no virtual environment in {venv} (bin/python is "
                "missing); give the path of one that holds vLLM, or leave the variable out"
            )
        path = os.path.realpath(venv)
        while path != "/":
            mode = os.stat(path).st_mode
            if not mode & 0o001:
                self.fail(
                    f"vllm_runtime_venv: the service's user cannot enter {path} (mode "
                    f"{mode & 0o7777:04o}); chmod o+x it, or keep the venv elsewhere"
                )
            path = os.path.dirname(path)

    def prove_own(self) -> None:
        """Prove an environment that is not managed, and keep the answer."""
        started = time.monotonic()
        record = self.own_record()
        os.makedirs(self.params["own_dir"], mode=0o755, exist_ok=True)
        pycache = own_path(self.params["venv"], ".pycache", self.params["own_dir"])
        versions = self.prove_release(pycache)
        # After the first import, which may write.
        content = {
            "venv": self.params["venv"],
            "versions": versions,
            "proved_at": now(),
            "fingerprint": own_fingerprint(self.params["venv"]),
        }
        write_atomically(record, json.dumps(content, indent=2, sort_keys=True) + "\n")
        self.seconds["prove"] = round(time.monotonic() - started, 1)

    # -- the task -----------------------------------------------------------------------------

    def run(self) -> None:
        """Decide, build what is missing, and report; any failure is one line."""
        try:
            self.decide()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                where = f" ({error.filename})" if error.filename else ""
                self.fail(f"the disk is full{where}; free space and run again")
            self.fail(f"{error}; run again when that is mended")

    def decide(self) -> None:
        """Decide, build what is missing, and report."""
        venv, managed = self.params["venv"], self.params["managed"]
        only_tools = self.params["only_tools"]
        again = not managed and self.params["verify"] == "full" and not only_tools
        todo = [] if self.tools_are_current() else [f"proved venv {self.tools_venv}"]
        result: dict[str, Any] = {"venv": venv}
        touched: list[str] = []
        if only_tools:
            pass
        elif not managed:
            self.check_own()
            if self.own_versions() is None:
                todo.append(f"venv {venv}, verified")
        elif self.record(venv, self.sha256) is None:
            todo.append(f"proved venv {venv}")
        else:
            damage, _entries, touched = self.damage(venv)
            if damage:
                result["damage"] = damage.text()
                todo.append(f"proved venv {venv}, repaired")
        if todo:
            result["diff"] = {"before": "", "after": "".join(f"{line}\n" for line in todo)}
            self.check_bundle()
        if (todo or touched or again) and not self.module.check_mode:
            os.makedirs(os.path.dirname(self.params["tools_path"]), mode=0o755, exist_ok=True)
            # Two plays at once on one host: the second waits, then finds the work done.
            path = os.path.join(os.path.dirname(self.params["tools_path"]), ".lock")
            with open(path, "a+", encoding="utf-8") as self.guard:
                fcntl.flock(self.guard, fcntl.LOCK_EX)
                self.carry_out()
        if "damage" in result:
            verb = "would be" if self.module.check_mode else "was"
            result["msg"] = f"the venv {venv} was damaged and {verb} repaired: {result['damage']}"
            self.module.warn(result["msg"])
        if self.seconds:
            result["seconds"] = self.seconds
        versions = self.own_versions() if not managed else None
        if managed:
            versions = (self.record(venv, self.sha256) or {}).get("versions")
        if versions is not None:
            result["versions"] = versions
        self.progress.close()
        self.module.exit_json(changed=bool(todo), **result)

    def carry_out(self) -> None:
        """Do what is to be done, as it is found now that nobody else does."""
        venv = self.params["venv"]
        if not self.tools_are_current():
            self.build_tools()
        if self.params["only_tools"]:
            return
        if not self.params["managed"]:
            if self.own_versions() is None or self.params["verify"] == "full":
                self.prove_own()
            return
        record = self.record(venv, self.sha256)
        if record is None:
            self.build_release()
            return
        damage, entries, touched = self.damage(venv)
        if damage:
            started = time.monotonic()
            self.mark_release(*self.repair(damage, entries))
            self.seconds["repair"] = round(time.monotonic() - started, 1)
        elif touched:
            # Read once, not in every run from now on.
            for path in touched:
                status = os.lstat(os.path.join(venv, path))
                entries[path] = entries[path]._replace(mtime_ns=status.st_mtime_ns)
            self.mark_release(record["versions"], entries)


def now() -> str:
    """The time, in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def main() -> None:
    """Run the module."""
    os.umask(0o022)  # the service's user reads what is built here
    module = AnsibleModule(
        argument_spec={
            "venv": {"type": "path", "required": True},
            "python": {"type": "path", "required": True},
            "lock": {"type": "str"},
            "expect": {"type": "dict", "required": True},
            "release": {"type": "str", "required": True},
            "accelerator": {"type": "str", "required": True},
            "managed": {"type": "bool", "default": True},
            "own_dir": {"type": "path", "default": "/opt/vllm/own"},
            "verify": {"type": "str", "choices": ["quick", "full"], "default": "quick"},
            "environment": {"type": "dict", "default": {}, "no_log": True},
            "installed_bytes": {"type": "int", "default": 0},
            "metadata_alias": {"type": "dict"},
            "tools_lock": {"type": "str", "required": True},
            "tools_path": {"type": "path", "default": "/opt/vllm/tools"},
            "only_tools": {"type": "bool", "default": False},
            "cache_dir": {"type": "path", "default": "/opt/vllm/cache/uv"},
            "bundle": {"type": "path"},
            "progress": {"type": "path"},
        },
        required_if=[("managed", True, ["lock"])],
        supports_check_mode=True,
    )
    Builder(module).run()


if __name__ == "__main__":
    main()
