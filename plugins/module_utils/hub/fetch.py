# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring files from the Hub: a process of the tools' Python fetches, this one watches and verifies.

The module's own process never talks to the network. It starts the worker (`worker`), follows
the growing files to hash them while they arrive, ends a worker from which no byte comes and starts
it again where it stood, and waits as long as the Hub asks.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Callable

from ansible_collections.compute_plane.vllm.plugins.module_utils.hub import worker as hf_worker
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.ask import certificates
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.cache import (
    BLOCK,
    RepoCache,
    digest,
    expected_digest,
    new_hasher,
)
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.errors import TRANSIENT
from ansible_collections.compute_plane.vllm.plugins.module_utils.hub.repo import Blob, RepoFile

if TYPE_CHECKING:
    import builtins

TICK = 0.2
"""Seconds between two looks at the files."""

START_TIMEOUT = 120.0
"""Seconds for the worker to import the client, on a slow disk."""

LONGEST_WAIT = 900.0
"""Seconds that the Hub may ask to wait before the run gives up instead."""

WRONG_CONTENT_RETRIES = 2
"""How often a file whose content is wrong is fetched again: it is the whole file each time."""

_SYNC_EVERY = 64 << 20

# What the worker keeps of the module's environment: how to reach the network, and nothing of
# Hugging Face's own, so that a host's leftovers cannot change what the task's parameters say.
_INHERIT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)

_BOOT = (
    "import sys; n = int(sys.stdin.buffer.readline()); "
    "exec(compile(sys.stdin.buffer.read(n), 'hf_worker', 'exec'), {'__name__': '__main__'})"
)


class HubError(Exception):
    """A failure that ends the run.

    Attributes:
        event: The worker's `failed` event.
        path: The file it happened with, if it was one.
    """

    def __init__(self, event: Mapping[str, Any], path: str | None = None) -> None:
        super().__init__(event["code"])
        self.event = event
        self.path = path


def worker_environment(
    environ: Mapping[str, str],
    home: str,
    endpoint: str,
    cache_dir: str,
    exists: Callable[[str], bool] = os.path.exists,
) -> dict[str, str]:
    """The worker's whole environment.

    Args:
        environ: The module's own.
        home: A folder of this run for whatever the client keeps outside the cache.
        endpoint: The Hub's address.
        cache_dir: The cache.
        exists: Whether the host has a file.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name.upper() in _INHERIT and (name.upper() == name or name.upper().endswith("_PROXY"))
    }
    # The client would use only the certificates that came with it.
    trusted = certificates(kept, exists)
    if trusted is not None:
        kept["SSL_CERT_FILE"] = trusted
    return {
        **kept,
        "HOME": home,
        "HF_HOME": home,
        "HF_HUB_CACHE": cache_dir,
        "HF_ENDPOINT": endpoint,
        # xet stalls at 0 % or 99 % (huggingface/xet-core#850, #883) and cannot be watched by bytes.
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


class Worker:
    """The process that talks to the Hub.

    Args:
        python: The tools' Python.
        environment: See `worker_environment`.
        hello: The first request.

    Raises:
        HubError: It cannot be started, or has no client.
    """

    def __init__(self, python: str, environment: Mapping[str, str], hello: dict[str, Any]) -> None:
        # From the file system, or from the archive in which Ansible ships modules.
        source = inspect.getsource(hf_worker).encode()
        try:
            self._process = subprocess.Popen(
                [python, "-I", "-c", _BOOT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(environment),
                start_new_session=True,  # a process group to kill, and none that a terminal ends
            )
        except OSError as error:
            raise HubError({"code": "tools", "message": f"{python}: {error.strerror}"}) from error
        self._numbers = iter(range(1 << 62))
        self._errors: deque[bytes] = deque(maxlen=20)
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._stderr = threading.Thread(target=self._read_errors, daemon=True)
        self._stdout = threading.Thread(target=self._read_events, daemon=True)
        self._stderr.start()
        self._stdout.start()
        self._write(b"%d\n" % len(source) + source)
        answer = self.wait(self.send("hello", **hello), START_TIMEOUT)
        if answer["event"] == "failed":
            self.kill()
            raise HubError({**answer, "code": "tools"})
        self.version = str(answer["version"])

    @property
    def pid(self) -> int:
        """Process id, which is its process group's too."""
        return self._process.pid

    def send(self, operation: str, **request: Any) -> int:
        """Send a request; returns the number that its event carries."""
        number = next(self._numbers)
        self._write(json.dumps({"id": number, "op": operation, **request}).encode() + b"\n")
        return number

    def wait(self, number: int, timeout: float) -> dict[str, Any]:
        """The event of a request when no other is under way."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                event = self.events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return {"id": number, "event": "failed", "code": "stalled", "message": ""}
            if event["id"] in (number, None):
                return event

    def kill(self) -> None:
        """End it, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        for thread in (self._stdout, self._stderr):
            thread.join(5)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _write(self, data: bytes) -> None:
        # A worker that died is noticed by the end of its output.
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.write(data)
                self._process.stdin.flush()

    def _read_events(self) -> None:
        if self._process.stdout is None:
            return
        for line in self._process.stdout:
            self.events.put(json.loads(line))
        self._stderr.join(5)
        last = b"".join(self._errors).decode("utf-8", "replace").strip()
        code = self._process.wait()
        message = f"exit status {code}" + (": " + last[-600:] if last else "")
        self.events.put({"id": None, "event": "failed", "code": "died", "message": message})

    def _read_errors(self) -> None:
        if self._process.stderr is not None:
            self._errors.extend(self._process.stderr)


