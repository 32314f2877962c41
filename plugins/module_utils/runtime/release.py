# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installing what a release's lock names, and proving it.

uv links a venv's files from its cache, so a file that is changed in place, by a person or a failing
disk, is changed in the cache too and would come back with every later venv. What comes from a cache
is therefore compared with the wheels' own RECORDs before it is imported.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.texts import (
    read,
    write_atomically,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime import (
    manifest as venv_manifest,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.locked import (
    Locked,
    Versions,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.proving import (
    PROVE_RELEASE,
    alias_dist_info,
    broken_in_cache,
    interpreter_identity,
    locked_packages,
    only_from,
    read_proof,
    unexpected_versions,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.steps import (
    CallFailed,
    Steps,
)


def link_or_copy(source: str, target: str) -> None:
    """Give a file a second name; where the file system cannot, a copy of the same time."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        shutil.copy2(source, target, follow_symlinks=False)


def prove_release(
    steps: Steps, venv: str, expect: Mapping[str, Any], pycache: str | None = None
) -> Versions:
    """Let an environment's own Python import vLLM and name its versions.

    Raises:
        Failed: It cannot, or they are others than those that are expected.
    """
    versions = steps.prove(venv, PROVE_RELEASE, "proving the venv by its own Python", pycache)
    wrong = unexpected_versions(expect, versions)
    if wrong:
        raise Failed(f"the venv {venv} is not what the release data says: {'; '.join(wrong)}")
    return versions


class Release(Locked):
    """A release's environment.

    Args:
        path: Where it is, or is to be.
        lock: The text of its lock.
        python: The interpreter that it is made for.
        full: Whether every file is read when it is compared with its manifest.
        steps: Runs the programs.
        params: `tools_path`, `cache_dir`, `bundle`, `expect`, `release`, `accelerator`,
            `metadata_alias` and `installed_bytes` of the module.

    Attributes:
        mended: What was found wrong with the packages' cache and fetched again; empty for nothing.
    """

    def __init__(
        self,
        path: str,
        lock: str,
        python: str,
        full: bool,
        steps: Steps,
        params: Mapping[str, Any],
    ) -> None:
        super().__init__(path, lock, python, full)
        self.steps = steps
        self.params = params
        self.cache: str = params["cache_dir"]
        self.mended: list[str] = []

    def build(self) -> None:
        """Make it with uv, prove it, and mark it.

        Raises:
            Failed: It cannot be made; nothing of it is left.
        """
        shutil.rmtree(self.path, ignore_errors=True)
        os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
        try:
            with self.steps.timed("install"):
                warm = bool(glob.glob(os.path.join(glob.escape(self.cache), "archive-*", "*")))
                self._make_skeleton()
                self._install_all(warm)
                self._write_alias()
            with self.steps.timed("prove"):
                recalled = self._recall_proof()
                self._mark(*(recalled or self._prove_anew(warm)))
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            self.clear_scratch()
            raise

    def _prove_anew(self, warm: bool) -> tuple[Versions, dict[str, venv_manifest.Entry]]:
        """Prove what was installed, and keep the proof.

        Args:
            warm: Whether packages may have come from a cache that was there before.

        Returns:
            The versions and the manifest.
        """
        if warm:
            self._mend(full=False)
        before = venv_manifest.scan(self.path)
        try:
            versions = self._prove()
        except CallFailed:
            if not self._mend(full=True):
                raise
            before = venv_manifest.scan(self.path)
            versions = self._prove()
        found = venv_manifest.scan(self.path)
        entries = venv_manifest.make(self.path, found)
        damage = venv_manifest.compare(self.path, entries, found)[0]
        if damage:
            self.mended.append(damage.text())
            versions, entries = self.repair(damage, entries)
        self._keep_proof(versions, entries, sorted(entries.keys() - before.keys()))
        return versions, entries

    def _prove(self) -> Versions:
        return prove_release(self.steps, self.path, self.params["expect"])

    def _mark(self, versions: Versions, entries: dict[str, venv_manifest.Entry]) -> None:
        release, accelerator = self.params["release"], self.params["accelerator"]
        self.mark(versions, entries, release=release, accelerator=accelerator)

    def _install_all(self, warm: bool) -> None:
        """Install what the lock names; what of a cache uv cannot read is dropped and fetched."""
        locked = locked_packages(self.lock)
        dropped: list[str] = []
        step = "downloading and unpacking packages"
        while True:
            try:
                self._install(dropped, step, self.params["installed_bytes"])
                return
            except CallFailed as error:
                broken = broken_in_cache(error.output, locked) - set(dropped) if warm else set()
                if not broken:
                    raise
                self.mended.append(f"unreadable: {', '.join(sorted(broken))}")
                dropped += sorted(broken)

    def _mend(self, full: bool) -> bool:
        """Install packages again that are not as their wheels' RECORDs say; whether there were any.

        Args:
            full: Read every file, not only those that are newer than their package or of another
                size.

        Raises:
            Failed: They still are not.
        """
        self.steps.progress.update("comparing the packages with what their wheels say")
        damage, entries = self._against_wheels(full)
        if damage:
            self.mended.append(damage.text())
            self._reinstall(damage, entries)
            damage, entries = self._against_wheels(full)
            if damage:
                raise Failed(
                    f"packages are damaged also when they are fetched again ({damage.text()});"
                    " check what serves them (a mirror, the bundle) and the disk"
                )
            return True
        return False

    def _against_wheels(
        self, full: bool
    ) -> tuple[venv_manifest.Damage, dict[str, venv_manifest.Entry]]:
        found = venv_manifest.scan(self.path)
        entries = venv_manifest.make(self.path, found, doubt=True)
        return venv_manifest.compare(self.path, entries, found, full)[0], entries

    def _reinstall(
        self, damage: venv_manifest.Damage, entries: Mapping[str, venv_manifest.Entry]
    ) -> None:
        """Install the packages again that damaged files belong to."""
        locked = locked_packages(self.lock)
        bad = [path for path in (*damage.missing, *damage.altered) if path in entries]
        again = [name for name in venv_manifest.packages_of(entries, bad) if name in locked]
        for path in (*damage.altered, *damage.added):
            # uv cannot work with a damaged RECORD, and does with none.
            entry = entries.get(path)
            if entry is None or entry.package not in locked or path.endswith("/RECORD"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.path, path))
        if any(entries[path].package not in locked for path in bad):
            self._make_skeleton()
            self._write_alias()
        if again:
            self._install(again, f"installing damaged packages again ({', '.join(again)})")

    def restore(self) -> None:
        """Compare it with its manifest, install damaged packages again, and prove it.

        Raises:
            Failed: It cannot be repaired.
        """
        record = self.record()
        damage, entries, touched = self.damage()
        if damage:
            with self.steps.timed("repair"):
                self._mark(*self.repair(damage, entries))
        elif touched and record is not None:
            # Read once, not in every run from now on.
            for path in touched:
                status = os.lstat(os.path.join(self.path, path))
                entries[path] = entries[path]._replace(mtime_ns=status.st_mtime_ns)
            self._mark(record["versions"], entries)

    def repair(
        self, damage: venv_manifest.Damage, entries: dict[str, venv_manifest.Entry]
    ) -> tuple[Versions, dict[str, venv_manifest.Entry]]:
        """Install damaged packages again, and prove the environment.

        Returns:
            The versions, and the manifest of what is there now.

        Raises:
            Failed: It cannot be repaired.
        """
        self._reinstall(damage, entries)
        versions = self._prove()
        found = venv_manifest.scan(self.path)
        # Packages that were left alone were compared before; of the others each file is read.
        fresh = {
            path: status
            for path, status in found.items()
            if path not in entries or entries[path][:2] != status
        }
        still = venv_manifest.compare(self.path, entries, fresh, full=True)[0]
        missing = sorted(path for path in entries if path not in found)
        still = still._replace(missing=missing)
        if still:
            raise Failed(
                f"the venv {self.path} is damaged and could not be repaired ({still.text()}); "
                "stop what serves from it, remove it and run again"
            )
        return versions, {path: entries[path]._replace(mtime_ns=found[path][1]) for path in found}

    def _uv(self, arguments: list[str], step: str, total: int = 0) -> None:
        """Run uv on the release's environment."""
        self.steps.call(
            [os.path.join(self.params["tools_path"], "bin", "uv"), *arguments],
            step,
            {
                "UV_CACHE_DIR": self.cache,
                "UV_PYTHON_DOWNLOADS": "never",
                "UV_NO_PROGRESS": "1",
                "VIRTUAL_ENV": self.path,
            },
            total,
        )

    def _make_skeleton(self) -> None:
        """Make the environment without packages, or make again what is missing of one."""
        self._uv(
            ["venv", "--quiet", "--allow-existing", "--python", self.python, self.path],
            "making the venv",
        )
        self.write_lock()

    def _install(self, again: list[str], step: str, total: int = 0) -> None:
        """Install what the lock names and is not there, and some packages again."""
        self.clear_scratch()
        for package in again:
            # The cache's files are the venv's own, by hard links, and as damaged.
            self._uv(["cache", "clean", "--quiet", package], "dropping damaged packages")
        anew = [
            f"--re{what}-package={package}" for package in again for what in ("install", "fresh")
        ]
        arguments = ["--quiet", "--require-hashes", "--no-deps", "--no-build", *anew]
        arguments += only_from(self.params["bundle"])
        self._uv(["pip", "install", *arguments, "--requirement", self.write_lock()], step, total)

    def clear_scratch(self) -> None:
        """Remove what a uv that was killed or failed was unpacking; the lock is held."""
        for left_over in glob.glob(os.path.join(glob.escape(self.cache), ".tmp*")):
            shutil.rmtree(left_over, ignore_errors=True)

    def _proof(self) -> str:
        """Where the release's proof outlives its environment: beside the packages' cache."""
        caches = os.path.dirname(self.cache.rstrip("/"))
        return os.path.join(caches, "proofs", os.path.basename(self.path))

    def _keep_proof(
        self,
        versions: Versions,
        entries: dict[str, venv_manifest.Entry],
        made_by_import: list[str],
    ) -> None:
        """Keep what the first import said and left, for the next build of the same bytes."""
        venv, proof = self.path, self._proof()
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
            "interpreter": interpreter_identity(self.python),
            "lock_sha256": self.sha256,
            "manifest_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "versions": versions,
        }
        write_atomically(os.path.join(fresh, "proof.json"), json.dumps(record, indent=2) + "\n")
        shutil.rmtree(proof, ignore_errors=True)
        os.rename(fresh, proof)

    def _recall_proof(
        self,
    ) -> tuple[Versions, dict[str, venv_manifest.Entry]] | None:
        """Find that this host has proved the same bytes with the same interpreter before.

        Every file is compared with the manifest of that proof: by its time and size where they are
        the same, as those of files linked from the cache are, else by its content.

        Returns:
            The versions and the manifest; `None` where the environment has to be proved.
        """
        venv, proof = self.path, self._proof()
        record = read_proof(
            read(os.path.join(proof, "proof.json")),
            read(os.path.join(proof, "manifest")),
            self.sha256,
            interpreter_identity(self.python),
        )
        if record is None:
            return None
        self.steps.progress.update("comparing the venv with one that was proved on this host")
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

    def _write_alias(self) -> None:
        """Let the environment's vLLM be found under the wanted other name, too."""
        alias = self.params["metadata_alias"]
        if alias is None:
            return
        (packages,) = glob.glob(
            os.path.join(glob.escape(self.path), "lib", "python3*", "site-packages")
        )
        for path, text in alias_dist_info(alias["name"], str(alias["version"])).items():
            os.makedirs(os.path.dirname(os.path.join(packages, path)), exist_ok=True)
            write_atomically(os.path.join(packages, path), text)
