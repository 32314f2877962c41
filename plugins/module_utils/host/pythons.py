# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Python interpreters the host has, and whether each can build a virtual environment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ansible_collections.compute_plane.vllm.plugins.module_utils.host.machine import Host, Running

DIRECTORIES = ("/usr/bin", "/usr/local/bin")
_NAME = re.compile(r"^python3\.\d+$")

# One line each: version, the directory of Python.h, whether ensurepip is there, its own file.
# Nothing is imported that the interpreter does not load anyway: twice as fast. The directory is
# that of the scheme `posix_prefix`, where Triton looks (triton 3.5.1, runtime/build.py); Debian's
# own `posix_local` would name one that nobody fills.
_QUESTION = """\
import os, sys
print("%d.%d.%d" % sys.version_info[:3])
print("%s/include/python%d.%d%s" % ((sys.base_prefix,) + sys.version_info[:2] + (sys.abiflags,)))
print(os.path.isdir(os.path.join(os.path.dirname(os.__file__), "ensurepip")))
print(os.path.realpath(sys.executable))
"""


def find(
    host: Host, extra: Sequence[str] = (), directories: Sequence[str] = DIRECTORIES
) -> list[str]:
    """Lists interpreters by path.

    Args:
        host: The machine.
        extra: Further paths, first in the list; kept when they do not exist.
        directories: Where to look for python3.*.

    Returns:
        Paths, each file once: a second name of the same file is left out.
    """
    paths = list(extra)
    for directory in directories:
        paths += [f"{directory}/{name}" for name in host.listdir(directory) if _NAME.match(name)]
    seen = set()
    found = []
    for path in paths:
        # A virtual environment's python is a link to the one it was made from, yet another thing.
        real = path if path in extra else host.realpath(path)
        if real not in seen:
            seen.add(real)
            found.append(path)
    return found


class Pythons:
    """Asks interpreters about themselves, all at once.

    Args:
        host: The machine.
        extra: Interpreters to ask beside those found.
        directories: Where to look for python3.*.
    """

    def __init__(
        self, host: Host, extra: Sequence[str] = (), directories: Sequence[str] = DIRECTORIES
    ) -> None:
        self._host = host
        self._asked: list[tuple[str, Running]] = []
        for path in find(host, extra, directories):
            if host.is_executable(path):
                # -I: nothing of the caller's environment; -S: site-packages are not needed.
                argv = [path, "-I", "-S", "-c", _QUESTION]
                self._asked.append((path, host.start(argv, timeout=10.0)))

    def result(self) -> list[dict[str, Any]]:
        """Reads `facts.pythons`.

        Returns:
            For each interpreter that answers: path, version like "3.11.2", headers (path of
            Python.h, None when it is not there), venv (whether `python -m venv` can work:
            ensurepip importable), shim (None; for a script that starts another interpreter, as
            pyenv's and asdf's do, that one's path, "" where it started none).
        """
        answers = []
        for path, running in self._asked:
            done = running.result()
            lines = done.stdout.splitlines()
            if done.rc != 0 or len(lines) != 4:
                if self._host.read_bytes(path, 2) == b"#!":
                    answers.append(
                        {"path": path, "version": None, "headers": None, "venv": False, "shim": ""}
                    )
                continue
            version, include, ensurepip, file = lines
            header = f"{include}/Python.h"
            answers.append(
                {
                    "path": path,
                    "version": version,
                    "headers": header if self._host.is_file(header) else None,
                    "venv": ensurepip == "True",
                    "shim": None if file == self._host.realpath(path) else file,
                }
            )
        return answers