class Follower(threading.Thread):
    """Hashes a file while another process appends to it.

    Args:
        file: What it should become.
        path: Where it grows.
    """

    def __init__(self, file: RepoFile, path: str) -> None:
        super().__init__(daemon=True)
        self._file = file
        self._path = path
        self._complete = threading.Event()
        self._cancelled = False
        self.digest: str | None = None
        """The hash of the whole file, after the thread has ended."""

    def complete(self) -> None:
        """Nothing more will be appended."""
        self._complete.set()

    def cancel(self) -> None:
        """The file is not of interest any more."""
        self._cancelled = True
        self._complete.set()

    def run(self) -> None:
        """Hash up to the end, wait for more, until it is complete."""
        while not os.path.exists(self._path) and not self._complete.wait(TICK):
            pass
        # A file that is gone meanwhile has no hash, and is fetched again.
        with contextlib.suppress(FileNotFoundError), open(self._path, "rb", buffering=0) as stream:
            hasher, position, synced = new_hasher(self._file), 0, 0
            while not self._cancelled:
                last = self._complete.is_set()
                block = stream.read(BLOCK)
                if block:
                    hasher.update(block)
                    position += len(block)
                    if position - synced >= _SYNC_EVERY:
                        # Bit by bit, so that the sync that makes the file durable is short.
                        os.fdatasync(stream.fileno())
                        synced = position
                elif os.fstat(stream.fileno()).st_size < position:
                    stream.seek(0)  # the server began at the beginning again
                    hasher, position, synced = new_hasher(self._file), 0, 0
                elif last:
                    self.digest = hasher.hexdigest()
                    return
                else:
                    self._complete.wait(TICK)


class _Task:
    """A file on its way.

    Attributes:
        seen: Bytes of it at the last look.
        failures: Attempts in a row that brought no byte.
        wrong: How often it arrived whole with the wrong content.
        not_before: Moment of the next attempt.
        request: Number of the request under way.
        follower: Who hashes it.
    """

    def __init__(self, file: RepoFile) -> None:
        self.file = file
        self.seen = 0
        self.began = 0
        self.failures = 0
        self.wrong = 0
        self.not_before = 0.0
        self.request: int | None = None
        self.follower: Follower | None = None


