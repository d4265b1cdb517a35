"""Answers from nodes: strict reading, and the head that goes to the client.

The mirror image of `balancer.core.request`: a node's answer that could be read in two ways is not passed on.
What needs no change is passed on as the very bytes that came.

What a head means depends on its bytes and on nothing else, so the last ones are remembered: under load a node says
the same thing many times within a second, and a look-up takes a tenth of the time of reading.
"""

import re
from collections.abc import Set
from dataclasses import dataclass, field
from functools import lru_cache

import httptools

from balancer.core.fields import Fields, finder
from balancer.core.framing import EMPTY, Framing, Refused, Sized, UntilClose
from balancer.core.headers import HOP_BY_HOP, KEEP_ALIVE, OWNER, connection_tokens, without
from balancer.core.reader import NO_CALLBACKS, REMEMBERED_BYTES_MAX, REMEMBERED_MAX, Limits, MessageReader

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
_STRIPPED = (HOP_BY_HOP - {b"connection"}) | {OWNER}
_find_fields = finder(_STRIPPED | {b"connection", b"content-length", b"transfer-encoding", b"retry-after"})
_NOT_ACCEPTED = 502

SWITCHING_PROTOCOLS, NO_CONTENT, NOT_MODIFIED = 101, 204, 304


@dataclass(slots=True)
class ResponseHead:
    """One answer's head. Equal heads share it, so nobody else changes it.

    `raw` is as received; `dropped` names the fields that stay here; `fields` are those that mean something here.
    `keeps_alive`: the node's connection may be used again. `length`: bytes of the body, None if only its end tells.
    `is_plain`: it may travel as it came. `whole_bytes`: head and body together, -1 if the head does not tell, or if
    the final answer is still to come.
    """

    status: int
    raw: bytes
    fields: Fields
    dropped: Set[bytes]
    keeps_alive: bool
    is_http_1_0: bool
    length: int | None
    is_chunked: bool
    ends_with_connection: bool = field(init=False)
    is_plain: bool = field(init=False)
    whole_bytes: int = field(init=False)
    _closing: bytes = field(init=False, default=b"")

    def __post_init__(self) -> None:
        self.ends_with_connection = self.length is None and not self.is_chunked
        self.is_plain = not self.dropped and not self.is_http_1_0
        self.whole_bytes = -1 if self.length is None or self.status < 200 else len(self.raw) + self.length

    @property
    def owner(self) -> bytes:
        """The node that a 421 refers to, or empty."""
        return self.fields.get(OWNER, b"")

    @property
    def asks_to_wait(self) -> bool:
        return b"retry-after" in self.fields

    @property
    def closes(self) -> bool:
        """By its own word, it is the last answer of the node's connection."""
        return b"close" in connection_tokens(self.fields.get(b"connection", b""))

    @property
    def upgrade(self) -> bytes:
        """What a 101 changes to, or empty."""
        return self.fields.get(b"upgrade", b"") if self.status == SWITCHING_PROTOCOLS else b""

    @property
    def is_interim(self) -> bool:
        return self.status < 200 and self.status != SWITCHING_PROTOCOLS

    @property
    def closing(self) -> bytes:
        """The head for a client whose connection ends with this answer; made once for all equal heads."""
        if not self._closing:
            self._closing = self.rewritten(b"close")
        return self._closing

    def rewritten(self, connection: bytes = b"", *, unchunked: bool = False, name: bytes = b"") -> bytes:
        """The head for the client, with a Connection field if given, and without chunks if `unchunked`.

        `name`: a line with the request's id, which takes the place of the node's own.
        """
        dropped = self.dropped | {b"connection"}
        if name:
            dropped |= {b"x-request-id"}
        if unchunked:
            dropped |= {b"transfer-encoding", b"trailer"}
        head = without(self.raw, dropped)
        if self.is_http_1_0:
            head = b"HTTP/1.1" + head[8:]
        if name:
            head = b"%b%b\r\n" % (head[:-2], name)
        if self.upgrade:
            connection = b"Upgrade\r\nUpgrade: " + self.upgrade
        return b"%bConnection: %b\r\n\r\n" % (head[:-2], connection) if connection else head


