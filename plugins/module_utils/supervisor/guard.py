# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Within a server that can sleep: its developer endpoints answer the supervisor alone.

vLLM has `/sleep` and `/wake_up` only with `VLLM_SERVER_DEV_MODE=1`, which opens more beside them:
`/collective_rpc` calls any method of a worker, `/server_info` tells the environment. None of them
asks for the API key, for vLLM does that below `/v1` alone. So what is public is named here, and
everything else, also what a later release adds, is answered 404 to whoever has not the secret that
the supervisor makes at each start of the server.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .draining import _App, _Message, _Receive, _Send

SECRET_FILE = "COMPUTE_PLANE_SECRET_FILE"  # noqa: S105 - a variable's name
"""Environment variable: the file of the secret, which the servers' user alone can read."""
MIDDLEWARE = "supervisor.guard.Guard"
"""The class below, as the server imports it from the folder that the supervisor runs from."""
HEADER = "x-compute-plane-secret"
PUBLIC = frozenset(
    {
        *("/health", "/load", "/metrics", "/ping", "/version"),
        *("/docs", "/openapi.json", "/redoc"),
        *("/classify", "/detokenize", "/generative_scoring", "/inference/v1/generate"),
        *("/invocations", "/pooling", "/rerank", "/score", "/tokenize", "/tokenizer_info"),
        *("/v1/audio/transcriptions", "/v1/audio/translations"),
        *("/v1/chat/completions", "/v1/chat/completions/batch"),
        *("/v1/chat/completions/derender", "/v1/chat/completions/render"),
        *("/v1/completions", "/v1/completions/derender", "/v1/completions/render"),
        *("/v1/embeddings", "/v1/load_lora_adapter", "/v1/messages", "/v1/messages/count_tokens"),
        *("/v1/models", "/v1/realtime", "/v1/rerank", "/v1/responses", "/v1/score"),
        *("/v1/unload_lora_adapter", "/v2/embed", "/v2/rerank"),
    }
)
"""What serves requests without developer mode.

`@router` below vllm/entrypoints of 0.14.1 and 0.26.0 (tests/fixtures/routes.yml), without those
that stop, scale or profile the server: 0.14.1 has `/pause` also without developer mode.
"""
_RESPONSES = re.compile(r"/v1/responses/[^/]+(/cancel)?")
NOT_FOUND = b'{"detail":"Not Found"}'
"""The body of the answer, which is FastAPI's own."""


def is_public(path: str) -> bool:
    """Whether a request of anybody may go to this path."""
    return path in PUBLIC or _RESPONSES.fullmatch(path) is not None


def new_secret(path: str) -> str:
    """Make a secret, and leave it in a file for the server.

    Args:
        path: The file; the present user alone can read it.
    """
    secret = secrets.token_urlsafe(32)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(f"{path}.new", flags, 0o600), "w", encoding="ascii") as stream:
        stream.write(secret)
    os.replace(f"{path}.new", path)
    return secret


class Guard:
    """ASGI middleware that answers 404 to what is not public, unless the secret comes with it.

    It must be the first that is asked. Where the secret cannot be read nobody has it.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: _App) -> None:
        self._app = app
        self._file = os.environ.get(SECRET_FILE)

    def _is_supervisor(self, scope: _Message) -> bool:
        name = HEADER.encode()
        given = [value for key, value in scope["headers"] if key == name]
        if len(given) != 1 or self._file is None:
            return False
        try:
            with open(self._file, "rb") as stream:
                secret = stream.read()
        except OSError:
            return False
        return bool(secret) and hmac.compare_digest(given[0], secret)

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Pass a request on, or refuse it."""
        # With a root path (vLLM's --root-path, which the plan refuses) another path is served.
        anybodys = scope["type"] == "lifespan" or (
            is_public(scope["path"]) and not scope.get("root_path")
        )
        if anybodys or self._is_supervisor(scope):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: 403
            return
        # What is unread when a connection is closed makes the kernel reset it, and the client may
        # lose the answer.
        while (await receive()).get("more_body", False):
            continue
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(NOT_FOUND)).encode()),
        ]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        await send({"type": "http.response.body", "body": NOT_FOUND})
