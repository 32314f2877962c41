# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one interface between the readers of facts and the machine they look at.

Every reader (GPU, compilers, ports, models ...) takes a `Host` and nothing else, so a test hands it
a fake machine. Nothing here changes the machine, and nothing here raises for something that is not
there: absence is an answer.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pwd
import resource
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, NamedTuple

# After a SIGKILL a process that hangs inside a driver's ioctl does not go away; it is left behind
# rather than waited for.
_REAP_SECONDS = 1.0


class Completed(NamedTuple):
    """What became of a program that was started.

    Attributes:
        rc: Exit status; negative is the signal that ended it, None when it could not be started
            or was stopped at its time limit.
        stdout: What it wrote, undecodable bytes replaced.
        stderr: The same for standard error.
        error: Why `rc` is None, else None.
    """

    rc: int | None
    stdout: str
    stderr: str
    error: str | None


class Isolated(NamedTuple):
    """What became of a function that ran in a child process.

    Attributes:
        value: What it returned, after a round through JSON; None when it did not get that far.
        error: None when it returned; else one sentence: raised, crashed by which signal, hung.
        signal: The signal's number when one ended the child, else None.
        timed_out: Whether it was stopped at its time limit.
    """

    value: Any
    error: str | None
    signal: int | None
    timed_out: bool


class Disk(NamedTuple):
    """Sizes of a mounted file system in bytes; `free_bytes` is what a service may fill."""

    total_bytes: int
    free_bytes: int


class Running:
    """A program under way; `result` waits for it, at most until its time limit."""

    def __init__(
        self, argv: Sequence[str], timeout: float, environ: Mapping[str, str] | None
    ) -> None:
        self._deadline = time.monotonic() + timeout
        self._timeout = timeout
        self._argv = list(argv)
        self._error: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=None if environ is None else dict(environ),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self._error = f"{self._argv[0]} cannot be started: {error}"

    def result(self) -> Completed:
        """Waits for the program to end and returns what it said."""
        process = self._process
        if process is None:
            return Completed(None, "", "", self._error)
        try:
            stdout, stderr = process.communicate(
                timeout=max(0.0, self._deadline - time.monotonic())
            )
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_REAP_SECONDS)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
            message = f"{self._argv[0]} did not end within {self._timeout:g} s"
            return Completed(None, "", "", message)
        return Completed(
            process.returncode,
            stdout.decode("utf-8", "replace"),
            stderr.decode("utf-8", "replace"),
            None,
        )


class Forked:
    """A function under way in a forked child; `result` waits for it, at most until its time limit.

    A driver's library can hang or crash its process. Here that is a result.
    """

    def __init__(self, name: str, function: Callable[[], Any], timeout: float) -> None:
        self._name = name
        self._deadline = time.monotonic() + timeout
        self._timeout = timeout
        self._read, write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._read)
            self._child(function, write)
        os.close(write)

    @staticmethod
    def _child(function: Callable[[], Any], write: int) -> None:
        """Runs the function, sends its answer through the pipe and ends the process."""
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            # Libraries print; standard output belongs to the module's one JSON document.
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            try:
                answer = {"value": function()}
            except Exception as error:  # noqa: BLE001 -- whatever a foreign library raises is an answer
                answer = {"raised": f"{type(error).__name__}: {error}"}
            with os.fdopen(write, "wb") as pipe:
                pipe.write(json.dumps(answer).encode())
        finally:
            os._exit(0)

    def result(self) -> Isolated:
        """Waits for the function's answer."""
        data = b""
        timed_out = False
        while True:
            left = self._deadline - time.monotonic()
            ready = select.select([self._read], [], [], max(0.0, left))[0]
            if not ready:
                timed_out = True
                break
            block = os.read(self._read, 65536)
            if not block:
                break
            data += block
        os.close(self._read)
        if timed_out:
            os.kill(self._pid, signal.SIGKILL)
        status = self._reap()
        name = self._name
        if timed_out:
            return Isolated(None, f"{name} gave no answer within {self._timeout:g} s", None, True)
        if status is not None and os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            signal_name = _signal_name(number)
            return Isolated(
                None, f"{name} crashed by signal {number} ({signal_name})", number, False
            )
        try:
            answer = json.loads(data)
        except ValueError:
            return Isolated(None, f"{name} ended without an answer", None, False)
        if "raised" in answer:
            return Isolated(None, f"{name}: {answer['raised']}", None, False)
        return Isolated(answer["value"], None, None, False)

    def _reap(self) -> int | None:
        """Collects the child's status; gives up on one that SIGKILL does not end."""
        until = time.monotonic() + _REAP_SECONDS
        while True:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                return status
            if time.monotonic() > until:
                return None
            time.sleep(0.001)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


