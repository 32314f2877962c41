# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Within the server: `/health` says what the supervisor sees.

vLLM's own `/health` answers 200 also when the engine hangs (vllm issue 42897). With this class,
which the server takes by its flag `--middleware`, it answers 503 with the state as JSON unless the
server serves; where it does, vLLM's own answer passes. `/ping` is vLLM's other name for it
(vllm/entrypoints/sagemaker/routes.py).
"""

from __future__ import annotations

import json
import os
import time

from .draining import MARKER, RETRY_AFTER, _App, _Message, _Receive, _Send

STATE = "COMPUTE_PLANE_STATE"
"""Environment variable: the file in which the supervisor says what it sees."""
MIDDLEWARE = "supervisor.health.Health"
"""The class below, as the server imports it from the folder that the supervisor runs from."""
PATHS = ("/health", "/ping")
SERVING = "serving"
"""The state in which vLLM's own answer passes."""
DRAINING = "draining"
GIVEN_UP = "given up"
TOLD_BY = "supervisor"
"""`told_by` of an answer that is not vLLM's own."""


def is_ours(answer: str) -> bool:
    """Whether an answer to `/health` is the supervisor's word and not vLLM's own."""
    return f'"told_by": "{TOLD_BY}"' in answer


class StateFile:
    """What the supervisor sees, where the server finds it.

    Args:
        path: The file, in a folder of this instance alone.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._told: str | None = None

    def tell(self, state: str, summary: str) -> None:
        """Write the state, where it is another one than before.

        Args:
            state: `SERVING`, or why the server does not serve.
            summary: One sentence for a person.
        """
        if state == self._told:
            return
        content = {
            "status": "ok" if state == SERVING else "unavailable",
            "state": state,
            "summary": summary,
            "since": int(time.time()),
            "told_by": TOLD_BY,
        }
        with open(f"{self.path}.new", "w", encoding="utf-8") as stream:
            json.dump(content, stream)
        os.replace(f"{self.path}.new", self.path)
        self._told = state


class Health:
    """ASGI middleware that answers `/health` with 503 unless the supervisor sees the server serve.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: _App) -> None:
        self._app = app
        self._state = os.environ.get(STATE)
        self._draining = os.environ.get(MARKER)

    def _complaint(self) -> bytes | None:
        """The answer, or `None` where vLLM's own passes, as it does where nothing can be read."""
        if self._state is None:
            return None
        try:
            with open(self._state, encoding="utf-8") as stream:
                told = json.load(stream)
            if told["state"] == SERVING and self._draining and os.path.exists(self._draining):
                told.update(status="unavailable", state=DRAINING, summary="it is being stopped")
            return None if told["state"] == SERVING else json.dumps(told).encode()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Pass a request on, or answer it."""
        asked = scope["type"] == "http" and scope["path"] in PATHS
        body = self._complaint() if asked else None
        if body is None:
            await self._app(scope, receive, send)
            return
        while (await receive()).get("more_body", False):
            continue
        headers = {
            "cache-control": "no-store",
            "content-type": "application/json",
            "content-length": str(len(body)),
            "retry-after": str(RETRY_AFTER),
        }
        await send(
            {
                "type": "http.response.start",
                "status": 503,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            }
        )
        await send({"type": "http.response.body", "body": body})
