# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hub's HTTP."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from hub.faults import Fault, Faults, Pace
from hub.models import File, Repository, Store

BLOCK = 1 << 16


@dataclass
class Request:
    """What was asked and answered.

    Attributes:
        moment: `time.time()` of its beginning.
        method: HTTP method.
        route: info, tree, head, content, xet, other.
        server: hub or cdn: where it was asked.
        path: The file, or else the address.
        revision: Revision as asked for.
        range: Range as asked for.
        token: none, known or unknown.
        status: HTTP status.
        sent: Bytes of the body that were sent.
        user_agent: The client.
    """

    moment: float
    method: str
    route: str
    server: str
    path: str
    revision: str | None
    range: str | None
    token: str
    status: int
    sent: int
    user_agent: str


class Hub:
    """A running hub.

    Args:
        store: The models.
        address: Address to listen on.
        port: Port; 0 for any.
        cdn_address: Address of the CDN, which must not equal `address`, as the client tells them
            apart by host name. None serves LFS files from the hub itself.
        rate: Bytes a second of all bodies together; 0 for as fast as can be.
        xet: Offer xet for LFS files, as the real Hub does.
        counts: Tell how many parameters a model has, as the real Hub does and mirrors do not.
    """

    def __init__(
        self,
        store: Store,
        address: str = "127.0.0.1",
        port: int = 0,
        cdn_address: str | None = "127.0.0.2",
        rate: float = 0.0,
        xet: bool = True,
        counts: bool = True,
    ) -> None:
        if cdn_address == address:
            raise ValueError("the CDN needs another address than the hub")
        self.store = store
        self.faults = Faults()
        self.pace = Pace(rate)
        self.xet = xet
        self.counts = counts
        self.stopping = threading.Event()
        self._log: list[Request] = []
        self._lock = threading.Lock()
        self._hub = _Server((address, port), self, "hub")
        self._servers = [self._hub]
        self._cdn: _Server | None = None
        if cdn_address is not None:
            self._cdn = _Server((cdn_address, 0), self, "cdn")
            self._servers.append(self._cdn)

    @property
    def url(self) -> str:
        """Address of the hub, which is the client's `endpoint`."""
        return self._hub.url

    @property
    def cdn_url(self) -> str | None:
        """Address of the CDN."""
        return None if self._cdn is None else self._cdn.url

    def start(self) -> None:
        """Answer requests from now on, in threads."""
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """End, stalled answers too."""
        self.stopping.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> Hub:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def note(self, request: Request) -> None:
        """Log a request."""
        with self._lock:
            self._log.append(request)

    @property
    def log(self) -> list[Request]:
        """The requests so far, in the order in which they came; answers may be under way."""
        with self._lock:
            return list(self._log)

    def clear_log(self) -> None:
        """Forget the requests so far."""
        with self._lock:
            self._log.clear()

    def sent(self, path: str | None = None) -> int:
        """Bytes of files that were sent, of one file or of all."""
        return sum(
            r.sent for r in self.log if r.route == "content" and (path is None or r.path == path)
        )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], hub: Hub, role: str) -> None:
        super().__init__(address, _Handler)
        self.hub = hub
        self.role = role

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away: killed ones are what this hub is for."""


class _Refused(Exception):
    """An answer of the Hub's error form (its `X-Error-Code`, `X-Error-Message` headers)."""

    def __init__(
        self,
        status: int,
        code: str | None,
        message: str,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *_arguments: object) -> None:
        """The hub keeps its own log."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    # Routing

    def _answer(self) -> None:
        self.hub = self.server.hub
        self.address = urlsplit(self.path)
        self.entry = Request(
            moment=time.time(),
            method=self.command,
            route="other",
            server=self.server.role,
            path=self.address.path,
            revision=None,
            range=self.headers.get("Range"),
            token=self._token_kind(),
            status=0,
            sent=0,
            user_agent=self.headers.get("User-Agent", ""),
        )
        control = self.address.path.startswith("/_hub/")
        if self.command in ("POST", "DELETE") and not control:
            self.close_connection = True  # its body is not read
        if not control:
            self.hub.note(self.entry)
        try:
            if control:
                self._control()
            else:
                self._route()
        except _Refused as refused:
            headers = {"X-Error-Message": refused.message, **refused.headers}
            if refused.code:
                headers["X-Error-Code"] = refused.code
            self._json({"error": refused.message}, refused.status, headers)
        except OSError:
            self.close_connection = True

    def _route(self) -> None:
        path = unquote(self.address.path)
        if self.server.role == "cdn":
            match = re.fullmatch(r"/lfs/([0-9a-f]{64})/(.+)", path)
            file = self.hub.store.file(match[1]) if match else None
            if match is None or file is None:
                raise _Refused(404, None, "Not here")
            self.entry.path = match[2]
            self._content(file)
            return
        if path.startswith("/xet/") or "/xet-read-token/" in path:
            self.entry.route = "xet"
            self._xet()
            return
        # Names may hold slashes, quoted in the address: it is taken apart before it is unquoted.
        for pattern, answer in (
            (r"/api/models/(?P<id>[^/]+(?:/[^/]+)?)/revision/(?P<rev>[^/]+)", self._info),
            (r"/api/models/(?P<id>[^/]+(?:/[^/]+)?)/tree/(?P<rev>[^/]+)", self._tree),
            (r"/api/models/(?P<id>[^/]+/[^/]+)", self._info),
            (
                r"/api/resolve-cache/models/(?P<id>[^/]+(?:/[^/]+)?)/(?P<rev>[0-9a-f]{40})/(?P<file>.+)",
                self._small,
            ),
            (r"/(?P<id>[^/]+(?:/[^/]+)?)/resolve/(?P<rev>[^/]+)/(?P<file>.+)", self._resolve),
        ):
            match = re.fullmatch(pattern, self.address.path)
            if match:
                parts = {name: unquote(part) for name, part in match.groupdict().items()}
                self.entry.revision = parts.get("rev")
                answer(parts.pop("id"), **parts)
                return
        raise _Refused(404, None, "Sorry, we can't find the page you are looking for.")

    # Who may

    def _token(self) -> str | None:
        scheme, _space, token = self.headers.get("Authorization", "").partition(" ")
        return token if scheme == "Bearer" and token else None

    def _token_kind(self) -> str:
        token = self._token()
        if token is None:
            return "none"
        return "known" if token in self.server.hub.store.tokens else "unknown"

    def _repository(self, repo_id: str) -> Repository:
        if self._token_kind() == "unknown":
            raise _Refused(401, None, "Invalid credentials in Authorization header")
        repository = self.hub.store.repositories.get(repo_id)
        if repository is None or (repository.private and self._token() not in repository.readers):
            anonymous = self._token() is None
            raise _Refused(401 if anonymous else 404, "RepoNotFound", "Repository not found")
        return repository

    def _commit(self, repository: Repository, revision: str) -> str:
        commit = repository.resolve(revision)
        if commit is None:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _readable(self, repo_id: str) -> Repository:
        repository = self._repository(repo_id)
        if repository.gated and self._token() not in repository.readers:
            page = f"{self.server.url}/{repo_id}"
            if self._token() is None:
                raise _Refused(
                    401,
                    "GatedRepo",
                    f"Access to model {repo_id} is restricted. You must have access to it and be"
                    " authenticated to access it. Please log in.",
                )
            raise _Refused(
                403,
                "GatedRepo",
                f"Access to model {repo_id} is restricted and you are not in the authorized list."
                f" Visit {page} to ask for access.",
            )
        return repository

    # The API

    def _order(self, route: str, path: str = "") -> Fault | None:
        """The fault ordered for this request; carries out the one that is an answer of its own."""
        self.entry.route = route
        fault = self.hub.faults.take(route, path, "Range" in self.headers)
        if fault is not None and fault.kind == "status":
            raise _Refused(fault.status, None, f"ordered status {fault.status}", fault.headers)
        if fault is not None and fault.kind == "stall" and route != "content":
            self.hub.stopping.wait(fault.seconds)
            raise ConnectionAbortedError("ordered stall")
        return fault

    def _info(self, repo_id: str, rev: str = "main") -> None:
        fault = self._order("info")
        repository = self._repository(repo_id)
        commit = self._commit(repository, rev)
        blobs = parse_qs(self.address.query).get("blobs", ["false"])[0].lower() in ("true", "1")
        siblings = []
        for file in repository.commits[commit].values():
            entry: dict[str, Any] = {"rfilename": file.name}
            if blobs:
                entry.update(size=file.size, blobId=file.blob_id)
                if file.lfs:
                    entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": 134}
            siblings.append(entry)
        # Before the answer, after which the next question may come at once.
        if fault is not None and fault.kind == "move":
            repository.branches[fault.branch] = fault.commit
        self._json(
            {
                "_id": commit[:24],
                "id": repo_id,
                "modelId": repo_id,
                "sha": commit,
                "private": repository.private,
                "gated": "manual" if repository.gated else False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                **self._told(repository, commit),
                "siblings": siblings,
                "createdAt": "2026-01-01T00:00:00.000Z",
                "lastModified": "2026-01-01T00:00:00.000Z",
            }
        )

    def _told(self, repository: Repository, commit: str) -> dict[str, Any]:
        """What the Hub itself reads of a model: its parameters and its card."""
        told: dict[str, Any] = {}
        parameters = repository.parameters(commit) if self.hub.counts else None
        if parameters:
            told["safetensors"] = {"parameters": parameters, "total": sum(parameters.values())}
        if repository.card:
            told["cardData"] = repository.card
        return told

    def _tree(self, repo_id: str, rev: str) -> None:
        self._order("tree")
        repository = self._repository(repo_id)
        commit = self._commit(repository, rev)
        entries = []
        for file in repository.commits[commit].values():
            entry: dict[str, Any] = {
                "type": "file",
                "oid": file.blob_id,
                "size": file.size,
                "path": file.name,
            }
            if file.lfs:
                entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
                if self.hub.xet:
                    entry["xetHash"] = file.xet_hash
            entries.append(entry)
        self._json(entries)

    def _resolve(self, repo_id: str, rev: str, file: str) -> None:
        """A file's metadata, and the way to its content."""
        self.entry.path = file
        if self.command == "HEAD":
            self._order("head", file)
        else:
            self.entry.route = "resolve"
        repository = self._readable(repo_id)
        commit = self._commit(repository, rev)
        found = self._file(repository, commit, file)
        headers = self._metadata(repo_id, commit, found)
        if not found.lfs:
            location = f"/api/resolve-cache/models/{repo_id}/{commit}/{quote(file)}"
            self._redirect(307, location, headers)
        elif self.hub.cdn_url is None:
            self._content(found, headers)
        else:
            location = f"{self.hub.cdn_url}/lfs/{found.sha256}/{quote(file)}?X-Amz-Signature=x"
            headers["X-Linked-Size"] = str(found.size)
            headers["X-Linked-ETag"] = f'"{found.etag}"'
            self._redirect(302, location, headers)

    def _small(self, repo_id: str, rev: str, file: str) -> None:
        """A small file, after the redirect inside the hub."""
        self.entry.path = file
        repository = self._readable(repo_id)
        commit = self._commit(repository, rev)
        found = self._file(repository, commit, file)
        self._content(found, self._metadata(repo_id, commit, found))

    def _file(self, repository: Repository, commit: str, name: str) -> File:
        found = repository.commits[commit].get(name)
        if found is None:
            raise _Refused(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        return found

    def _metadata(self, repo_id: str, commit: str, file: File) -> dict[str, str]:
        headers = {"X-Repo-Commit": commit, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        if file.lfs and self.hub.xet:
            route = f"{self.server.url}/api/models/{repo_id}/xet-read-token/{commit}"
            headers["X-Xet-Hash"] = file.xet_hash
            headers["X-Xet-Refresh-Route"] = route
            headers["Link"] = f'<{route}>; rel="xet-auth"'
        return headers

    def _xet(self) -> None:
        """The way into xet, which ends here: what counts is who took it."""
        self._json(
            {"casUrl": f"{self.server.url}/xet", "accessToken": "x", "exp": 4102444800},
            headers={
                "X-Xet-Cas-Url": f"{self.server.url}/xet",
                "X-Xet-Access-Token": "x",
                "X-Xet-Token-Expiration": "4102444800",
            },
        )

    # Answers

    def _json(self, data: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(data).encode()
        self._head(status, {"Content-Type": "application/json", **(headers or {})}, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _redirect(self, status: int, location: str, headers: dict[str, str]) -> None:
        self._head(status, {**headers, "Location": location}, 0)

    def _head(self, status: int, headers: dict[str, str], length: int) -> None:
        self.entry.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _content(self, file: File, headers: dict[str, str] | None = None) -> None:
        """A file's bytes, or the range of them that was asked for."""
        headers = {"ETag": f'"{file.etag}"', "Accept-Ranges": "bytes", **(headers or {})}
        if self.command == "HEAD":
            self.entry.route = "head"
            self._head(200, headers, file.size)
            return
        fault = self._order("content", file.name)
        kind = None if fault is None else fault.kind
        size = file.size + (fault.delta if fault is not None else 0)
        begin, end, status = 0, size, 200
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match and kind != "ignore_range":
            begin, status = int(match[1]), 206
            if begin >= size:
                raise _Refused(416, None, "Range", {"Content-Range": f"bytes */{size}"})
            end = min(size, int(match[2]) + 1) if match[2] else size
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
        self._head(status, headers, end - begin)
        with file.path.open("rb") as stream:
            self._body(stream.fileno(), begin, end, fault)

    def _body(self, source: int, begin: int, end: int, fault: Fault | None) -> None:
        pace = Pace(fault.rate if fault is not None and fault.kind == "slow" else 0.0)
        stop = end
        if fault is not None and fault.kind in ("cut", "stall"):
            stop = min(end, begin + fault.after)
        plain = fault is None or fault.kind in ("cut", "stall", "ignore_range")
        position = begin
        while position < stop:
            count = min(BLOCK if self.hub.pace.rate or pace.rate else 1 << 20, stop - position)
            self.hub.pace.take(count)
            pace.take(count)
            if plain:
                count = os.sendfile(self.connection.fileno(), source, position, count)
            else:
                block = bytearray(os.pread(source, count, position).ljust(count, b"\0"))
                if fault is not None and fault.kind == "wrong_bytes":
                    offset = fault.at - position
                    if 0 <= offset < count:
                        block[offset] ^= 0xFF
                self.connection.sendall(block)
            position += count
            self.entry.sent += count
        if stop < end:
            if fault is not None and fault.kind == "stall":
                self.hub.stopping.wait(fault.seconds)
            raise ConnectionAbortedError("ordered cut")

    # Control

    def _control(self) -> None:
        """Order faults, read the log, change what there is, over HTTP."""
        name = self.address.path.removeprefix("/_hub/")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        given: dict[str, Any] = json.loads(body) if body else {}
        if (self.command, name) == ("GET", "log"):
            self._json([asdict(request) for request in self.hub.log])
        elif (self.command, name) == ("DELETE", "log"):
            self.hub.clear_log()
            self._json({})
        elif (self.command, name) == ("POST", "faults"):
            self.hub.faults.order(given.pop("kind"), **given)
            self._json({})
        elif (self.command, name) == ("DELETE", "faults"):
            self.hub.faults.clear()
            self._json({})
        elif (self.command, name) == ("POST", "rate"):
            self.hub.pace.rate = float(given["rate"])
            self._json({})
        elif (self.command, name) == ("POST", "push"):
            store = self.hub.store
            repository = store.repositories.setdefault(
                given["repo_id"], Repository(given["repo_id"])
            )
            commit = repository.push(Path(given["directory"]), given.get("branch", "main"))
            self._json({"commit": commit})
        else:
            raise _Refused(404, None, "log, faults, rate, push")