class Rate:
    """Bytes per second over the last seconds.

    Args:
        window: How many seconds at least, once so many have passed.
    """

    def __init__(self, window: float = 10.0) -> None:
        self._window = window
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, moment: float, received: int) -> float:
        """Take note of how many bytes have come until a moment; returns the rate."""
        self._samples.append((moment, received))
        while len(self._samples) > 1 and moment - self._samples[1][0] >= self._window:
            self._samples.popleft()
        seconds = moment - self._samples[0][0]
        return (received - self._samples[0][1]) / seconds if seconds > 0 else 0.0


class Hub:
    """The Hub, behind a worker that is started when it is first needed.

    Args:
        cache: The repository's folder.
        python: The tools' Python.
        environment: See `worker_environment`.
        endpoint: The Hub's address.
        token: The token, or None.
        max_workers: Files fetched side by side.
        stall_timeout: Seconds without a byte after which a transfer is ended and resumed.
        retries: How often in a row something is tried again without a byte having come.
        report: Told about progress, with the keywords of `Progress.update`.
    """

    def __init__(
        self,
        cache: RepoCache,
        python: str,
        environment: Mapping[str, str],
        endpoint: str,
        token: str | None,
        max_workers: int,
        stall_timeout: float,
        retries: int,
        report: Callable[..., None],
    ) -> None:
        self.cache = cache
        self.received = 0
        """Bytes that came from the Hub."""
        self.restarts = 0
        """How often a worker was ended because no byte came, or ended by itself."""
        self._python = python
        self._environment = environment
        self._hello = {
            "endpoint": endpoint,
            "token": token,
            "threads": max_workers,
            "timeout": stall_timeout,
        }
        self._max_workers = max_workers
        self._stall_timeout = stall_timeout
        self._retries = retries
        self._report = report
        self._worker: Worker | None = None

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    def list(self, revision: str) -> tuple[str, builtins.list[RepoFile]]:
        """The commit that a revision is at, and its files.

        Raises:
            HubError: After the last attempt.
        """
        answer = self._call("list", repo_id=self.cache.repo_id, revision=revision)
        files = []
        for path, size, etag, sha256 in answer["files"]:
            if size is None or etag is None:
                raise HubError(
                    {"code": "mismatch", "message": f"no size or hash of {path} is listed"}
                )
            files.append(RepoFile(path, size, etag, sha256))
        return str(answer["commit"]), files

    def read(self, commit: str, path: str) -> str:
        """The text of a small file.

        Raises:
            HubError: After the last attempt.
        """
        answer = self._call("read", repo_id=self.cache.repo_id, commit=commit, path=path)
        return str(answer["text"])

    def _call(self, operation: str, **request: Any) -> dict[str, Any]:
        for attempt in range(self._retries + 1):
            worker = self._running()
            answer = worker.wait(worker.send(operation, **request), 2 * self._stall_timeout + 30)
            if answer["event"] == "done":
                return answer
            if answer["code"] in ("died", "stalled"):
                self.close()
            if answer["code"] not in TRANSIENT or attempt == self._retries:
                break
            delay = self._delay(answer, attempt + 1)
            if delay > LONGEST_WAIT:
                break
            self._report("asking the Hub", detail=_waiting(answer, delay))
            time.sleep(delay)
        raise HubError(answer, request.get("path"))

    def fetch(
        self,
        commit: str,
        files: Iterable[RepoFile],
        total: int,
        verified: Callable[[RepoFile, Blob], None],
    ) -> None:
        """Bring files and verify them.

        Args:
            commit: Their commit.
            files: What is missing, wholly or in part; each content once.
            total: Bytes of the whole model, for the progress.
            verified: Told about each file that is there, whole and right.

        Raises:
            HubError: A file cannot be had.
        """
        # The largest first: the others fill the gaps beside them.
        tasks = [_Task(file) for file in sorted(files, key=lambda file: (-file.size, file.path))]
        rate, pause, moved = Rate(), 0.0, time.monotonic()
        files_total, missing = len(tasks), sum(task.file.size for task in tasks)
        for task in tasks:
            task.seen = self._size(task)
        try:
            while tasks:
                waiting_for = any(task.request is not None for task in tasks)
                for event in self._events(TICK if waiting_for else TICK / 4):
                    pause = max(pause, self._answer(event, tasks))
                now = time.monotonic()
                if sum([self._measure(task) for task in tasks]):
                    moved = now
                for task in tasks[:]:
                    blob = self._settle(task)
                    if blob is not None:
                        verified(task.file, blob)
                        tasks.remove(task)
                        missing -= task.file.size
                under_way = [task for task in tasks if task.request is not None]
                for task in tasks:
                    if len(under_way) >= self._max_workers or now < pause:
                        break
                    if task.request is None and task.follower is None and now >= task.not_before:
                        self._begin(commit, task)
                        under_way.append(task)
                        moved = now
                if under_way and now - moved > self._stall_timeout + 2:
                    self._restart(
                        tasks, {"code": "stalled", "message": f"{self._stall_timeout:.0f} s"}
                    )
                done = total - missing + sum(task.seen for task in tasks)
                speed = rate.add(now, self.received)
                waiting = [t.not_before for t in tasks] if not under_way and tasks else []
                pausing = max(pause, min(waiting)) - now if waiting else 0.0
                self._report(
                    "downloading " + self.cache.repo_id,
                    files_done=files_total - len(tasks),
                    files_total=files_total,
                    bytes_done=done,
                    bytes_total=total,
                    rate=round(speed),
                    eta=round((total - done) / speed) if speed else None,
                    detail=f"waiting {pausing:.0f} s" if pausing > 1 else None,
                )
        finally:
            for task in tasks:
                if task.follower is not None:
                    task.follower.cancel()

    def _running(self) -> Worker:
        if self._worker is None:
            self._worker = Worker(self._python, self._environment, self._hello)
        return self._worker

    def _size(self, task: _Task) -> int:
        try:
            return min(os.stat(self.cache.part(task.file)).st_size, task.file.size)
        except FileNotFoundError:
            return 0

    def _measure(self, task: _Task) -> int:
        """Look how far a file is; returns how much it has grown."""
        size = self._size(task)
        grown = max(0, size - task.seen)
        task.seen = size
        self.received += grown
        if grown:
            task.failures = 0
        return grown

    def _begin(self, commit: str, task: _Task) -> None:
        file, part = task.file, self.cache.part(task.file)
        if os.path.exists(part) and os.stat(part).st_size > file.size:
            os.unlink(part)
        task.seen = task.began = self._size(task)
        task.follower = Follower(file, part)
        task.follower.start()
        if task.seen == file.size and os.path.exists(part):
            task.follower.complete()  # it had arrived before the last run ended
            return
        task.request = self._running().send(
            "fetch",
            repo_id=self.cache.repo_id,
            commit=commit,
            path=file.path,
            size=file.size,
            part=part,
            lock=os.path.join(self.cache.locks, file.etag + ".lock"),
        )

    def _events(self, patience: float) -> builtins.list[dict[str, Any]]:
        """What the worker has said; waits a little for the first of it."""
        found: list[dict[str, Any]] = []
        if self._worker is None:
            time.sleep(patience)
            return found
        with contextlib.suppress(queue.Empty):
            found.append(self._worker.events.get(timeout=patience))
            while True:
                found.append(self._worker.events.get_nowait())
        return found

    def _answer(self, event: dict[str, Any], tasks: builtins.list[_Task]) -> float:
        """Take an event in; returns until when nothing is to be asked of the Hub."""
        if event["id"] is None:
            self._restart(tasks, event)
            return 0.0
        for task in tasks:
            if task.request == event["id"]:
                self._measure(task)
                task.request = None
                if event["event"] == "done":
                    if task.follower is not None:
                        task.follower.complete()
                    return 0.0
                return self._failed(task, event)
        return 0.0

    def _failed(self, task: _Task, event: Mapping[str, Any]) -> float:
        if task.follower is not None:
            task.follower.cancel()
            task.follower = None
        if event["code"] == "range":
            self.cache.discard(task.file)  # the server cannot go on from there
        task.failures = task.failures + 1 if task.seen <= task.began else 0
        delay = self._delay(event, task.failures)
        if event["code"] not in TRANSIENT or task.failures > self._retries or delay > LONGEST_WAIT:
            if event["code"] == "stalled":
                event = {**event, "message": f"{self._stall_timeout:.0f} s"}
            raise HubError(event, task.file.path)
        task.not_before = time.monotonic() + delay
        return task.not_before if event["code"] == "rate" else 0.0

    def _delay(self, event: Mapping[str, Any], failures: int) -> float:
        asked = event.get("retry_after")
        if asked is not None:
            return float(asked)
        return min(30.0, 0.5 * 2.0**failures) if failures else TICK

    def _restart(self, tasks: Iterable[_Task], event: Mapping[str, Any]) -> None:
        """End the worker, and with it whatever it was fetching."""
        self.close()
        self.restarts += 1
        for task in tasks:
            if task.request is not None:
                self._measure(task)
                task.request = None
                self._failed(task, event)

    def _settle(self, task: _Task) -> Blob | None:
        """The blob of a file that is through: whole, verified and named; None until then."""
        follower = task.follower
        if task.request is not None or follower is None or follower.is_alive():
            return None
        task.follower = None
        file, found = task.file, follower.digest
        if found != expected_digest(file):
            # The hash was made on the way; before the file is called wrong it is read once more.
            with contextlib.suppress(FileNotFoundError):
                found = digest(self.cache.part(file), file)
        if found == expected_digest(file):
            return self.cache.accept(file)
        self.cache.discard(file)
        task.seen = 0
        task.wrong += 1
        if task.wrong > min(self._retries, WRONG_CONTENT_RETRIES):
            raise HubError({"code": "digest", "message": f"hash {found}"}, file.path)
        return None