class ResponseReader(MessageReader):
    """Reads the answers of one node connection. `expect` names the request before each."""

    __slots__ = ("_method",)

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._method = b""

    def expect(self, method: bytes) -> None:
        self._method = method

    def whole(self, data: bytes) -> ResponseHead | None:
        """The head, if `data` is one whole final answer and all that is here: most are, and this is the short way.

        Otherwise `feed` it. Raises `Refused` as `head` does.
        """
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or end > self._remembered_bytes_max or self._position != len(self._buffer):
            return None
        head = _remembered(data[:end], self._method == b"HEAD", self._limits.header_count_max)
        return head if head.whole_bytes == len(data) else None

    def head(self) -> ResponseHead | None:
        """The next head, interim ones too. It is also part of what `take` hands out, unless `skip_head` is called.

        Raises `Refused`: whatever its status, to the client it is a 502.
        """
        raw = self._find_head()
        if raw is None:
            return None
        read = _remembered if len(raw) <= REMEMBERED_BYTES_MAX else _read
        head = read(raw, self._method == b"HEAD", self._limits.header_count_max)
        self._framing = self._framing_after(head)
        return head

    def skip_head(self) -> None:
        self._taken = self._position

    def _framing_after(self, head: ResponseHead) -> Framing:
        if head.is_chunked:
            return self._follow_chunks(httptools.HttpResponseParser, head.raw)
        if head.length is None:
            return UntilClose()
        return Sized(head.length) if head.length else EMPTY


def _read(raw: bytes, is_to_head: bool, header_count_max: int) -> ResponseHead:
    """What a head means, as the answer to a HEAD or to another request. Raises `Refused`."""
    match = _STATUS_LINE.match(raw)
    if match is None:
        raise Refused(_NOT_ACCEPTED, "malformed status line")
    is_http_1_0, status = match[1] == b"0", int(match[2])
    _judge(raw, status, header_count_max)
    fields = _find_fields(raw)

    length = _body_length(status, fields, is_to_head=is_to_head)
    is_chunked = length is None and b"transfer-encoding" in fields
    closes = is_http_1_0 or (length is None and not is_chunked)
    dropped = fields.keys() & _STRIPPED
    connection = fields.get(b"connection", KEEP_ALIVE)
    if connection != KEEP_ALIVE:
        tokens = connection_tokens(connection)
        closes = closes or b"close" in tokens
        if tokens != {KEEP_ALIVE}:  # which is what we would say ourselves
            dropped.add(b"connection")
            dropped |= tokens
    if b"transfer-encoding" in fields and (is_http_1_0 or fields[b"transfer-encoding"].lower() != b"chunked"):
        raise Refused(_NOT_ACCEPTED, "Transfer-Encoding that cannot be trusted")
    if status == NO_CONTENT:
        dropped |= fields.keys() & {b"content-length"}
    return ResponseHead(status, raw, fields, dropped, not closes, is_http_1_0, length, is_chunked)


_remembered = lru_cache(REMEMBERED_MAX)(_read)


def _judge(raw: bytes, status: int, header_count_max: int) -> None:
    """Have llhttp read the head."""
    try:
        httptools.HttpResponseParser(NO_CALLBACKS).feed_data(raw)
    except httptools.HttpParserUpgrade:
        if status != SWITCHING_PROTOCOLS:
            raise Refused(_NOT_ACCEPTED, "Upgrade without status 101") from None
    except httptools.HttpParserError as error:
        raise Refused(_NOT_ACCEPTED, str(error)) from error
    if raw.count(b"\r\n") - 2 > header_count_max:
        raise Refused(_NOT_ACCEPTED, "too many header fields")


def _body_length(status: int, fields: Fields, *, is_to_head: bool) -> int | None:
    """Bytes of the body; None if it is chunked or ends with the connection."""
    has_coding = b"transfer-encoding" in fields
    length = int(fields[b"content-length"]) if b"content-length" in fields else None
    if status < 200 or status == NO_CONTENT:
        # RFC 9110, 8.6 and 9112, 6.1: these say nothing about a body. A zero is common and harmless.
        if has_coding or length:
            raise Refused(_NOT_ACCEPTED, f"a {status} that announces a body")
        return 0
    if is_to_head or status == NOT_MODIFIED:
        return 0
    return None if has_coding else length
