# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Within the server: refuses requests over connections that clients have kept, while it is stopped.

New connections are refused by the supervisor (port.py); one that a client keeps open stays with the
server, and only the server can refuse what comes over it. vLLM takes this class by its flag
`--middleware` (vllm/entrypoints/openai/api_server.py, build_app).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, MutableMapping
from typing import Any, Callable

MARKER = "COMPUTE_PLANE_DRAINING"
"""Environment variable: the file that is there while the server takes no new requests."""
MIDDLEWARE = "supervisor.draining.Draining"
"""The class below, as the server imports it from the folder that the supervisor runs from."""
RETRY_AFTER = 30
"""Seconds after which a client may come again."""
REFUSAL = (
    b'{"error": {"message": "the server is stopping"}, "status": "unavailable",'
    b' "state": "draining", "summary": "it is being stopped", "told_by": "supervisor"}'
)
"""In OpenAI's form, and in that of `/health` (health.py), which may be what was asked."""
STILL_ANSWERED = "/metrics"
"""The supervisor reads there how many requests are still under way."""

# https://asgi.readthedocs.io/en/latest/specs/www.html
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class Draining:
    """ASGI middleware that answers 503 and closes the connection while a file is there.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: _App) -> None:
        self._app = app
        self._marker = os.environ.get(MARKER)

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Pass a request on, or refuse it."""
        if (
            self._marker is None
            or scope["type"] != "http"
            or scope["path"] == STILL_ANSWERED
            or not os.path.exists(self._marker)
        ):
            await self._app(scope, receive, send)
            return
        # What is unread when a connection is closed makes the kernel reset it, and the client may
        # lose the answer.
        while (await receive()).get("more_body", False):
            continue
        headers = {
            "connection": "close",
            "retry-after": str(RETRY_AFTER),
            "content-type": "application/json",
            "content-length": str(len(REFUSAL)),
        }
        await send(
            {
                "type": "http.response.start",
                "status": 503,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            }
        )
        await send({"type": "http.response.body", "body": REFUSAL})
