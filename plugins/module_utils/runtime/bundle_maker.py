# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a bundle, on the controller."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Any, NamedTuple

from ansible_collections.compute_plane.vllm.plugins.module_utils.common.failed import Failed
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.lock import Asking, held
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.progress import Progress
from ansible_collections.compute_plane.vllm.plugins.module_utils.common.space import (
    RESERVE,
    human_bytes,
    space,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.bundle import (
    INCOMING,
    MANIFEST,
    TOOLS_LOCK,
    File,
    Requirement,
    explain_pip,
    manifest,
    marker_environment,
    model_name,
    parse_lock,
    pinned,
    pip_download,
    platform_tags,
    read_manifest,
    strange,
    wheel_name,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.runtime.bundle_files import (
    BundleFiles,
    bytes_below,
    files_below,
    remove,
    sha256_of,
)

# Only what makes a bundle needs it, on the controller, where ansible-core brings it.
PACKAGING_ERROR: str | None = None
try:
    from packaging.markers import Marker
    from packaging.tags import compatible_tags, cpython_tags
    from packaging.utils import parse_wheel_filename
except ImportError:
    PACKAGING_ERROR = traceback.format_exc()


class Lock(NamedTuple):
    """A lock that goes into the bundle."""

    name: str
    python: str | None
    """The minor version that it is for; `None` for the tools' lock, which is for all of them."""
    text: str

    @property
    def sha256(self) -> str:
        """The hash of its text."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()


class Wheel(NamedTuple):
    """A wheel that is in the bundle."""

    filename: str
    name: str
    version: str
    sha256: str


@functools.cache
def supported_tags(python: str, platform: str) -> frozenset[Any]:
    """The tags of the wheels that a Python can install on a platform."""
    platforms = platform_tags(platform)
    major, minor = (int(part) for part in python.split("."))
    tags = set(cpython_tags((major, minor), platforms=platforms))
    return frozenset(tags | set(compatible_tags((major, minor), f"cp{major}{minor}", platforms)))


def put(path: str, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power failure."""
    fd, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=INCOMING)
    with os.fdopen(fd, "wb") as stream:
        stream.write(content)
    settle(temporary, path)


def settle(temporary: str, path: str) -> None:
    """Give a finished file its name."""
    with open(temporary, "rb") as stream:
        os.fsync(stream.fileno())
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


class BundleMaker(BundleFiles):
    """Makes a bundle, or brings one to what is wanted.

    Args:
        params: The module's.
        progress: Where it says what is being done.
        check: Whether nothing is to be changed.
    """

    def __init__(self, params: dict[str, Any], progress: Progress, check: bool) -> None:
        super().__init__(params, progress)
        self.check = check
        self.wheels = os.path.join(self.path, "wheels")

    def check_arguments(self) -> list[Lock]:
        """All that is wrong with what was asked for, at once.

        Raises:
            Failed: Something is.
        """
        problems = []
        locks = [Lock(**lock) for lock in self.params["locks"]]
        locks.append(Lock(TOOLS_LOCK, None, self.params["tools_lock"]))
        for lock in locks:
            try:
                if not parse_lock(lock.text):
                    problems.append(f"locks: {lock.name} names no package")
            except ValueError as error:
                problems.append(f"locks: {lock.name}: {error}")
            if os.path.basename(lock.name) != lock.name or not lock.name.endswith(".txt"):
                problems.append(f"locks: {lock.name!r} is not a file name that ends with .txt")
        try:
            platform_tags(self.params["platform"])
        except ValueError as error:
            problems.append(f"platform: {error}")
        if self.params["workers"] < 1:
            problems.append(f"workers: {self.params['workers']} is less than 1")
        if os.path.isdir(self.path):
            others = strange(os.listdir(self.path))
            if others:
                problems.append(
                    f"path: {self.path} holds {', '.join(others[:3])}, which is not of a bundle; "
                    "name a new or an empty directory"
                )
        elif os.path.lexists(self.path):
            problems.append(f"path: {self.path} is not a directory")
        names: dict[str, str] = {}
        for model in self.params["models"]:
            name = model_name(model)
            if not os.path.isfile(os.path.join(model, "config.json")):
                problems.append(f"models: {model} is not a directory with a config.json")
            if name in names:
                problems.append(f"models: {model} and {names[name]} have the same name")
            names[name] = model
        if problems:
            raise Failed("; ".join(problems))
        return locks

    def wanted(self, locks: list[Lock], python: str) -> list[Requirement]:
        """The packages that a Python needs, of its own lock and of the tools'."""
        environment = marker_environment(python, self.params["platform"])
        return [
            requirement
            for lock in locks
            if lock.python in (None, python)
            for requirement in parse_lock(lock.text)
            if requirement.marker is None or Marker(requirement.marker).evaluate(environment)
        ]

    def present_wheels(self) -> list[Wheel]:
        """The wheels that are there, hashed."""
        names = sorted(os.listdir(self.wheels)) if os.path.isdir(self.wheels) else []
        known = {name: wheel_name(name) for name in names}
        paths = {f"wheels/{name}": name for name, parts in known.items() if parts is not None}
        hashes = self.sha256(paths, "checking the wheels that are there")
        return [
            Wheel(paths[path], *parts, hashes[path])
            for path, name in paths.items()
            if (parts := known[name]) is not None and path in hashes
        ]

    def fits(self, filename: str, python: str) -> bool:
        """Whether a wheel can be installed by a Python on the wanted platform."""
        tags = supported_tags(python, self.params["platform"])
        return not tags.isdisjoint(parse_wheel_filename(filename)[3])

    def missing(
        self, locks: list[Lock], wheels: list[Wheel]
    ) -> tuple[list[tuple[str, Requirement]], set[str]]:
        """Compare what is wanted with the wheels that are there.

        Returns:
            What has to be fetched, with the Python that it is for; and the names of the wheels that
            are wanted and there.
        """
        by_hash: dict[str, list[Wheel]] = {}
        for wheel in wheels:
            by_hash.setdefault(wheel.sha256, []).append(wheel)
        todo, kept = [], set()
        for python in [lock.python for lock in locks if lock.python is not None]:
            for requirement in self.wanted(locks, python):
                right = [
                    wheel.filename
                    for sha256 in requirement.hashes
                    for wheel in by_hash.get(sha256, ())
                    if wheel.name == requirement.name and self.fits(wheel.filename, python)
                ]
                kept.update(right)
                if not right:
                    todo.append((python, requirement))
        return todo, kept

    def fetch(self, todo: list[tuple[str, Requirement]]) -> None:
        """Fetch wheels, several side by side; each gets its place when it is whole.

        Raises:
            Failed: One could not be fetched; those that came are kept.
        """
        with tempfile.TemporaryDirectory(dir=self.path, prefix=INCOMING) as incoming:
            failures = []
            began, done = time.monotonic(), 0
            with concurrent.futures.ThreadPoolExecutor(self.params["workers"]) as pool:
                running = {pool.submit(self.fetch_one, incoming, *one) for one in todo}
                while running:
                    ended, running = concurrent.futures.wait(running, timeout=0.5)
                    for future in ended:
                        done += 1
                        try:
                            future.result()
                        except Failed as error:
                            failures.append(str(error))
                            for other in running:
                                other.cancel()
                    running = {future for future in running if not future.cancelled()}
                    self.progress.update(
                        "downloading wheels",
                        files_done=done,
                        files_total=len(todo),
                        elapsed=time.monotonic() - began,
                        detail=f"{bytes_below(self.path) / 1e9:.1f} GB in the bundle",
                    )
        if failures:
            raise Failed("; ".join(sorted(failures)))

    def fetch_one(self, incoming: str, python: str, requirement: Requirement) -> None:
        """Fetch one wheel with pip, which compares its hash, and put it into its place."""
        what = f"{requirement.name}=={requirement.version}"
        pip = [self.params["python"] or sys.executable, "-m", "pip"]
        with tempfile.TemporaryDirectory(dir=incoming) as folder:
            asked = os.path.join(folder, "requirements.txt")
            with open(asked, "w", encoding="utf-8") as stream:
                stream.write(pinned(requirement))
            arrived, unpacked = os.path.join(folder, "arrived"), os.path.join(folder, "tmp")
            os.mkdir(unpacked)
            command = pip_download(pip, python, self.params["platform"])
            process = subprocess.run(
                [*command, "--dest", arrived, "--requirement", asked],
                env={**os.environ, "TMPDIR": unpacked},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if process.returncode != 0:
                raise Failed(explain_pip(what, process.stdout))
            for name in os.listdir(arrived):
                if sha256_of(os.path.join(arrived, name)) not in requirement.hashes:
                    raise Failed(f"{what}: pip left {name}, which the lock does not name")
                settle(os.path.join(arrived, name), os.path.join(self.wheels, name))

    def model_files(self) -> dict[str, str]:
        """Where each file of the models comes from, by its place in the bundle."""
        found = {}
        for model in self.params["models"]:
            name = model_name(model)
            for path in files_below(model):
                found[f"models/{name}/{path}"] = os.path.realpath(os.path.join(model, path))
        return found

    def other_models(self, sources: dict[str, str]) -> list[str]:
        """The files of models that are not there as they are where they come from."""
        other = []
        for path, source in sources.items():
            here = self.at(path)
            if os.path.isfile(here) and os.path.samefile(here, source):
                continue
            if (
                not os.path.isfile(here)
                or os.path.getsize(here) != os.path.getsize(source)
                or self.sha256([path], "comparing models")[path] != sha256_of(source)
            ):
                other.append(path)
        return other

    def bring_models(self, paths: list[str], sources: dict[str, str]) -> None:
        """Link or copy files of models into the bundle."""
        for number, path in enumerate(paths):
            self.progress.update("models", files_done=number, files_total=len(paths), detail=path)
            here = self.at(path)
            os.makedirs(os.path.dirname(here), mode=0o755, exist_ok=True)
            temporary = os.path.join(os.path.dirname(here), INCOMING + os.path.basename(here))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            try:
                os.link(sources[path], temporary)
                os.replace(temporary, here)
            except OSError:  # another file system, or one without links
                shutil.copyfile(sources[path], temporary)
                settle(temporary, here)

    def check_space(self, fetching: bool, models: list[str]) -> None:
        """See that there is room for what comes.

        Args:
            fetching: Whether wheels are to be fetched.
            models: Files of models that are to be brought.

        Raises:
            Failed: There is not.
        """
        room = space(self.path)
        there = bytes_below(self.wheels)
        wheels = max(0, self.params["download_bytes"] - there) if fetching else 0
        # On one file system a link takes no room.
        device = os.stat(room.mount).st_dev
        copies = sum(s.st_size for s in map(os.stat, models) if s.st_dev != device)
        todo = wheels + copies
        if todo + (RESERVE if todo else 0) > room.free:
            raise Failed(
                f"not enough room on {room.mount} for {self.path}: about {human_bytes(todo)} are to"
                f" come (packages {human_bytes(wheels)}, models {human_bytes(copies)}) and"
                f" {human_bytes(RESERVE)} must stay free, but {human_bytes(room.free)} are free;"
                " make room there, or choose another place"
            )

    def listing(self) -> list[str]:
        """Every file that is in the bundle's directories."""
        return [
            f"{folder}/{path}"
            for folder in ("locks", "models", "wheels")
            if os.path.isdir(self.at(folder))
            for path in files_below(self.at(folder))
        ]

    def former(self) -> tuple[str, set[str]]:
        """The manifest that is there, and the files it names; nothing where there is none."""
        try:
            with open(self.at(MANIFEST), encoding="utf-8") as stream:
                text = stream.read()
            return text, {file.path for file in read_manifest(text)[1]}
        except (OSError, ValueError):
            return "", set()

    def surplus(self, wanted: set[str], former: set[str]) -> list[str]:
        """Files to remove: wheels that no lock names, and what only the former manifest names."""
        return [
            path
            for path in self.listing()
            if path not in wanted and (path.startswith("wheels/") or path in former)
        ]

    def present(self) -> dict[str, Any]:
        """Make the bundle.

        Raises:
            Failed: It cannot be made.
        """
        locks = self.check_arguments()
        if self.check:
            return self.make(locks)
        os.makedirs(self.path, mode=0o755, exist_ok=True)
        # A second run at the same time waits, then finds the work done.
        asking = Asking.of(self.params, self.progress.update)
        with held(self.at(".lock"), f"the bundle {self.path}", asking):
            os.makedirs(self.wheels, mode=0o755, exist_ok=True)
            for name in os.listdir(self.path):  # what a run that was killed left
                if name.startswith(INCOMING):
                    remove(self.at(name))
            return self.make(locks)

    def make(self, locks: list[Lock]) -> dict[str, Any]:
        """Compare, fetch what is missing, and write the manifest; in check mode only compare."""
        before, (old, former) = self.listing(), self.former()
        todo, kept = self.missing(locks, self.present_wheels())
        fetched = sorted({f"{one.name}=={one.version}" for _python, one in todo})
        sources = self.model_files()
        models = self.other_models(sources)
        self.check_space(bool(todo), [sources[path] for path in models])
        if not self.check:
            # A wheel that serves several Pythons is fetched for the first of them.
            while todo:
                python = todo[0][0]
                self.fetch([one for one in todo if one[0] == python])
                left, kept = self.missing(locks, self.present_wheels())
                if any(one[0] == python for one in left):
                    raise Failed(f"wheels: {pinned(left[0][1]).split()[0]} came and does not fit")
                todo = left
        texts = {f"locks/{lock.name}": lock.text.encode("utf-8") for lock in locks}
        if not self.check:
            self.bring_models(models, sources)
            os.makedirs(self.at("locks"), mode=0o755, exist_ok=True)
            for path, content in texts.items():
                if self.read(path) != content:
                    put(self.at(path), content)
        wanted = {*texts, *sources, *(f"wheels/{name}" for name in kept)}
        hashes = self.sha256(sorted(wanted), "hashing")
        files = [File(p, os.path.getsize(self.at(p)), sha256) for p, sha256 in hashes.items()]
        new = manifest(
            self.params["release"],
            self.params["accelerator"],
            self.params["platform"],
            {lock.name: (lock.python, lock.sha256) for lock in locks},
            files,
        )
        text = json.dumps(new, indent=1) + "\n"
        surplus = self.surplus(wanted, former)
        changed = bool(fetched or models or surplus or text != old)
        if not self.check:
            if text != old:
                put(self.at(MANIFEST), text.encode("utf-8"))
            for path in surplus:
                os.unlink(self.at(path))
        after = sorted(wanted) + [
            f"wheels/{name} (to be fetched)" for name in fetched if self.check
        ]
        return {
            "changed": changed,
            "fetched": fetched,
            "files": len(files),
            "bytes": sum(file.bytes for file in files),
            "diff": {
                "before_header": self.path,
                "after_header": self.path,
                "before": "".join(f"{path}\n" for path in before),
                "after": "".join(f"{path}\n" for path in after),
            },
        }

    def read(self, path: str) -> bytes | None:
        """A file of the bundle, or `None`."""
        try:
            with open(self.at(path), "rb") as stream:
                return stream.read()
        except FileNotFoundError:
            return None
