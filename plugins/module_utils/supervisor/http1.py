# Copyright: (c) 2026, compute_plane.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP/1.1 messages as a proxy passes them on (RFC 9112): heads, and bodies piece by piece.

What is ambiguous is refused, for two servers that read one message in two ways see two different
requests (RFC 9112, 11.2).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

LONGEST_HEAD = 65536
"""Bytes of a request's or a response's head at most; uvicorn's own limit with h11."""
PIECE = 65536
HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade"),
        *(b"expect", b"proxy-authenticate", b"proxy-authorization"),
    }
)
"""Fields of one connection alone, which are not passed on (RFC 9110, 7.6.1)."""

_REQUEST = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/1\.([01])")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([ -~\t\x80-\xff]*))?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")


class BadMessage(Exception):
    """Not HTTP/1.1, or ambiguous; the message says how."""


@dataclass(frozen=True)
class Head:
    """The head of a request or a response.

    Attributes:
        first: The words of its first line: method and target, or status and reason.
        minor: HTTP's minor version.
        fields: Its fields, names in lower case.
    """

    first: tuple[bytes, bytes]
    minor: int
    fields: tuple[tuple[bytes, bytes], ...]

    def all(self, name: bytes) -> list[bytes]:
        """The values of a field."""
        return [value for key, value in self.fields if key == name]

    def words(self, name: bytes) -> set[bytes]:
        """The words of a field that is a list, in lower case."""
        listed = b",".join(self.all(name)).lower().split(b",")
        return {word.strip() for word in listed if word.strip()}

    @property
    def keeps(self) -> bool:
        """Whether the connection lasts after this message."""
        said = self.words(b"connection")
        return b"close" not in said and (self.minor == 1 or b"keep-alive" in said)

    @property
    def path(self) -> str:
        """The path of a request's target, without its query."""
        target = self.first[1].decode("ascii", "replace")
        if "://" in target.partition("?")[0]:  # the absolute form
            target = "/" + target.partition("://")[2].partition("/")[2]
        return target.partition("?")[0]

    @property
    def status(self) -> int:
        """A response's status."""
        return int(self.first[0])

    def passed_on(self) -> list[tuple[bytes, bytes]]:
        """The fields that are passed on."""
        named = self.words(b"connection") - {b"content-length", b"transfer-encoding", b"host"}
        return [one for one in self.fields if one[0] not in HOP_BY_HOP | named]


async def read_head(reader: asyncio.StreamReader, request: bool) -> Head | None:
    """Read a head; `None` where the connection ends before its first byte.

    Raises:
        BadMessage: It is none, or too long.
    """
    try:
        text = await reader.readuntil(b"\r\n\r\n")
        # A client may send empty lines before a request (RFC 9112, 2.2).
        while request and text == b"\r\n\r\n":
            text = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as ended:
        if not ended.partial.strip():
            return None
        raise BadMessage("the connection ended within a head") from ended
    except (asyncio.LimitOverrunError, ValueError) as error:
        raise BadMessage("a head is longer than 64 KiB") from error
    if len(text) > LONGEST_HEAD:
        raise BadMessage("a head is longer than 64 KiB")
    first, *rest = text.lstrip(b"\r\n").split(b"\r\n")[:-2]
    return _head(first, rest, request)


def _head(first: bytes, rest: Iterable[bytes], request: bool) -> Head:
    matched = (_REQUEST if request else _STATUS).fullmatch(first)
    if matched is None:
        raise BadMessage("the first line is not HTTP/1.1")
    fields = []
    for line in rest:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise BadMessage("a header field is malformed")
        fields.append((field.group(1).lower(), field.group(2)))
    if request:
        words, minor = (matched.group(1), matched.group(2)), matched.group(3)
    else:
        words, minor = (matched.group(2), matched.group(3) or b""), matched.group(1)
    return Head(words, int(minor), tuple(fields))


CHUNKED, UNTIL_CLOSE = -1, -2


def length_of(head: Head, request: bool, method: bytes = b"") -> int:
    """How long a message's body is: bytes, `CHUNKED`, or `UNTIL_CLOSE`.

    Args:
        head: Its head.
        request: Whether it is a request.
        method: Of a response, its request's.

    Raises:
        BadMessage: It does not say, or says it in two ways.
    """
    if not request and (method == b"HEAD" or head.status in (204, 304) or head.status < 200):
        return 0
    lengths, codings = head.all(b"content-length"), head.all(b"transfer-encoding")
    if codings:
        if lengths or head.minor == 0 or [one.lower() for one in codings] != [b"chunked"]:
            raise BadMessage("the body's length is ambiguous")
        return CHUNKED
    if lengths:
        if len(set(lengths)) > 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
            raise BadMessage("the body's length is ambiguous")
        return int(lengths[0])
    return 0 if request else UNTIL_CLOSE


async def pieces(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    """A body as it comes, with its chunks' sizes where it has these.

    Args:
        reader: Where it comes from.
        length: Of :func:`length_of`.

    Raises:
        BadMessage: It ends too early, or its chunks are malformed.
    """
    if length == CHUNKED:
        async for piece in _chunks(reader):
            yield piece
        return
    left = length
    while left:
        piece = await reader.read(PIECE if left < 0 else min(left, PIECE))
        if not piece:
            if length == UNTIL_CLOSE:
                return
            raise BadMessage("the connection ended within a body")
        left -= len(piece) if left > 0 else 0
        yield piece


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    try:
        while True:
            line = await reader.readuntil(b"\r\n")
            size = re.fullmatch(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n", line)
            if size is None:
                raise BadMessage("a chunk's size is malformed")
            left = int(size.group(1), 16)
            if left == 0:
                break
            head = b"%x\r\n" % left
            while left:
                piece = await reader.read(min(left, PIECE))
                if not piece:
                    raise BadMessage("the connection ended within a body")
                left -= len(piece)
                end = b"" if left else await reader.readexactly(2)
                if end not in (b"", b"\r\n"):
                    raise BadMessage("a chunk is longer than its size")
                yield head + piece + end
                head = b""
        # Trailers are dropped, as RFC 9110, 6.5.1 allows.
        while (await reader.readuntil(b"\r\n")) != b"\r\n":
            continue
        yield b"0\r\n\r\n"
    except asyncio.IncompleteReadError as ended:
        raise BadMessage("the connection ended within a body") from ended
    except asyncio.LimitOverrunError as error:
        raise BadMessage("a chunk's size is malformed") from error
