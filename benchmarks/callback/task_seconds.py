# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Callback that writes how long each task took, as JSON, to the file TASK_SECONDS_FILE names."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_seconds
type: aggregate
short_description: Write how long each task took
description: For the commands under benchmarks/.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Notes the start of each task; a task ends when the next one starts."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_seconds"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[dict[str, Any]] = []
        self.began = time.monotonic()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:  # noqa: ARG002
        """A task starts."""
        now = time.monotonic()
        self._end(now)
        role = task._role.get_name() if task._role else None
        self.tasks.append({"name": task.get_name(), "role": role, "seconds": now})

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The run ends."""
        now = time.monotonic()
        self._end(now)
        summary = {host: stats.summarize(host) for host in stats.processed}
        record = {"tasks": self.tasks, "stats": summary, "seconds": now - self.began}
        Path(os.environ["TASK_SECONDS_FILE"]).write_text(json.dumps(record), encoding="utf-8")

    def _end(self, now: float) -> None:
        if self.tasks:
            self.tasks[-1]["seconds"] = round(now - self.tasks[-1]["seconds"], 3)
