# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plugin of vLLM that never comes back from loading the model, at 0 % CPU.

Where a backend is tried only the one called HANGS does that.
"""

from __future__ import annotations

import os
import time
from typing import Any


def register() -> None:
    """Called by vLLM in each of its processes (entry point group vllm.general_plugins)."""
    if os.environ.get("TRIED_BACKEND", "HANGS") != "HANGS":
        return
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader

    def load_model(*_arguments: Any, **_keywords: Any) -> None:
        time.sleep(86400)

    BaseModelLoader.load_model = load_model  # type: ignore[method-assign]