def _waiting(event: Mapping[str, Any], delay: float) -> str:
    why = "the Hub asks for it" if event.get("retry_after") else "the last attempt failed"
    return f"waiting {delay:.0f} s: {why}"


def hash_files(
    cache: RepoCache, files: Iterable[RepoFile], report: Callable[..., None], threads: int
) -> tuple[dict[str, Blob], list[RepoFile]]:
    """Hash blobs that lie in the cache.

    Args:
        cache: The repository's folder.
        files: Files whose blobs exist with the right size.
        report: Told about progress.
        threads: Files hashed side by side.

    Returns:
        The right blobs by name, and the files whose content is wrong.

    Raises:
        OSError: A blob cannot be read.
    """
    right: dict[str, Blob] = {}
    wrong: list[RepoFile] = []
    unique = {file.etag: file for file in files}
    total = sum(file.size for file in unique.values())
    done = 0

    def look(file: RepoFile) -> tuple[RepoFile, Blob, str]:
        status = os.stat(cache.blob(file))
        blob = Blob(status.st_size, status.st_mtime_ns)
        return file, blob, digest(cache.blob(file), file)

    with ThreadPoolExecutor(max_workers=threads) as pool:
        pending = {pool.submit(look, file) for file in unique.values()}
        while pending:
            report("verifying " + cache.repo_id, bytes_done=done, bytes_total=total)
            finished, pending = wait(pending, timeout=TICK, return_when=FIRST_COMPLETED)
            for future in finished:
                file, blob, found = future.result()
                done += file.size
                if found == expected_digest(file):
                    right[file.etag] = blob
                else:
                    wrong.append(file)
    return right, wrong