class Host:
    """The machine this process runs on. Paths are absolute; missing things give None or []."""

    @property
    def environ(self) -> Mapping[str, str]:
        """This process's environment."""
        return os.environ

    def read_bytes(self, path: str, limit: int | None = None, offset: int = 0) -> bytes | None:
        """Reads a file.

        Args:
            path: Its absolute path.
            limit: Read at most this many bytes; the whole file when None.
            offset: Byte to start at; for regular files only.

        Returns:
            The bytes, or None when there is no such file or it may not be read.
        """
        try:
            with open(path, "rb", buffering=0) as stream:
                if offset:
                    stream.seek(offset)
                return stream.read() if limit is None else stream.read(limit)
        except OSError:
            return None

    def read_text(self, path: str, limit: int | None = None) -> str | None:
        """Reads a file as UTF-8, undecodable bytes replaced; None like `read_bytes`."""
        data = self.read_bytes(path, limit)
        return None if data is None else data.decode("utf-8", "replace")

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, sorted; [] when it is none or may not be read."""
        try:
            return sorted(os.listdir(path))
        except OSError:
            return []

    def exists(self, path: str) -> bool:
        """Whether the path leads to something, symbolic links followed."""
        return os.path.exists(path)

    def is_dir(self, path: str) -> bool:
        """Whether the path leads to a directory."""
        return os.path.isdir(path)

    def is_file(self, path: str) -> bool:
        """Whether the path leads to a regular file."""
        return os.path.isfile(path)

    def can_read(self, path: str) -> bool:
        """Whether this user may read the file, or list and enter the directory."""
        return os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0))

    def is_executable(self, path: str) -> bool:
        """Whether the path leads to a regular file that this user may run."""
        return os.path.isfile(path) and os.access(path, os.X_OK)

    def size(self, path: str) -> int | None:
        """Size in bytes of the regular file the path leads to, else None."""
        try:
            return os.stat(path).st_size if os.path.isfile(path) else None
        except OSError:
            return None

    def realpath(self, path: str) -> str:
        """The path with every symbolic link resolved as far as it leads."""
        return os.path.realpath(path)

    def disk(self, path: str) -> Disk | None:
        """Sizes of the file system the path is on; None when it cannot be asked."""
        try:
            sizes = os.statvfs(path)
        except OSError:
            return None
        return Disk(sizes.f_blocks * sizes.f_frsize, sizes.f_bavail * sizes.f_frsize)

    def user_name(self, uid: int) -> str:
        """Login name of a user id; the number itself where no account has it."""
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)

    def uname(self) -> os.uname_result:
        """Kernel's name for the machine: nodename, release, machine ..."""
        return os.uname()

    def glibc_version(self) -> str | None:
        """Version of the GNU C library, like "2.36"; None on another C library."""
        try:
            words = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        except (ValueError, OSError):
            return None
        return words[1] if len(words) == 2 and words[0] == "glibc" else None

    def has_module(self, name: str) -> bool:
        """Whether this Python can import a top-level module."""
        return importlib.util.find_spec(name) is not None

    def effective_uid(self) -> int:
        """Effective user id of this process; 0 is root."""
        return os.geteuid()

    def cpu_count(self) -> int:
        """CPUs this process may run on."""
        return len(os.sched_getaffinity(0))

    def socket_owners(self, inodes: Iterable[str]) -> dict[str, int]:
        """Finds who holds sockets open.

        Every open file of every process has to be looked at, so this is written for speed and
        stops at the last socket found.

        Args:
            inodes: Socket inode numbers as /proc/net/tcp writes them.

        Returns:
            Lowest process id by inode; a socket of a process that this user may not look into, or
            of another PID namespace, is left out.
        """
        wanted = {f"socket:[{inode}]": inode for inode in inodes}
        owners: dict[str, int] = {}
        if not wanted:
            return owners
        readlink = os.readlink
        for pid in sorted(int(name) for name in self.listdir("/proc") if name.isdigit()):
            try:
                directory = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue
            try:
                for name in os.listdir(directory):
                    try:
                        inode = wanted.pop(readlink(name, dir_fd=directory), None)
                    except OSError:
                        continue
                    if inode is not None:
                        owners[inode] = pid
            except OSError:
                pass  # the process ended meanwhile
            finally:
                os.close(directory)
            if not wanted:
                break
        return owners

    def start(
        self, argv: Sequence[str], timeout: float = 10.0, environ: Mapping[str, str] | None = None
    ) -> Running:
        """Starts a program without waiting for it.

        Args:
            argv: Program and arguments; no shell is involved.
            timeout: Seconds until it is stopped.
            environ: Its whole environment; this process's when None.

        Returns:
            A handle whose `result()` waits.
        """
        return Running(argv, timeout, environ)

    def run(
        self, argv: Sequence[str], timeout: float = 10.0, environ: Mapping[str, str] | None = None
    ) -> Completed:
        """Starts a program and waits for it; see `start`."""
        return self.start(argv, timeout, environ).result()

    def start_isolated(
        self, name: str, function: Callable[[], Any], timeout: float = 10.0
    ) -> Forked:
        """Starts a function in a child process, so that it may hang or crash.

        Args:
            name: What it asks, for messages.
            function: What to run; its result must be JSON's kind of data.
            timeout: Seconds until the child is killed.

        Returns:
            A handle whose `result()` waits.
        """
        return Forked(name, function, timeout)
