# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a long step writes on the host so that the controller can show how far it is.

Ansible shows nothing of a module until it ends. A module that takes minutes therefore keeps a small
JSON file up to date; the action plugin of the same name reads it over a second session of the same
connection (see `plugins/plugin_utils/progress.py`) and prints it.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from typing import Any

DIRECTORY = "/run/compute_plane.vllm/progress"


class Progress:
    """Writer of one progress file.

    Args:
        path: The file to keep; `None` keeps none (no action plugin shows it).
        interval: Seconds between two writes at least; a change of `what` is written at once.
    """

    def __init__(self, path: str | None, interval: float = 0.5) -> None:
        self.path = path
        self.interval = interval
        self._written = 0.0
        self._what: str | None = None

    def update(self, what: str, **fields: Any) -> None:
        """Say what is being done now.

        Args:
            what: The step, as a person would name it: "downloading and unpacking packages".
            fields: Any of `bytes_done`, `bytes_total` (bytes), `files_done`, `files_total`
                (counts), `rate` (bytes per second), `eta` (seconds), `detail` (text).
        """
        now = time.monotonic()
        if what == self._what and now - self._written < self.interval:
            return
        self._what, self._written = what, now
        if self.path is not None:
            with contextlib.suppress(OSError):  # unseen, but the work goes on
                self._write(self.path, {"what": what, "updated": time.time(), **fields})

    @staticmethod
    def _write(path: str, state: dict[str, Any]) -> None:
        directory = os.path.dirname(path)
        os.makedirs(directory, mode=0o755, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=directory, prefix=".")
        with os.fdopen(fd, "w", encoding="utf-8") as stream:
            json.dump(state, stream)
        os.chmod(temporary, 0o644)  # the reader is the connection's user, without become
        os.replace(temporary, path)

    def close(self) -> None:
        """Remove the file: nothing is going on any more."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
