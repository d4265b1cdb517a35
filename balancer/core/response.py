"""Answers from nodes: strict reading, and the head that goes to the client.

The mirror image of `balancer.core.request`: a node's answer that could be read in two ways is not passed on.
What needs no change is passed on as the very bytes that came.
"""

import re
from collections.abc import Set
from dataclasses import dataclass

import httptools

from balancer.core.fields import Fields, finder
from balancer.core.framing import EMPTY, Framing, Refused, Sized, UntilClose
from balancer.core.headers import HOP_BY_HOP, OWNER, connection_tokens, without
from balancer.core.reader import NO_CALLBACKS, Limits, MessageReader

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
_STRIPPED = (HOP_BY_HOP - {b"connection"}) | {OWNER}
_find_fields = finder(_STRIPPED | {b"connection", b"content-length", b"transfer-encoding", b"retry-after"})
_ORDINARY = frozenset({b"content-length", b"retry-after"})
_NOTHING: Set[bytes] = frozenset()
_NOT_ACCEPTED = 502

SWITCHING_PROTOCOLS, NO_CONTENT, NOT_MODIFIED = 101, 204, 304


@dataclass(slots=True)
class ResponseHead:
    """One answer's head. `raw` is as received; `dropped` names the fields that stay here.

    `keeps_alive`: the node's connection may be used again. `fields`: those that mean something here.
    """

    status: int
    raw: bytes
    fields: Fields
    dropped: Set[bytes]
    keeps_alive: bool
    is_http_1_0: bool
    framing: Framing

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

    def rewritten(self, connection: bytes = b"", *, unchunked: bool = False) -> bytes:
        """The head for the client, with a Connection field if given, and without chunks if `unchunked`."""
        dropped = self.dropped | {b"connection"}
        if unchunked:
            dropped |= {b"transfer-encoding", b"trailer"}
        head = without(self.raw, dropped)
        if self.is_http_1_0:
            head = b"HTTP/1.1" + head[8:]
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

    def head(self) -> ResponseHead | None:
        """The next head, interim ones too. It is also part of what `take` hands out, unless `skip_head` is called.

        Raises `Refused`: whatever its status, to the client it is a 502.
        """
        head = self._find_head()
        return None if head is None else self._interpret(head)

    def skip_head(self) -> None:
        self._taken = self._position

    def _interpret(self, head: bytes) -> ResponseHead:
        match = _STATUS_LINE.match(head)
        if match is None:
            raise Refused(_NOT_ACCEPTED, "malformed status line")
        is_http_1_0, status = match[1] == b"0", int(match[2])
        self._judge(head, status)
        fields = _find_fields(head)

        self._framing = framing = self._body_framing(head, status, fields)
        if fields.keys() <= _ORDINARY and status != NO_CONTENT and not is_http_1_0:
            return ResponseHead(
                status, head, fields, _NOTHING, not framing.ends_with_connection, False, framing
            )
        return self._interpret_special(head, status, is_http_1_0, fields)

    def _interpret_special(self, head: bytes, status: int, is_http_1_0: bool, fields: Fields) -> ResponseHead:
        """An answer in which something is left out or replaced."""
        dropped = fields.keys() & _STRIPPED
        closes = is_http_1_0 or self._framing.ends_with_connection
        if b"connection" in fields:
            tokens = connection_tokens(fields[b"connection"])
            closes = closes or b"close" in tokens
            if tokens != {b"keep-alive"}:  # which is what we would say ourselves
                dropped.add(b"connection")
                dropped |= tokens
        if b"transfer-encoding" in fields and (
            is_http_1_0 or fields[b"transfer-encoding"].lower() != b"chunked"
        ):
            raise Refused(_NOT_ACCEPTED, "Transfer-Encoding that cannot be trusted")
        if status == NO_CONTENT:
            dropped |= fields.keys() & {b"content-length"}
        return ResponseHead(status, head, fields, dropped, not closes, is_http_1_0, self._framing)

    def _judge(self, head: bytes, status: int) -> None:
        try:
            httptools.HttpResponseParser(NO_CALLBACKS).feed_data(head)
        except httptools.HttpParserUpgrade:
            if status != SWITCHING_PROTOCOLS:
                raise Refused(_NOT_ACCEPTED, "Upgrade without status 101") from None
        except httptools.HttpParserError as error:
            raise Refused(_NOT_ACCEPTED, str(error)) from error
        if head.count(b"\r\n") - 2 > self._limits.header_count_max:
            raise Refused(_NOT_ACCEPTED, "too many header fields")

    def _body_framing(self, head: bytes, status: int, fields: Fields) -> Framing:
        has_coding = b"transfer-encoding" in fields
        length = int(fields[b"content-length"]) if b"content-length" in fields else None
        if status < 200 or status == NO_CONTENT:
            # RFC 9110, 8.6 and 9112, 6.1: these say nothing about a body. A zero is common and harmless.
            if has_coding or length:
                raise Refused(_NOT_ACCEPTED, f"a {status} that announces a body")
            return EMPTY
        if self._method == b"HEAD" or status == NOT_MODIFIED:
            return EMPTY
        if has_coding:
            return self._follow_chunks(httptools.HttpResponseParser, head)
        if length is None:
            return UntilClose()
        return Sized(length) if length else EMPTY
